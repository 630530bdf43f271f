//! Members find out whether they hold the same data: once before they start (`InitialCorruptCheck`), and while they lead,
//! every `--corrupt-check-time` and after compactions (`CompactHashCheck`). Who differs gets a CORRUPT alarm.
//!
//! What follows from hashes is decided in [`compare`]; here they are asked for and told. Log lines are etcd's, which
//! tools wait for (`server/etcdserver/corrupt.go`).

pub(crate) mod compare;

use std::time::Duration;

use kvnode_mvcc::{KeyHash, MemberId, ReadError, Revision, membership::Member};
use kvnode_proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest, alarm_request::AlarmAction};
use kvnode_raft::Role;
use tokio::time;
use tracing::{error, info, warn};

use super::{Identity, Node, NodeError};
use crate::peer::{Dialer, members};
use compare::{CompactionVerdict, Comparison, PeerHash, PeerSilence, compare, judge_compaction, suspects};

/// Asks all other members for their hash at `revision`.
async fn ask(
    dialer: &Dialer,
    own: &Identity,
    members: &[Member],
    revision: Revision,
    limit: Duration,
) -> Vec<PeerHash> {
    let mut found = Vec::new();
    for member in members.iter().filter(|m| m.id != own.member && !m.peer_urls.is_empty()) {
        let mut answer = Err(PeerSilence::Unreachable("it has no peer URL".to_owned()));
        for url in &member.peer_urls {
            answer = members::fetch_hash(dialer, url, own.cluster, revision, limit).await;
            let Err(error) = &answer else { break };
            warn!(
                "local-member-id" = %own.member,
                "requested-revision" = revision.0,
                "remote-peer-endpoint" = url,
                %error,
                "failed hash kv request"
            );
        }
        found.push(PeerHash { member: member.id, urls: member.peer_urls.clone(), answer });
    }
    found
}

/// Compares what a member recovered with its peers, before it takes part. `false`: it holds other data than one of them.
pub(super) async fn initial_check(
    dialer: &Dialer,
    own: &Identity,
    members: &[Member],
    hash: KeyHash,
    limit: Duration,
) -> bool {
    info!("local-member-id" = %own.member, timeout = ?limit, "starting initial corruption check");
    let mut consistent = true;
    for peer in ask(dialer, own, members, hash.hash_revision, limit).await {
        let text = match &peer.answer {
            Ok(answer) => match compare(&hash, &answer.hash) {
                Comparison::Equal => continue,
                Comparison::Different => {
                    consistent = false;
                    "found different hash values from remote peer"
                }
                Comparison::OtherCompaction => "found different compact revision values from remote peer",
            },
            Err(PeerSilence::Read(ReadError::FutureRevision(_))) => "cannot fetch hash from slow remote peer",
            Err(PeerSilence::Read(ReadError::Compacted(_))) => {
                "cannot fetch hash from remote peer; local member is behind"
            }
            Err(PeerSilence::OtherCluster) => "cluster ID mismatch",
            // Already told.
            Err(PeerSilence::Unreachable(_)) => continue,
        };
        let theirs = peer.answer.as_ref().ok();
        warn!(
            "local-member-id" = %own.member,
            "local-member-revision" = hash.hash_revision.0,
            "local-member-compact-revision" = hash.compact_revision.0,
            "local-member-hash" = hash.hash,
            "remote-peer-id" = %peer.member,
            "remote-peer-endpoints" = peer.urls.join(","),
            "remote-peer-revision" = theirs.map(|a| a.revision.0),
            "remote-peer-compact-revision" = theirs.map(|a| a.hash.compact_revision.0),
            "remote-peer-hash" = theirs.map(|a| a.hash.hash),
            "{text}"
        );
    }
    if consistent {
        info!("local-member-id" = %own.member, "initial corruption checking passed; no corruption");
    }
    consistent
}

/// Compares members every `interval` while this one leads.
pub(super) async fn periodic(node: Node, interval: Duration) {
    info!("local-member-id" = %node.member_id(), ?interval, "enabled corruption checking");
    let stop = node.shared.stopper.token();
    let mut ticks = time::interval_at(time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let work = async {
        loop {
            ticks.tick().await;
            if node.shared.leader().role == Role::Leader
                && let Err(e) = node.check_periodically().await
            {
                warn!(error = %e, "failed to check hash KV");
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Compares the hashes of compactions `interval` after each other while this member leads.
pub(super) async fn compactions(node: Node, interval: Duration) {
    let stop = node.shared.stopper.token();
    let work = async {
        let mut checked = Revision(0);
        loop {
            time::sleep(interval).await;
            if node.shared.leader().role == Role::Leader {
                node.check_compactions(&mut checked).await;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

impl Node {
    /// The hash of the key space up to a revision, 0 for the current one, and the current revision: `HashKV`.
    ///
    /// # Errors
    /// [`NodeError::Apply`]: the revision is compacted or in the future.
    pub async fn hash_kv(&self, revision: Revision) -> Result<(KeyHash, Revision), NodeError> {
        let shared = self.shared.clone();
        let work = move || shared.hashes.at(&shared.reader, revision);
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome.map_err(|e| NodeError::Apply(e.into())),
            // It ends only with the runtime.
            Err(_) => Err(NodeError::Stopped),
        }
    }

    async fn peer_hashes(&self, revision: Revision) -> Vec<PeerHash> {
        let members = self.reader().view().members();
        let limit = self.shared.settings.request_timeout;
        ask(&self.dialer, &self.shared.identity, &members, revision, limit).await
    }

    async fn check_periodically(&self) -> Result<(), NodeError> {
        let (before, _) = self.hash_kv(Revision(0)).await?;
        let peers = self.peer_hashes(before.hash_revision).await;
        // What peers had applied when they answered, this member has applied after that.
        self.linearize().await?;
        let (after, current) = self.hash_kv(Revision(0)).await?;
        let found = suspects(self.member_id(), &before, &after, current, &peers);
        for (member, suspicion) in &found {
            let answer = peers.iter().find(|p| p.member == *member).and_then(|p| p.answer.as_ref().ok());
            warn!(
                "leader-revision" = current.0,
                "leader-compact-revision" = after.compact_revision.0,
                "leader-hash" = before.hash,
                "follower-revision" = answer.map(|a| a.revision.0),
                "follower-compact-revision" = answer.map(|a| a.hash.compact_revision.0),
                "follower-hash" = answer.map(|a| a.hash.hash),
                "follower-peer-id" = %member,
                "{suspicion}"
            );
        }
        // One at a time, as etcd: the first names who to look at, and all stop writing.
        if let Some((member, _)) = found.first() {
            self.raise_corrupt(*member).await;
        }
        let answered = peers.iter().filter(|p| p.answer.is_ok()).count();
        info!("number-of-peers-checked" = answered, "finished peer corruption check");
        Ok(())
    }

    /// Looks for the newest compaction that all members can be compared at.
    async fn check_compactions(&self, checked: &mut Revision) {
        let timeout = self.shared.settings.request_timeout;
        info!("local-member-id" = %self.member_id(), ?timeout, "starting compact hash check");
        let hashes = self.shared.hashes.compactions();
        let mut count = 0;
        for hash in hashes.into_iter().take_while(|hash| hash.hash_revision > *checked) {
            count += 1;
            let peers = self.peer_hashes(hash.hash_revision).await;
            if peers.is_empty() {
                continue;
            }
            let verdict = judge_compaction(self.member_id(), &hash, &peers);
            self.tell_compaction(&hash, &peers, &verdict);
            for member in verdict.alarms() {
                self.raise_corrupt(member).await;
            }
            match verdict {
                CompactionVerdict::Incomplete { .. } => continue,
                CompactionVerdict::Consistent => *checked = hash.hash_revision,
                CompactionVerdict::Corrupt { .. } => {}
            }
            break;
        }
        info!("number-of-hashes-checked" = count, "finished compaction hash check");
    }

    fn tell_compaction(&self, hash: &KeyHash, peers: &[PeerHash], verdict: &CompactionVerdict) {
        let (revision, compacted) = (hash.hash_revision.0, hash.compact_revision.0);
        match verdict {
            CompactionVerdict::Consistent => info!(
                "number-of-peers-checked" = peers.len(),
                revision,
                "compactRevision" = compacted,
                "successfully checked hash on whole cluster"
            ),
            CompactionVerdict::Incomplete { checked } => warn!(
                "number-of-peers-checked" = checked,
                "number-of-peers" = peers.len(),
                revision,
                "compactRevision" = compacted,
                "skipped revision in compaction hash check; was not able to check all peers"
            ),
            CompactionVerdict::Corrupt { quorum, groups } => {
                if !quorum {
                    error!(
                        "leader-id" = %self.member_id(),
                        "leader-revision" = revision,
                        "leader-compact-revision" = compacted,
                        "leader-hash" = hash.hash,
                        "Detected compaction hash mismatch but cannot identify the corrupted members, so intentionally set the memberID as 0"
                    );
                }
                for (other, members) in groups {
                    let ids: Vec<String> = members.iter().map(ToString::to_string).collect();
                    error!(
                        "leader-id" = %self.member_id(),
                        "leader-revision" = revision,
                        "leader-compact-revision" = compacted,
                        "leader-hash" = hash.hash,
                        "peer-hash" = other,
                        "peer-ids" = ids.join(","),
                        "quorum-exist" = quorum,
                        "Detected compaction hash mismatch"
                    );
                }
            }
        }
    }

    async fn raise_corrupt(&self, member: MemberId) {
        let alarm = AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: member.0,
            alarm: AlarmType::Corrupt as i32,
        };
        let request = InternalRaftRequest { alarm: Some(alarm), ..InternalRaftRequest::default() };
        if let Err(e) = self.propose(request).await {
            // The next check raises it again.
            warn!("member-id" = %member, error = %e, "failed to raise a CORRUPT alarm");
        }
    }
}
