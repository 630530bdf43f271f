//! `EtcdOperation`: one-shot work, begun only when the cluster is at rest and safe to work on.

use std::time::Duration;

use crds::EtcdOperation;
use crds::operation::EtcdOperationStatus;

use crate::action::MemberRef;
use crate::observed::Observed;
use crate::plan::Plan;
use crate::report::Note;

/// All facts about one operation at one moment.
#[derive(Clone, Debug)]
pub struct ObservedOperation<'a> {
    /// The object.
    pub operation: EtcdOperation,
    /// The cluster it names and the plan for it, if the cluster exists.
    pub cluster: Option<(&'a Observed, &'a Plan)>,
    /// Operations on the same cluster that are not finished and older than this one.
    pub ahead: Vec<String>,
    /// The moment.
    pub now: jiff::Timestamp,
}

/// One step of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationAction {
    /// Call Defragment on this member; then it belongs in `status.membersDone`.
    Defragment {
        /// The member.
        member: MemberRef,
    },
    /// Hand leadership over.
    MoveLeader {
        /// Who leads; the call goes to it.
        from: MemberRef,
        /// Who shall lead.
        to: MemberRef,
    },
    /// Set annotation `kvnode.io/restartedAt` of the `EtcdCluster` to this value.
    AnnotateRestart {
        /// The value.
        value: String,
    },
}

/// Everything to do about one operation now.
#[derive(Clone, Debug)]
pub struct OperationPlan {
    /// One step. After a Defragment that succeeded the shell appends the member's name to
    /// `status.members_done` in the same status write.
    pub action: Option<OperationAction>,
    /// The whole status; written only if it differs.
    pub status: EtcdOperationStatus,
    /// Events for what changed since the status that was there.
    pub events: Vec<Note>,
    /// True once `ttlSecondsAfterFinished` has passed: delete the object (UID precondition).
    pub delete: Expiry,
    /// Look again after this long even if nothing is heard.
    pub recheck: Duration,
}

/// Whether a finished object may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It stays.
    Keep,
    /// Its time has come.
    Delete,
}
