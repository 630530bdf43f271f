//! Beginning from a backup: find it, fill the first volume by a Job, then let the members start on it.

use std::collections::BTreeMap;

use crds::Reason;
use crds::backup::BackupPhase;
use crds::cluster::BackupSource;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::action::{Action, Expect};
use crate::facts::{Facts, Step};
use crate::formation::{SEED, Stage, seed_lost};
use crate::identity::{Grant, IdentityRecord, Origin};
use crate::limits;
use crate::observed::{JobOutcome, JobView, PodTrouble, VolumeView};
use crate::resources::{RestoreFrom, StoreSecret, may_apply_uid, store_secrets};
use crate::waiting::Waiting;

/// The next step of a restore that is not known to have succeeded.
pub(crate) fn step(facts: &Facts<'_>, record: &IdentityRecord, expect: Expect) -> (Stage, Step) {
    if facts.observed.stateful_set.is_some() {
        let lost = facts.awaits_ticket(SEED);
        let waiting = if lost { seed_lost(facts) } else { facts.wait_for_pod(SEED) };
        return (Stage::Seeding, Step::Wait(waiting));
    }
    let claim = facts.volume(SEED).filter(|v| !v.terminating);
    let job = facts.observed.restore_job.as_ref();
    let current = record.grant.as_ref().map(Grant::claim_uid);
    match (claim, job) {
        (claim, Some(job)) => with_job(facts, job, claim, current),
        (None, None) => (Stage::Restoring { job: None }, Step::Wait(for_claim(facts))),
        (Some(claim), None) if current != Some(claim.reference.uid.as_str()) => {
            (Stage::Restoring { job: None }, Step::Act(begin(facts, claim, expect)))
        }
        (Some(_), None) => match source(facts) {
            Ok(from) => {
                let waiting = Waiting::Restore { job: facts.names().restore_job(), failure: None };
                (Stage::Restoring { job: Some(Box::new(from)) }, Step::Wait(waiting))
            }
            Err(waiting) => (Stage::Restoring { job: None }, Step::Wait(waiting)),
        },
    }
}

fn for_claim(facts: &Facts<'_>) -> Waiting {
    let claim = facts.names().claim(SEED.0);
    facts.storage_class_missing().unwrap_or(Waiting::VolumePending { claim })
}

/// Recorded before the Job exists, so that a data directory never exists without a record of it.
fn begin(facts: &Facts<'_>, claim: &VolumeView, expect: Expect) -> Action {
    let grant = Grant {
        cluster_id: facts.expected_cluster_id(),
        seed_member_id: facts.seed_member_id(),
        origin: Origin::Restored { claim_uid: claim.reference.uid.clone() },
        at: facts.observed.now,
    };
    let record = IdentityRecord { grant: Some(grant), ..IdentityRecord::begun(&facts.cluster.uid) };
    Action::RecordIdentity { record, expect }
}

fn with_job(
    facts: &Facts<'_>,
    job: &JobView,
    claim: Option<&VolumeView>,
    recorded_claim: Option<&str>,
) -> (Stage, Step) {
    let restoring = |step| (Stage::Restoring { job: None }, step);
    if job.terminating {
        return restoring(Step::Wait(Waiting::Terminating { object: format!("Job {}", job.name) }));
    }
    if may_apply_uid(job.owner_uid.as_deref(), &job.name, &facts.cluster.uid).is_err() {
        let message =
            format!("Job {} exists and is not this cluster's; delete it or use another name", job.name);
        return restoring(Step::Wait(Waiting::Human { message, reason: Reason::ObjectNotOwned }));
    }
    let delete = || Action::DeleteRestoreJob { name: job.name.clone(), uid: job.uid.clone() };
    if claim.map(|c| c.reference.uid.as_str()) != recorded_claim {
        // What the Job wrote is gone with its claim; no member has ever started on it.
        return restoring(Step::Act(delete()));
    }
    let name = job.name.clone();
    match job.outcome {
        JobOutcome::Succeeded => {
            let pod = facts.names().pod(SEED.0);
            (Stage::Seeding, Step::Wait(Waiting::PodMissing { pod }))
        }
        JobOutcome::Running => restoring(Step::Wait(running(job))),
        JobOutcome::Failed => {
            let due = job
                .ended_at
                .is_none_or(|at| seconds_since(at, facts.observed.now) >= limits::RESTORE_RETRY_SECONDS);
            // The obstacle may be one that can be seen from here; then the next try waits for it.
            match (due, source(facts)) {
                (true, Ok(_)) => restoring(Step::Act(delete())),
                (true, Err(waiting)) => restoring(Step::Wait(waiting)),
                (false, _) => {
                    let said = job.said.clone().or_else(|| job.failure.clone());
                    let failure = Some(said.unwrap_or_else(|| "it gave no reason".to_owned()));
                    restoring(Step::Wait(Waiting::Restore { job: name, failure }))
                }
            }
        }
    }
}

fn running(job: &JobView) -> Waiting {
    match &job.trouble {
        Some(PodTrouble::ImagePull { image, message }) => Waiting::ImagePull {
            pod: format!("Job {}", job.name),
            image: image.clone(),
            message: message.clone(),
        },
        Some(PodTrouble::Unschedulable { message }) => {
            Waiting::Unschedulable { pod: format!("of Job {}", job.name), message: message.clone() }
        }
        Some(PodTrouble::Failing { .. }) | None => {
            let failure = if job.failures > 0 { job.said.clone() } else { None };
            Waiting::Restore { job: job.name.clone(), failure }
        }
    }
}

fn seconds_since(at: Timestamp, now: Timestamp) -> i64 {
    now.as_second() - at.as_second()
}

/// The stored object to restore, or what is missing.
pub(crate) fn source(facts: &Facts<'_>) -> Result<RestoreFrom, Waiting> {
    let Some(bootstrap) = &facts.cluster.spec.bootstrap else {
        let message = "spec.bootstrap is gone while a restore is under way; delete the cluster".to_owned();
        return Err(Waiting::RestoreSource { message, reason: Reason::BackupMissing });
    };
    let from = resolve(facts, &bootstrap.from_backup)?;
    for secret in store_secrets(&from.store) {
        if let Some((reason, message)) = secret_trouble(&secret, &facts.observed.secrets) {
            return Err(Waiting::RestoreSource { message, reason });
        }
    }
    Ok(from)
}

fn resolve(facts: &Facts<'_>, source: &BackupSource) -> Result<RestoreFrom, Waiting> {
    let missing = |message: String, reason| Err(Waiting::RestoreSource { message, reason });
    let Some(reference) = &source.backup_ref else {
        return match (&source.store, &source.key) {
            (Some(store), Some(key)) => Ok(RestoreFrom {
                store: store.clone(),
                key: key.clone(),
                sha256: source.sha256.clone(),
                size_bytes: None,
                service_account_name: source.service_account_name.clone(),
            }),
            _ => missing(
                "spec.bootstrap.fromBackup names neither a backup nor a store with key; delete the cluster and \
                 create it anew"
                    .to_owned(),
                Reason::BackupMissing,
            ),
        };
    };
    let name = &reference.name;
    let found = facts.observed.backups.iter().find(|b| b.metadata.name.as_ref() == Some(name));
    let Some(backup) = found else {
        return missing(
            // One of that name made now would be of another state than the one that was meant.
            format!(
                "EtcdBackup {name} (spec.bootstrap.fromBackup.backupRef) does not exist; delete this cluster and name \
                 another backup, or the stored object by store and key"
            ),
            Reason::BackupMissing,
        );
    };
    let status = backup.status.clone().unwrap_or_default();
    match (status.phase, status.key) {
        (Some(BackupPhase::Succeeded), Some(key)) => Ok(RestoreFrom {
            store: backup.spec.store.clone(),
            key,
            sha256: source.sha256.clone().or(status.sha256),
            size_bytes: status.stored_size_bytes,
            service_account_name: source
                .service_account_name
                .clone()
                .or_else(|| backup.spec.service_account_name.clone()),
        }),
        (Some(BackupPhase::Failed), _) => missing(
            format!("EtcdBackup {name} failed; delete this cluster and name a backup that succeeded"),
            Reason::BackupNotReady,
        ),
        _ => missing(format!("waiting for EtcdBackup {name} to succeed"), Reason::BackupNotReady),
    }
}

/// What is wrong with a Secret that a store names, if something is.
pub(crate) fn secret_trouble(
    wanted: &StoreSecret,
    secrets: &BTreeMap<String, Secret>,
) -> Option<(Reason, String)> {
    let name = &wanted.name;
    let keys = wanted.keys.join(", ");
    let Some(secret) = secrets.get(name) else {
        let message = format!("Secret {name} of the store does not exist; create it with the keys {keys}");
        return Some((Reason::SecretMissing, message));
    };
    let empty = |key: &&&'static str| {
        secret.data.as_ref().and_then(|d| d.get(**key)).is_none_or(|value| value.0.is_empty())
    };
    let key = wanted.keys.iter().find(empty)?;
    let message = format!("Secret {name} of the store lacks the key {key}; it needs {keys}");
    Some((Reason::SecretMalformed, message))
}
