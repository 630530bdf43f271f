//! Leases: who lets them run out, and how clients renew them through any member.
//!
//! Only a leader decides, and only after it applied everything from before its term. Before it revokes anything it makes
//! sure once more that it still leads: a process that was paused must not revoke what another leader kept alive.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use kvnode_mvcc::{
    Batch, LeaseId,
    lease::clock::{Checkpoints, LeaseClock, RenewError},
};
use kvnode_proto::etcdserverpb::{
    InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest, RequestHeader,
};
use kvnode_raft::Role;
use parking_lot::Mutex;
use tokio::time;
use tracing::{debug, warn};

use super::{Node, NodeError, apply_loop::Audience, limits, shared::SharedRef};
use crate::peer::members;

/// How often the leader looks for leases that ran out (etcd's `defaultLeaseRevokeRate` loop).
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);

/// Leases revoked in one look: a thousand a second.
const EXPIRED_AT_ONCE: usize = 500;

/// Revocations under way at a time (etcd's `maxPendingRevokes`).
const REVOCATIONS: usize = 16;

/// Checkpoints of leases in one request (etcd's `maxLeaseCheckpointBatchSize`).
const CHECKPOINTS_AT_ONCE: usize = 1000;

/// A leader that has not ticked for so many ticks asks the others whether it leads before it renews (etcd's `isActive`).
const TICKS_MISSED: u32 = 3;

/// How often a renewal looks again whether an expired lease is revoked.
const EXPIRED_LOOK: Duration = Duration::from_millis(50);

/// How long a lease lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseTtl {
    /// Seconds left.
    pub ttl_seconds: i64,
    /// Seconds granted.
    pub granted_seconds: i64,
    /// Keys that hang on it.
    pub keys: Vec<Bytes>,
}

/// The lease clock and the time it counts in.
pub(crate) struct LeaseBook {
    clock: Mutex<LeaseClock>,
    epoch: Instant,
    checkpoints: Checkpoints,
}

impl LeaseBook {
    pub(crate) fn new(leases: Vec<kvnode_mvcc::Lease>, checkpoints: Checkpoints) -> Self {
        Self { clock: Mutex::new(LeaseClock::new(leases, checkpoints)), epoch: Instant::now(), checkpoints }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Leadership is lost: nothing runs out here any more.
    pub(crate) fn demote(&self) {
        self.clock.lock().demote();
    }

    /// Keeps everybody else from the clock.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> parking_lot::MutexGuard<'_, LeaseClock> {
        self.clock.lock()
    }

    /// All leases, those that run out first in front.
    pub(crate) fn by_expiry(&self) -> Vec<LeaseId> {
        self.clock.lock().by_expiry()
    }
}

/// Keeps the lease clock in step with what is applied.
pub(crate) struct LeaseListener(pub(crate) SharedRef);

impl Audience for LeaseListener {
    fn applied(&mut self, batch: &Batch) {
        if !batch.lease_changes.is_empty() {
            let book = &self.0.leases;
            book.clock.lock().observe(&batch.lease_changes, book.now());
        }
    }

    fn leads(&mut self) {
        let book = &self.0.leases;
        book.clock.lock().promote(book.now(), self.0.settings.election_timeout);
        // It may have ended between the entry and now.
        if self.0.leader().role != Role::Leader {
            book.demote();
        }
    }

    fn replaced(&mut self, batch: &Batch) {
        let book = &self.0.leases;
        *book.clock.lock() = LeaseClock::new(batch.view.leases(), book.checkpoints);
    }
}

/// Revokes what ran out and writes down what is left, until the member stops.
pub(super) async fn drive(node: Node) {
    let stop = node.shared.stopper.token();
    let mut interval = time::interval(EXPIRY_INTERVAL);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        if node.shared.leader().role == Role::Leader {
            node.revoke_expired().await;
            node.checkpoint_leases().await;
        }
    }
}

impl Node {
    async fn revoke_expired(&self) {
        let book = &self.shared.leases;
        let now = book.now();
        if book.clock.lock().next_due().is_none_or(|due| due > now) {
            return;
        }
        let term = match self.confirm_leadership().await {
            Ok(term) => term,
            Err(e) => {
                debug!(error = %e, "leases are not revoked: leadership is not confirmed");
                return;
            }
        };
        let expired = book.clock.lock().expired(now, EXPIRED_AT_ONCE);
        let header = self.own_header();
        futures::stream::iter(expired)
            .for_each_concurrent(REVOCATIONS, async |id| {
                let request = InternalRaftRequest {
                    header: Some(header.clone()),
                    lease_revoke: Some(LeaseRevokeRequest { id: id.0 }),
                    ..InternalRaftRequest::default()
                };
                // The next leader gives every lease its full time: it must not be told of these.
                match self.propose_in(Some(term), request).await {
                    Ok(_) => self.shared.metrics.server.lease_expired.inc(),
                    Err(NodeError::NotLeader) => debug!("lease-id" = %id, "not revoked: leadership moved"),
                    // The clock names it again in some seconds.
                    Err(e) => warn!("lease-id" = %id, error = %e, "failed to revoke lease"),
                }
            })
            .await;
    }

    /// Revoking is asked in root's name where anybody is asked: the lease may hold anybody's keys.
    fn own_header(&self) -> RequestHeader {
        let view = self.reader().view();
        let authorizer = view.authorizer();
        if !authorizer.is_enabled() {
            return RequestHeader::default();
        }
        let own = authorizer.server();
        RequestHeader { id: 0, username: own.user.to_owned(), auth_revision: own.auth_revision }
    }

    async fn checkpoint_leases(&self) {
        let book = &self.shared.leases;
        let due = book.clock.lock().due_checkpoints(book.now(), CHECKPOINTS_AT_ONCE);
        if !due.is_empty()
            && let Err(e) = self.write_checkpoints(due).await
        {
            warn!(error = %e, "failed to write down remaining lease times");
        }
    }

    async fn write_checkpoints(&self, checkpoints: Vec<LeaseCheckpoint>) -> Result<(), NodeError> {
        let request = InternalRaftRequest {
            lease_checkpoint: Some(LeaseCheckpointRequest { checkpoints }),
            ..InternalRaftRequest::default()
        };
        self.propose(request).await.map(drop)
    }

    /// A round of messages that only a leader of the newest term gets through. Returns that term.
    async fn confirm_leadership(&self) -> Result<u64, NodeError> {
        let before = self.shared.leader();
        self.linearize().await?;
        let after = self.shared.leader();
        if after.role == Role::Leader && after.term == before.term {
            Ok(after.term)
        } else {
            Err(NodeError::NotLeader)
        }
    }

    /// Asks the others only if this member may have slept through the end of its leadership (etcd's `ensureLeadership`).
    async fn ensure_leadership(&self) -> Result<(), NodeError> {
        let ticked = *self.shared.raft.ticked.lock();
        if ticked.is_some_and(|at| at.elapsed() < TICKS_MISSED * self.shared.settings.tick) {
            return Ok(());
        }
        self.confirm_leadership().await.map(drop).map_err(|e| {
            debug!(error = %e, "a lease is not renewed here: leadership is not confirmed");
            if e == NodeError::Stopped { e } else { NodeError::NotLeader }
        })
    }

    /// Renews a lease, at the leader. Returns its time to live in seconds, 0 for one that is unknown or ran out.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`], [`NodeError::Timeout`], [`NodeError::Stopped`]; where a checkpoint has to be forgotten
    /// first, also those of [`Node::propose`].
    pub async fn lease_renew(&self, id: LeaseId) -> Result<i64, NodeError> {
        let there = |url: String, limit| async move { members::renew(&self.dialer, &url, id, limit).await };
        match self.decided(|| self.renew_here(id), there).await {
            Err(NodeError::LeaseNotFound) => Ok(0),
            outcome => outcome,
        }
    }

    /// Asks whoever decides about leases: this member, or the leader at one of its URLs, until one of them has an answer.
    async fn decided<T, Here, There>(
        &self,
        here: impl Fn() -> Here,
        there: impl Fn(String, Duration) -> There,
    ) -> Result<T, NodeError>
    where
        Here: Future<Output = Result<T, NodeError>>,
        There: Future<Output = Option<Result<T, NodeError>>>,
    {
        let limit = self.shared.settings.request_timeout;
        let deadline = time::Instant::now() + limit;
        loop {
            match here().await {
                Err(NodeError::NotLeader) => {}
                outcome => return outcome,
            }
            for url in self.leader_urls() {
                if let Some(outcome) = there(url, limit).await {
                    return outcome;
                }
            }
            if time::Instant::now() >= deadline {
                return Err(self.no_answer());
            }
            time::sleep(limits::FORWARD_RETRY).await;
        }
    }

    /// Why nobody decided about a lease in time.
    fn no_answer(&self) -> NodeError {
        let led = self.shared.leader().leader.0 != 0;
        if led { NodeError::Timeout } else { NodeError::NoLeader }
    }

    /// Renews a lease if this member decides about leases.
    pub(crate) async fn renew_here(&self, id: LeaseId) -> Result<i64, NodeError> {
        let book = &self.shared.leases;
        // Before anything that depends on how far this member is: whoever leads may be further.
        if !book.clock.lock().is_primary() {
            return Err(NodeError::NotLeader);
        }
        self.ensure_leadership().await?;
        // A lease granted a moment ago may be committed and not applied; one that is known needs no waiting.
        if book.clock.lock().remaining(id, book.now()).is_none() {
            self.wait_committed().await?;
        }
        loop {
            let outcome = book.clock.lock().renew(id, book.now());
            match outcome {
                Ok(ttl_seconds) => {
                    self.shared.metrics.lease.renewed.inc();
                    return Ok(ttl_seconds);
                }
                Err(RenewError::Checkpointed) => {
                    self.write_checkpoints(vec![LeaseCheckpoint { id: id.0, remaining_ttl: 0 }]).await?;
                }
                Err(RenewError::NotPrimary) => return Err(NodeError::NotLeader),
                Err(RenewError::NotFound) => return Err(NodeError::LeaseNotFound),
                // It will be revoked, or leadership will change; until then it is neither alive nor gone.
                Err(RenewError::Expired) => time::sleep(EXPIRED_LOOK).await,
            }
            if self.shared.stopper.is_stopping() {
                return Err(NodeError::Stopped);
            }
        }
    }

    /// How long a lease lives, from the leader; `None` for one that is unknown or ran out.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`], [`NodeError::Timeout`], [`NodeError::Stopped`].
    pub async fn lease_time_to_live(&self, id: LeaseId) -> Result<Option<LeaseTtl>, NodeError> {
        let there =
            |url: String, limit| async move { members::time_to_live(&self.dialer, &url, id, limit).await };
        match self.decided(|| self.time_to_live_here(id), there).await {
            Ok(ttl) => Ok(Some(ttl)),
            Err(NodeError::LeaseNotFound) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// How long a lease lives, if this member decides about leases.
    pub(crate) async fn time_to_live_here(&self, id: LeaseId) -> Result<LeaseTtl, NodeError> {
        if !self.shared.leases.clock.lock().is_primary() {
            return Err(NodeError::NotLeader);
        }
        self.wait_committed().await?;
        let book = &self.shared.leases;
        let view = self.reader().view();
        let lease = view.lease(id).ok_or(NodeError::LeaseNotFound)?;
        let clock = book.clock.lock();
        if !clock.is_primary() {
            return Err(NodeError::NotLeader);
        }
        let remaining = clock.remaining(id, book.now()).ok_or(NodeError::LeaseNotFound)?;
        Ok(LeaseTtl {
            ttl_seconds: i64::try_from(remaining.as_secs()).unwrap_or(i64::MAX),
            granted_seconds: lease.ttl_seconds,
            keys: view.lease_keys(id),
        })
    }

    /// All leases, those that run out first in front where this member decides about leases.
    #[must_use]
    pub fn leases_by_expiry(&self) -> Vec<LeaseId> {
        self.shared.leases.by_expiry()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kvnode_mvcc::{Lease, LeaseChange};

    use super::*;
    use crate::{
        node::{
            inbox::Letters,
            shared::{Leadership, testing},
            stop::Threads,
        },
        peer::Dialer,
    };

    const LEASE: LeaseId = LeaseId(7);
    const TICK: Duration = Duration::from_secs(1);

    /// A leader, for all it knows, that has granted a lease of 60 s.
    fn leader() -> Node {
        let mut shared = testing::shared();
        Arc::get_mut(&mut shared).expect("nobody else has it").settings.tick = TICK;
        shared.leadership.send_replace(Leadership { leader: testing::MEMBER, term: 2, role: Role::Leader });
        let lease = Lease { id: LEASE, ttl_seconds: 60, remaining_ttl_seconds: 0 };
        let mut clock = shared.leases.clock.lock();
        clock.observe(&[LeaseChange::Granted(lease)], Duration::ZERO);
        clock.promote(shared.leases.now(), Duration::ZERO);
        drop(clock);
        let dialer = Dialer { tls: None, dial_timeout: TICK };
        let transport = Arc::new(testing::Outbox(drop));
        Node { shared, transport, dialer, threads: Threads::default() }
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().expect("a runtime").block_on(work)
    }

    /// Renews while another thread has raft answer the read with `answer`.
    fn renew_asking(node: &Node, answer: Result<u64, NodeError>) -> Result<i64, NodeError> {
        let shared = Arc::clone(&node.shared);
        let raft = std::thread::spawn(move || {
            let mut letters = Letters::default();
            shared.inbox.take(&mut letters, Instant::now() + Duration::from_secs(10));
            let read = letters.reads.pop().expect("somebody asks whether this member leads");
            read.send(answer).expect("and waits");
        });
        let outcome = run(node.renew_here(LEASE));
        raft.join().expect("no panic");
        outcome
    }

    #[test]
    fn a_leader_that_may_have_slept_asks_the_others_before_it_renews() {
        let node = leader();
        let ticked = |at| *node.shared.raft.ticked.lock() = at;
        ticked(Some(Instant::now()));
        assert_eq!(run(node.renew_here(LEASE)), Ok(60), "it ticks: nobody was asked");
        for slept in [None, Instant::now().checked_sub(TICKS_MISSED * TICK)] {
            ticked(slept);
            assert_eq!(renew_asking(&node, Ok(5)), Ok(60));
            assert_eq!(renew_asking(&node, Err(NodeError::LeaderChanged)), Err(NodeError::NotLeader));
            assert_eq!(renew_asking(&node, Err(NodeError::Stopped)), Err(NodeError::Stopped));
        }
    }

    #[test]
    fn a_member_that_lags_hands_a_renewal_on_at_once() {
        let node = leader();
        node.shared.leases.demote();
        node.shared.raft.commit.store(10, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(run(node.renew_here(LEASE)), Err(NodeError::NotLeader));
    }
}
