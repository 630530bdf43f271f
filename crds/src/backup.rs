//! `EtcdBackup`: one snapshot of a cluster, taken once, kept in a store.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::DeletionPolicy;
use crate::store::{BackupStore, NameRef};

/// One snapshot of a cluster: taken once, verified, and kept in a store.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "kvnode.io",
    version = "v1alpha1",
    kind = "EtcdBackup",
    plural = "etcdbackups",
    shortname = "ekb",
    category = "kvnode",
    namespaced,
    status = "EtcdBackupStatus",
    derive = "PartialEq",
    doc = "One snapshot of a cluster: taken once, verified, and kept in a store.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Hash", type_ = "string", json_path = ".status.hash"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision"),
    printcolumn(name = "Total-Keys", type_ = "integer", json_path = ".status.totalKeys"),
    printcolumn(name = "Total-Size", type_ = "string", json_path = ".status.totalSize"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Location", type_ = "string", json_path = ".status.location", priority = 1),
    printcolumn(name = "Stored", type_ = "string", json_path = ".status.storedSize", priority = 1),
    printcolumn(name = "Seconds", type_ = "integer", json_path = ".status.durationSeconds", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 56").message("the name is too long: a Job is named after it; use at most 56 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.clusterRef == oldSelf.clusterRef && self.store == oldSelf.store && self.compression == oldSelf.compression").message("a backup is made once: create another EtcdBackup instead of changing clusterRef, store or compression"))]
pub struct EtcdBackupSpec {
    /// The cluster to back up, in the same namespace.
    pub cluster_ref: NameRef,
    /// Where to keep it.
    pub store: BackupStore,
    /// How the stored object is compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Service account of the Job, for stores that trust it instead of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Seconds after which an attempt is given up.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 30, max = 86400))]
    pub timeout_seconds: i64,
    /// What happens to the stored object when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// How a stored object is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Compression {
    /// As it is: `etcdutl` reads the object directly.
    #[default]
    None,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The name as the Job's argument takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
        }
    }
}

/// Where a backup stands; derived from its conditions, for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupPhase {
    /// Not begun; the message says what it waits for.
    Pending,
    /// The Job runs.
    Running,
    /// Stored and read back.
    Succeeded,
    /// Given up; the message says why.
    Failed,
}

/// How a backup went. Filled once, when the Job has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdBackupStatus {
    /// `metadata.generation` this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready (stored and verified), Progressing, Degraded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Pending, Running, Succeeded or Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<BackupPhase>,
    /// URL of the stored object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Full path of the stored object inside its store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// HASH as `etcdutl snapshot status` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// REVISION as `etcdutl snapshot status` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// TOTAL KEYS as `etcdutl snapshot status` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_keys: Option<i64>,
    /// TOTAL SIZE as `etcdutl snapshot status` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_size: Option<String>,
    /// Size of the snapshot in bytes, not compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_size_bytes: Option<i64>,
    /// Size of the stored object in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_size_bytes: Option<i64>,
    /// Size of the stored object, for the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_size: Option<String>,
    /// SHA-256 of the stored object, as hex digits, checked by reading it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// etcd version the snapshot is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Member the snapshot was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// When the Job began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the Job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Seconds from begin to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
}

fn default_timeout() -> i64 {
    3600
}
