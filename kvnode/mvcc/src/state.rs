//! Everything replicated at one moment, and views of it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use kvnode_proto::{
    etcdserverpb::{AlarmMember, RangeRequest, TxnRequest},
    raftpb::{ConfChange, ConfState},
};

use crate::{
    alarm::Alarms,
    auth::state::Auth,
    error::ReadError,
    ids::{LeaseId, MemberId, RaftIndex, Revision, Term},
    kv::{KeySpace, range::RangeResult, txn::TxnResult},
    lease::{Lease, Leases},
    membership::{Downgrade, Member, Membership, MembershipError, Readiness},
    record::Record,
};

/// All replicated state. Cloning costs a dozen reference counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) kv: KeySpace,
    pub(crate) leases: Leases,
    pub(crate) alarms: Alarms,
    pub(crate) membership: Membership,
    pub(crate) auth: Auth,
    pub(crate) applied: RaftIndex,
    pub(crate) term: Term,
    /// Raft's configuration after the last applied entry; `None` until the first one.
    pub(crate) conf_state: Option<Arc<ConfState>>,
    /// Version of the storage schema, as etcd writes it into files.
    pub(crate) storage_version: Option<Arc<str>>,
}

/// The way from other threads to the newest published [`View`].
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) shared: Arc<ArcSwap<State>>,
}

impl Reader {
    /// The newest published state. Costs some ten nanoseconds and never waits for the writer.
    #[must_use]
    pub fn view(&self) -> View {
        View(self.shared.load_full())
    }
}

/// The state at one moment: consistent, immutable, cheap to keep for a while. It holds on to what it shows, so memory
/// that compaction frees comes back only after older views are dropped.
#[derive(Clone, Debug)]
pub struct View(pub(crate) Arc<State>);

/// Bytes that bbolt takes for an element beside its key and value, and for the key of a revision.
const ROW_BYTES: u64 = 16 + 17;

/// Size of a page in a checkpoint, and how many of them an empty one has.
const PAGE_BYTES: u64 = 4096;
const EMPTY_PAGES: u64 = 5;

impl State {
    pub(crate) fn size_bytes(&self) -> u64 {
        let log = &self.kv.log;
        let leases = 40 * self.leases.len() as u64;
        // Pages are filled to nine tenths.
        let pages = ((log.bytes() + ROW_BYTES * log.len() + leases) * 10 / 9).div_ceil(PAGE_BYTES);
        PAGE_BYTES * (EMPTY_PAGES + pages)
    }
}

impl View {
    /// Revision of the last transaction that changed something.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.0.kv.revision
    }

    /// Nothing older can be read; -1 if nothing was ever compacted.
    #[must_use]
    pub fn compact_revision(&self) -> Revision {
        self.0.kv.compacted
    }

    /// Writes that compactions have removed since this process started.
    #[must_use]
    pub fn forgotten_count(&self) -> u64 {
        self.0.kv.forgotten
    }

    /// The last applied raft entry.
    #[must_use]
    pub fn applied(&self) -> (RaftIndex, Term) {
        (self.0.applied, self.0.term)
    }

    /// Raft's configuration, as [`crate::Store::set_conf_state`] gave it.
    #[must_use]
    pub fn conf_state(&self) -> Option<ConfState> {
        self.0.conf_state.as_deref().cloned()
    }

    /// Answers a range.
    ///
    /// # Errors
    /// The revision asked for is compacted or in the future.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResult, ReadError> {
        self.0.kv.range(request, self.revision())
    }

    /// Answers a transaction of which [`crate::is_read_only`] holds.
    ///
    /// # Errors
    /// A revision asked for is compacted or in the future.
    pub fn txn(&self, request: &TxnRequest) -> Result<TxnResult, ReadError> {
        self.0.kv.read_txn(request)
    }

    /// `key` as it was at `revision`, if it was; `None` also when that revision cannot be read.
    #[must_use]
    pub fn get(&self, key: &[u8], revision: Revision) -> Option<Record> {
        let at = self.0.kv.readable(revision.0, self.revision()).ok()?;
        self.0.kv.get(key, at)
    }

    /// Number of keys that exist.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        self.0.kv.index.live()
    }

    /// About how many bytes a checkpoint takes: etcd's `dbSize`, which the quota limits.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    /// As [`Self::size_bytes`]: nothing here is fragmented.
    #[must_use]
    pub fn size_in_use_bytes(&self) -> u64 {
        self.size_bytes()
    }

    /// Members by id, learners included.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.0.membership.members.values().cloned().collect()
    }

    /// One member.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<Member> {
        self.0.membership.members.get(&id).cloned()
    }

    /// Whether `id` belonged to a member that was removed.
    #[must_use]
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.0.membership.removed.contains(&id)
    }

    /// Ids of removed members.
    #[must_use]
    pub fn removed_members(&self) -> Vec<MemberId> {
        self.0.membership.removed.iter().copied().collect()
    }

    /// Whether `change` would be valid now.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate_conf_change(
        &self,
        change: &ConfChange,
        max_learners: usize,
    ) -> Result<(), MembershipError> {
        self.0.membership.validate(change, max_learners)
    }

    /// Whether enough started voters remain for a quorum after `change` (`--strict-reconfig-check`).
    ///
    /// # Errors
    /// [`MembershipError::NotEnoughStarted`].
    pub fn check_readiness(&self, change: Readiness) -> Result<(), MembershipError> {
        self.0.membership.check_readiness(change)
    }

    /// The version all members agreed on, `major.minor.patch`; `None` until they did.
    #[must_use]
    pub fn cluster_version(&self) -> Option<String> {
        self.0.membership.cluster_version.clone()
    }

    /// The downgrade last asked for.
    #[must_use]
    pub fn downgrade(&self) -> Option<Downgrade> {
        self.0.membership.downgrade.clone()
    }

    /// Version of the storage schema that files state.
    #[must_use]
    pub fn storage_version(&self) -> Option<String> {
        self.0.storage_version.as_deref().map(str::to_owned)
    }

    /// Version of the storage schema that the data follows; none while no entry tells (etcd: `DetectSchemaVersion`).
    #[must_use]
    pub fn schema_version(&self) -> Option<String> {
        self.storage_version().or_else(|| (self.0.term > Term(0)).then(|| "3.5.0".to_owned()))
    }

    /// Alarms of one type, by its number since members may raise types that no version knows, or all of them for
    /// 0, `NONE`.
    #[must_use]
    pub fn alarms(&self, wanted: impl Into<i32>) -> Vec<AlarmMember> {
        self.0.alarms.list(wanted.into())
    }

    /// All leases, by id. Sorted by expiry they are known to the leader's [`crate::lease::clock`].
    #[must_use]
    pub fn leases(&self) -> Vec<Lease> {
        self.0.leases.iter().map(|state| state.lease).collect()
    }

    /// One lease.
    #[must_use]
    pub fn lease(&self, id: LeaseId) -> Option<Lease> {
        self.0.leases.get(id).map(|state| state.lease)
    }

    /// The keys that hang on a lease, sorted.
    #[must_use]
    pub fn lease_keys(&self, id: LeaseId) -> Vec<Bytes> {
        self.0.leases.get(id).map(|state| state.keys.iter().cloned().collect()).unwrap_or_default()
    }
}
