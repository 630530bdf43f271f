//! Joining a cluster that exists: this member was added to it, and now begins with an empty log that the leader fills.

use std::time::Duration;

use kvnode_mvcc::{ClusterId, MemberId, Store, membership::Member};
use kvnode_raft::DurableState;
use kvnode_storage::identity::Origin;
use tracing::{info, warn};

use super::{Disk, Recovered, StartError, assemble, fresh, urls};
use crate::{
    flags::config::Config,
    node::Identity,
    peer::{Dialer, members},
};

/// How long one member has to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Joins the cluster that the members of `--initial-cluster` form (`--initial-cluster-state=existing`).
pub(super) async fn begin(config: &Config, disk: &Disk) -> Result<Recovered, StartError> {
    let named = fresh::initial_members(config);
    // Its URLs are those it was added with, whatever it is told to advertise.
    let own = fresh::named(config, &named)?.clone();
    let dialer = assemble::dialer(config)?;
    let (cluster, existing) = ask(&dialer, &named, own.id).await.ok_or_else(|| {
        StartError::Peers(
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs; \
             check --initial-cluster and that its members run"
                .to_owned(),
        )
    })?;
    let own = match_members(config, &named, &existing, &own).await?;
    let identity = Identity { cluster, member: own, name: config.name.clone() };
    join_as(config, disk, identity, existing)
}

/// Begins as a member whose ID is known.
pub(super) fn join_as(
    config: &Config,
    disk: &Disk,
    identity: Identity,
    members: Vec<Member>,
) -> Result<Recovered, StartError> {
    let wal = fresh::create_log(disk, &identity)?;
    fresh::store_identity(config, disk, &identity, Origin::Joined)?;
    info!("cluster-id" = %identity.cluster, "local-member-id" = %identity.member, "joining an existing cluster");
    Ok(Recovered {
        identity,
        wal,
        raft: DurableState::default(),
        store: Store::new(assemble::store_config(config)),
        remotes: members,
    })
}

/// The cluster as the first member that answers knows it.
async fn ask(dialer: &Dialer, named: &[Member], own: MemberId) -> Option<(ClusterId, Vec<Member>)> {
    for url in named.iter().filter(|m| m.id != own).flat_map(|m| &m.peer_urls) {
        match members::fetch(dialer, url, ASK_TIMEOUT).await {
            Ok((cluster, members)) if !members.is_empty() => return Some((cluster, members)),
            Ok(_) => {}
            Err(e) => warn!(error = %e, "failed to get cluster response"),
        }
    }
    None
}

/// The flags and the cluster must name the same members; this one is known by its URLs.
async fn match_members(
    config: &Config,
    named: &[Member],
    existing: &[Member],
    own: &Member,
) -> Result<MemberId, StartError> {
    let unequal = |why: String| {
        StartError::Peers(format!(
            "error validating peerURLs: {why}; --initial-cluster must list exactly the members of the cluster, this one \
             included, as \"member add\" printed them"
        ))
    };
    if named.len() != existing.len() {
        return Err(unequal(format!(
            "member count is unequal ({} named, {} exist)",
            named.len(),
            existing.len()
        )));
    }
    let mut found = None;
    for member in named {
        let Some(id) = counterpart(member, existing).await else {
            return Err(unequal(format!("no member of the cluster has {}", member.peer_urls.join(","))));
        };
        if member.id == own.id {
            found = Some(id);
        }
    }
    found.ok_or_else(|| unequal(format!("{} is not a member", config.name)))
}

/// The member of the cluster at the same URLs. No name is resolved for one whose URLs are written as there: the name of
/// another, which is down, may take long to be found missing.
async fn counterpart(member: &Member, existing: &[Member]) -> Option<MemberId> {
    if let Some(found) = existing.iter().find(|m| urls::are_the_same(&m.peer_urls, &member.peer_urls)) {
        return Some(found.id);
    }
    for candidate in existing {
        if urls::lead_to_the_same(&member.peer_urls, &candidate.peer_urls).await {
            return Some(candidate.id);
        }
    }
    None
}

/// A member that already took part must not create its cluster a second time on an empty disk.
pub(super) async fn refuse_if_bootstrapped(
    config: &Config,
    named: &[Member],
    own: MemberId,
) -> Result<(), StartError> {
    if named.len() == 1 {
        return Ok(());
    }
    let dialer = assemble::dialer(config)?;
    for url in named.iter().filter(|m| m.id != own).flat_map(|m| &m.peer_urls) {
        // Members that are not up yet refuse at once; one that hangs must not delay the start for long.
        let Ok((_, members)) = members::fetch(&dialer, url, Duration::from_secs(1)).await else { continue };
        let started = members.iter().any(|m| m.id == own && !m.client_urls.is_empty());
        if started {
            return Err(StartError::Peers(format!(
                "member {own} has already been bootstrapped; remove it from the cluster and add it again, then start \
                 with --initial-cluster-state=existing"
            )));
        }
        return Ok(());
    }
    Ok(())
}
