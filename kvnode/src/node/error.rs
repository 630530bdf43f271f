//! Why the server's core did not do what it was asked, in etcd's words.
//!
//! The texts are etcd's, since clients tell errors apart by them (etcd: `server/etcdserver/errors/errors.go` and
//! `api/v3rpc/rpctypes/error.go`); the gRPC code is chosen by the service that answers.

use kvnode_mvcc::ApplyError;

/// An error of [`super::Node`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Nobody leads.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// Another leader was elected while a read waited; asking again is safe.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// This member does not lead, and only the leader can do it.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// No answer in time.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// No answer in time, and a leader was lost meanwhile. A write may or may not have happened.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailed,
    /// No answer in time, and the leader or a quorum could not be reached meanwhile.
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// An index was committed but not applied in time.
    #[error("etcdserver: request timed out, waiting for the applied index took too long")]
    TimeoutWaitApplied,
    /// The member is stopping.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// More is committed and not applied, or waiting to be proposed, than may be.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// The request is larger than `--max-request-bytes`.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// A majority of the members is not connected for long enough to take a new one.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// The change would leave too few started members for a quorum.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// The learner is too far behind the leader.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// The member to be promoted votes already.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    /// The cluster has its full number of learners.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// There is no member of this ID.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// A member of this ID exists.
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    /// Another member has one of the peer URLs.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// No peer URL, or one that cannot be dialled.
    #[error("etcdserver: given member URLs are invalid")]
    InvalidPeerUrls,
    /// Leadership cannot go to this member: unknown, a learner, or oneself in vain.
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
    /// Leadership did not move in time.
    #[error("etcdserver: request timed out, leader transfer took too long")]
    TimeoutLeaderTransfer,
    /// The token stands for nobody, here and now.
    #[error("etcdserver: invalid auth token")]
    InvalidToken,
    /// There is no such lease, or it expired.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The request reached every member and was refused by the state machine.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}
