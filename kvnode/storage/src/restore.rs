//! A data directory made from a snapshot: the same keys under a new cluster identity, as `etcdutl snapshot restore`
//! makes one. It appears whole or not at all, so an interrupted restore can simply be run again; [`is_done`] tells one
//! that was interrupted after its last step.

use std::{
    cell::RefCell,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use kvnode_proto::{
    raftpb::{ConfState, Entry, HardState},
    walpb,
};
use serde::Serialize;

use crate::{
    bolt::{BoltError, BucketSource, Reader},
    checkpoint::{self, CheckpointError},
    identity::{Identity, IdentityError},
    layout::DataDir,
    snapshot_file::{self, SnapshotError, Trailer},
    vfs::{self, Vfs},
    wal::{Metadata, Wal, WalError, WalOptions},
};

/// What the new cluster is to be. All of it is decided by the caller.
#[derive(Clone, Debug)]
pub struct RestorePlan {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// Whether it must carry its hash.
    pub trailer: Trailer,
    /// Where to; must not hold a member.
    pub data_dir: DataDir,
    /// Who the volume will belong to.
    pub identity: Identity,
    /// The `members` bucket of the new cluster, sorted by key; those of the snapshot are dropped.
    pub members: Vec<(Bytes, Bytes)>,
    /// The first entries of the new log: one change per member, all of term 1, indexes from 1.
    pub entries: Vec<Entry>,
    /// The members as raft counts them once the entries are applied.
    pub conf_state: ConfState,
}

/// An error of a restore. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is data where the restored data should go.
    #[error("data directory {} already holds a member; name an empty one", data_dir.display())]
    Occupied {
        /// The directory.
        data_dir: PathBuf,
    },
    /// The snapshot is unusable.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log could not be written.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The identity could not be written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

const TERM: u64 = 1;

/// Whether the data directory is what an earlier run of this very plan made. Its end was perhaps not heard of, so it is
/// made durable here, too.
pub fn is_done(vfs: &dyn Vfs, plan: &RestorePlan) -> Result<bool, RestoreError> {
    let done = Identity::load(vfs, &plan.data_dir)?.as_ref() == Some(&plan.identity);
    if done {
        let member = plan.data_dir.member();
        let failed = |source| RestoreError::Io { action: "sync the parent of", path: member.clone(), source };
        vfs::sync_parent(vfs, &member).map_err(failed)?;
    }
    Ok(done)
}

/// Makes the data directory. Returns the length of its checkpoint in bytes.
pub fn restore(vfs: &Arc<dyn Vfs>, plan: &RestorePlan) -> Result<u64, RestoreError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Io { action, path, source }
    };
    let member = plan.data_dir.member();
    if vfs.exists(&member).map_err(io("look for", &member))? {
        return Err(RestoreError::Occupied { data_dir: plan.data_dir.root().to_owned() });
    }
    snapshot_file::verify(&**vfs, &plan.snapshot, plan.trailer)?;
    let reader = Reader::open(&**vfs, &plan.snapshot).map_err(SnapshotError::from)?;

    // Built beside its place and renamed as the last step.
    let building = vfs::temporary_name(&member);
    vfs.remove_dir_all(&building).map_err(io("remove", &building))?;
    let snap = building.join("snap");
    vfs::create_dir_durably(&**vfs, &snap).map_err(io("create", &snap))?;

    let commit = plan.entries.last().map_or(0, |entry| entry.index);
    let source = Overlay { reader, plan, commit, failed: RefCell::new(None) };
    let written = checkpoint::write_to(&**vfs, &snap.join("db"), &source);
    // An unreadable snapshot shows as an early end of its items; that error explains more than what followed from it.
    if let Some(error) = source.failed.into_inner() {
        return Err(SnapshotError::from(error).into());
    }
    let length = written?;
    write_log(vfs, &building.join("wal"), plan, commit)?;
    plan.identity.store_at(&**vfs, &building.join("identity.json"))?;
    vfs.sync_dir(&building).map_err(io("sync", &building))?;
    vfs.rename(&building, &member).map_err(io("rename into place", &member))?;
    vfs::sync_parent(&**vfs, &member).map_err(io("sync the parent of", &member))?;
    Ok(length)
}

fn write_log(vfs: &Arc<dyn Vfs>, dir: &Path, plan: &RestorePlan, commit: u64) -> Result<(), WalError> {
    let metadata = Metadata { node_id: plan.identity.member_id.0, cluster_id: plan.identity.cluster_id.0 };
    let mut wal = Wal::create(vfs.clone(), dir, metadata, WalOptions::default())?;
    let vote = plan.conf_state.voters.first().copied().unwrap_or(0);
    wal.append(Some(&HardState { term: TERM, vote, commit }), &plan.entries);
    wal.sync()?;
    wal.mark_snapshot(&walpb::Snapshot {
        index: commit,
        term: TERM,
        conf_state: Some(plan.conf_state.clone()),
    })
}

/// The snapshot's buckets with those facts replaced that belong to the cluster, not to the keys.
struct Overlay<'a> {
    reader: Reader,
    plan: &'a RestorePlan,
    commit: u64,
    failed: RefCell<Option<BoltError>>,
}

impl Overlay<'_> {
    fn stored<'a>(&'a self, bucket: &str) -> impl Iterator<Item = (Bytes, Bytes)> + use<'a> {
        self.reader
            .items(bucket)
            .map_while(|item| item.map_err(|error| self.failed.replace(Some(error))).ok())
    }

    fn meta(&self) -> Vec<(Bytes, Bytes)> {
        let conf_state =
            serde_json::to_vec(&ConfStateJson::from(self.plan.conf_state.clone())).unwrap_or_default();
        let replaced = [
            ("consistent_index", Bytes::copy_from_slice(&self.commit.to_be_bytes())),
            ("term", Bytes::copy_from_slice(&TERM.to_be_bytes())),
            ("confState", conf_state.into()),
        ];
        let mut items: Vec<_> =
            self.stored("meta").filter(|(key, _)| replaced.iter().all(|(name, _)| key != name)).collect();
        items.extend(replaced.map(|(name, value)| (Bytes::from_static(name.as_bytes()), value)));
        items.sort();
        items
    }
}

impl BucketSource for Overlay<'_> {
    fn buckets(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.reader.buckets().collect();
        names.extend(["members", "members_removed", "meta"]);
        names.sort_unstable();
        names.dedup();
        names
    }

    fn items(&self, bucket: &str) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + '_> {
        match bucket {
            "members" => Box::new(self.plan.members.iter().cloned()),
            "members_removed" => Box::new(std::iter::empty()),
            "meta" => Box::new(self.meta().into_iter()),
            other => Box::new(self.stored(other)),
        }
    }
}

/// The members as etcd keeps them in the meta bucket.
#[derive(Serialize)]
struct ConfStateJson {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters_outgoing: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners_next: Vec<u64>,
    auto_leave: bool,
}

impl From<ConfState> for ConfStateJson {
    fn from(state: ConfState) -> Self {
        ConfStateJson {
            voters: state.voters,
            learners: state.learners,
            voters_outgoing: state.voters_outgoing,
            learners_next: state.learners_next,
            auto_leave: state.auto_leave,
        }
    }
}
