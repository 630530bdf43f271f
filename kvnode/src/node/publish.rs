//! What a member tells its cluster about itself, and what the leader decides for all: the version they can all work with.

use std::time::Duration;

use kvnode_mvcc::membership::Member;
use kvnode_proto::{
    etcdserverpb::InternalRaftRequest,
    membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest},
};
use kvnode_raft::Role;
use tokio::time;
use tracing::{info, warn};

use super::{Node, downgrade, inbox::Control, limits};
use crate::{
    flags::usage::ETCD_VERSION,
    peer::{members, version},
};

/// Version of a cluster whose members' versions are not all known yet (etcd's `MinClusterVersion`).
const UNDECIDED_VERSION: &str = "3.0.0";

/// How often the leader looks at the members' versions (etcd's `monitorVersionInterval`).
const VERSION_INTERVAL: Duration = Duration::from_secs(4);

/// How long members have to come online before an election may be waited for less (etcd's `ConnReadTimeout`).
const ADVANCE_LIMIT: Duration = Duration::from_secs(5);
const ADVANCE_LOOK: Duration = Duration::from_millis(50);

/// Tells the cluster this member's name and client URLs, until it knows.
pub(super) async fn attributes(node: Node, client_urls: Vec<String>) {
    let stop = node.shared.stopper.token();
    let name = node.shared.identity.name.clone();
    loop {
        let known = |m: &Member| m.name == name && m.client_urls == client_urls;
        if node.reader().view().member(node.member_id()).is_some_and(|m| known(&m)) {
            info!("local-member-id" = %node.member_id(), "published local member to cluster through raft");
            return;
        }
        let request = InternalRaftRequest {
            cluster_member_attr_set: Some(ClusterMemberAttrSetRequest {
                member_id: node.member_id().0,
                member_attributes: Some(Attributes { name: name.clone(), client_urls: client_urls.clone() }),
            }),
            ..InternalRaftRequest::default()
        };
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = node.propose(request) => outcome,
        };
        match outcome {
            // A member that was added but does not know it yet applies this without effect: look again.
            Ok(_) if node.reader().view().member(node.member_id()).is_some() => {}
            Ok(_) => time::sleep(limits::READ_RETRY).await,
            Err(e) => {
                warn!("local-member-id" = %node.member_id(), error = %e, "failed to publish local member to cluster through raft");
                time::sleep(limits::READ_RETRY).await;
            }
        }
    }
}

/// While this member leads, keeps the cluster's version at the lowest of its members', or takes it a step down.
pub(super) async fn cluster_version(node: Node) {
    let stop = node.shared.stopper.token();
    let mut leadership = node.leadership();
    // Who leads may have been found out before this began to listen.
    leadership.mark_changed();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = time::sleep(VERSION_INTERVAL) => {}
            changed = leadership.changed() => if changed.is_err() { return },
        }
        if node.shared.leader().role == Role::Leader {
            tokio::select! {
                () = stop.cancelled() => return,
                () = node.decide_version() => {}
            }
        }
    }
}

impl Node {
    async fn decide_version(&self) {
        let decided = self.reader().view().cluster_version();
        let lowest = self.lowest_version().await;
        let wanted = match (&decided, lowest) {
            (None, None) => UNDECIDED_VERSION.to_owned(),
            (None, Some((major, minor))) => format!("{major}.{minor}.0"),
            (Some(now), Some(lowest)) => {
                let target = downgrade::target_version(&self.reader().view());
                let Some((major, minor)) =
                    version(now).and_then(|now| downgrade::next_version(now, lowest, target))
                else {
                    return;
                };
                format!("{major}.{minor}.0")
            }
            (Some(_), None) => return,
        };
        info!("cluster-version" = wanted, "updating cluster version");
        let request = InternalRaftRequest {
            cluster_version_set: Some(ClusterVersionSetRequest { ver: wanted }),
            ..InternalRaftRequest::default()
        };
        if let Err(e) = self.propose(request).await {
            warn!(error = %e, "failed to update cluster version; trying again");
        }
    }

    /// The lowest version among the members; `None` while one of them cannot be asked.
    async fn lowest_version(&self) -> Option<(u32, u32)> {
        let mut lowest = version(ETCD_VERSION)?;
        for member in self.reader().view().members() {
            if member.id == self.member_id() {
                continue;
            }
            let mut found = None;
            for url in &member.peer_urls {
                if let Ok(text) = members::fetch_version(&self.dialer, url, limits::WAIT_APPLIED).await {
                    found = version(&text);
                    break;
                }
            }
            lowest = lowest.min(found?);
        }
        Some(lowest)
    }
}

/// When the others are there, a leader that lives would be heard soon: the first election need not wait its full time
/// (etcd's `--initial-election-tick-advance`).
pub(super) async fn advance_election(node: Node, active_peers: impl Fn() -> usize, ticks: usize) {
    let deadline = time::Instant::now() + ADVANCE_LIMIT;
    while time::Instant::now() < deadline && !node.shared.stopper.is_stopping() {
        if node.shared.leader().leader.0 != 0 {
            return;
        }
        if active_peers() > 0 {
            node.shared.inbox.control(Control::AdvanceElection(ticks));
            return;
        }
        time::sleep(ADVANCE_LOOK).await;
    }
}
