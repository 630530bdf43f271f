//! The few facts about Kubernetes objects that decisions depend on.

use crds::names::{self, ClusterNames};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::ids::Ordinal;

/// UID of the controlling owner, if any: lists by name never authorise a change.
pub fn owner_uid(meta: &ObjectMeta) -> Option<&str> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|o| o.controller == Some(true)).map(|o| o.uid.as_str())
}

/// The StatefulSet as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatefulSetView {
    /// UID of the set.
    pub uid: String,
    /// UID of its controller.
    pub owner_uid: Option<String>,
    /// Pods it is told to run.
    pub replicas: u32,
    /// Size in its volume claim template, which Kubernetes never lets change.
    pub template_storage: Option<String>,
    /// Hash annotation of its pod template.
    pub template_hash: Option<String>,
}

impl StatefulSetView {
    /// The facts of a set.
    pub fn from_object(set: &StatefulSet) -> Self {
        let spec = set.spec.as_ref();
        let claim = spec.and_then(|s| s.volume_claim_templates.as_ref()).and_then(|c| c.first());
        let requests = claim
            .and_then(|c| c.spec.as_ref())
            .and_then(|s| s.resources.as_ref())
            .and_then(|r| r.requests.as_ref());
        let pod_annotations =
            spec.map(|s| &s.template).and_then(|t| t.metadata.as_ref()).and_then(|m| m.annotations.as_ref());
        Self {
            uid: set.metadata.uid.clone().unwrap_or_default(),
            owner_uid: owner_uid(&set.metadata).map(str::to_owned),
            replicas: spec.and_then(|s| s.replicas).and_then(|r| u32::try_from(r).ok()).unwrap_or(1),
            template_storage: requests.and_then(|r| r.get("storage").map(|q| q.0.clone())),
            template_hash: pod_annotations.and_then(|a| a.get(names::TEMPLATE_HASH_ANNOTATION).cloned()),
        }
    }
}

/// One pod, so exactly that a replacement of the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// Name.
    pub name: String,
    /// UID: precondition of every write and delete.
    pub uid: String,
    /// resourceVersion when it was read.
    pub resource_version: String,
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPhase {
    /// Not all containers have started.
    Pending,
    /// Started.
    Running,
    /// Ended for good; it will never run again under this UID.
    Ended,
    /// The kubelet does not report.
    Unknown,
}

/// Something that keeps a pod from working, as Kubernetes reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodTrouble {
    /// No node takes it.
    Unschedulable {
        /// The scheduler's words.
        message: String,
    },
    /// An image cannot be pulled.
    ImagePull {
        /// The image.
        image: String,
        /// The kubelet's words.
        message: String,
    },
    /// A container ends again and again, or cannot be created.
    Failing {
        /// The container.
        container: String,
        /// The kubelet's words, with the last termination message.
        message: String,
        /// How it ended last.
        exit_code: Option<i32>,
    },
}

/// A member's pod as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its ordinal.
    pub ordinal: Ordinal,
    /// Which pod.
    pub reference: PodRef,
    /// UID of its controller.
    pub owner_uid: Option<String>,
    /// How far it is.
    pub phase: PodPhase,
    /// Its Ready condition.
    pub ready: bool,
    /// True once its deletion was accepted.
    pub terminating: bool,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// Node it runs on.
    pub node: Option<String>,
    /// Hash annotation of the template it was made from.
    pub template_hash: Option<String>,
    /// Ticket annotation.
    pub ticket: Option<String>,
    /// What keeps it from working.
    pub trouble: Option<PodTrouble>,
}

impl PodView {
    /// The facts of a pod, if it is one of this cluster's members.
    pub fn from_object(pod: &Pod, names: &ClusterNames) -> Option<Self> {
        let name = pod.metadata.name.clone()?;
        let ordinal = Ordinal(names.ordinal_of_pod(&name)?);
        let annotation = |key: &str| pod.metadata.annotations.as_ref().and_then(|a| a.get(key).cloned());
        let status = pod.status.as_ref();
        let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        Some(Self {
            ordinal,
            reference: PodRef {
                name,
                uid: pod.metadata.uid.clone().unwrap_or_default(),
                resource_version: pod.metadata.resource_version.clone().unwrap_or_default(),
            },
            owner_uid: owner_uid(&pod.metadata).map(str::to_owned),
            phase: phase(status.and_then(|s| s.phase.as_deref())),
            ready: conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            created_at: pod.metadata.creation_timestamp.as_ref().map(|t| t.0),
            node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
            template_hash: annotation(names::TEMPLATE_HASH_ANNOTATION),
            ticket: annotation(names::TICKET_ANNOTATION).filter(|t| !t.is_empty()),
            trouble: pod_trouble(pod),
        })
    }
}

fn phase(text: Option<&str>) -> PodPhase {
    match text {
        Some("Running") => PodPhase::Running,
        Some("Succeeded" | "Failed") => PodPhase::Ended,
        Some("Unknown") => PodPhase::Unknown,
        _ => PodPhase::Pending,
    }
}

/// What keeps a pod from working, the most telling first.
pub fn pod_trouble(pod: &Pod) -> Option<PodTrouble> {
    let status = pod.status.as_ref()?;
    let inits = status.init_container_statuses.iter().flatten();
    let containers = inits.chain(status.container_statuses.iter().flatten());
    if let Some(trouble) = containers.filter_map(container_trouble).next() {
        return Some(trouble);
    }
    let unschedulable = status.conditions.iter().flatten().find(|c| {
        c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable")
    })?;
    Some(PodTrouble::Unschedulable { message: unschedulable.message.clone().unwrap_or_default() })
}

fn container_trouble(status: &ContainerStatus) -> Option<PodTrouble> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let message = waiting.message.clone().unwrap_or_default();
    match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            Some(PodTrouble::ImagePull { image: status.image.clone(), message })
        }
        "CrashLoopBackOff" | "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
            let said =
                last.and_then(|t| t.message.as_deref()).filter(|m| !m.trim().is_empty()).map(last_words);
            let code = last.map(|t| format!("exit code {}", t.exit_code));
            let detail = said.or(code).map(|d| format!("{message}: {}", d.trim())).unwrap_or(message);
            let exit_code = last.map(|t| t.exit_code);
            Some(PodTrouble::Failing { container: status.name.clone(), message: detail, exit_code })
        }
        _ => None,
    }
}

/// One volume claim, so exactly that a replacement of the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRef {
    /// Name.
    pub name: String,
    /// UID: precondition of every write and delete.
    pub uid: String,
    /// resourceVersion when it was read.
    pub resource_version: String,
}

/// How far a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumePhase {
    /// No volume yet.
    Pending,
    /// It has its volume.
    Bound,
    /// Its volume is gone: the data is lost.
    Lost,
}

/// A member's volume claim as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeView {
    /// The ordinal whose pod mounts it.
    pub ordinal: Ordinal,
    /// Which claim.
    pub reference: ClaimRef,
    /// How far it is.
    pub phase: VolumePhase,
    /// True once its deletion was accepted.
    pub terminating: bool,
    /// Size that was asked for.
    pub requested: Option<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// UIDs of its owners: it goes when all of them are gone.
    pub owners: Vec<String>,
}

impl VolumeView {
    /// The facts of a claim, if it is a data volume of this cluster.
    pub fn from_object(claim: &PersistentVolumeClaim, names: &ClusterNames) -> Option<Self> {
        let name = claim.metadata.name.clone()?;
        let ordinal = Ordinal(names.ordinal_of_claim(&name)?);
        let requests =
            claim.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
        let phase = match claim.status.as_ref().and_then(|s| s.phase.as_deref()) {
            Some("Bound") => VolumePhase::Bound,
            Some("Lost") => VolumePhase::Lost,
            _ => VolumePhase::Pending,
        };
        Some(Self {
            ordinal,
            reference: ClaimRef {
                name,
                uid: claim.metadata.uid.clone().unwrap_or_default(),
                resource_version: claim.metadata.resource_version.clone().unwrap_or_default(),
            },
            phase,
            terminating: claim.metadata.deletion_timestamp.is_some(),
            requested: requests.and_then(|r| r.get("storage").map(|q| q.0.clone())),
            created_at: claim.metadata.creation_timestamp.as_ref().map(|t| t.0),
            owners: claim.metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect(),
        })
    }
}

/// How a Job ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    /// Still at it.
    Running,
    /// Done.
    Succeeded,
    /// Given up.
    Failed,
}

/// A Job as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// UID of its controller.
    pub owner_uid: Option<String>,
    /// How it ended.
    pub outcome: JobOutcome,
    /// Attempts that failed.
    pub failures: i32,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Reason and message of its Failed condition.
    pub failure: Option<String>,
    /// Termination message of its newest ended container: the result, or the error.
    pub said: Option<String>,
    /// What keeps its pod from working.
    pub trouble: Option<PodTrouble>,
    /// True once its deletion was accepted.
    pub terminating: bool,
}

impl JobView {
    /// The facts of a Job and of its pods.
    pub fn from_objects(job: &Job, pods: &[Pod]) -> Self {
        let status = job.status.as_ref();
        let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        let held = |type_: &str| conditions.iter().find(|c| c.type_ == type_ && c.status == "True");
        let (complete, failed) = (held("Complete"), held("Failed"));
        let outcome = match (complete, failed) {
            (Some(_), _) => JobOutcome::Succeeded,
            (None, Some(_)) => JobOutcome::Failed,
            (None, None) => JobOutcome::Running,
        };
        let ended = complete.or(failed).and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
        Self {
            name: job.metadata.name.clone().unwrap_or_default(),
            uid: job.metadata.uid.clone().unwrap_or_default(),
            owner_uid: owner_uid(&job.metadata).map(str::to_owned),
            outcome,
            failures: status.and_then(|s| s.failed).unwrap_or(0),
            started_at: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
            ended_at: status.and_then(|s| s.completion_time.as_ref()).map(|t| t.0).or(ended),
            failure: failed.map(|c| c.message.clone().or_else(|| c.reason.clone()).unwrap_or_default()),
            said: newest_termination_message(pods),
            trouble: pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).find_map(pod_trouble),
            terminating: job.metadata.deletion_timestamp.is_some(),
        }
    }
}

fn newest_termination_message(pods: &[Pod]) -> Option<String> {
    let mut ended = Vec::new();
    for status in pods.iter().filter_map(|p| p.status.as_ref()) {
        let inits = status.init_container_statuses.iter().flatten();
        for container in inits.chain(status.container_statuses.iter().flatten()) {
            for state in [container.state.as_ref(), container.last_state.as_ref()].into_iter().flatten() {
                if let Some(end) = state.terminated.as_ref()
                    && let Some(message) = end.message.as_ref().filter(|m| !m.trim().is_empty())
                {
                    ended.push((end.finished_at.as_ref().map(|t| t.0), last_words(message)));
                }
            }
        }
    }
    ended.into_iter().max_by_key(|(at, _)| *at).map(|(_, message)| message)
}

/// What a container said last. Where it is a line of a structured log, its message and its error.
fn last_words(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let entry: Option<serde_json::Value> = serde_json::from_str(line).ok();
    let field = |key: &str| entry.as_ref().and_then(|e| e[key].as_str()).map(str::to_owned);
    match (field("msg"), field("error")) {
        (Some(message), Some(error)) => format!("{message}: {error}"),
        (Some(message), None) => message,
        (None, _) => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_log_are_its_last_message() {
        let log = concat!(
            r#"{"level":"info","msg":"starting"}"#,
            "\n",
            r#"{"level":"fatal","msg":"cannot start","error":"corrupt record"}"#,
            "\n"
        );
        for (text, words) in [
            (log, "cannot start: corrupt record"),
            ("one\ntwo\n\n", "two"),
            (r#"{"location":"s3://b/k"}"#, r#"{"location":"s3://b/k"}"#),
            ("", ""),
        ] {
            assert_eq!(last_words(text), words);
        }
    }
}
