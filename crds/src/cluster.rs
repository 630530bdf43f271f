//! `EtcdCluster`: a cluster of one, three, five or seven members.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::progress::OperationProgress;
use crate::store::{BackupStore, NameRef};

/// A kvnode cluster: members that speak etcd's v3 API, their volumes, certificates and Services.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "kvnode.io",
    version = "v1alpha1",
    kind = "EtcdCluster",
    plural = "etcdclusters",
    shortname = "ekc",
    category = "kvnode",
    namespaced,
    status = "EtcdClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A kvnode cluster: members that speak etcd's v3 API, their volumes, certificates and Services.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(
        name = "Quorum",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Available")].status"#
    ),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Backup", type_ = "date", json_path = ".status.lastBackupTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader", priority = 1),
    printcolumn(name = "Target", type_ = "integer", json_path = ".spec.replicas", priority = 1),
    printcolumn(name = "Certs", type_ = "string", json_path = ".status.certificatesExpire", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 40").message("the name is too long: pods, Services and Secrets are named after it; use at most 40 characters"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("the name becomes part of DNS names: start with a letter, use lower-case letters, digits and '-'")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.bootstrap) == has(oldSelf.bootstrap) && (!has(self.bootstrap) || self.bootstrap == oldSelf.bootstrap)").message("bootstrap says how the cluster began and cannot be changed; create another EtcdCluster to restore elsewhere"),
    validation = Rule::new("has(self.tls) == has(oldSelf.tls) && (!has(self.tls) || self.tls == oldSelf.tls)").message("tls cannot be changed on a running cluster; rotate certificates by changing the content of the Secrets")
)]
pub struct EtcdClusterSpec {
    /// Number of members: 1, 3, 5 or 7.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = Rule::new("self % 2 == 1").message("must be odd (1, 3, 5 or 7): an even member adds cost and no fault tolerance; use one less or one more"))]
    pub replicas: i32,

    /// Image of the members, when not the one the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// Secrets to pull the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<NameRef>,

    /// The volume of each member.
    #[serde(default)]
    pub storage: Storage,

    /// CPU and memory of each member. Default: requests of 100m and 256Mi, no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Settings of the members; what is not set keeps etcd's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<EtcdOptions>,

    /// Certificates of your own. Without it the operator runs a certificate authority for this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ProvidedTls>,

    /// Where members may run. By default they avoid each other's nodes and spread over zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,

    /// Labels and annotations added to every pod. Changing them restarts the members one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<ExtraMetadata>,

    /// What happens to volumes when this object is deleted. After a change wait until `status.observedGeneration` has
    /// followed before deleting it.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// How the cluster begins. Without it, empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,

    /// Stops the operator from changing anything; status is still kept up to date.
    #[serde(default)]
    pub paused: bool,
}

/// The volume of each member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("storageClassName cannot be changed: volumes do not move; restore a backup into another EtcdCluster instead"))]
pub struct Storage {
    /// Size of each volume, for example `8Gi`. It can grow where the storage class allows it, never shrink.
    #[serde(default = "default_storage_size")]
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$")
    )]
    #[x_kube(
        validation = Rule::new("isQuantity(self) && quantity(self).compareTo(quantity('64Mi')) >= 0").message("must be a quantity of at least 64Mi, for example 8Gi"),
        validation = Rule::new("!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0").message("volumes cannot shrink; keep the size or raise it")
    )]
    pub size: String,
    /// Storage class of the volumes. Default: the Kubernetes cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: default_storage_size(), storage_class_name: None }
    }
}

/// Settings of the members, named after etcd's flags. Changing one restarts the members one at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.autoCompactionMode) == has(self.autoCompactionRetention)").message("set autoCompactionMode and autoCompactionRetention together"),
    validation = Rule::new("!has(self.autoCompactionMode) || self.autoCompactionMode != 'Revision' || (has(self.autoCompactionRetention) && self.autoCompactionRetention.matches('^[0-9]+$'))").message("with autoCompactionMode Revision, autoCompactionRetention is a count of revisions, for example '10000'"),
    validation = Rule::new("!has(self.electionTimeoutMilliseconds) || self.electionTimeoutMilliseconds >= 5 * (has(self.heartbeatIntervalMilliseconds) ? self.heartbeatIntervalMilliseconds : 100)").message("electionTimeoutMilliseconds must be at least five times heartbeatIntervalMilliseconds (default 100)"),
    validation = Rule::new("!has(self.heartbeatIntervalMilliseconds) || self.heartbeatIntervalMilliseconds * 5 <= (has(self.electionTimeoutMilliseconds) ? self.electionTimeoutMilliseconds : 1000)").message("heartbeatIntervalMilliseconds must be at most a fifth of electionTimeoutMilliseconds (default 1000)")
)]
pub struct EtcdOptions {
    /// Size of the data in bytes at which writes are refused with a NOSPACE alarm. Default 2147483648.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 67108864_i64, max = 107374182400_i64))]
    pub quota_backend_bytes: Option<i64>,
    /// How old revisions are compacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_compaction_mode: Option<AutoCompactionMode>,
    /// How much history is kept: a duration such as `1h` or `30m` if periodic, a count of revisions otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^[1-9][0-9]*(s|m|h)?$"))]
    pub auto_compaction_retention: Option<String>,
    /// Largest client request in bytes. Default 1572864.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 10485760))]
    pub max_request_bytes: Option<i64>,
    /// Most operations in one transaction. Default 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_txn_ops: Option<i32>,
    /// Milliseconds between heartbeats of the leader. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 10000))]
    pub heartbeat_interval_milliseconds: Option<i32>,
    /// Milliseconds without a heartbeat after which an election begins. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 50000))]
    pub election_timeout_milliseconds: Option<i32>,
}

/// How old revisions are compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AutoCompactionMode {
    /// Keep the revisions of a span of time.
    Periodic,
    /// Keep a number of revisions.
    Revision,
}

/// Certificates of your own: Secrets with `ca.crt`, `tls.crt` and `tls.key`, the shape cert-manager writes.
/// The operator reads them and never writes to them. Content may be replaced at any time; members re-read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProvidedTls {
    /// What members show to clients: server and client usage, names of the client Service and of every member.
    pub server_secret_ref: NameRef,
    /// What members show to each other: server and client usage, names of every member.
    pub peer_secret_ref: NameRef,
    /// What the operator and backup Jobs show to members: client usage, signed for the servers' `ca.crt`.
    pub operator_secret_ref: NameRef,
}

/// Where members may run; each field is passed to the pods as it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Replaces the default soft anti-affinity between members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Replaces the default soft spread over zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// Taints the members tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Labels a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// Labels and annotations added to what the operator sets itself; the operator's own win.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtraMetadata {
    /// Labels to add.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to add.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What happens to volumes (and to stored backups) when their owner is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Data stays until a human deletes it.
    #[default]
    Retain,
    /// Data goes with the object.
    Delete,
}

/// How the cluster begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// Begin with the data of a backup.
    pub from_backup: BackupSource,
}

/// A backup to begin from: an `EtcdBackup`, or an object in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.backupRef) != has(self.store)").message("set either backupRef or store with key"),
    validation = Rule::new("has(self.store) == has(self.key)").message("store and key go together: key is the object's full path in the store")
)]
pub struct BackupSource {
    /// An `EtcdBackup` of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<NameRef>,
    /// The store that holds the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<BackupStore>,
    /// Full path of the object in the store, as `status.location` of a backup ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub key: Option<String>,
    /// SHA-256 of the stored object, as hex digits; the restore refuses anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,
    /// Service account of the Job, for stores that trust it instead of a Secret. Default: that of the `EtcdBackup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
}

/// What the operator last observed. Nothing here is ever read back to decide.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClusterStatus {
    /// `metadata.generation` this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Available, Progressing, Degraded, TLSReady, BackupHealthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Members that are voters and healthy.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Healthy voters of wished-for members, such as `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// One or a few words for the table: Healthy, or what is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Selects the pods, for `kubectl scale` and autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// etcd version the members stand for; the lowest while they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Cluster ID in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Name of the member that leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// URL of the client Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Every member, by ordinal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub members: Vec<MemberStatus>,
    /// Work under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationProgress>,
    /// End of the newest successful backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup_time: Option<Time>,
    /// Date on which the first certificate in use expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates_expire: Option<String>,
}

/// One member, as last observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Name of the member and of its pod.
    pub name: String,
    /// Member ID in hexadecimal; absent until it was added to the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Leader, Follower or Learner; Unknown if it cannot be reached.
    pub role: MemberRole,
    /// True for a member that replicates but does not vote.
    pub learner: bool,
    /// True, False, or Unknown if it cannot be reached.
    pub healthy: MemberHealth,
    /// etcd version it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The part a member plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberRole {
    /// Leads.
    Leader,
    /// Votes and follows.
    Follower,
    /// Follows without a vote.
    Learner,
    /// Not in the cluster yet.
    Joining,
    /// Cannot be reached.
    Unknown,
}

/// Whether a member works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberHealth {
    /// It answered and knows a leader.
    True,
    /// It answered and reports an error, or is not running.
    False,
    /// It cannot be reached.
    Unknown,
}

fn default_replicas() -> i32 {
    3
}

fn default_storage_size() -> String {
    "8Gi".to_owned()
}
