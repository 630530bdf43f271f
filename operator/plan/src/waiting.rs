//! Every "not now" as a typed reason: it becomes the condition message, the plugin's line and a test's
//! assertion.

use std::fmt;

use crds::Reason;

/// What the cluster waits for, naming the thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A pod does not exist yet.
    PodMissing {
        /// Its name.
        pod: String,
    },
    /// A pod exists and its containers do not run yet.
    PodPending {
        /// Its name.
        pod: String,
    },
    /// The member in a pod takes part, and Kubernetes does not send clients to it yet.
    PodNotReady {
        /// Its name.
        pod: String,
    },
    /// No node takes a pod.
    Unschedulable {
        /// Its name.
        pod: String,
        /// The scheduler's words.
        message: String,
    },
    /// An image cannot be pulled.
    ImagePull {
        /// Pod or Job that needs it.
        pod: String,
        /// The image.
        image: String,
        /// The kubelet's words.
        message: String,
    },
    /// A container ends again and again.
    PodFailing {
        /// Its pod.
        pod: String,
        /// The kubelet's words.
        message: String,
    },
    /// The storage class is not there.
    StorageClass {
        /// Its name; `None` if there is no default class.
        name: Option<String>,
    },
    /// A claim has no volume yet.
    VolumePending {
        /// The claim.
        claim: String,
    },
    /// A pod or claim is being deleted.
    Terminating {
        /// Kind and name.
        object: String,
    },
    /// The StatefulSet still makes pods from the former template.
    Template {
        /// The set.
        set: String,
    },
    /// A pod has its ticket, or its data, and does not answer yet.
    MemberStarting {
        /// The member.
        member: String,
        /// Why it cannot be reached, if something was said.
        error: Option<String>,
    },
    /// A learner has not caught up.
    LearnerBehind {
        /// The learner.
        member: String,
        /// Log entries it lacks; `None` if it cannot be asked.
        entries: Option<u64>,
    },
    /// A change would leave too few members.
    Quorum {
        /// What would be changed.
        change: String,
        /// Members that have to come back first.
        missing: Vec<String>,
    },
    /// Nothing can be decided: the member list cannot be read.
    NoQuorum {
        /// Members that cannot be reached.
        missing: Vec<String>,
        /// What came back.
        error: String,
        /// How to get back the pods that the StatefulSet was told not to run.
        scale_back: Option<ScaleBack>,
    },
    /// Every member has its certificates except these.
    Certificates {
        /// What is wrong, with the Secret's name and the next step.
        message: String,
        /// Its reason.
        reason: Reason,
    },
    /// The restore Job runs.
    Restore {
        /// The Job.
        job: String,
        /// The last failure, if an attempt failed.
        failure: Option<String>,
    },
    /// The backup to restore from is not there or not ready.
    RestoreSource {
        /// What is wrong and what to do.
        message: String,
        /// Its reason.
        reason: Reason,
    },
    /// The cluster cannot go on without a human.
    Human {
        /// What is wrong and what to do.
        message: String,
        /// Its reason.
        reason: Reason,
    },
}

impl Waiting {
    /// The reason of the closed set.
    pub fn reason(&self) -> Reason {
        match self {
            Self::PodMissing { .. }
            | Self::PodPending { .. }
            | Self::PodNotReady { .. }
            | Self::Template { .. } => Reason::WaitingForPod,
            Self::Unschedulable { .. } => Reason::PodUnschedulable,
            Self::ImagePull { .. } => Reason::ImagePullFailed,
            Self::PodFailing { .. } => Reason::PodFailing,
            Self::StorageClass { .. } => Reason::StorageClassMissing,
            Self::VolumePending { .. } => Reason::VolumePending,
            Self::Terminating { .. } => Reason::WaitingForTerminations,
            Self::MemberStarting { .. } => Reason::WaitingForMember,
            Self::LearnerBehind { .. } => Reason::WaitingForLearner,
            Self::Quorum { .. } => Reason::WaitingForQuorum,
            Self::NoQuorum { .. } => Reason::QuorumLost,
            Self::Restore { failure: None, .. } => Reason::Restoring,
            Self::Restore { failure: Some(_), .. } => Reason::RestoreFailed,
            Self::Certificates { reason, .. }
            | Self::RestoreSource { reason, .. }
            | Self::Human { reason, .. } => *reason,
        }
    }

    /// True if it will not pass by itself in the normal course of things: it makes the cluster Degraded.
    pub fn is_obstacle(&self) -> bool {
        match self {
            Self::PodMissing { .. }
            | Self::PodPending { .. }
            | Self::PodNotReady { .. }
            | Self::VolumePending { .. }
            | Self::Terminating { .. }
            | Self::Template { .. }
            | Self::MemberStarting { .. }
            | Self::LearnerBehind { .. } => false,
            Self::Restore { failure, .. } => failure.is_some(),
            Self::Certificates { reason, .. } => *reason != Reason::CertificatesIssued,
            Self::RestoreSource { .. }
            | Self::Unschedulable { .. }
            | Self::ImagePull { .. }
            | Self::PodFailing { .. }
            | Self::StorageClass { .. }
            | Self::Quorum { .. }
            | Self::NoQuorum { .. }
            | Self::Human { .. } => true,
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodMissing { pod } => write!(f, "waiting for pod {pod} to be created"),
            Self::PodPending { pod } => write!(f, "waiting for pod {pod} to start"),
            Self::PodNotReady { pod } => write!(f, "waiting for pod {pod} to pass its readiness probe"),
            Self::Unschedulable { pod, message } => {
                write!(f, "no node takes pod {pod}: {message}; free resources or change spec.scheduling")
            }
            Self::ImagePull { pod, image, message } => write!(
                f,
                "image {image} of {pod} cannot be pulled: {message}; correct spec.image or \
                 spec.imagePullSecrets, or make the registry reachable"
            ),
            Self::PodFailing { pod, message } => {
                write!(f, "{pod} fails: {message}; see kubectl logs {pod} --previous")
            }
            Self::StorageClass { name: Some(name) } => {
                write!(f, "storage class {name} does not exist; create it or delete the cluster")
            }
            Self::StorageClass { name: None } => f.write_str(
                "there is no default storage class; mark one as default, or create the cluster anew with \
                 spec.storage.storageClassName",
            ),
            Self::VolumePending { claim } => write!(f, "waiting for volume claim {claim} to be bound"),
            Self::Terminating { object } => write!(f, "waiting for {object} to be gone"),
            Self::Template { set } => write!(f, "waiting for StatefulSet {set} to take the new pod template"),
            Self::MemberStarting { member, error: None } => write!(f, "waiting for {member} to answer"),
            Self::MemberStarting { member, error: Some(error) } => {
                write!(f, "waiting for {member} to answer ({error})")
            }
            // Without the number: it changes all the time, and this text is written to status.
            Self::LearnerBehind { member, .. } => {
                write!(f, "waiting for learner {member} to catch up with the leader")
            }
            Self::Quorum { change, missing } => {
                write!(f, "not safe to {change} while {} cannot be counted on", list(missing))
            }
            Self::NoQuorum { missing, error, scale_back } => {
                match missing.as_slice() {
                    [] => f.write_str("no quorum: the members have no leader")?,
                    missing => write!(f, "no quorum: {} cannot be reached", list(missing))?,
                }
                write!(f, " ({error}); nothing is deleted while this lasts")?;
                scale_back.as_ref().map_or(Ok(()), |back| write!(f, "; {back}"))
            }
            Self::Restore { job, failure: None } => write!(f, "waiting for Job {job} to restore the backup"),
            Self::Restore { job, failure: Some(failure) } => {
                write!(f, "Job {job} could not restore the backup: {failure}; it is tried again")
            }
            Self::Certificates { message, .. }
            | Self::RestoreSource { message, .. }
            | Self::Human { message, .. } => f.write_str(message),
        }
    }
}

/// What a human may have done to the StatefulSet, and the command that undoes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleBack {
    /// Namespace of the set.
    pub namespace: String,
    /// The set.
    pub set: String,
    /// Pods it has to run so that every volume has one.
    pub replicas: u32,
}

impl fmt::Display for ScaleBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, set, replicas } = self;
        write!(
            f,
            "if StatefulSet {set} was scaled down by hand, scale it back: \
             kubectl -n {namespace} scale statefulset {set} --replicas={replicas}"
        )
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "a member".to_owned(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}
