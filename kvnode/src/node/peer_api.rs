//! What the peer port may ask of the core, and tell it.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock, atomic::Ordering},
};

use kvnode_mvcc::{MemberId, View};
use kvnode_proto::raftpb;
use kvnode_raft::SnapshotOutcome;
use kvnode_storage::vfs::Vfs;

use super::{
    Node, NodeError, downgrade::stored_version, inbox::Control, shared::SharedRef, start::Disk,
    stop::StopReason,
};
use crate::{flags::usage::ETCD_VERSION, metrics::Metrics};

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its sender is no longer a member.
    Removed,
    /// It is for another member.
    NotForUs,
    /// Too much waits already.
    Full,
}

/// The core as the peer port sees it.
pub(crate) struct PeerApi {
    shared: SharedRef,
    disk: Disk,
    /// Set when the member is complete; what needs it is refused before.
    node: OnceLock<Node>,
}

impl PeerApi {
    pub(crate) fn new(shared: SharedRef, disk: Disk) -> Arc<Self> {
        Arc::new(Self { shared, disk, node: OnceLock::new() })
    }

    pub(crate) fn set_node(&self, node: Node) {
        // Set once, at the end of the start.
        let _ = self.node.set(node);
    }

    /// The member, once it is complete.
    pub(crate) fn node(&self) -> Option<Node> {
        self.node.get().cloned()
    }

    pub(crate) fn member(&self) -> MemberId {
        self.shared.identity.member
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The newest applied state.
    pub(crate) fn view(&self) -> View {
        self.shared.reader.view()
    }

    /// Whether this was a member once.
    pub(crate) fn is_removed(&self, id: MemberId) -> bool {
        self.view().is_removed(id)
    }

    /// Hands a message to raft.
    pub(crate) fn receive(&self, message: raftpb::Message) -> Result<(), Refused> {
        // Without its file it could never be installed.
        if message.r#type == raftpb::MessageType::MsgSnap as i32 {
            return Err(Refused::NotForUs);
        }
        self.deliver(message)
    }

    /// Hands the message of a snapshot to raft, whose state is on disk. If it is not taken, a checkpoint that overtakes the
    /// state removes it.
    pub(crate) fn receive_snapshot(&self, message: raftpb::Message) -> Result<(), Refused> {
        self.deliver(message)
    }

    /// Whether a message is for this member, from one that may send it.
    pub(crate) fn check(&self, message: &raftpb::Message) -> Result<(), Refused> {
        if message.to != self.member().0 {
            return Err(Refused::NotForUs);
        }
        if self.is_removed(MemberId(message.from)) {
            return Err(Refused::Removed);
        }
        Ok(())
    }

    fn deliver(&self, message: raftpb::Message) -> Result<(), Refused> {
        self.check(&message)?;
        self.shared.inbox.message(message).map_err(|_| Refused::Full)
    }

    /// A message could not be delivered.
    pub(crate) fn unreachable(&self, id: MemberId) {
        self.shared.inbox.unreachable(kvnode_raft::MemberId(id.0));
    }

    /// Sending a snapshot ended.
    pub(crate) fn snapshot_sent(&self, id: MemberId, outcome: SnapshotOutcome) {
        self.shared.inbox.control(Control::SnapshotSent(kvnode_raft::MemberId(id.0), outcome));
    }

    /// While the guard lives the log is not cut by number of entries: the receiver will need what follows its snapshot.
    pub(crate) fn sending_snapshot(&self) -> SendingSnapshot {
        self.shared.raft.snapshots_in_flight.fetch_add(1, Ordering::Relaxed);
        SendingSnapshot(Arc::clone(&self.shared))
    }

    /// Where a received snapshot goes.
    pub(crate) fn received_snapshot(&self, index: u64) -> (Arc<dyn Vfs>, PathBuf) {
        (Arc::clone(&self.disk.vfs), self.disk.data_dir.received_snapshot(index))
    }

    /// The others say that this member was removed.
    pub(crate) fn removed(&self) {
        self.shared.stopper.stop(StopReason::Removed);
    }

    /// What `/version` answers.
    pub(crate) fn version_json(&self) -> String {
        let view = self.view();
        let cluster = view.cluster_version().unwrap_or_else(|| "not_decided".to_owned());
        let storage = stored_version(&self.shared, &view).unwrap_or_else(|| "unknown".to_owned());
        format!(
            "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{storage}\"}}"
        )
    }

    /// Whether a downgrade is going on, as of now in the whole cluster.
    pub(crate) async fn downgrade_enabled(&self) -> Result<bool, NodeError> {
        self.node.get().ok_or(NodeError::Stopped)?.linearize().await?;
        Ok(self.view().downgrade().is_some_and(|d| d.target_version.is_some()))
    }
}

/// See [`PeerApi::sending_snapshot`].
pub(crate) struct SendingSnapshot(SharedRef);

impl Drop for SendingSnapshot {
    fn drop(&mut self) {
        self.0.raft.snapshots_in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
