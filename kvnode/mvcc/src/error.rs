//! Why a request changed nothing.
//!
//! The texts are etcd's, since clients of every language tell errors apart by them (etcd: `api/v3rpc/rpctypes/error.go`).
//! The gRPC code is the server's business.

use crate::{auth::AuthError, ids::Revision, membership::MembershipError};

/// Why a read failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The wanted revision is older than the compacted one, which it carries.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted(Revision),
    /// The wanted revision does not exist yet; it carries the current one.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision(Revision),
}

/// Why a replicated request was refused. The entry counts as applied all the same, on every member alike.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A revision that cannot be read, or compacted, any more or yet.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// No such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease of this id exists.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// The time to live is above etcd's maximum of 9,000,000,000 s.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// The NOSPACE alarm is raised, or this request passed the quota (then it **was** applied, and the member that sees
    /// this must raise the alarm).
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The CORRUPT alarm is raised.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// Authentication, permissions, users or roles.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Members.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The entry holds no request that this version knows. etcd stops the process here; so should the caller.
    #[error("etcdserver: unknown request in the raft log; this member is older than the one that wrote it")]
    UnknownRequest,
}

/// Why a request cannot even be proposed. Checked by the API before raft sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The key is empty.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// An operation of a transaction names none of its kinds.
    #[error("etcdserver: key not found")]
    EmptyOperation,
    /// `ignore_value` with a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` with a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// More operations than `--max-txn-ops`.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// One key is written twice on one path of a transaction.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// An unknown number in `sort_order` or `sort_target`.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
}
