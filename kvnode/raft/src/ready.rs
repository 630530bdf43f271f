//! What a raft core wants done.

use kvnode_proto::raftpb;

use crate::{id::MemberId, status::Role};

/// One round of work, numbered from 1. See the crate's documentation for what is owed in which order.
#[derive(Debug, Default)]
pub struct Ready {
    /// Its number, for [`crate::RaftNode::persisted`].
    pub number: u64,
    /// Role and leader, when either changed.
    pub role_change: Option<(Role, MemberId)>,
    /// Messages that promise nothing which is not durable: they may leave at once.
    pub messages: Vec<raftpb::Message>,
    /// Messages that may leave only when everything up to this Ready is durable.
    pub persisted_messages: Vec<raftpb::Message>,
    /// To be written, when it changed.
    pub hard_state: Option<raftpb::HardState>,
    /// To be written; replaces anything in the log from the first index on.
    pub entries: Vec<raftpb::Entry>,
    /// A received snapshot that replaces log and state. Its metadata must be durable like an entry.
    pub snapshot: Option<raftpb::Snapshot>,
    /// Whether the write must be synced before it counts; otherwise only the commit index moved.
    pub must_sync: bool,
    /// Entries that a quorum has, this member included: to be applied in order.
    pub committed: Vec<raftpb::Entry>,
    /// Reads that became safe once their index is applied.
    pub read_states: Vec<ReadState>,
}

impl Ready {
    /// Whether there is anything for the durable log, or that must wait behind it.
    #[must_use]
    pub fn concerns_log(&self) -> bool {
        self.hard_state.is_some()
            || !self.entries.is_empty()
            || self.snapshot.is_some()
            || !self.persisted_messages.is_empty()
    }
}

/// A confirmed read: safe at any state that includes `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadState {
    /// The number given to [`crate::RaftNode::read_index`].
    pub context: u64,
    /// Commit index at the moment leadership was confirmed.
    pub index: u64,
}
