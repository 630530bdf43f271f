//! One backup, from its object to its record.

use std::time::Duration;

use crds::backup::{BackupPhase, EtcdBackupStatus};
use crds::cluster::DeletionPolicy;
use crds::conditions::{
    ConditionStatus, ConditionType, NewCondition, find, is, set_condition, whole_seconds,
};
use crds::names::{ClusterNames, STORED_OBJECT_FINALIZER, backup_verify_job};
use crds::units::human_bytes;
use crds::{EtcdCluster, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{BackupPlan, BackupResult, FinalizerChange, ObservedBackup};
use crate::limits;
use crate::observed::{JobOutcome, JobView, PodTrouble};
use crate::report::{Note, NoteKind, Related};
use crate::resources::{JobContext, backup_job, delete_job, may_apply_uid, object_key, store_secrets};
use crate::restore::secret_trouble;
use crate::wanted::operator_secret;

/// Where a backup stands, with the words for it.
struct Outcome {
    phase: BackupPhase,
    reason: Reason,
    message: String,
}

impl Outcome {
    fn pending(reason: Reason, message: impl Into<String>) -> Self {
        Self { phase: BackupPhase::Pending, reason, message: message.into() }
    }

    fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self { phase: BackupPhase::Failed, reason, message: message.into() }
    }
}

/// Everything to do about a backup now.
pub fn plan_backup(observed: &ObservedBackup) -> BackupPlan {
    let before = observed.backup.status.clone().unwrap_or_default();
    let mut status = before.clone();
    status.observed_generation = observed.backup.metadata.generation;
    let mut plan = BackupPlan {
        finalizer: FinalizerChange::Keep,
        job: None,
        status,
        events: Vec::new(),
        recheck: limits::RECHECK_IDLE,
    };
    if observed.backup.metadata.deletion_timestamp.is_some() {
        delete(observed, &mut plan);
        return plan;
    }
    // What has ended stays as it was told, also when its Job is long gone.
    if matches!(before.phase, Some(BackupPhase::Succeeded | BackupPhase::Failed)) {
        return plan;
    }
    let outcome = match job(observed) {
        Some(job) => with_job(observed, job, &mut plan.status),
        None => begin(observed, &mut plan),
    };
    plan.recheck = recheck(&outcome);
    tell(observed, &mut plan, &outcome);
    plan
}

/// The Job whose end is the backup's: the first one, or the second once the first has stored the backup and its result
/// is lost. There is no third.
fn job(observed: &ObservedBackup) -> Option<&JobView> {
    if result_is_lost(observed) { observed.verify_job.as_ref() } else { observed.job.as_ref() }
}

fn result_is_lost(observed: &ObservedBackup) -> bool {
    observed.job.as_ref().is_some_and(|job| is_ours(observed, job) && BackupResult::is_lost(job))
}

fn is_ours(observed: &ObservedBackup, job: &JobView) -> bool {
    let uid = observed.backup.metadata.uid.as_deref().unwrap_or_default();
    may_apply_uid(job.owner_uid.as_deref(), &job.name, uid).is_ok()
}

fn recheck(outcome: &Outcome) -> Duration {
    match outcome.phase {
        BackupPhase::Pending => limits::RECHECK_REST,
        BackupPhase::Running | BackupPhase::Succeeded | BackupPhase::Failed => limits::RECHECK_IDLE,
    }
}

fn name(observed: &ObservedBackup) -> String {
    observed.backup.metadata.name.clone().unwrap_or_default()
}

fn context(observed: &ObservedBackup, members: u32, operator_secret: String) -> JobContext {
    let namespace = observed.backup.metadata.namespace.clone().unwrap_or_default();
    let names = ClusterNames::new(&namespace, &observed.backup.spec.cluster_ref.name);
    let uid = observed.backup.metadata.uid.clone().unwrap_or_default();
    let spec = &observed.backup.spec;
    let key = object_key(&spec.store, &names, &name(observed), &uid, spec.compression);
    let cluster = observed.cluster.as_ref();
    let image_pull_secrets = cluster.map(|c| c.spec.image_pull_secrets.clone()).unwrap_or_default();
    let settings = observed.settings.clone();
    JobContext { names, members, operator_secret, settings, key, image_pull_secrets }
}

fn has_finalizer(observed: &ObservedBackup) -> bool {
    let finalizers = observed.backup.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|f| f == STORED_OBJECT_FINALIZER)
}

/// Looks for what a Job would fail on, then makes it.
fn begin(observed: &ObservedBackup, plan: &mut BackupPlan) -> Outcome {
    let spec = &observed.backup.spec;
    let Some(cluster) = &observed.cluster else {
        let message =
            format!("EtcdCluster {} does not exist; create it or delete this backup", spec.cluster_ref.name);
        return Outcome::pending(Reason::ClusterMissing, message);
    };
    for secret in store_secrets(&spec.store) {
        if let Some((reason, message)) = secret_trouble(&secret, &observed.secrets) {
            return Outcome::pending(reason, message);
        }
    }
    let operator = operator_secret(cluster);
    if !observed.secrets.contains_key(&operator) {
        let message = format!("Secret {operator}, with which to reach the members, does not exist yet");
        return Outcome::pending(Reason::SecretMissing, message);
    }
    // What is stored can be read back without the members.
    if !result_is_lost(observed)
        && let Some(message) = not_serving(cluster)
    {
        return Outcome::pending(Reason::ClusterNotReady, message);
    }
    if spec.deletion_policy == DeletionPolicy::Delete && !has_finalizer(observed) {
        plan.finalizer = FinalizerChange::Add;
    }
    let members = u32::try_from(cluster.spec.replicas).unwrap_or(1);
    let mut job = backup_job(&observed.backup, &context(observed, members, operator));
    let mut message = "the Job was created".to_owned();
    if result_is_lost(observed) {
        // The same once more: it finds the object there and tells of it.
        let verify = backup_verify_job(&name(observed));
        message = format!("the result of the Job is lost; Job {verify} reads back what it stored");
        job.metadata.name = Some(verify);
    }
    plan.job = Some(job);
    Outcome { phase: BackupPhase::Running, reason: Reason::Running, message }
}

fn not_serving(cluster: &EtcdCluster) -> Option<String> {
    let conditions = cluster.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    if is(conditions, ConditionType::Available, ConditionStatus::True) {
        return None;
    }
    let why = find(conditions, ConditionType::Available).map_or("not looked at yet", |c| c.message.as_str());
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    Some(format!("EtcdCluster {name} does not serve: {why}"))
}

fn with_job(observed: &ObservedBackup, job: &JobView, status: &mut EtcdBackupStatus) -> Outcome {
    if !is_ours(observed, job) {
        let message = format!(
            "Job {} exists and is not this backup's; delete it or name the backup otherwise",
            job.name
        );
        return Outcome::pending(Reason::ObjectNotOwned, message);
    }
    status.started_at = job.started_at.map(|at| Time(whole_seconds(at)));
    match job.outcome {
        JobOutcome::Running => running(job),
        JobOutcome::Succeeded => {
            end(job, status, observed.now);
            succeeded(job, status)
        }
        JobOutcome::Failed => {
            end(job, status, observed.now);
            let said = job.said.clone().or_else(|| job.failure.clone());
            let why = said.unwrap_or_else(|| "it gave no reason".to_owned());
            Outcome::failed(Reason::JobFailed, format!("{why}; create another EtcdBackup to try again"))
        }
    }
}

fn end(job: &JobView, status: &mut EtcdBackupStatus, now: Timestamp) {
    let ended = whole_seconds(job.ended_at.unwrap_or(now));
    status.completed_at = Some(Time(ended));
    status.duration_seconds = job.started_at.map(|from| ended.as_second() - from.as_second());
}

fn running(job: &JobView) -> Outcome {
    let name = &job.name;
    let running = |reason, message| Outcome { phase: BackupPhase::Running, reason, message };
    match &job.trouble {
        Some(PodTrouble::ImagePull { image, message }) => running(
            Reason::ImagePullFailed,
            format!("image {image} of Job {name} cannot be pulled: {message}"),
        ),
        Some(PodTrouble::Unschedulable { message }) => {
            running(Reason::PodUnschedulable, format!("no node takes the pod of Job {name}: {message}"))
        }
        Some(PodTrouble::Failing { message, .. }) => {
            running(Reason::PodFailing, format!("Job {name}: {message}"))
        }
        None => match (&job.said, job.failures) {
            (Some(said), 1..) => {
                running(Reason::JobFailed, format!("an attempt of Job {name} failed and is repeated: {said}"))
            }
            _ => running(Reason::Running, format!("Job {name} runs")),
        },
    }
}

fn succeeded(job: &JobView, status: &mut EtcdBackupStatus) -> Outcome {
    let Some(result) = BackupResult::of(job) else {
        let message =
            format!("Job {} ended without a result that reads; create another EtcdBackup", job.name);
        return Outcome::failed(Reason::JobFailed, message);
    };
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    status.total_size = Some(human_bytes(result.total_size_bytes));
    status.total_size_bytes = Some(number(result.total_size_bytes));
    status.stored_size = Some(human_bytes(result.size_bytes));
    status.stored_size_bytes = Some(number(result.size_bytes));
    status.revision = Some(result.revision);
    status.total_keys = Some(result.total_keys);
    let message = format!("stored and read back: {}", result.location);
    status.location = Some(result.location);
    status.key = Some(result.object);
    status.hash = Some(result.hash);
    status.sha256 = Some(result.sha256);
    status.version = Some(result.version);
    status.member = result.member_name;
    Outcome { phase: BackupPhase::Succeeded, reason: Reason::Succeeded, message }
}

/// Conditions, phase, and one event when it ended or when something begins to stand in the way.
fn tell(observed: &ObservedBackup, plan: &mut BackupPlan, outcome: &Outcome) {
    let before = observed.backup.status.clone().unwrap_or_default();
    let (ready, progressing) = match outcome.phase {
        BackupPhase::Pending => (ConditionStatus::False, ConditionStatus::False),
        BackupPhase::Running => (ConditionStatus::False, ConditionStatus::True),
        BackupPhase::Succeeded => (ConditionStatus::True, ConditionStatus::False),
        BackupPhase::Failed => (ConditionStatus::False, ConditionStatus::False),
    };
    let obstacle = !matches!(outcome.reason, Reason::Running | Reason::Succeeded);
    let degraded = if obstacle { ConditionStatus::True } else { ConditionStatus::False };
    let was = find(&before.conditions, ConditionType::Ready).map(|c| c.reason.clone());
    for (type_, status) in [
        (ConditionType::Ready, ready),
        (ConditionType::Progressing, progressing),
        (ConditionType::Degraded, degraded),
    ] {
        let message = outcome.message.clone();
        let condition = NewCondition { type_, status, reason: outcome.reason, message };
        let generation = plan.status.observed_generation;
        set_condition(&mut plan.status.conditions, condition, generation, observed.now);
    }
    plan.status.phase = Some(outcome.phase);
    // What has ended is told here once, whatever was told of an attempt before.
    let ended = matches!(outcome.phase, BackupPhase::Succeeded | BackupPhase::Failed);
    if ended || (obstacle && was.as_deref() != Some(outcome.reason.as_str())) {
        let kind = if obstacle { NoteKind::Warning } else { NoteKind::Normal };
        plan.events.push(Note {
            kind,
            reason: outcome.reason,
            action: "Backup",
            message: outcome.message.clone(),
            related: job(observed).and_then(|job| Related::job(&job.name)),
        });
    }
}

/// The object goes; what it stored goes first if its policy says so and it can be reached.
fn delete(observed: &ObservedBackup, plan: &mut BackupPlan) {
    if !has_finalizer(observed) {
        return;
    }
    let keep = observed.backup.spec.deletion_policy == DeletionPolicy::Retain;
    let mut jobs = observed.job.iter().chain(&observed.verify_job).peekable();
    let never_began = jobs.peek().is_none() && plan.status.key.is_none();
    if keep || never_began {
        plan.finalizer = FinalizerChange::Remove;
        return;
    }
    // A Job that still writes would leave an object behind that nothing remembers.
    if jobs.any(|job| job.outcome == JobOutcome::Running) && plan.status.key.is_none() {
        plan.recheck = limits::RECHECK_REST;
        return;
    }
    let context = context(observed, 0, String::new());
    let failed = match (&observed.delete_job, unreachable(observed)) {
        (None, None) => {
            plan.job = Some(delete_job(&observed.backup, &context));
            plan.recheck = limits::RECHECK_REST;
            return;
        }
        (None, Some(message)) => Some(message),
        (Some(job), _) => match job.outcome {
            JobOutcome::Running => {
                plan.recheck = limits::RECHECK_REST;
                return;
            }
            JobOutcome::Succeeded => None,
            JobOutcome::Failed => Some(job.said.clone().or_else(|| job.failure.clone()).unwrap_or_default()),
        },
    };
    // A finalizer that waits for a store that is gone would never let the object go.
    plan.finalizer = FinalizerChange::Remove;
    if let Some(error) = failed {
        let place = plan.status.location.clone().unwrap_or(context.key);
        plan.events.push(Note {
            kind: NoteKind::Warning,
            reason: Reason::StoredObjectKept,
            action: "DeleteStoredObject",
            message: format!("{place} could not be deleted and stays: {error}; delete it by hand"),
            related: None,
        });
    }
}

/// Why no Job can delete the stored object, if none can.
fn unreachable(observed: &ObservedBackup) -> Option<String> {
    if observed.namespace_terminating {
        return Some("no Job can run in a namespace that is being deleted".to_owned());
    }
    store_secrets(&observed.backup.spec.store)
        .iter()
        .find_map(|secret| secret_trouble(secret, &observed.secrets).map(|(_, message)| message))
}
