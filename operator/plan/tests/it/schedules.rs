//! Backups by the clock, and which may go.

use crds::backup::BackupPhase;
use crds::conditions::{ConditionType, find};
use crds::schedule::EtcdBackupScheduleStatus;
use crds::{EtcdBackup, EtcdBackupSchedule};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_plan::backup::{ObservedSchedule, SchedulePlan, plan_schedule};
use proptest::prelude::*;

use crate::world::{World, spec};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(cron: &str) -> EtcdBackupSchedule {
    let mut schedule: EtcdBackupSchedule = serde_json::from_value(serde_json::json!({
        "apiVersion": "kvnode.io/v1alpha1",
        "kind": "EtcdBackupSchedule",
        "metadata": {"name": "nightly", "namespace": "db", "uid": "s"},
        "spec": {
            "clusterRef": {"name": "core"},
            "schedule": cron,
            "store": {"local": {"claimName": "backups"}},
            "retention": {"keepLast": 2},
            "failedHistoryLimit": 1,
        },
    }))
    .unwrap();
    schedule.metadata.creation_timestamp = Some(Time(at("2026-11-20T12:00:00Z")));
    schedule
}

fn observed(cron: &str, now: &str) -> ObservedSchedule {
    ObservedSchedule {
        now: at(now),
        schedule: schedule(cron),
        cluster: Some(World::new(spec(3)).cluster),
        backups: Vec::new(),
        clusters: Vec::new(),
    }
}

fn condition(plan: &SchedulePlan, type_: ConditionType) -> (String, String) {
    let found = find(&plan.status.conditions, type_).unwrap();
    (found.reason.clone(), found.message.clone())
}

/// The created backup as it would come back from the API server.
fn stored(plan: &SchedulePlan, phase: Option<BackupPhase>) -> EtcdBackup {
    let mut backup = plan.create.clone().expect("a backup is created");
    backup.metadata.uid = backup.metadata.name.clone();
    let status = crds::backup::EtcdBackupStatus {
        phase,
        completed_at: phase.map(|_| Time(at("2026-11-23T03:01:00Z"))),
        ..Default::default()
    };
    backup.status = Some(status);
    backup
}

#[test]
fn a_due_backup_is_made_once() {
    let mut seen = observed("0 3 * * *", "2026-11-21T02:59:59Z");
    let plan = plan_schedule(&seen);
    assert!(plan.create.is_none());
    assert_eq!(plan.status.next_schedule_time, Some(Time(at("2026-11-21T03:00:00Z"))));
    assert!(plan.recheck.as_secs() <= 1, "it wakes up when the backup is due");
    seen.now = at("2026-11-21T03:00:00Z");
    let plan = plan_schedule(&seen);
    let backup = plan.create.clone().unwrap();
    assert_eq!(backup.metadata.name.as_deref(), Some("nightly-2611210300"));
    assert!(backup.metadata.owner_references.is_none(), "backups outlive their schedule");
    // It exists: neither a second look nor a lost status makes another.
    seen.backups = vec![stored(&plan, None)];
    for status in [Some(plan.status), None] {
        seen.schedule.status = status;
        let again = plan_schedule(&seen);
        assert!(again.create.is_none());
        assert_eq!(again.status.active.as_deref(), Some("nightly-2611210300"));
    }
}

#[test]
fn a_deleted_backup_is_not_made_again() {
    let mut seen = observed("0 3 * * *", "2026-11-21T03:00:00Z");
    seen.schedule.spec.failed_history_limit = 0;
    let made = plan_schedule(&seen);
    seen.schedule.status = Some(made.status.clone());
    // It fails, and tells so for as long as it is the newest, whatever an older definition says.
    seen.now = at("2026-11-21T03:02:00Z");
    seen.backups = vec![stored(&made, Some(BackupPhase::Failed))];
    let failed = plan_schedule(&seen);
    assert!(failed.delete.is_empty());
    // Somebody deletes it.
    seen.schedule.status = Some(failed.status);
    seen.backups.clear();
    assert_eq!(plan_schedule(&seen).create, None);
    seen.now = at("2026-11-22T03:00:00Z");
    assert!(plan_schedule(&seen).create.is_some(), "the next one is");
}

#[test]
fn a_missed_backup_is_made_late_but_not_too_late() {
    // Down from before 3:00 until 3:50: made, for the time it was due.
    let plan = plan_schedule(&observed("0 3 * * *", "2026-11-21T03:50:00Z"));
    assert_eq!(plan.create.unwrap().metadata.name.as_deref(), Some("nightly-2611210300"));
    // Until 5:00: more than startingDeadlineSeconds; told once.
    let mut seen = observed("0 3 * * *", "2026-11-21T05:00:00Z");
    let plan = plan_schedule(&seen);
    assert!(plan.create.is_none());
    assert_eq!(plan.events.iter().filter(|e| e.reason.as_str() == "BackupSkipped").count(), 1);
    seen.schedule.status = Some(plan.status);
    assert!(plan_schedule(&seen).events.is_empty());
    // Days away: only the newest one that is due counts.
    let plan = plan_schedule(&observed("*/10 * * * *", "2026-11-23T03:05:00Z"));
    assert_eq!(plan.create.unwrap().metadata.name.as_deref(), Some("nightly-2611230300"));
}

#[test]
fn two_backups_never_run_at_once() {
    let mut seen = observed("*/10 * * * *", "2026-11-21T03:00:00Z");
    seen.backups = vec![stored(&plan_schedule(&seen), Some(BackupPhase::Running))];
    seen.now = at("2026-11-21T03:10:00Z");
    let plan = plan_schedule(&seen);
    assert!(plan.create.is_none());
    assert!(condition(&plan, ConditionType::Ready).1.contains("waits for nightly-2611210300 to end"));
    seen.backups[0].status.as_mut().unwrap().phase = Some(BackupPhase::Succeeded);
    assert!(plan_schedule(&seen).create.is_some());
}

#[test]
fn what_cannot_be_followed_is_a_condition_and_heals() {
    let mut seen = observed("0 3 * * *", "2026-11-21T03:00:00Z");
    seen.schedule.spec.time_zone = "Mars/Olympus".into();
    let plan = plan_schedule(&seen);
    assert!(plan.create.is_none());
    let (reason, message) = condition(&plan, ConditionType::Ready);
    assert_eq!(reason, "UnknownTimeZone");
    assert!(message.contains("Mars/Olympus") && message.contains("Europe/Berlin"));
    assert_eq!(plan.events.len(), 1);
    seen.schedule.status = Some(plan.status);
    assert!(plan_schedule(&seen).events.is_empty(), "told once");
    seen.schedule.spec.time_zone = "UTC".into();
    assert!(plan_schedule(&seen).create.is_some());
    seen.cluster = None;
    assert_eq!(condition(&plan_schedule(&seen), ConditionType::Ready).0, "ClusterMissing");
    seen.schedule.spec.suspend = true;
    seen.cluster = Some(World::new(spec(3)).cluster);
    let plan = plan_schedule(&seen);
    assert_eq!((plan.create, plan.status.next_schedule_time), (None, None));
}

#[test]
fn health_is_the_newest_backup_and_its_age() {
    let mut seen = observed("0 3 * * *", "2026-11-21T03:00:00Z");
    assert_eq!(condition(&plan_schedule(&seen), ConditionType::BackupHealthy).0, "NoBackupYet");
    let mut done = stored(&plan_schedule(&seen), Some(BackupPhase::Succeeded));
    done.status.as_mut().unwrap().completed_at = Some(Time(at("2026-11-21T03:01:00Z")));
    seen.backups = vec![done];
    assert_eq!(condition(&plan_schedule(&seen), ConditionType::BackupHealthy).0, "BackupFresh");
    seen.now = at("2026-11-24T02:00:00Z");
    assert_eq!(condition(&plan_schedule(&seen), ConditionType::BackupHealthy).0, "BackupStale");
    seen.now = at("2026-11-22T03:00:00Z");
    let failed = stored(&plan_schedule(&seen), Some(BackupPhase::Failed));
    seen.backups.push(failed);
    let plan = plan_schedule(&seen);
    let (reason, message) = condition(&plan, ConditionType::BackupHealthy);
    assert_eq!(reason, "BackupFailing");
    assert!(message.contains("nightly-2611220300"));
}

#[test]
fn a_backup_is_stale_when_two_were_due_since_and_not_before() {
    let reason = |cron: &str, now: &str| {
        let mut seen = observed(cron, "2026-11-20T03:00:00Z");
        seen.schedule.metadata.creation_timestamp = Some(Time(at("2026-11-19T12:00:00Z")));
        let mut done = stored(&plan_schedule(&seen), Some(BackupPhase::Succeeded));
        done.status.as_mut().unwrap().completed_at = Some(Time(at("2026-11-20T03:01:00Z")));
        seen.backups = vec![done];
        seen.now = at(now);
        condition(&plan_schedule(&seen), ConditionType::BackupHealthy).0
    };
    // Made on a Friday; the time one may take is an hour.
    for (cron, now, is) in [
        ("0 3 * * 1-5", "2026-11-22T05:00:00Z", "BackupFresh"),
        ("0 3 * * 1-5", "2026-11-24T04:00:00Z", "BackupFresh"),
        ("0 3 * * 1-5", "2026-11-24T04:00:01Z", "BackupStale"),
        ("0 3 * * *", "2026-11-22T04:00:00Z", "BackupFresh"),
        ("0 3 * * *", "2026-11-22T04:00:01Z", "BackupStale"),
    ] {
        assert_eq!(reason(cron, now), is, "{cron} at {now}");
    }
}

/// One of this schedule's for each day, the newest last, all successful.
fn days(first: u32, last: u32) -> Vec<EtcdBackup> {
    let of_day = |day: u32| {
        let seen = observed("0 3 * * *", &format!("2026-11-{day}T03:00:00Z"));
        stored(&plan_schedule(&seen), Some(BackupPhase::Succeeded))
    };
    (first..=last).map(of_day).collect()
}

#[test]
fn backups_of_another_cluster_are_neither_deleted_nor_counted() {
    // Left behind by a schedule of the same name that covered another cluster.
    let mut theirs = days(21, 25);
    theirs.iter_mut().for_each(|b| b.spec.cluster_ref.name = "other".into());
    let mut seen = observed("0 3 * * *", "2026-11-26T02:00:00Z");
    seen.schedule.metadata.creation_timestamp = Some(Time(at("2026-11-26T01:00:00Z")));
    seen.backups.clone_from(&theirs);
    let plan = plan_schedule(&seen);
    assert!(plan.delete.is_empty(), "{:?}", plan.delete);
    assert_eq!(
        (plan.status.last_successful_time.clone(), plan.status.last_schedule_time.clone()),
        (None, None)
    );
    assert_eq!(condition(&plan, ConditionType::BackupHealthy).0, "NoBackupYet");
    // Its own ones take no place from them either.
    seen.backups.extend(days(26, 29));
    let gone: Vec<_> = plan_schedule(&seen).delete.into_iter().map(|expired| expired.name).collect();
    assert_eq!(gone, ["nightly-2611260300", "nightly-2611270300"]);
}

#[test]
fn what_a_cluster_is_yet_to_begin_from_stays() {
    let mut seen = observed("0 3 * * *", "2026-11-25T12:00:00Z");
    seen.backups = days(21, 25);
    let failed = Some(BackupPhase::Failed);
    seen.backups.iter_mut().take(2).for_each(|b| b.status.as_mut().unwrap().phase = failed);
    let gone = |seen: &ObservedSchedule| -> Vec<String> {
        plan_schedule(seen).delete.into_iter().map(|expired| expired.name).collect()
    };
    assert_eq!(gone(&seen), ["nightly-2611230300", "nightly-2611210300"]);
    let from = |name: &str| {
        let mut world = World::new(spec(3));
        let bootstrap = serde_json::json!({"fromBackup": {"backupRef": {"name": name}}});
        world.cluster.spec.bootstrap = Some(serde_json::from_value(bootstrap).unwrap());
        world.backups.push(crate::backups::succeeded(name, "core"));
        world
    };
    let (mut good, bad) = (from("nightly-2611230300"), from("nightly-2611210300"));
    seen.clusters = vec![good.cluster.clone(), bad.cluster.clone()];
    assert!(gone(&seen).is_empty());
    // Until it was seen serving what was restored.
    let formed =
        |world: &World| world.identity.as_ref().is_some_and(|(record, _)| record.formed_at.is_some());
    while !formed(&good) {
        seen.clusters = vec![good.cluster.clone()];
        assert_eq!(gone(&seen), ["nightly-2611210300"]);
        good.pass();
        good.tick();
    }
    good.pass();
    seen.clusters = vec![good.cluster];
    assert_eq!(gone(&seen), ["nightly-2611230300", "nightly-2611210300"]);
}

#[test]
fn a_suspended_schedule_deletes_nothing() {
    let mut seen = observed("0 3 * * *", "2026-11-25T12:00:00Z");
    seen.backups = days(21, 25);
    seen.schedule.spec.suspend = true;
    let plan = plan_schedule(&seen);
    assert!(plan.delete.is_empty() && plan.events.is_empty());
    seen.schedule.spec.suspend = false;
    assert_eq!(plan_schedule(&seen).delete.len(), 3);
}

#[test]
fn a_steady_schedule_writes_nothing() {
    let mut seen = observed("0 3 * * *", "2026-11-21T03:00:30Z");
    seen.backups = vec![stored(&plan_schedule(&seen), Some(BackupPhase::Succeeded))];
    let first = plan_schedule(&seen);
    seen.schedule.status = Some(first.status.clone());
    seen.now = at("2026-11-21T03:20:30Z");
    let second = plan_schedule(&seen);
    assert_eq!(second.status, first.status);
    assert!(second.events.is_empty() && second.delete.is_empty());
    assert_ne!(second.status, EtcdBackupScheduleStatus::default());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Whatever exists, the newest successful backup is never among those that go, and exactly the wished-for
    /// number of successful ones stays.
    #[test]
    fn retention_keeps_the_newest_and_no_more_than_asked(
        phases in proptest::collection::vec(0u8..4, 0..25),
        keep in 1i32..6,
    ) {
        let mut seen = observed("0 * * * *", "2026-11-21T00:00:00Z");
        seen.schedule.spec.retention.keep_last = keep;
        for (hour, phase) in phases.iter().enumerate() {
            seen.now = at("2026-11-21T00:00:00Z") + jiff::SignedDuration::from_hours(i64::try_from(hour).unwrap());
            let mut one = seen.clone();
            one.backups.clear();
            let phase = [None, Some(BackupPhase::Running), Some(BackupPhase::Succeeded), Some(BackupPhase::Failed)]
                [usize::from(*phase)];
            seen.backups.push(stored(&plan_schedule(&one), phase));
        }
        let gone: Vec<String> = plan_schedule(&seen).delete.into_iter().map(|e| e.name).collect();
        let of = |phase| seen.backups.iter().filter(move |b| b.status.as_ref().unwrap().phase == Some(phase));
        let name = |b: &EtcdBackup| b.metadata.name.clone().unwrap();
        let kept = of(BackupPhase::Succeeded).filter(|b| !gone.contains(&name(b))).count();
        let keep = usize::try_from(keep).unwrap();
        prop_assert_eq!(kept, of(BackupPhase::Succeeded).count().min(keep));
        if let Some(newest) = of(BackupPhase::Succeeded).next_back() {
            prop_assert!(!gone.contains(&name(newest)));
        }
        prop_assert!(of(BackupPhase::Running).all(|b| !gone.contains(&name(b))));
    }
}
