//! The one change a plan may ask for besides its objects, with everything the shell needs to make it.
//!
//! The shell re-observes, plans again, and acts only if the new plan asks for the same action
//! ([`Action::same_as`]): an action is never taken on the strength of a cache that predates the last one.

use std::fmt;

use crds::Reason;

use crate::identity::IdentityRecord;
use crate::ids::{ClusterId, MemberId, Ordinal};
use crate::observed::{ClaimRef, PodRef};
use crate::report::{Note, NoteKind, Related};

/// What a compare-and-swap write expects to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No object: create it, and fail if there is one.
    Absent,
    /// The object at this resourceVersion: replace it, and fail if it changed.
    Version(String),
}

/// A member, by what it is called and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRef {
    /// Its ordinal.
    pub ordinal: Ordinal,
    /// Its ID.
    pub id: MemberId,
    /// Name of the member and its pod.
    pub name: String,
}

/// One change. At most one is under way in a cluster at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the identity record (compare and swap), then put the create ticket on the pod. Both are
    /// idempotent: a crash between them is repaired by doing the same again.
    GrantCreate {
        /// What to record, before anything else.
        record: IdentityRecord,
        /// What is there now.
        expect: Expect,
        /// The seed.
        pod: PodRef,
        /// Text of the ticket annotation.
        ticket: String,
    },
    /// Write the identity record (compare and swap) and nothing else.
    RecordIdentity {
        /// What to record.
        record: IdentityRecord,
        /// What is there now.
        expect: Expect,
    },
    /// Add a learner, then put a join ticket made from MemberAdd's answer (`Ticket::join`) on the pod. If the
    /// second half fails the next plan removes the member again: a ticket is only ever made from an answer.
    AddLearner {
        /// Ordinal that joins.
        ordinal: Ordinal,
        /// The pod that waits for a ticket.
        pod: PodRef,
        /// Its peer URL.
        peer_url: String,
        /// Token for the ticket.
        cluster_uid: String,
        /// The cluster the answer must come from.
        cluster_id: ClusterId,
    },
    /// Make a learner a voter.
    Promote {
        /// The learner.
        member: MemberRef,
    },
    /// Remove a member by ID.
    RemoveMember {
        /// The member.
        member: MemberRef,
        /// Why.
        why: RemovalReason,
    },
    /// Hand leadership over.
    MoveLeader {
        /// Who leads; the call goes to it.
        from: MemberRef,
        /// Who shall lead.
        to: MemberRef,
    },
    /// Delete a pod so that the StatefulSet makes it anew. UID precondition.
    DeletePod {
        /// The pod.
        pod: PodRef,
        /// Why.
        why: RestartReason,
    },
    /// Take a volume out of the cluster without deleting its data: set the PersistentVolume's reclaim policy to
    /// Retain and mark it (`kvnode.io/quarantined`), then delete the claim (UID precondition), then the pod
    /// that mounts it (UID precondition), if any. A claim whose volume is gone is only deleted. What was done already
    /// is skipped: after a crash in the middle the same is asked for again.
    QuarantineVolume {
        /// The claim.
        claim: ClaimRef,
        /// The pod that mounts it.
        pod: Option<PodRef>,
        /// Its ordinal.
        ordinal: Ordinal,
    },
    /// Raise a claim's request.
    ExpandVolume {
        /// The claim.
        claim: ClaimRef,
        /// The wished-for size.
        size: String,
    },
    /// Delete a failed restore Job (UID precondition, background propagation) so that it is tried again.
    DeleteRestoreJob {
        /// Name of the Job.
        name: String,
        /// UID of the Job.
        uid: String,
    },
}

/// Why a member is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    /// The spec wants fewer members.
    ScaleDown,
    /// Its volume was lost; the ordinal rejoins as a new member.
    VolumeLost,
    /// It was added, but its pod never got a ticket.
    NeverJoined,
}

/// Why a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartReason {
    /// Its template changed.
    TemplateChanged,
}

impl Action {
    /// True if both ask for the same change to the same objects; resource versions may differ.
    pub fn same_as(&self, other: &Self) -> bool {
        self.without_versions() == other.without_versions()
    }

    fn without_versions(&self) -> Self {
        let mut action = self.clone();
        match &mut action {
            Self::GrantCreate { pod, record, expect, .. } => {
                pod.resource_version.clear();
                without_times(record);
                clear(expect);
            }
            Self::RecordIdentity { record, expect } => {
                without_times(record);
                clear(expect);
            }
            Self::AddLearner { pod, .. } | Self::DeletePod { pod, .. } => pod.resource_version.clear(),
            Self::QuarantineVolume { claim, pod, .. } => {
                claim.resource_version.clear();
                if let Some(pod) = pod {
                    pod.resource_version.clear();
                }
            }
            Self::ExpandVolume { claim, .. } => claim.resource_version.clear(),
            Self::Promote { .. }
            | Self::RemoveMember { .. }
            | Self::MoveLeader { .. }
            | Self::DeleteRestoreJob { .. } => {}
        }
        action
    }

    /// The event to emit once it succeeded.
    pub fn event(&self) -> Note {
        let (reason, verb, related) = match self {
            Self::GrantCreate { pod, .. } => (Reason::ClusterCreated, "Create", Related::pod(&pod.name)),
            Self::RecordIdentity { .. } => (Reason::ClusterCreated, "Record", None),
            Self::AddLearner { pod, .. } => (Reason::MemberAdded, "AddLearner", Related::pod(&pod.name)),
            Self::Promote { member } => (Reason::MemberPromoted, "Promote", Related::pod(&member.name)),
            Self::RemoveMember { member, .. } => {
                (Reason::MemberRemoved, "RemoveMember", Related::pod(&member.name))
            }
            Self::MoveLeader { to, .. } => (Reason::LeaderMoved, "MoveLeader", Related::pod(&to.name)),
            Self::DeletePod { pod, .. } => (Reason::PodRestarted, "DeletePod", Related::pod(&pod.name)),
            Self::QuarantineVolume { claim, .. } => {
                (Reason::VolumeQuarantined, "QuarantineVolume", Related::claim(&claim.name))
            }
            Self::ExpandVolume { claim, .. } => {
                (Reason::ExpandingVolumes, "ExpandVolume", Related::claim(&claim.name))
            }
            Self::DeleteRestoreJob { name, .. } => (Reason::Restoring, "RetryRestore", Related::job(name)),
        };
        Note { kind: NoteKind::Normal, reason, action: verb, message: self.to_string(), related }
    }

    /// How a failure of it is told, before it is tried again.
    pub fn failure(&self, error: &str) -> Note {
        let done = self.event();
        Note {
            kind: NoteKind::Warning,
            reason: Reason::ActionFailed,
            message: format!("{self}: {error}; it is tried again"),
            ..done
        }
    }
}

fn without_times(record: &mut IdentityRecord) {
    record.formed_at = record.formed_at.map(|_| jiff::Timestamp::UNIX_EPOCH);
    if let Some(grant) = &mut record.grant {
        grant.at = jiff::Timestamp::UNIX_EPOCH;
    }
}

fn clear(expect: &mut Expect) {
    if let Expect::Version(version) = expect {
        version.clear();
    }
}

/// What it does, in one sentence without a full stop.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GrantCreate { pod, .. } => write!(f, "let {} create the cluster", pod.name),
            Self::RecordIdentity { record, .. } => match (&record.grant, record.formed_at) {
                (_, Some(_)) => f.write_str("record that the cluster is formed"),
                (Some(_), None) => f.write_str("record that the cluster begins from a backup"),
                (None, None) => f.write_str("record that the cluster is new"),
            },
            Self::AddLearner { pod, .. } => write!(f, "add {} as a learner and give it a ticket", pod.name),
            Self::Promote { member } => write!(f, "promote {} (ID {}) to voter", member.name, member.id),
            Self::RemoveMember { member, why } => {
                let why = match why {
                    RemovalReason::ScaleDown => "the spec wants fewer members",
                    RemovalReason::VolumeLost => "its volume was lost",
                    RemovalReason::NeverJoined => "its pod never got to join",
                };
                write!(f, "remove member {} (ID {}): {why}", member.name, member.id)
            }
            Self::MoveLeader { from, to } => write!(f, "move leadership from {} to {}", from.name, to.name),
            Self::DeletePod { pod, why } => {
                let why = match why {
                    RestartReason::TemplateChanged => "its template changed",
                };
                write!(f, "delete pod {}: {why}", pod.name)
            }
            Self::QuarantineVolume { claim, .. } => {
                write!(f, "take volume claim {} out of the cluster and keep its volume", claim.name)
            }
            Self::ExpandVolume { claim, size } => {
                write!(f, "grow volume claim {} to {size}", claim.name)
            }
            Self::DeleteRestoreJob { name, .. } => write!(f, "delete failed Job {name} to try again"),
        }
    }
}
