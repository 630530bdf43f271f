//! How a member comes to life: from its disk, as one of the first, who are told of each other, discover each other or are
//! listed in DNS, by joining a cluster, or with a ticket.
//!
//! Whatever the way, it ends with a [`Recovered`]: what is durable. Creating a cluster is recovering a log of which the
//! first entries say who its members are; joining one is recovering an empty log. [`assemble`] then starts the threads.
//!
//! A data directory is never given a second life: one that holds an identity but no log, or another cluster's, is refused.

mod assemble;
mod discovery;
mod force;
mod fresh;
mod join;
mod recover;
mod srv;
#[cfg(test)]
mod tests;
mod ticket;
mod urls;

use std::{path::PathBuf, sync::Arc};

use kvnode_mvcc::{MemberId, Revision, membership::Member};
use kvnode_raft::DurableState;
use kvnode_storage::{
    checkpoint::CheckpointError,
    identity::IdentityError,
    layout::DataDir,
    vfs::{RealDisk, Vfs},
    wal::{Wal, WalError, WalOptions},
};
use parking_lot::Mutex;

use crate::{
    auth::Tokens, client::listen::ListenError, flags::config::Config, metrics::Metrics, tls::TlsError,
};

pub use self::{discovery::DiscoveryError, srv::SrvError};
use super::{Identity, Node, checkpoint::InstallError, corruption};

/// What a member waits for before it can serve. Shared with the health endpoint before the member exists.
#[derive(Debug)]
pub struct Boot {
    waiting_for: Mutex<Option<String>>,
}

impl Default for Boot {
    fn default() -> Self {
        Self { waiting_for: Mutex::new(Some("the member is starting".to_owned())) }
    }
}

impl Boot {
    /// What is missing; `None` once the member serves.
    #[must_use]
    pub fn waiting_for(&self) -> Option<String> {
        self.waiting_for.lock().clone()
    }

    fn wait_for(&self, what: impl Into<String>) {
        *self.waiting_for.lock() = Some(what.into());
    }

    fn done(&self) {
        *self.waiting_for.lock() = None;
    }
}

/// Why a member did not start. Each is one line that names the file or flag and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Whose volume it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state in the checkpoint.
    #[error("{0}")]
    Restore(String),
    /// Log, hard state and checkpoint contradict each other.
    #[error("{} cannot be used: {source}", path.display())]
    Raft {
        /// The log.
        path: PathBuf,
        /// The contradiction.
        source: kvnode_raft::StartError,
    },
    /// The volume was a member's, but its log is gone.
    #[error(
        "{} says that this volume is member {member} of cluster {cluster}, but it holds no log; a member that lost its \
         log must not take part again: remove the member from the cluster and start it on an empty volume",
        path.display()
    )]
    LogGone {
        /// The identity file.
        path: PathBuf,
        /// Whose.
        member: String,
        /// Of which cluster.
        cluster: String,
    },
    /// A peer has other data at the same revision. The words are etcd's.
    #[error(
        "{member} found data inconsistency with peers; replace this member: remove it, and add it again with an empty volume"
    )]
    Inconsistent {
        /// This member.
        member: MemberId,
    },
    /// Flags that do not name this member.
    #[error("{0}")]
    Flags(String),
    /// The peers' answers do not fit the flags.
    #[error("{0}")]
    Peers(String),
    /// The discovery service made no member of this one.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// DNS made no member of this one.
    #[error(transparent)]
    Srv(#[from] SrvError),
    /// Certificates and keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The peer port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system refused a thread or a runtime.
    #[error("starting the peer runtime: {0}; raise the limit on threads or open files")]
    Runtime(std::io::Error),
}

impl From<InstallError> for StartError {
    fn from(e: InstallError) -> Self {
        Self::Restore(e.to_string())
    }
}

/// The disk of a member.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) data_dir: DataDir,
    pub(crate) wal_dir: PathBuf,
    pub(crate) wal_options: WalOptions,
}

impl Disk {
    fn new(config: &Config) -> Self {
        let data_dir = DataDir::new(&config.data_dir);
        let wal_dir = config.wal_dir.clone().unwrap_or_else(|| data_dir.wal());
        Self { vfs: Arc::new(RealDisk), data_dir, wal_dir, wal_options: WalOptions::default() }
    }
}

/// What a start found or made: everything durable, and the log to go on with.
pub(crate) struct Recovered {
    pub(crate) identity: Identity,
    pub(crate) wal: Wal,
    pub(crate) raft: DurableState,
    pub(crate) store: kvnode_mvcc::Store,
    /// Members that this one must be able to answer before its own log tells it about them.
    pub(crate) remotes: Vec<Member>,
}

/// Brings a member to life and returns its handle; it serves peers from then on. May take arbitrarily long with
/// `--ticket-file`, which `boot` tells.
///
/// # Errors
/// See [`StartError`]; nothing was changed on disk that a second attempt would stumble over.
pub async fn start(
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    tokens: Arc<Tokens>,
    boot: Arc<Boot>,
) -> Result<Node, StartError> {
    let disk = Disk::new(&config);
    start_on(&disk, &config, metrics, tokens, &boot).await
}

async fn start_on(
    disk: &Disk,
    config: &Config,
    metrics: Arc<Metrics>,
    tokens: Arc<Tokens>,
    boot: &Boot,
) -> Result<Node, StartError> {
    let port = assemble::PeerPort::open(config)?;
    let recovered = if Wal::exists(&*disk.vfs, &disk.wal_dir)? {
        let recovered = recover::recover(config, disk, boot).await?;
        if config.features.initial_corrupt_check {
            initial_check(config, &recovered).await?;
        }
        recovered
    } else {
        recover::refuse_second_life(config, disk)?;
        fresh::begin(config, disk, boot).await?
    };
    boot.wait_for("the member is starting its threads");
    let node = assemble::assemble(config, disk, port, recovered, metrics, tokens)?;
    boot.done();
    Ok(node)
}

/// Refuses to take part with other data than the peers have.
async fn initial_check(config: &Config, recovered: &Recovered) -> Result<(), StartError> {
    let (view, own) = (recovered.store.view(), &recovered.identity);
    let hash = view.hash_kv(Revision(0)).map_err(|e| StartError::Restore(e.to_string()))?;
    let (dialer, limit) = (assemble::dialer(config)?, config.request_timeout());
    match corruption::initial_check(&dialer, own, &view.members(), hash, limit).await {
        true => Ok(()),
        false => Err(StartError::Inconsistent { member: own.member }),
    }
}
