//! The replicated state machine of kvnode: keys at revisions, leases, members, alarms, users; what watchers are owed.
//!
//! [`Store`] is the one writer. It is fed committed raft entries and answers each as etcd would. [`Reader`] gives other
//! threads [`View`]s: consistent, immutable, taken in nanoseconds, never in the writer's way. [`watch`] decides what each
//! watch stream is sent next.
//!
//! This crate never does IO, reads a clock or draws a random number; whatever it needs of these comes in as an argument.
//! Same entries in, same state, same bytes, same hashes out, on every member.
//!
//! Where to read next: [`store`] for what an entry does, [`kv`] for the key space, [`log`] and [`index`] for how it lies
//! in memory, [`watch`] for the rules of watching.

mod alarm;
pub mod auth;
mod buckets;
mod error;
mod hash;
mod ids;
mod index;
mod key_range;
pub mod kv;
pub mod lease;
mod limits;
mod log;
pub mod membership;
pub mod quota;
mod record;
mod restore;
mod state;
mod store;
pub mod watch;

pub use buckets::BUCKETS;
pub use error::{ApplyError, ReadError, RequestError};
pub use hash::{CompactionHashes, KeyHash, PastCompaction};
pub use ids::{ClusterId, LeaseId, MemberId, RaftIndex, Revision, Term};
pub use key_range::{KeyRange, RangeEnd};
pub use kv::{
    range::{RangeResult, has_revision_filters, is_default_order},
    txn::{OpResult, TxnResult, is_read_only, is_serializable},
    validate,
    write::{Change, ChangeKind, DeleteRangeResult, PutResult},
};
pub use lease::{Lease, LeaseChange};
pub use limits::TXN_OPS_DEFAULT;
pub use log::{LogEntry, RevisionKey};
pub use membership::{ConfChangeOutcome, Downgrade, Member, MembershipError, Readiness};
pub use record::{KeepLease, Record, RecordMeta};
pub use restore::RestoreError;
pub use state::{Reader, View};
pub use store::{Batch, Config, Response, ScrubProgress, Store};
