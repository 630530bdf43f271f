//! First starts: creating a cluster, alone or with others named by `--initial-cluster`.

use std::collections::BTreeMap;

use kvnode_mvcc::{
    MemberId, Store,
    membership::{
        Member,
        id::{bootstrap_member_id, cluster_id},
        json::encode_member,
    },
};
use kvnode_proto::raftpb;
use kvnode_raft::{DurableState, conf_change};
use kvnode_storage::{
    identity::{HexId, IDENTITY_VERSION, Identity as IdentityFile, Origin},
    vfs,
    wal::{Metadata, Wal},
};
use tracing::info;

use super::{Boot, Disk, Recovered, StartError, assemble, discovery, join, srv, ticket, urls};
use crate::{
    flags::{
        config::{ClusterState, Config},
        url::Url,
    },
    node::Identity,
};

/// Begins a member on an empty disk.
pub(super) async fn begin(config: &Config, disk: &Disk, boot: &Boot) -> Result<Recovered, StartError> {
    if config.ticket_file.is_some() {
        return ticket::begin(config, disk, boot).await;
    }
    let mut listed = None;
    if !config.discovery_srv.domain.is_empty() {
        let config = listed.insert(config.clone());
        config.initial_cluster = srv::members(config, boot).await?;
    }
    let config = listed.as_ref().unwrap_or(config);
    match config.initial_cluster_state {
        ClusterState::New => create(config, disk, boot).await,
        ClusterState::Existing if discovers(config) => Err(StartError::Flags(
            "discovery URL should not be set when joining existing initial cluster".to_owned(),
        )),
        ClusterState::Existing => join::begin(config, disk).await,
    }
}

/// Begins again where an earlier attempt was interrupted before anything was promised.
pub(super) async fn again(
    config: &Config,
    disk: &Disk,
    boot: &Boot,
    found: &Identity,
) -> Result<Recovered, StartError> {
    info!("local-member-id" = %found.member, "an earlier start was interrupted before it began; starting anew");
    disk.vfs.remove_dir_all(&disk.wal_dir).map_err(|source| kvnode_storage::wal::WalError::Io {
        action: "remove the unused",
        path: disk.wal_dir.clone(),
        source,
    })?;
    begin(config, disk, boot).await
}

/// Whether the members of a new cluster are to find each other.
pub(super) fn discovers(config: &Config) -> bool {
    !config.discovery.endpoints.is_empty()
}

/// The members of `--initial-cluster`, or those that DNS listed in its place, by ID.
pub(super) fn initial_members(config: &Config) -> Vec<Member> {
    members_of(&config.initial_cluster, &config.initial_cluster_token)
}

/// Members of a new cluster, by ID, as etcd computes them.
fn members_of(cluster: &BTreeMap<String, Vec<Url>>, token: &str) -> Vec<Member> {
    let mut members: Vec<Member> = cluster
        .iter()
        .map(|(name, urls)| {
            let peer_urls = texts(urls);
            let id = bootstrap_member_id(&peer_urls, token);
            Member { id, name: name.clone(), peer_urls, ..Member::default() }
        })
        .collect();
    members.sort_by_key(|m| m.id);
    members
}

pub(super) fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

/// This member among those that the flags name, by its name.
pub(super) fn named<'a>(config: &Config, members: &'a [Member]) -> Result<&'a Member, StartError> {
    members.iter().find(|m| m.name == config.name).ok_or_else(|| {
        StartError::Flags(format!(
            "couldn't find local name \"{}\" in the initial cluster configuration: check --name and --initial-cluster",
            config.name
        ))
    })
}

/// This member among those that the flags name, where it is said to be at the URLs that it advertises.
async fn own_entry<'a>(config: &Config, members: &'a [Member]) -> Result<&'a Member, StartError> {
    let own = named(config, members)?;
    let advertised = texts(&config.initial_advertise_peer_urls);
    if !urls::lead_to_the_same(&own.peer_urls, &advertised).await {
        return Err(StartError::Flags(format!(
            "--initial-cluster has {}={} but missing from --initial-advertise-peer-urls={}",
            config.name,
            own.peer_urls.join(","),
            advertised.join(",")
        )));
    }
    Ok(own)
}

async fn create(config: &Config, disk: &Disk, boot: &Boot) -> Result<Recovered, StartError> {
    let mut members = initial_members(config);
    let own = own_entry(config, &members).await?.clone();
    join::refuse_if_bootstrapped(config, &members, own.id).await?;
    if discovers(config) {
        members = members_of(&discovery::join(config, &own, boot).await?, &config.initial_cluster_token);
    }
    create_with(config, disk, members, own.id)
}

/// Writes the log of a new cluster: its first entries are its members, known to be committed from the start because
/// every one of them writes the same.
pub(super) fn create_with(
    config: &Config,
    disk: &Disk,
    members: Vec<Member>,
    own: MemberId,
) -> Result<Recovered, StartError> {
    let ids: Vec<MemberId> = members.iter().map(|m| m.id).collect();
    let identity = Identity { cluster: cluster_id(&ids), member: own, name: config.name.clone() };
    let entries: Vec<raftpb::Entry> = (1..)
        .zip(&members)
        .map(|(index, m)| {
            conf_change::bootstrap_entry(index, kvnode_raft::MemberId(m.id.0), encode_member(m).into())
        })
        .collect();
    let hard_state = raftpb::HardState { term: 1, vote: 0, commit: entries.len() as u64 };
    let mut wal = create_log(disk, &identity)?;
    wal.append(Some(&hard_state), &entries);
    wal.sync()?;
    store_identity(config, disk, &identity, Origin::Created)?;
    info!("cluster-id" = %identity.cluster, "local-member-id" = %identity.member, members = members.len(), "starting a new cluster");
    Ok(Recovered {
        identity,
        wal,
        raft: DurableState { entries, hard_state, ..DurableState::default() },
        store: Store::new(assemble::store_config(config)),
        remotes: members,
    })
}

/// An empty log.
pub(super) fn create_log(disk: &Disk, identity: &Identity) -> Result<Wal, StartError> {
    let member = disk.data_dir.member();
    vfs::create_dir_durably(&*disk.vfs, &member).map_err(|source| kvnode_storage::wal::WalError::Io {
        action: "create",
        path: member,
        source,
    })?;
    let metadata = Metadata { node_id: identity.member.0, cluster_id: identity.cluster.0 };
    Ok(Wal::create(disk.vfs.clone(), &disk.wal_dir, metadata, disk.wal_options)?)
}

/// Says on the volume whose it is. Written after the log: a volume with an identity has begun its life.
pub(super) fn store_identity(
    config: &Config,
    disk: &Disk,
    identity: &Identity,
    origin: Origin,
) -> Result<(), StartError> {
    let file = IdentityFile {
        version: IDENTITY_VERSION,
        cluster_uid: config.initial_cluster_token.clone(),
        cluster_id: HexId(identity.cluster.0),
        member_id: HexId(identity.member.0),
        name: identity.name.clone(),
        origin,
    };
    Ok(file.store(&*disk.vfs, &disk.data_dir)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn own_urls(told: &str) -> Result<Vec<String>, String> {
        let mut config = Config::default();
        config.initial_advertise_peer_urls = vec!["http://127.0.0.1:2380".parse().unwrap()];
        config.initial_cluster = [(config.name.clone(), vec![told.parse().unwrap()])].into();
        let members = initial_members(&config);
        let own = own_entry(&config, &members).await.map_err(|refusal| refusal.to_string())?;
        Ok(own.peer_urls.clone())
    }

    #[tokio::test]
    async fn a_member_knows_itself_by_where_its_url_leads() {
        assert_eq!(own_urls("http://localhost:2380").await.unwrap(), ["http://localhost:2380"]);
        assert_eq!(
            own_urls("http://localhost:2381").await.unwrap_err(),
            "--initial-cluster has default=http://localhost:2381 but missing from \
             --initial-advertise-peer-urls=http://127.0.0.1:2380"
        );
    }
}
