//! Everything that reaches the raft thread, behind one lock: it takes all of it at once and works on it as one batch.

use std::{
    sync::mpsc::SyncSender,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kvnode_proto::raftpb;
use kvnode_raft::{ConfChangeError, MemberId, SnapshotOutcome, Status};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{NodeError, limits};

/// A request on its way into the log.
pub(crate) struct Proposal {
    /// Whoever waits is registered under this ID.
    pub(crate) id: u64,
    pub(crate) body: ProposalBody,
    /// The term that this member must lead in: what a leader decided is not handed on to the next one.
    pub(crate) only_in_term: Option<u64>,
}

/// What is proposed.
pub(crate) enum ProposalBody {
    /// An encoded `InternalRaftRequest`.
    Request(Bytes),
    /// A membership change.
    ConfChange(raftpb::ConfChange),
}

impl ProposalBody {
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Request(data) => data.len(),
            Self::ConfChange(change) => change.context.len(),
        }
    }
}

/// Rare requests to the raft thread.
pub(crate) enum Control {
    /// Sending a snapshot ended.
    SnapshotSent(MemberId, SnapshotOutcome),
    /// Hand leadership over.
    Transfer(MemberId),
    /// Forget log entries up to here.
    Compact(u64),
    /// Let part of the first election timeout count as passed.
    AdvanceElection(usize),
    /// Tell everything.
    Status(oneshot::Sender<Status>),
}

/// The apply thread's call at a membership change; it waits for the answer.
pub(crate) struct ConfChangeCall {
    /// Of its log entry.
    pub(crate) index: u64,
    pub(crate) change: raftpb::ConfChange,
    pub(crate) answer: SyncSender<Result<raftpb::ConfState, ConfChangeError>>,
}

/// A read that waits for its index.
pub(crate) type ReadWaiter = oneshot::Sender<Result<u64, NodeError>>;

/// What arrived since the last look.
#[derive(Default)]
pub(crate) struct Letters {
    pub(crate) proposals: Vec<Proposal>,
    proposal_bytes: usize,
    pub(crate) messages: Vec<raftpb::Message>,
    message_bytes: usize,
    pub(crate) reads: Vec<ReadWaiter>,
    pub(crate) controls: Vec<Control>,
    /// Members to which a message could not be delivered.
    pub(crate) unreachable: Vec<MemberId>,
    pub(crate) conf_changes: Vec<ConfChangeCall>,
    /// Highest number of a durable Ready.
    pub(crate) persisted: u64,
    /// Received snapshots that are durable with it.
    pub(crate) snapshots: Vec<raftpb::SnapshotMetadata>,
    /// Highest applied index.
    pub(crate) applied: u64,
    pub(crate) stop: bool,
    news: bool,
}

impl Letters {
    /// Empties it, keeping its buffers.
    pub(crate) fn clear(&mut self) {
        self.proposals.clear();
        self.proposal_bytes = 0;
        self.messages.clear();
        self.message_bytes = 0;
        self.reads.clear();
        self.controls.clear();
        self.unreachable.clear();
        self.conf_changes.clear();
        self.snapshots.clear();
        (self.persisted, self.applied) = (0, 0);
        (self.stop, self.news) = (false, false);
    }
}

/// The raft thread's inbox.
#[derive(Default)]
pub(crate) struct Inbox {
    letters: Mutex<Letters>,
    wake: Condvar,
}

/// The inbox has no room; the sender keeps what it has, or drops it if raft will send it again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Inbox {
    fn post<R>(&self, write: impl FnOnce(&mut Letters) -> R) -> R {
        let mut letters = self.letters.lock();
        let result = write(&mut letters);
        if !std::mem::replace(&mut letters.news, true) {
            self.wake.notify_one();
        }
        result
    }

    /// Proposes a request.
    pub(crate) fn propose(&self, proposal: Proposal) -> Result<(), Full> {
        self.post(|letters| {
            let bytes = letters.proposal_bytes + proposal.body.size_bytes();
            // One always fits, or a request above the bound could never be made.
            let full = !letters.proposals.is_empty() && bytes > limits::PROPOSAL_BYTES;
            if full || letters.proposals.len() >= limits::PROPOSALS {
                return Err(Full);
            }
            letters.proposal_bytes = bytes;
            letters.proposals.push(proposal);
            Ok(())
        })
    }

    /// A message from a peer.
    pub(crate) fn message(&self, message: raftpb::Message) -> Result<(), Full> {
        self.post(|letters| {
            let size: usize = message.entries.iter().map(|e| e.data.len()).sum();
            let bytes = letters.message_bytes + size;
            let full = !letters.messages.is_empty() && bytes > limits::PEER_MESSAGE_BYTES;
            if full || letters.messages.len() >= limits::PEER_MESSAGES {
                return Err(Full);
            }
            letters.message_bytes = bytes;
            letters.messages.push(message);
            Ok(())
        })
    }

    /// A linearizable read.
    pub(crate) fn read(&self, waiter: ReadWaiter) -> Result<(), Full> {
        self.post(|letters| {
            if letters.reads.len() >= limits::READS {
                return Err(Full);
            }
            letters.reads.push(waiter);
            Ok(())
        })
    }

    /// A rare request. These come from the node's own tasks, one at a time, so they need no bound.
    pub(crate) fn control(&self, control: Control) {
        self.post(|letters| letters.controls.push(control));
    }

    /// A message to this member could not be delivered. Once is enough, however many it were.
    pub(crate) fn unreachable(&self, member: MemberId) {
        self.post(|letters| {
            if !letters.unreachable.contains(&member) {
                letters.unreachable.push(member);
            }
        });
    }

    /// The apply thread reached a membership change. There is one at a time: that thread waits.
    pub(crate) fn conf_change(&self, call: ConfChangeCall) {
        self.post(|letters| letters.conf_changes.push(call));
    }

    /// Everything up to this Ready is durable, the snapshot in it included.
    pub(crate) fn persisted(&self, number: u64, snapshot: Option<raftpb::SnapshotMetadata>) {
        self.post(|letters| {
            letters.persisted = letters.persisted.max(number);
            letters.snapshots.extend(snapshot);
        });
    }

    /// Everything up to this index is applied.
    pub(crate) fn applied(&self, index: u64) {
        self.post(|letters| letters.applied = letters.applied.max(index));
    }

    /// Ends the raft thread.
    pub(crate) fn stop(&self) {
        self.post(|letters| letters.stop = true);
    }

    /// Waits for news, but not beyond `deadline`, and swaps them with `empty`.
    pub(crate) fn take(&self, empty: &mut Letters, deadline: Instant) {
        let mut letters = self.letters.lock();
        while !letters.news {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO || self.wake.wait_for(&mut letters, left).timed_out() {
                break;
            }
        }
        std::mem::swap(&mut *letters, empty);
    }
}
