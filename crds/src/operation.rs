//! `EtcdOperation`: one-shot work on a cluster, with a record of how it went.
#![expect(clippy::duplicated_attributes, reason = "print columns share attributes")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::NameRef;

/// One-shot work on a cluster, with a record of how it went.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "kvnode.io",
    version = "v1alpha1",
    kind = "EtcdOperation",
    plural = "etcdoperations",
    shortname = "eko",
    category = "kvnode",
    namespaced,
    status = "EtcdOperationStatus",
    derive = "PartialEq",
    doc = "One-shot work on a cluster, with a record of how it went.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.clusterRef == oldSelf.clusterRef && self.type == oldSelf.type && has(self.member) == has(oldSelf.member) && (!has(self.member) || self.member == oldSelf.member)").message("an operation runs once: create another EtcdOperation instead of changing this one"),
    validation = Rule::new("!has(self.member) || self.type == 'MoveLeader'").message("member is only for type MoveLeader: the member that shall lead")
)]
pub struct EtcdOperationSpec {
    /// The cluster to work on, in the same namespace.
    pub cluster_ref: NameRef,
    /// What to do.
    #[serde(rename = "type")]
    pub type_: OperationKind,
    /// MoveLeader: the member that shall lead. Default: any healthy follower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub member: Option<String>,
    /// Seconds after which an operation that has not ended is given up.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 10, max = 86400))]
    pub timeout_seconds: i64,
    /// Seconds after its end at which this object is deleted. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31536000))]
    pub ttl_seconds_after_finished: Option<i64>,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OperationKind {
    /// Gives unused space back on every member, followers first, leader last.
    Defragment,
    /// Hands leadership to another member.
    MoveLeader,
    /// Restarts every member, one at a time, leader last.
    Restart,
}

impl OperationKind {
    /// The name as the spec holds it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Defragment => "Defragment",
            Self::MoveLeader => "MoveLeader",
            Self::Restart => "Restart",
        }
    }
}

/// Where an operation stands; derived from its conditions, for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationPhase {
    /// Not begun; the message says what it waits for.
    Pending,
    /// Under way.
    Running,
    /// Done.
    Succeeded,
    /// Given up; the message says why.
    Failed,
}

/// How an operation goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdOperationStatus {
    /// `metadata.generation` this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready (done), Progressing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Pending, Running, Succeeded or Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<OperationPhase>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// MoveLeader: the member that shall lead, once it is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Defragment: members that are done, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members_done: Vec<String>,
}

fn default_timeout() -> i64 {
    1800
}
