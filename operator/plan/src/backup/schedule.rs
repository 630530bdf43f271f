//! When the next backup is made, and which ones may go.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::backup::{BackupPhase, EtcdBackupSpec};
use crds::cluster::DeletionPolicy;
use crds::conditions::{ConditionStatus, ConditionType, NewCondition, set_condition, whole_seconds};
use crds::names::{CLUSTER_LABEL, SCHEDULE_LABEL};
use crds::schedule::EtcdBackupScheduleStatus;
use crds::{EtcdBackup, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::clock::{Clock, ClockError};
use super::retention;
use super::{ObservedSchedule, SchedulePlan};
use crate::limits;
use crate::report::{Note, NoteKind, Related};

/// Annotation on a backup with the moment it was due.
pub const SCHEDULED_FOR_ANNOTATION: &str = "kvnode.io/scheduled-for";

/// Everything to do about a schedule now.
///
/// What was made already is told by the backups themselves, so a schedule whose status is lost makes no backup
/// twice; only of one that was deleted since does status alone tell. A backup that is still under way is never
/// joined by another.
pub fn plan_schedule(observed: &ObservedSchedule) -> SchedulePlan {
    let spec = &observed.schedule.spec;
    let mut status = observed.schedule.status.clone().unwrap_or_default();
    status.observed_generation = observed.schedule.metadata.generation;
    describe_backups(observed, &mut status);
    let mut plan = SchedulePlan {
        create: None,
        delete: if spec.suspend {
            Vec::new()
        } else {
            retention::expired(spec, made(observed), &observed.clusters)
        },
        status,
        events: Vec::new(),
        recheck: limits::RECHECK_IDLE,
    };
    let clock = Clock::new(&spec.schedule, &spec.time_zone, observed.now);
    let ready = match (&clock, observed.cluster.is_some(), spec.suspend) {
        (Err(error), ..) => {
            plan.status.next_schedule_time = None;
            no(clock_reason(error), error.to_string())
        }
        (Ok(_), false, _) => {
            plan.status.next_schedule_time = None;
            let name = &spec.cluster_ref.name;
            no(
                Reason::ClusterMissing,
                format!("EtcdCluster {name} does not exist; create it or delete this schedule"),
            )
        }
        (Ok(_), true, true) => {
            plan.status.next_schedule_time = None;
            no(Reason::Suspended, "suspended by spec.suspend".to_owned())
        }
        (Ok(clock), true, false) => follow(observed, clock, &mut plan),
    };
    let healthy = healthy(observed, clock.ok().as_ref());
    let degraded = degraded(&ready);
    for condition in [ready, healthy, degraded] {
        report(observed, &mut plan, condition);
    }
    for expired in &plan.delete {
        plan.events.push(Note {
            kind: NoteKind::Normal,
            reason: Reason::BackupExpired,
            action: "DeleteBackup",
            message: format!("deleting EtcdBackup {}: newer ones replace it", expired.name),
            related: Related::backup(&expired.name),
        });
    }
    plan
}

/// The backups of this schedule's cluster. Backups outlive their schedule: an earlier one of the same name may
/// have left some of another cluster behind, which are not this one's to delete, nor say anything of its cluster.
fn made(observed: &ObservedSchedule) -> impl Iterator<Item = &EtcdBackup> {
    let cluster = &observed.schedule.spec.cluster_ref;
    observed.backups.iter().filter(move |backup| backup.spec.cluster_ref == *cluster)
}

fn no(reason: Reason, message: String) -> NewCondition {
    NewCondition { type_: ConditionType::Ready, status: ConditionStatus::False, reason, message }
}

fn clock_reason(error: &ClockError) -> Reason {
    match error {
        ClockError::UnknownTimeZone(_) => Reason::UnknownTimeZone,
        ClockError::Malformed { .. } | ClockError::Never(_) => Reason::MalformedSchedule,
    }
}

/// Makes the backup that is due, if one is, and says when the next one is.
fn follow(observed: &ObservedSchedule, clock: &Clock, plan: &mut SchedulePlan) -> NewCondition {
    let now = observed.now;
    if let Some(next) = clock.next(now) {
        plan.status.next_schedule_time = Some(Time(next));
        let seconds = u64::try_from(next.as_second() - now.as_second()).unwrap_or(0);
        plan.recheck = Duration::from_secs(seconds.clamp(1, limits::RECHECK_IDLE.as_secs()));
    }
    let yes = |message: String| NewCondition {
        type_: ConditionType::Ready,
        status: ConditionStatus::True,
        reason: Reason::Scheduled,
        message,
    };
    if let Some(due) = clock.last(now).filter(|due| *due > covered_until(observed)) {
        let late = now.as_second() - due.as_second();
        if late > observed.schedule.spec.starting_deadline_seconds {
            skip(plan, due, late);
        } else if let Some(active) = &plan.status.active {
            return yes(format!("the backup due at {due} waits for {active} to end"));
        } else {
            plan.create = Some(backup(observed, due));
            plan.status.last_schedule_time = Some(Time(due));
            plan.recheck = limits::RECHECK_AFTER_ACTION;
        }
    }
    let next = plan.status.next_schedule_time.as_ref().map(|t| t.0.to_string()).unwrap_or_default();
    yes(format!("the next backup is due at {next}"))
}

/// A backup that comes too late is told of once, not made.
fn skip(plan: &mut SchedulePlan, due: Timestamp, late_seconds: i64) {
    plan.events.push(Note {
        kind: NoteKind::Warning,
        reason: Reason::BackupSkipped,
        action: "SkipBackup",
        message: format!(
            "the backup due at {due} was missed by {late_seconds} s, more than startingDeadlineSeconds allows"
        ),
        related: None,
    });
    plan.status.last_schedule_time = Some(Time(due));
}

/// The newest moment for which a backup was made or skipped, also if it was deleted since: a user's wish, or
/// retention's, is not undone. Before the first one, when the schedule was created.
fn covered_until(observed: &ObservedSchedule) -> Timestamp {
    let schedule = &observed.schedule;
    let created = schedule.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let told = schedule.status.as_ref().and_then(|s| s.last_schedule_time.as_ref()).map(|t| t.0);
    let made = made(observed).filter_map(scheduled_for).max();
    made.max(told).max(created).unwrap_or(observed.now)
}

pub(super) fn scheduled_for(backup: &EtcdBackup) -> Option<Timestamp> {
    let annotations = backup.metadata.annotations.as_ref()?;
    annotations.get(SCHEDULED_FOR_ANNOTATION)?.parse().ok()
}

fn backup(observed: &ObservedSchedule, due: Timestamp) -> EtcdBackup {
    let spec = &observed.schedule.spec;
    let schedule = observed.schedule.metadata.name.clone().unwrap_or_default();
    // Minutes are the grain of cron, and UTC never repeats one: the name is the same however often it is made.
    let name = format!("{schedule}-{}", due.strftime("%y%m%d%H%M"));
    EtcdBackup {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: observed.schedule.metadata.namespace.clone(),
            labels: Some(BTreeMap::from([
                (SCHEDULE_LABEL.to_owned(), schedule),
                (CLUSTER_LABEL.to_owned(), spec.cluster_ref.name.clone()),
            ])),
            annotations: Some(BTreeMap::from([(SCHEDULED_FOR_ANNOTATION.to_owned(), due.to_string())])),
            // No owner: backups outlive their schedule.
            ..ObjectMeta::default()
        },
        spec: EtcdBackupSpec {
            cluster_ref: spec.cluster_ref.clone(),
            store: spec.store.clone(),
            compression: spec.compression,
            service_account_name: spec.service_account_name.clone(),
            timeout_seconds: spec.timeout_seconds,
            // Retention deletes the object and what it stands for together.
            deletion_policy: DeletionPolicy::Delete,
        },
        status: None,
    }
}

fn phase(backup: &EtcdBackup) -> Option<BackupPhase> {
    backup.status.as_ref().and_then(|s| s.phase)
}

fn completed(backup: &EtcdBackup) -> Option<Timestamp> {
    backup.status.as_ref().and_then(|s| s.completed_at.as_ref()).map(|t| t.0)
}

fn describe_backups(observed: &ObservedSchedule, status: &mut EtcdBackupScheduleStatus) {
    let succeeded = made(observed).filter(|b| phase(b) == Some(BackupPhase::Succeeded));
    let newest = succeeded.max_by_key(|b| (completed(b), b.metadata.name.clone()));
    if let Some(newest) = newest {
        status.last_successful_time = completed(newest).map(Time);
        status.last_successful_backup = newest.metadata.name.clone();
    }
    if let Some(newest) = made(observed).filter_map(scheduled_for).max()
        && status.last_schedule_time.as_ref().is_none_or(|t| t.0 < newest)
    {
        status.last_schedule_time = Some(Time(newest));
    }
    let running = |b: &&EtcdBackup| {
        !matches!(phase(b), Some(BackupPhase::Succeeded | BackupPhase::Failed))
            && b.metadata.deletion_timestamp.is_none()
    };
    status.active = made(observed).find(running).and_then(|b| b.metadata.name.clone());
}

/// The moment by which a backup should have succeeded again after `since`: one may be missed, and the next one
/// may take its time. Counted in times that are due, because they are not equally far apart.
fn stale_after(clock: &Clock, since: Timestamp, timeout_seconds: i64) -> Option<Timestamp> {
    let due = clock.next(clock.next(since)?)?;
    due.checked_add(SignedDuration::from_secs(timeout_seconds)).ok()
}

/// Whether the newest backup is as new as the schedule promises.
fn healthy(observed: &ObservedSchedule, clock: Option<&Clock>) -> NewCondition {
    let condition = |status, reason, message: String| NewCondition {
        type_: ConditionType::BackupHealthy,
        status,
        reason,
        message,
    };
    let spec = &observed.schedule.spec;
    let finished = made(observed)
        .filter(|b| matches!(phase(b), Some(BackupPhase::Succeeded | BackupPhase::Failed)))
        .max_by_key(|b| (scheduled_for(b), completed(b)));
    if let Some(failed) = finished.filter(|b| phase(b) == Some(BackupPhase::Failed)) {
        let name = failed.metadata.name.clone().unwrap_or_default();
        let message = format!("the newest backup, {name}, failed; see its conditions");
        return condition(ConditionStatus::False, Reason::BackupFailing, message);
    }
    let succeeded =
        made(observed).filter(|b| phase(b) == Some(BackupPhase::Succeeded)).filter_map(completed).max();
    let created = observed.schedule.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let since = succeeded.or(created).unwrap_or(observed.now);
    let stale_after = clock.and_then(|c| stale_after(c, since, spec.timeout_seconds));
    if !spec.suspend && stale_after.is_some_and(|at| at < observed.now) {
        let message = format!("no backup has succeeded since {}", whole_seconds(since));
        return condition(ConditionStatus::False, Reason::BackupStale, message);
    }
    match succeeded {
        Some(at) => {
            let message = format!("the newest backup succeeded at {}", whole_seconds(at));
            condition(ConditionStatus::True, Reason::BackupFresh, message)
        }
        None => {
            condition(ConditionStatus::Unknown, Reason::NoBackupYet, "no backup has succeeded yet".to_owned())
        }
    }
}

fn degraded(ready: &NewCondition) -> NewCondition {
    let broken = ready.status == ConditionStatus::False && ready.reason != Reason::Suspended;
    NewCondition {
        type_: ConditionType::Degraded,
        status: if broken { ConditionStatus::True } else { ConditionStatus::False },
        reason: ready.reason,
        message: ready.message.clone(),
    }
}

fn report(observed: &ObservedSchedule, plan: &mut SchedulePlan, condition: NewCondition) {
    let before = observed.schedule.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let was = crds::conditions::find(before, condition.type_).map(|c| c.status.clone());
    let bad = match condition.type_ {
        ConditionType::Degraded => ConditionStatus::True,
        _ => ConditionStatus::False,
    };
    // Degraded says the same as Ready: one event is enough.
    let news = condition.type_ != ConditionType::Degraded && condition.reason != Reason::Suspended;
    if news && condition.status == bad && was.as_deref() != Some(bad.as_str()) {
        plan.events.push(Note {
            kind: NoteKind::Warning,
            reason: condition.reason,
            action: "Schedule",
            message: condition.message.clone(),
            related: None,
        });
    }
    let generation = plan.status.observed_generation;
    set_condition(&mut plan.status.conditions, condition, generation, observed.now);
}
