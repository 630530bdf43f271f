//! What can go wrong between a caller and the raft core, in words that say what to do.

use crate::id::MemberId;

/// Why a raft core could not be built from what a member's disk held.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log has a hole or goes backwards, so it cannot be the log of one member.
    #[error(
        "starting raft from the log: entry {found} follows entry {before}; the log must be gapless, restore the \
         member from a snapshot or remove it and add it again"
    )]
    Gap {
        /// Index of the entry before the hole.
        before: u64,
        /// Index found where `before + 1` was expected.
        found: u64,
    },
    /// The hard state promises entries that the log does not hold.
    #[error(
        "starting raft from the log: {commit} entries are known to be committed but the log ends at {last}; \
         acknowledged entries are missing, restore the member from a snapshot or remove it and add it again"
    )]
    CommitBeyondLog {
        /// Committed index that the hard state names.
        commit: u64,
        /// Last index in the log.
        last: u64,
    },
    /// The state machine is ahead of the log, so log and checkpoint belong to different lives of the member.
    #[error(
        "starting raft from the log: the state machine has applied entry {applied} but the log ends at {last}; \
         the checkpoint and the log do not belong together, restore the member from a snapshot"
    )]
    AppliedBeyondLog {
        /// Index the state machine has applied.
        applied: u64,
        /// Last index in the log.
        last: u64,
    },
    /// A setting is out of its range.
    #[error("starting raft: {0}")]
    Config(String),
}

/// Why a message from a peer was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StepError {
    /// The message type never crosses the network.
    #[error(
        "taking a raft message from {from}: type {kind} is local to a member and must not come from a peer"
    )]
    Local {
        /// Sender.
        from: MemberId,
        /// Number of the type on the wire.
        kind: i32,
    },
    /// The sender is not a member that this core knows.
    #[error("taking a raft response from {from}: not a member of this cluster")]
    UnknownPeer {
        /// Sender.
        from: MemberId,
    },
    /// A forwarded proposal cannot be taken now; the proposer times out or tries again.
    #[error(
        "taking a forwarded proposal from {from}: no leader, a leader transfer is running, or too much is in flight"
    )]
    Dropped {
        /// Sender.
        from: MemberId,
    },
    /// An append whose entries do not begin where it says, or leave some out. Taken, it would count as entries that this
    /// member never got.
    #[error(
        "taking an append from {from}: the entries after {after} are not those that follow it; it must send them again"
    )]
    Gap {
        /// Sender.
        from: MemberId,
        /// Index that the entries should follow.
        after: u64,
    },
    /// A membership change inside the message could not be understood.
    #[error("taking a raft message from {from}: {source}")]
    ConfChange {
        /// Sender.
        from: MemberId,
        /// What is wrong with it.
        source: ConfChangeError,
    },
}

/// Why a proposal did not enter the log.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum ProposeError {
    /// This member neither leads nor knows who does, it is handing leadership over, or the proposal is a membership change
    /// and the one before is not applied yet.
    #[error("proposing to raft: no leader can take it now, try again")]
    Dropped,
    /// The leader has more uncommitted bytes in flight than it may.
    #[error("proposing to raft: too many uncommitted bytes in flight, try again later")]
    TooMuchInFlight,
}

/// Why a membership change was refused before raft saw it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfChangeError {
    /// The bytes are not a `raftpb.ConfChange`.
    #[error("decoding a membership change: {0}")]
    Decode(String),
    /// The number is none of etcd's four kinds of change.
    #[error("decoding a membership change: kind {0} is unknown to this version")]
    UnknownKind(i32),
    /// Joint changes are not part of etcd's server protocol.
    #[error("taking a membership change: joint changes (ConfChangeV2) are not supported")]
    Joint,
    /// The change would leave the cluster in a state that raft refuses, such as one without a voter.
    #[error("applying a membership change for {member}: {reason}")]
    Refused {
        /// The member it is about.
        member: MemberId,
        /// The raft core's reason.
        reason: String,
    },
}
