//! The handle: what the rest of the process may ask of the core.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use kvnode_mvcc::{ClusterId, MemberId, RaftIndex, Reader, Response, Revision, Term};
use kvnode_proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use kvnode_raft::Role;
use prost::Message as _;
use tokio::{sync::watch, time};

use crate::{peer::Dialer, watches::Watches};

use super::{
    NodeError,
    apply_loop::ApplyJob,
    inbox::{Control, Proposal, ProposalBody},
    limits,
    shared::{Leadership, SharedRef, Transport},
    stop::{StopReason, Threads},
    waiters::ForgetOnDrop,
};

/// A request that was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// Index of its log entry.
    pub index: RaftIndex,
    /// Term of its log entry.
    pub term: Term,
    /// Revision of the keys right after it, which others may have left behind by now.
    pub revision: Revision,
    /// What it answers.
    pub response: Response,
}

/// A member at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeStatus {
    /// Known leader; 0 when there is none.
    pub leader: MemberId,
    /// Own part.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// Highest committed index.
    pub commit: u64,
    /// Highest applied index.
    pub applied: u64,
    /// Whether this member follows without voting.
    pub learner: bool,
    /// Requests that wait for their entry to be applied.
    pub pending: usize,
}

/// One member of a cluster. Clones share it.
#[derive(Clone)]
pub struct Node {
    pub(super) shared: SharedRef,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) dialer: Dialer,
    pub(super) threads: Threads,
}

impl Node {
    /// Puts a request through raft and answers what applying it gave. The header's ID is filled in here; name and
    /// revision of whoever asks are the caller's.
    ///
    /// # Errors
    /// [`NodeError::Apply`] when the state machine refused; timeouts as etcd's `parseProposeCtxErr`, after which the
    /// request may still be applied; [`NodeError::TooManyRequests`] and [`NodeError::RequestTooLarge`] before anything
    /// happened.
    pub async fn propose(&self, request: InternalRaftRequest) -> Result<Applied, NodeError> {
        self.propose_in(None, request).await
    }

    /// As [`Node::propose`], but only if this member leads in `term`, where one is given; else [`NodeError::NotLeader`].
    pub(super) async fn propose_in(
        &self,
        term: Option<u64>,
        mut request: InternalRaftRequest,
    ) -> Result<Applied, NodeError> {
        let id = self.shared.ids.next();
        request.header.get_or_insert_with(RequestHeader::default).id = id;
        let size = request.encoded_len();
        if size > self.shared.settings.max_request_bytes {
            return Err(NodeError::RequestTooLarge);
        }
        let body = ProposalBody::Request(request.encode_to_vec().into());
        self.submit(Proposal { id, body, only_in_term: term }).await
    }

    pub(super) async fn propose_body(&self, id: u64, body: ProposalBody) -> Result<Applied, NodeError> {
        self.submit(Proposal { id, body, only_in_term: None }).await
    }

    async fn submit(&self, proposal: Proposal) -> Result<Applied, NodeError> {
        let shared = &self.shared;
        if shared.stopper.is_stopping() {
            return Err(NodeError::Stopped);
        }
        if shared.apply_gap() > limits::APPLY_GAP {
            return Err(NodeError::TooManyRequests);
        }
        let started = Instant::now();
        let id = proposal.id;
        let wait = shared.waiters.register(id);
        let _forget = ForgetOnDrop { waiters: &shared.waiters, id };
        shared.inbox.propose(proposal).map_err(|_| NodeError::TooManyRequests)?;
        match time::timeout(shared.settings.request_timeout, wait).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(NodeError::Stopped),
            Err(_) => {
                shared.metrics.server.proposals_failed.inc();
                Err(self.timeout_meaning(started))
            }
        }
    }

    /// What a timeout of a request begun at `started` most likely means (etcd: `parseProposeCtxErr`).
    fn timeout_meaning(&self, started: Instant) -> NodeError {
        let shared = &self.shared;
        if let Some(elected) = *shared.raft.leader_since.lock()
            && started < elected
            && started + 2 * shared.settings.election_timeout > elected
        {
            return NodeError::TimeoutLeaderFailed;
        }
        let leader = shared.leader().leader;
        let connected = |member| self.transport.active_since(member).is_some_and(|since| since <= started);
        let lost = if leader == shared.identity.member {
            !self.quorum_connected(connected)
        } else {
            leader.0 != 0 && !connected(leader)
        };
        if lost { NodeError::TimeoutConnectionLost } else { NodeError::Timeout }
    }

    /// Whether a quorum of voters, this member included, satisfies `connected`.
    pub(super) fn quorum_connected(&self, connected: impl Fn(MemberId) -> bool) -> bool {
        let voters: Vec<_> = self.reader().view().members().into_iter().filter(|m| !m.is_learner).collect();
        let own = self.shared.identity.member;
        let up = voters.iter().filter(|m| m.id == own || connected(m.id)).count();
        up > voters.len() / 2
    }

    /// Returns once this member's state includes everything that was committed anywhere when the call was made. A read of
    /// [`Node::reader`] after it is linearizable. Reads that wait together share one round of messages.
    ///
    /// # Errors
    /// [`NodeError::LeaderChanged`] (ask again), [`NodeError::Timeout`], [`NodeError::Stopped`].
    pub async fn linearize(&self) -> Result<(), NodeError> {
        if self.shared.stopper.is_stopping() {
            return Err(NodeError::Stopped);
        }
        let (waiter, wait) = tokio::sync::oneshot::channel();
        self.shared.inbox.read(waiter).map_err(|_| NodeError::TooManyRequests)?;
        match time::timeout(self.shared.settings.request_timeout, wait).await {
            Ok(Ok(outcome)) => outcome.map(drop),
            Ok(Err(_)) => Err(NodeError::Stopped),
            Err(_) => {
                self.shared.metrics.server.slow_read_indexes.inc();
                Err(NodeError::Timeout)
            }
        }
    }

    /// Returns once this member has applied `index`.
    ///
    /// # Errors
    /// [`NodeError::TimeoutWaitApplied`], [`NodeError::Stopped`].
    pub async fn wait_applied(&self, index: RaftIndex) -> Result<(), NodeError> {
        let wait = self.shared.applied_waiters.wait(index.0);
        match time::timeout(limits::WAIT_APPLIED, wait).await {
            Ok(Ok(outcome)) => outcome.map(drop),
            Ok(Err(_)) => Err(NodeError::Stopped),
            Err(_) => Err(NodeError::TimeoutWaitApplied),
        }
    }

    /// The newest applied state, without asking anybody.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    /// Watch streams.
    #[must_use]
    pub fn watches(&self) -> &Arc<Watches> {
        &self.shared.watches
    }

    /// This member's ID.
    #[must_use]
    pub fn member_id(&self) -> MemberId {
        self.shared.identity.member
    }

    /// The cluster's ID.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.shared.identity.cluster
    }

    /// Raft's numbers, without waiting.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let Leadership { leader, role, .. } = self.shared.leader();
        let numbers = &self.shared.raft;
        NodeStatus {
            leader,
            role,
            term: numbers.term.load(Ordering::Relaxed),
            commit: numbers.commit.load(Ordering::Relaxed),
            applied: numbers.applied.load(Ordering::Acquire),
            learner: numbers.learner.load(Ordering::Relaxed),
            pending: self.shared.waiters.len(),
        }
    }

    /// Whether this member follows without voting; every call is checked for it.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.shared.raft.learner.load(Ordering::Relaxed)
    }

    /// Current raft term, without waiting.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.shared.raft.term.load(Ordering::Relaxed)
    }

    /// Returns once this member has applied what it knows to be committed now.
    pub(super) async fn wait_committed(&self) -> Result<(), NodeError> {
        self.wait_applied(RaftIndex(self.shared.raft.commit.load(Ordering::Relaxed))).await
    }

    /// Who leads, and every change of it.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shared.leadership.subscribe()
    }

    /// A number that no other request, on any member, carries (etcd's `idutil`).
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.shared.ids.next()
    }

    /// Raft's own view of itself and, on the leader, of the others.
    ///
    /// # Errors
    /// [`NodeError::Stopped`].
    pub async fn raft_status(&self) -> Result<kvnode_raft::Status, NodeError> {
        let (answer, wait) = tokio::sync::oneshot::channel();
        self.shared.inbox.control(Control::Status(answer));
        wait.await.map_err(|_| NodeError::Stopped)
    }

    /// Writes a checkpoint now. The state itself is never fragmented, so this is all that etcd's defragmentation can mean
    /// here; it blocks nobody.
    ///
    /// # Errors
    /// [`NodeError::Stopped`].
    pub async fn defragment(&self) -> Result<(), NodeError> {
        let (done, wait) = tokio::sync::oneshot::channel();
        self.shared.apply.push(ApplyJob::Checkpoint(done));
        wait.await.map_err(|_| NodeError::Stopped)
    }

    /// Hands leadership over, if this member has it and another can take it. First step of an orderly end: clients are
    /// still answered meanwhile.
    pub async fn resign(&self) {
        self.hand_over().await;
    }

    /// Ends the member: threads finish what they have, everything durable is durable, and the database file holds all that
    /// was applied if it can be written in time ([`limits::LAST_CHECKPOINT`]). Whoever still waits is told
    /// [`NodeError::Stopped`].
    pub async fn stop(&self) {
        self.shared.stopper.stop(StopReason::Asked);
        let (threads, shared) = (self.threads.clone(), Arc::clone(&self.shared));
        // A panic of a thread was reported by itself.
        let _ = tokio::task::spawn_blocking(move || threads.end(&shared)).await;
    }

    /// Resolves when the member ends, with the reason. A member that was not asked to must take the process with it.
    pub async fn stopped(&self) -> StopReason {
        self.shared.stopper.token().cancelled().await;
        self.shared.stopper.reason()
    }
}
