//! Backups: the Job of one run, schedules, and which stored copies may go.
//!
//! An `EtcdBackup` is one Job; its result is the Job's termination message. Should that be lost, a second Job tells what
//! is stored. An `EtcdBackupSchedule` makes `EtcdBackup`s by the clock and deletes those that newer verified ones replace.

mod clock;
mod retention;
mod run;
mod schedule;

use std::collections::BTreeMap;
use std::time::Duration;

use crds::backup::EtcdBackupStatus;
use crds::schedule::EtcdBackupScheduleStatus;
use crds::{EtcdBackup, EtcdBackupSchedule, EtcdCluster};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use serde::{Deserialize, Serialize};

pub use clock::{Clock, ClockError};
pub use run::plan_backup;
pub use schedule::{SCHEDULED_FOR_ANNOTATION, plan_schedule};

use crate::observed::{JobOutcome, JobView, Settings};
use crate::report::Note;

/// All facts about one backup at one moment.
#[derive(Clone, Debug)]
pub struct ObservedBackup {
    /// The moment.
    pub now: Timestamp,
    /// How the operator was installed.
    pub settings: Settings,
    /// The object.
    pub backup: EtcdBackup,
    /// The cluster it names, if it exists.
    pub cluster: Option<EtcdCluster>,
    /// Secrets that `wanted_secrets` lists, by name. A name without an entry does not exist.
    pub secrets: BTreeMap<String, Secret>,
    /// Job `<backup>-backup`, if it exists.
    pub job: Option<JobView>,
    /// Job `<backup>-verify`, if it exists.
    pub verify_job: Option<JobView>,
    /// Job `<backup>-delete`, if it exists.
    pub delete_job: Option<JobView>,
    /// Kubernetes refused to make a Job because the whole namespace is being deleted.
    pub namespace_terminating: bool,
}

/// What to do with the finalizer `kvnode.io/stored-object` of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalizerChange {
    /// Leave it.
    Keep,
    /// Add it, before anything is stored.
    Add,
    /// Remove it: the stored object is gone, or cannot be deleted and stays.
    Remove,
}

/// Everything to do about one backup now.
#[derive(Clone, Debug)]
pub struct BackupPlan {
    /// First: the finalizer.
    pub finalizer: FinalizerChange,
    /// A Job to create if absent (the backup, or the deletion of its stored object). Never changed.
    pub job: Option<Job>,
    /// The whole status; written only if it differs.
    pub status: EtcdBackupStatus,
    /// Events for what changed since the status that was there.
    pub events: Vec<Note>,
    /// Look again after this long even if nothing is heard.
    pub recheck: Duration,
}

/// What the backup Job prints as its termination message (`/dev/termination-log`) when it succeeded; when it
/// failed it prints one sentence instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupResult {
    /// URL of the stored object.
    pub location: String,
    /// Full path of the stored object inside its store.
    pub object: String,
    /// Size of the stored object in bytes.
    pub size_bytes: u64,
    /// TOTAL SIZE of `etcdutl snapshot status`, in bytes.
    pub total_size_bytes: u64,
    /// SHA-256 of the stored object as hex digits, checked by reading it back.
    pub sha256: String,
    /// HASH as `etcdutl snapshot status` prints it.
    pub hash: String,
    /// REVISION as `etcdutl snapshot status` prints it.
    pub revision: i64,
    /// TOTAL KEYS as `etcdutl snapshot status` prints it.
    pub total_keys: i64,
    /// etcd version of the member the snapshot is of.
    pub version: String,
    /// Name of the member the snapshot was taken from; absent if an attempt that was stopped had stored it already.
    pub member_name: Option<String>,
    /// Seconds from begin to end.
    pub duration_seconds: u64,
}

impl BackupResult {
    /// What a Job of a backup said, if it reads.
    fn of(job: &JobView) -> Option<Self> {
        serde_json::from_str(job.said.as_deref()?).ok()
    }

    /// True if a Job ended well and nothing tells what it made: none of its pods is left, or none is known yet.
    pub fn is_lost(job: &JobView) -> bool {
        job.outcome == JobOutcome::Succeeded && Self::of(job).is_none()
    }
}

/// All facts about one schedule at one moment.
#[derive(Clone, Debug)]
pub struct ObservedSchedule {
    /// The moment.
    pub now: Timestamp,
    /// The object.
    pub schedule: EtcdBackupSchedule,
    /// The cluster it names, if it exists.
    pub cluster: Option<EtcdCluster>,
    /// Backups with the label `kvnode.io/schedule: <name>` in its namespace, whichever cluster they are of.
    pub backups: Vec<EtcdBackup>,
    /// Clusters of its namespace, of which some may be about to begin from one of these backups.
    pub clusters: Vec<EtcdCluster>,
}

/// Everything to do about one schedule now.
#[derive(Clone, Debug)]
pub struct SchedulePlan {
    /// A backup to create; its name depends on the time it is due, so doing it twice makes one.
    pub create: Option<EtcdBackup>,
    /// Backups to delete, by name and UID (UID precondition). Their stored objects go with them.
    pub delete: Vec<ExpiredBackup>,
    /// The whole status; written only if it differs.
    pub status: EtcdBackupScheduleStatus,
    /// Events for what changed since the status that was there.
    pub events: Vec<Note>,
    /// Look again after this long even if nothing is heard: the next backup is due then.
    pub recheck: Duration,
}

/// A backup that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredBackup {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}
