//! What a raft core knows about itself and, when it leads, about the others.

use crate::id::MemberId;

/// The part a member plays in the current term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether an election could be won, without disturbing anybody.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// How a leader sends entries to one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicationState {
    /// One message at a time, until the common point of the logs is found.
    Probe,
    /// Pipelined.
    Replicate,
    /// Waits for a snapshot to arrive.
    Snapshot,
}

/// A leader's view of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerProgress {
    /// The member.
    pub id: MemberId,
    /// Highest index known to be in its durable log.
    pub matched: u64,
    /// Next index to send.
    pub next: u64,
    /// How entries are sent.
    pub state: ReplicationState,
    /// Whether anything was heard from it since the last quorum check.
    pub recent_active: bool,
    /// Whether it votes.
    pub learner: bool,
}

/// A raft core at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Own part.
    pub role: Role,
    /// Known leader.
    pub leader: MemberId,
    /// Current term.
    pub term: u64,
    /// Highest committed index.
    pub commit: u64,
    /// Highest index reported as applied.
    pub applied: u64,
    /// Last index of the log.
    pub last: u64,
    /// To whom leadership is being handed.
    pub transferee: MemberId,
    /// One per member, by ID; empty unless leading.
    pub progress: Vec<PeerProgress>,
}
