//! What the node's threads and tasks share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use kvnode_mvcc::{ClusterId, MemberId, Reader, View, membership::Member};
use kvnode_proto::raftpb;
use kvnode_raft::Role;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{auth::Tokens, metrics::Metrics, watches::Watches};

use super::{
    NodeError,
    apply_loop::ApplyJob,
    hashes::Hashes,
    id_gen::IdGenerator,
    inbox::Inbox,
    leases::LeaseBook,
    queue::Queue,
    reads::AppliedWaiters,
    stop::Stopper,
    waiters::Waiters,
    wal_loop::{LogWatch, WalJob},
};

/// Who this member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// Its name, `--name`.
    pub name: String,
}

/// Who leads, as this member knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The leader; 0 when there is none.
    pub leader: MemberId,
    /// The term of that.
    pub term: u64,
    /// This member's part.
    pub role: Role,
}

/// How the core behaves; from flags.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) tick: Duration,
    pub(crate) election_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) max_request_bytes: usize,
    pub(crate) strict_reconfig_check: bool,
    pub(crate) snapshot_count: u64,
    pub(crate) catchup_entries: u64,
    pub(crate) warn_apply: Duration,
}

/// Sends to other members. Never blocks: what cannot be sent is dropped and reported, and raft sends again.
pub(crate) trait Transport: Send + Sync {
    /// Sends messages, each to its `to`.
    fn send(&self, messages: Vec<raftpb::Message>);

    /// Membership changed, or a member's URLs did.
    fn members_changed(&self, members: &[Member], removed: &[MemberId]);

    /// Since when messages to this member go through; `None`: they do not.
    fn active_since(&self, member: MemberId) -> Option<Instant>;
}

/// Shared by every thread of one node.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    pub(crate) inbox: Inbox,
    pub(crate) wal: Queue<WalJob>,
    pub(crate) apply: Queue<ApplyJob>,
    pub(crate) waiters: Waiters,
    pub(crate) applied_waiters: AppliedWaiters,
    pub(crate) reader: Reader,
    pub(crate) leases: LeaseBook,
    pub(crate) watches: Arc<Watches>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) hashes: Hashes,
    pub(crate) ids: IdGenerator,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stopper: Stopper,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) raft: RaftNumbers,
    /// Whether the files on disk follow a cluster's version that went down. Written by the apply thread (`false`) and by
    /// [`super::downgrade`].
    pub(crate) ready_to_downgrade: AtomicBool,
}

/// Raft's numbers, readable by anybody at any time. Written by the raft thread (`applied`: the apply thread).
#[derive(Default)]
pub(crate) struct RaftNumbers {
    pub(crate) term: AtomicU64,
    pub(crate) commit: AtomicU64,
    pub(crate) applied: AtomicU64,
    /// Whether this member leads and has committed in its term.
    pub(crate) leads: AtomicBool,
    /// The term in which a new leader's first entry was applied, until the raft thread has seen it.
    pub(crate) new_leader_term: AtomicU64,
    /// Whether this member follows without voting.
    pub(crate) learner: AtomicBool,
    /// Snapshots on their way to other members.
    pub(crate) snapshots_in_flight: AtomicUsize,
    /// Whether the log thread gets on, as it says itself.
    pub(crate) log: LogWatch,
    /// When the leader became known, and when raft last ticked in time.
    pub(crate) leader_since: Mutex<Option<Instant>>,
    pub(crate) ticked: Mutex<Option<Instant>>,
}

impl Shared {
    /// Hands a request to raft under `id`.
    pub(crate) fn propose_encoded(&self, id: u64, data: Bytes) -> Result<(), NodeError> {
        use super::inbox::{Proposal, ProposalBody};
        self.inbox
            .propose(Proposal { id, body: ProposalBody::Request(data), only_in_term: None })
            .map_err(|_| NodeError::TooManyRequests)
    }

    /// Entries that are committed and not applied.
    pub(crate) fn apply_gap(&self) -> u64 {
        let commit = self.raft.commit.load(Ordering::Relaxed);
        commit.saturating_sub(self.raft.applied.load(Ordering::Relaxed))
    }

    /// Notes what a published state says about this member.
    pub(crate) fn note_applied(&self, view: &View) {
        let applied = view.applied().0.0;
        self.raft.applied.store(applied, Ordering::Release);
        self.metrics.server.proposals_applied.set(i64::try_from(applied).unwrap_or(i64::MAX));
        self.applied_waiters.applied(applied);
    }

    /// Notes what a changed membership says about this member.
    pub(crate) fn note_membership(&self, view: &View) {
        let learner = view.member(self.identity.member).is_some_and(|m| m.is_learner);
        self.raft.learner.store(learner, Ordering::Relaxed);
    }

    /// Who leads.
    pub(crate) fn leader(&self) -> Leadership {
        *self.leadership.borrow()
    }
}

/// Shorthand for the threads.
pub(crate) type SharedRef = Arc<Shared>;

#[cfg(test)]
pub(crate) mod testing {
    //! What a member's threads share, without the threads: a test plays those it does not look at.

    use kvnode_mvcc::{Store, lease::clock::Checkpoints, watch::WatchLimits};

    use super::*;
    use crate::flags::config::{Config, MetricsLevel};

    pub(crate) const MEMBER: MemberId = MemberId(1);

    /// Of a member that has just begun and whose next tick never comes.
    pub(crate) fn shared() -> SharedRef {
        let store = Store::new(kvnode_mvcc::Config::default());
        let settings = Settings {
            tick: Duration::from_secs(3600),
            election_timeout: Duration::from_secs(10 * 3600),
            request_timeout: Duration::from_secs(5),
            max_request_bytes: 1 << 20,
            strict_reconfig_check: true,
            snapshot_count: 10_000,
            catchup_entries: 5000,
            warn_apply: Duration::from_secs(1),
        };
        Arc::new(Shared {
            identity: Identity { cluster: ClusterId(1), member: MEMBER, name: "m1".to_owned() },
            settings,
            inbox: Inbox::default(),
            wal: Queue::default(),
            apply: Queue::default(),
            waiters: Waiters::default(),
            applied_waiters: AppliedWaiters::default(),
            reader: store.reader(),
            leases: LeaseBook::new(Vec::new(), Checkpoints::Off),
            watches: Watches::new(store.view(), WatchLimits::default()),
            tokens: Arc::new(Tokens::load(&Config::default()).expect("simple tokens need no keys")),
            hashes: Hashes::default(),
            ids: IdGenerator::new(MEMBER.0, 1),
            metrics: Metrics::new(MetricsLevel::Basic),
            stopper: Stopper::default(),
            leadership: watch::Sender::new(Leadership::default()),
            raft: RaftNumbers::default(),
            ready_to_downgrade: AtomicBool::new(false),
        })
    }

    /// Takes messages from the member and delivers none, but calls back when there are any.
    pub(crate) struct Outbox<F>(pub(crate) F);

    impl<F: Fn(Vec<raftpb::Message>) + Send + Sync> Transport for Outbox<F> {
        fn send(&self, messages: Vec<raftpb::Message>) {
            (self.0)(messages);
        }

        fn members_changed(&self, _: &[Member], _: &[MemberId]) {}

        fn active_since(&self, _: MemberId) -> Option<Instant> {
            None
        }
    }
}
