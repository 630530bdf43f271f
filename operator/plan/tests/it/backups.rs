//! One backup, from its object to its record.

use std::collections::BTreeMap;

use crds::EtcdBackup;
use crds::backup::{BackupPhase, EtcdBackupStatus};
use crds::conditions::{ConditionStatus, ConditionType, find, is};
use crds::names::STORED_OBJECT_FINALIZER;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_plan::backup::{FinalizerChange, ObservedBackup, plan_backup};
use operator_plan::observed::{JobOutcome, JobView};

use crate::world::{World, settings, spec};

fn now() -> Timestamp {
    "2026-11-23T03:00:30Z".parse().unwrap()
}

/// A backup as a user writes it.
pub fn backup(name: &str, cluster: &str) -> EtcdBackup {
    let mut backup: EtcdBackup = serde_json::from_value(serde_json::json!({
        "apiVersion": "kvnode.io/v1alpha1",
        "kind": "EtcdBackup",
        "metadata": {"name": name, "namespace": "db", "uid": "0a1b2c3d-0000"},
        "spec": {
            "clusterRef": {"name": cluster},
            "store": {"s3": {
                "bucket": "backups",
                "endpoint": "https://s3.storage.svc:9000",
                "credentialsSecretRef": {"name": "s3-keys"},
                "caSecretRef": {"name": "s3-ca"},
            }},
        },
    }))
    .unwrap();
    backup.metadata.creation_timestamp = Some(Time(now()));
    backup
}

/// A backup that is done. Its store needs no Secret, so that it can be restored from anywhere.
pub fn succeeded(name: &str, cluster: &str) -> EtcdBackup {
    let mut done = backup(name, cluster);
    if let Some(s3) = &mut done.spec.store.s3 {
        s3.credentials_secret_ref = None;
        s3.ca_secret_ref = None;
    }
    done.status = Some(EtcdBackupStatus {
        phase: Some(BackupPhase::Succeeded),
        key: Some(format!("db/core/{name}-0a1b2c3d.db")),
        sha256: Some("cd".repeat(32)),
        stored_size_bytes: Some(20_512),
        completed_at: Some(Time(now())),
        ..EtcdBackupStatus::default()
    });
    done
}

fn secret(keys: &[&str]) -> Secret {
    let data = keys.iter().map(|k| ((*k).to_owned(), ByteString(b"x".to_vec()))).collect();
    Secret { data: Some(data), ..Secret::default() }
}

fn ready_world() -> World {
    let mut world = World::new(spec(3));
    (0..40).for_each(|_| {
        world.pass();
        world.tick();
    });
    world
}

fn observed() -> ObservedBackup {
    let secrets = BTreeMap::from([
        ("s3-keys".to_owned(), secret(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])),
        ("s3-ca".to_owned(), secret(&["ca.crt"])),
        ("core-operator-tls".to_owned(), secret(&["tls.crt"])),
    ]);
    ObservedBackup {
        now: now(),
        settings: settings(),
        backup: backup("nightly", "core"),
        cluster: Some(ready_world().cluster),
        secrets,
        job: None,
        verify_job: None,
        delete_job: None,
        namespace_terminating: false,
    }
}

fn job(outcome: JobOutcome, said: &str) -> JobView {
    JobView {
        name: "nightly-backup".into(),
        uid: "job".into(),
        owner_uid: Some("0a1b2c3d-0000".into()),
        outcome,
        failures: 0,
        started_at: Some("2026-11-23T03:00:00Z".parse().unwrap()),
        ended_at: Some("2026-11-23T03:00:12Z".parse().unwrap()),
        failure: None,
        said: Some(said.to_owned()),
        trouble: None,
        terminating: false,
    }
}

const RESULT: &str = r#"{"location":"s3://backups/db/core/nightly-0a1b2c3d.db","object":"db/core/nightly-0a1b2c3d.db",
  "sizeBytes":20512,"sha256":"aa","hash":"fe01cf57","revision":42,"totalKeys":7,"totalSizeBytes":20480,
  "version":"3.7.0","memberName":"core-1","durationSeconds":12}"#;

fn message(status: &EtcdBackupStatus) -> String {
    find(&status.conditions, ConditionType::Ready).unwrap().message.clone()
}

#[test]
fn a_backup_becomes_a_job_and_then_a_record() {
    let mut seen = observed();
    let plan = plan_backup(&seen);
    assert_eq!(plan.job.as_ref().unwrap().metadata.name.as_deref(), Some("nightly-backup"));
    assert_eq!(plan.status.phase, Some(BackupPhase::Running));
    seen.backup.status = Some(plan.status);
    seen.job = Some(job(JobOutcome::Succeeded, RESULT));
    let plan = plan_backup(&seen);
    let status = plan.status.clone();
    assert_eq!(status.phase, Some(BackupPhase::Succeeded));
    assert!(is(&status.conditions, ConditionType::Ready, ConditionStatus::True));
    assert_eq!(
        (status.hash.as_deref(), status.revision, status.total_keys),
        (Some("fe01cf57"), Some(42), Some(7))
    );
    assert_eq!(status.total_size.as_deref(), Some("20 kB"));
    assert_eq!(status.duration_seconds, Some(12));
    assert_eq!(plan.events.len(), 1);
    // Again, and after the Job is gone: nothing changes, nothing is told twice, no second Job is made.
    seen.backup.status = Some(status.clone());
    for gone in [seen.job.clone(), None] {
        seen.job = gone;
        let again = plan_backup(&seen);
        assert_eq!((again.status, again.events.len(), again.job), (status.clone(), 0, None));
    }
}

#[test]
fn its_jobs_pull_images_as_the_cluster_does() {
    let mut seen = observed();
    let registry = crds::store::NameRef { name: "registry".into() };
    seen.cluster.as_mut().unwrap().spec.image_pull_secrets = vec![registry];
    let pulls = |seen: &ObservedBackup| {
        let pod = plan_backup(seen).job.unwrap().spec.unwrap().template.spec.unwrap();
        pod.image_pull_secrets.map(|secrets| secrets[0].name.clone())
    };
    assert_eq!(pulls(&seen).as_deref(), Some("registry"));
    seen.backup.spec.deletion_policy = crds::cluster::DeletionPolicy::Delete;
    seen.backup.metadata.finalizers = Some(vec![STORED_OBJECT_FINALIZER.to_owned()]);
    seen.backup.metadata.deletion_timestamp = Some(Time(now()));
    seen.backup.status = succeeded("nightly", "core").status;
    assert_eq!(pulls(&seen).as_deref(), Some("registry"));
    seen.cluster = None;
    assert_eq!(pulls(&seen), None, "a cluster that is gone has none");
}

#[test]
fn what_stands_in_the_way_is_named_and_heals() {
    let mut seen = observed();
    seen.secrets.remove("s3-keys");
    let plan = plan_backup(&seen);
    assert!(plan.job.is_none());
    assert!(message(&plan.status).contains("Secret s3-keys of the store does not exist"));
    assert_eq!(plan.status.phase, Some(BackupPhase::Pending));
    seen.secrets.insert("s3-keys".into(), secret(&["AWS_ACCESS_KEY_ID"]));
    assert!(message(&plan_backup(&seen).status).contains("lacks the key AWS_SECRET_ACCESS_KEY"));
    seen.secrets.insert("s3-keys".into(), secret(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]));
    assert!(plan_backup(&seen).job.is_some());
    seen.cluster = None;
    assert!(message(&plan_backup(&seen).status).contains("EtcdCluster core does not exist"));
}

#[test]
fn every_store_in_the_network_has_its_secrets_watched_and_mounted() {
    let stores = [("s3", "bucket"), ("gcs", "bucket"), ("azure", "container")];
    for (kind, place) in stores {
        let mut seen = observed();
        seen.backup.spec.store = serde_json::from_value(serde_json::json!({kind: {
            place: "backups",
            "endpoint": "https://store:9000",
            "credentialsSecretRef": {"name": "keys"},
            "caSecretRef": {"name": "store-ca"},
        }}))
        .unwrap();
        let keys = seen.backup.spec.store.credential_keys();
        seen.secrets.insert("keys".into(), secret(keys));
        let plan = plan_backup(&seen);
        assert!(message(&plan.status).contains("Secret store-ca of the store does not exist"), "{kind}");
        seen.secrets.insert("store-ca".into(), secret(&["ca.crt"]));
        let job = serde_json::to_string(&plan_backup(&seen).job.unwrap()).unwrap();
        for part in
            ["--credentials-dir=", "--store-ca-file=", r#""secretName":"keys""#, r#""secretName":"store-ca""#]
        {
            assert!(job.contains(part), "{kind} without {part}: {job}");
        }
    }
}

#[test]
fn a_cluster_that_does_not_serve_is_waited_for() {
    let mut seen = observed();
    seen.cluster.as_mut().unwrap().status = None;
    let plan = plan_backup(&seen);
    assert!(plan.job.is_none());
    assert!(message(&plan.status).contains("does not serve"));
}

#[test]
fn a_failure_keeps_the_words_of_the_job() {
    let mut seen = observed();
    seen.job =
        Some(job(JobOutcome::Failed, "cannot write s3://backups/x: 403 AccessDenied; check Secret s3-keys"));
    let plan = plan_backup(&seen);
    assert_eq!(plan.status.phase, Some(BackupPhase::Failed));
    assert!(message(&plan.status).contains("403 AccessDenied"));
    seen.job = Some(job(JobOutcome::Succeeded, "garbage"));
    seen.verify_job = seen.job.clone();
    assert_eq!(plan_backup(&seen).status.phase, Some(BackupPhase::Failed), "no result is no success");
}

#[test]
fn a_result_that_is_lost_is_asked_for_once_more() {
    let mut seen = observed();
    for said in [None, Some("503 SlowDown".to_owned())] {
        seen.job = Some(JobView { said, ..job(JobOutcome::Succeeded, "") });
        let plan = plan_backup(&seen);
        assert_eq!(plan.job.unwrap().metadata.name.as_deref(), Some("nightly-verify"));
        assert_eq!(plan.status.phase, Some(BackupPhase::Running));
    }
    let mut down = seen.clone();
    down.cluster.as_mut().unwrap().status = None;
    assert!(plan_backup(&down).job.is_some(), "what is stored is read back without the members");
    seen.verify_job = Some(job(JobOutcome::Running, ""));
    let plan = plan_backup(&seen);
    assert_eq!((plan.status.phase, plan.job), (Some(BackupPhase::Running), None));
    // The first one's may yet be found.
    let mut found = seen.clone();
    found.job = Some(job(JobOutcome::Succeeded, RESULT));
    assert_eq!(plan_backup(&found).status.phase, Some(BackupPhase::Succeeded));
    for (said, phase) in [(Some(RESULT), BackupPhase::Succeeded), (None, BackupPhase::Failed)] {
        let said = said.map(str::to_owned);
        seen.verify_job = Some(JobView { said, ..job(JobOutcome::Succeeded, "") });
        let plan = plan_backup(&seen);
        assert_eq!((plan.status.phase, plan.job), (Some(phase), None), "there is no third Job");
    }
}

#[test]
fn what_may_still_be_written_is_waited_for_before_it_is_deleted() {
    let mut seen = observed();
    seen.backup.spec.deletion_policy = crds::cluster::DeletionPolicy::Delete;
    seen.backup.metadata.finalizers = Some(vec![STORED_OBJECT_FINALIZER.to_owned()]);
    seen.backup.metadata.deletion_timestamp = Some(Time(now()));
    seen.job = Some(JobView { said: None, ..job(JobOutcome::Succeeded, "") });
    seen.verify_job = Some(job(JobOutcome::Running, ""));
    let plan = plan_backup(&seen);
    assert_eq!((plan.finalizer, plan.job), (FinalizerChange::Keep, None));
    seen.verify_job = Some(job(JobOutcome::Succeeded, RESULT));
    assert_eq!(plan_backup(&seen).job.unwrap().metadata.name.as_deref(), Some("nightly-delete"));
}

#[test]
fn the_end_is_an_event_also_after_a_failed_attempt_was_one() {
    let mut seen = observed();
    let mut attempt = job(JobOutcome::Running, "503 SlowDown");
    attempt.failures = 1;
    seen.job = Some(attempt);
    for told in [1, 0] {
        let plan = plan_backup(&seen);
        assert_eq!((plan.status.phase, plan.events.len()), (Some(BackupPhase::Running), told));
        seen.backup.status = Some(plan.status);
    }
    seen.job = Some(job(JobOutcome::Failed, "503 SlowDown"));
    for told in [1, 0] {
        let plan = plan_backup(&seen);
        assert_eq!((plan.status.phase, plan.events.len()), (Some(BackupPhase::Failed), told));
        seen.backup.status = Some(plan.status);
    }
}

#[test]
fn a_strangers_job_is_left_alone() {
    let mut seen = observed();
    let mut theirs = job(JobOutcome::Succeeded, RESULT);
    theirs.owner_uid = None;
    seen.job = Some(theirs);
    let plan = plan_backup(&seen);
    assert_eq!(plan.status.phase, Some(BackupPhase::Pending));
    assert!(message(&plan.status).contains("is not this backup's"));
}

#[test]
fn the_stored_object_goes_only_if_the_policy_says_so_and_never_wedges() {
    let mut seen = observed();
    assert_eq!(plan_backup(&seen).finalizer, FinalizerChange::Keep, "Retain needs no finalizer");
    seen.backup.spec.deletion_policy = crds::cluster::DeletionPolicy::Delete;
    assert_eq!(plan_backup(&seen).finalizer, FinalizerChange::Add, "before anything is stored");
    seen.backup.metadata.finalizers = Some(vec![STORED_OBJECT_FINALIZER.to_owned()]);
    seen.backup.status = succeeded("nightly", "core").status;
    seen.backup.metadata.deletion_timestamp = Some(Time(now()));
    let plan = plan_backup(&seen);
    assert_eq!(plan.job.unwrap().metadata.name.as_deref(), Some("nightly-delete"));
    assert_eq!(plan.finalizer, FinalizerChange::Keep);
    seen.delete_job = Some(job(JobOutcome::Succeeded, "{}"));
    assert_eq!(plan_backup(&seen).finalizer, FinalizerChange::Remove);
    seen.delete_job = Some(job(JobOutcome::Failed, "bucket is gone"));
    let plan = plan_backup(&seen);
    assert_eq!(plan.finalizer, FinalizerChange::Remove);
    assert!(plan.events[0].message.contains("stays: bucket is gone"));
    // Without its credentials there is no way to delete it: it stays, and the object goes.
    seen.delete_job = None;
    seen.secrets.clear();
    let plan = plan_backup(&seen);
    assert_eq!((plan.finalizer, plan.events.len()), (FinalizerChange::Remove, 1));
    // Nor if no Job can be made any more, because its namespace goes.
    seen.secrets = observed().secrets;
    assert_eq!(plan_backup(&seen).finalizer, FinalizerChange::Keep);
    seen.namespace_terminating = true;
    let plan = plan_backup(&seen);
    assert_eq!((plan.finalizer, plan.events.len()), (FinalizerChange::Remove, 1));
}
