//! `EtcdBackupSchedule`: backups by the clock, and how many of them to keep.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::backup::Compression;
use crate::store::{BackupStore, NameRef};

/// Numbers or names as a cron field may hold them: one, a range, all; every so many of them; several of those.
macro_rules! cron_field {
    ($value:literal) => {
        concat!(cron_field!(one $value), "(,", cron_field!(one $value), ")*")
    };
    (one $value:literal) => {
        concat!("([*]|", $value, "(-", $value, ")?)(/[1-9][0-9]?)?")
    };
}

/// A cron line whose fields are within their ranges. What can only be told of all of them together, that it never comes for
/// one, is a condition.
const CRON_RULE: &str = concat!(
    "self.matches('^",
    cron_field!("[0-5]?[0-9]"),
    " ",
    cron_field!("([01]?[0-9]|2[0-3])"),
    " ([?]|",
    cron_field!("(LW?|(0?[1-9]|[12][0-9]|3[01])W?)"),
    ") ",
    cron_field!("(0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)"),
    " ([?]|",
    cron_field!("([0-7]|SUN|MON|TUE|WED|THU|FRI|SAT)(#[1-5L]|L)?"),
    ")$')",
);

/// Backups of a cluster by the clock, and how many of them to keep.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "kvnode.io",
    version = "v1alpha1",
    kind = "EtcdBackupSchedule",
    plural = "etcdbackupschedules",
    shortname = "ekbs",
    category = "kvnode",
    namespaced,
    status = "EtcdBackupScheduleStatus",
    derive = "PartialEq",
    doc = "Backups of a cluster by the clock, and how many of them to keep.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Last-Success", type_ = "date", json_path = ".status.lastSuccessfulTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduleTime", priority = 1),
    printcolumn(name = "Time-Zone", type_ = "string", json_path = ".spec.timeZone", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 44").message("the name is too long: backups are named after it with a time; use at most 44 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.clusterRef == oldSelf.clusterRef").message("clusterRef cannot be changed; create another EtcdBackupSchedule"))]
pub struct EtcdBackupScheduleSpec {
    /// The cluster to back up, in the same namespace.
    pub cluster_ref: NameRef,
    /// When, as five cron fields: minute, hour, day of month, month, day of week.
    #[schemars(length(min = 9, max = 128))]
    #[x_kube(validation = Rule::new(CRON_RULE).message("must be five cron fields separated by single spaces (minute hour day-of-month month day-of-week), each within its range, for example '0 3 * * *' for 03:00 every day"))]
    pub schedule: String,
    /// Time zone of the schedule, a name of the IANA database such as `Europe/Berlin`.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// Stops making backups; nothing is deleted.
    #[serde(default)]
    pub suspend: bool,
    /// Where to keep the backups.
    pub store: BackupStore,
    /// How stored objects are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Which backups to keep. The newest verified one is never deleted, nor one that a cluster is about to begin from.
    #[serde(default)]
    pub retention: Retention,
    /// How many failed backups to keep for inspection.
    #[serde(default = "default_failed_history")]
    #[schemars(range(min = 1, max = 100))]
    pub failed_history_limit: i32,
    /// Seconds after its time at which a missed backup is skipped rather than made late.
    #[serde(default = "default_deadline")]
    #[schemars(range(min = 10, max = 604800))]
    pub starting_deadline_seconds: i64,
    /// Seconds after which one attempt is given up.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 30, max = 86400))]
    pub timeout_seconds: i64,
    /// Service account of the Jobs, for stores that trust it instead of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
}

/// Which backups of a schedule to keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Number of successful backups to keep.
    #[serde(default = "default_keep_last")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep_last: i32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep_last: default_keep_last() }
    }
}

/// What the schedule did last and does next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdBackupScheduleStatus {
    /// `metadata.generation` this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, BackupHealthy, Degraded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Newest time that was due and dealt with, by a backup or by skipping it; up to it no backup is made any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// Time of the next backup; absent while suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// End of the newest successful backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// Name of the newest successful backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_backup: Option<String>,
    /// Name of the backup under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

fn default_keep_last() -> i32 {
    7
}

fn default_failed_history() -> i32 {
    3
}

fn default_deadline() -> i64 {
    3600
}

fn default_timeout() -> i64 {
    3600
}
