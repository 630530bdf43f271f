//! Discovery: the members of a new cluster find each other at an etcd that all of them are told of (`--discovery-*`).
//!
//! [`registry`] decides, [`service`] asks. Follows etcd's `server/etcdserver/api/v3discovery`: a member looks whether there is
//! a place for it, registers, looks again, since others may have been faster, and waits until all places are taken. A
//! member that finds data on its disk never asks.

mod registry;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use kvnode_mvcc::membership::Member;
use thiserror::Error;
use tracing::info;

use self::{
    registry::{Keys, Registry},
    service::Service,
};
use super::{Boot, StartError};
use crate::flags::{
    self,
    config::Config,
    url::{Url, UrlError},
};

/// Why the discovery service made no member of this one. The first words are etcd's.
#[derive(Debug, Error)]
pub enum DiscoveryError {
    #[error("discovery: size key not found: put the number of members at {key} first")]
    NoSize { key: String },
    #[error("discovery: size key is bad: {key} has {value:?}, which is no number above 0")]
    BadSize { key: String, value: String },
    #[error("discovery: cluster is full: token {token} was already used by {size} others; take a new one")]
    Full { token: String, size: usize },
    #[error("discovery: invalid peer URL in {members:?}: {why}")]
    Members { members: String, why: String },
    #[error("discovery cluster {members} has duplicate url")]
    Duplicate { members: String },
    #[error("--discovery-endpoints: {endpoint}: {source}")]
    Endpoint { endpoint: String, source: UrlError },
    #[error(
        "logging in to the discovery service as {user}: {why}; check --discovery-user and --discovery-password"
    )]
    Login { user: String, why: String },
}

/// Registers this member, and returns the members of the cluster once all are known, by name.
pub(super) async fn join(
    config: &Config,
    own: &Member,
    boot: &Boot,
) -> Result<BTreeMap<String, Vec<Url>>, StartError> {
    let settings = &config.discovery;
    info!("Bootstrapping cluster using v3 discovery.");
    boot.wait_for(format!("the discovery service at {} has to answer", settings.endpoints.join(",")));
    let service = Service::new(config)?;
    let keys = Keys::new(&settings.token);
    let key = keys.member(own.id);

    let admitted = async || {
        let (registry, revision) = look(&service, &keys).await?;
        if registry.admits(&key) {
            return Ok((registry, revision));
        }
        Err(DiscoveryError::Full { token: settings.token.clone(), size: registry.size() })
    };
    admitted().await?;
    let urls: Vec<String> = own.peer_urls.iter().map(|url| format!("{}={url}", own.name)).collect();
    let value = urls.join(",");
    service.persist("register member itself", async |session| session.put(&key, &value).await).await?;
    info!("member-key" = key, "member-info" = value, "register member itself successfully");

    let (mut registry, mut revision) = admitted().await?;
    loop {
        if let Some(text) = registry.initial_cluster() {
            info!(cluster = text, "discovery joined cluster successfully");
            return Ok(members(&text)?);
        }
        let (found, size) = (registry.found(), registry.size());
        info!("cluster-size" = size, "found-peers" = found, "waiting for peers from discovery service");
        boot.wait_for(format!("{} of {size} members have to register for discovery", size - found));
        let prefix = keys.members();
        service.persist("watch for peers", async |session| session.changed(&prefix, revision).await).await?;
        (registry, revision) = look(&service, &keys).await?;
    }
}

/// The registry as it is now, and its revision.
async fn look(service: &Service<'_>, keys: &Keys) -> Result<(Registry, i64), DiscoveryError> {
    let (size_key, prefix) = (keys.size(), keys.members());
    let (size, (members, revision)) = service
        .persist("read the registry of members", async |session| {
            Ok((session.get(&size_key).await?, session.list(&prefix).await?))
        })
        .await?;
    Ok((Registry::new(keys, &size, &members)?, revision))
}

/// Reads what all members wrote.
fn members(text: &str) -> Result<BTreeMap<String, Vec<Url>>, DiscoveryError> {
    let members = flags::members(text)
        .map_err(|error| DiscoveryError::Members { members: text.to_owned(), why: error.to_string() })?;
    let mut seen = BTreeSet::new();
    if members.values().flatten().all(|url| seen.insert(url)) {
        return Ok(members);
    }
    Err(DiscoveryError::Duplicate { members: text.to_owned() })
}
