//! One pass over an `EtcdBackup`: its finalizer, its Job, its report.

use std::sync::Arc;
use std::time::Duration;

use crds::EtcdBackup;
use crds::backup::BackupPhase;
use crds::names::{self, STORED_OBJECT_FINALIZER};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, Resource, ResourceExt};
use operator_plan::backup::{BackupPlan, BackupResult, FinalizerChange, ObservedBackup, plan_backup};
use operator_plan::observed::JobView;
use operator_plan::wanted_backup_secrets;
use serde_json::json;

use super::PassError;
use super::apply::ApplyError;
use super::caches::Caches;
use super::cluster::act::patch_object;
use super::cluster::children::{self, From};
use super::context::{Context, Newest};
use super::report;
use crate::metrics::BackupFigures;

/// The controller's own state: what it wrote last.
#[derive(Default)]
pub struct State {
    newest: Newest<EtcdBackup>,
}

impl State {
    /// The object is gone.
    pub fn forget(&self, name: &(String, String)) {
        self.newest.forget(name);
    }
}

/// Makes one pass; says when to look again even if nothing is heard.
pub async fn pass(ctx: &Context, state: &State, backup: Arc<EtcdBackup>) -> Result<Duration, PassError> {
    let backup = state.newest.of(backup);
    let going = backup.meta().deletion_timestamp.is_some();
    match attempt(ctx, state, &backup, false).await {
        // Nothing can be created any more, and our rights may have gone with the Role that gave them.
        Err(error) if going && is_forbidden(&error) && namespace_terminating(ctx, &backup).await => {
            attempt(ctx, state, &backup, true).await
        }
        done => done,
    }
}

async fn attempt(
    ctx: &Context,
    state: &State,
    backup: &EtcdBackup,
    namespace_terminating: bool,
) -> Result<Duration, PassError> {
    let observed = observe(ctx, backup, namespace_terminating).await?;
    carry_out(ctx, state, backup, &plan_backup(&observed)).await
}

/// Does what the plan says: the finalizer alone, or else the Job and the report.
async fn carry_out(
    ctx: &Context,
    state: &State,
    backup: &EtcdBackup,
    plan: &BackupPlan,
) -> Result<Duration, PassError> {
    if !ctx.leadership.held() {
        return Err(PassError::NotLeading);
    }
    let namespace = backup.namespace().unwrap_or_default();
    if let Some(finalizers) = changed_finalizers(backup.finalizers(), plan.finalizer) {
        if plan.finalizer == FinalizerChange::Remove {
            // The object may be gone afterwards: this is the last pass that can tell.
            report::events(&ctx.recorder, backup, &plan.events).await;
        }
        // The version makes this a compare and swap: another writer's finalizer is never lost.
        let patch = json!({"metadata": {
            "uid": backup.uid(), "resourceVersion": backup.resource_version(), "finalizers": finalizers,
        }});
        patch_object::<EtcdBackup>(ctx, &namespace, &backup.name_any(), &patch).await?;
        // Its event brings the next pass, with the new version in hand.
        return Ok(plan.recheck);
    }
    if let Some(job) = &plan.job {
        let live = Caches::get(&ctx.caches.jobs, &namespace, &job.name_any());
        ctx.applier.create(&namespace, job, live.as_deref()).await?;
    }
    let manager = names::FIELD_MANAGER;
    if let Some(written) =
        report::status(&ctx.client, manager, backup, backup.status.as_ref(), &plan.status).await?
    {
        state.newest.wrote(written);
    }
    report::events(&ctx.recorder, backup, &plan.events).await;
    measure(ctx, backup, &namespace);
    Ok(plan.recheck)
}

fn is_forbidden(error: &PassError) -> bool {
    let PassError::Apply(ApplyError::Api { source, .. }) = error else { return false };
    matches!(source.as_ref(), kube::Error::Api(status) if status.code == 403)
}

/// False if it cannot be told: then the error stands.
async fn namespace_terminating(ctx: &Context, backup: &EtcdBackup) -> bool {
    let namespaces: Api<Namespace> = Api::all(ctx.client.clone());
    let found = namespaces.get(&backup.namespace().unwrap_or_default()).await;
    found.is_ok_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
}

async fn observe(
    ctx: &Context,
    backup: &EtcdBackup,
    namespace_terminating: bool,
) -> Result<ObservedBackup, PassError> {
    let namespace = &backup.namespace().unwrap_or_default();
    let cluster = Caches::get(&ctx.caches.clusters, namespace, &backup.spec.cluster_ref.name);
    let name = backup.name_any();
    let pods = ctx.caches.pods.state_filter(|pod| pod.metadata.namespace.as_ref() == Some(namespace));
    let cached = |job: String| job_view(ctx, namespace, backup, &job, &pods);
    let (job, verify_job) = (names::backup_job(&name), names::backup_verify_job(&name));
    // No Job will need a Secret then nor give a result, and neither may be ours to read any more.
    let (wanted, job, verify_job) = if namespace_terminating {
        (Vec::new(), cached(job), cached(verify_job))
    } else {
        let job = job_with_result(ctx, namespace, backup, &job, &pods).await?;
        let verify_job = job_with_result(ctx, namespace, backup, &verify_job, &pods).await?;
        (wanted_backup_secrets(backup, cluster.as_deref()), job, verify_job)
    };
    Ok(ObservedBackup {
        now: Timestamp::now(),
        settings: ctx.settings.clone(),
        backup: backup.clone(),
        cluster: cluster.map(|cluster| cluster.as_ref().clone()),
        secrets: children::secrets(ctx, namespace, wanted, From::Caches).await?,
        job,
        verify_job,
        delete_job: cached(names::backup_delete_job(&name)),
        namespace_terminating,
    })
}

/// A Job of this backup. One that another object controls is not: its result would be somebody else's.
fn job_view(
    ctx: &Context,
    namespace: &str,
    backup: &EtcdBackup,
    name: &str,
    pods: &[Arc<Pod>],
) -> Option<JobView> {
    let job: Arc<Job> = Caches::get(&ctx.caches.jobs, namespace, name)?;
    let view = JobView::from_objects(&job, &children::pods_of_job(pods, name));
    (view.owner_uid.as_deref() == backup.meta().uid.as_deref()).then_some(view)
}

/// A Job of this backup, with its result if there is one. The watch of pods may lag behind that of Jobs, so before a
/// result is taken for lost its pods are read afresh.
async fn job_with_result(
    ctx: &Context,
    namespace: &str,
    backup: &EtcdBackup,
    name: &str,
    cached_pods: &[Arc<Pod>],
) -> Result<Option<JobView>, PassError> {
    let job = job_view(ctx, namespace, backup, name, cached_pods);
    let phase = backup.status.as_ref().and_then(|status| status.phase);
    let ended = matches!(phase, Some(BackupPhase::Succeeded | BackupPhase::Failed));
    if ended || !job.as_ref().is_some_and(BackupResult::is_lost) {
        return Ok(job);
    }
    let pods = children::read_pods_of_job(ctx, namespace, name).await?;
    Ok(job_view(ctx, namespace, backup, name, &pods))
}

fn changed_finalizers(now: &[String], change: FinalizerChange) -> Option<Vec<String>> {
    let there = now.iter().any(|finalizer| finalizer == STORED_OBJECT_FINALIZER);
    match (change, there) {
        (FinalizerChange::Add, false) => {
            Some(now.iter().cloned().chain([STORED_OBJECT_FINALIZER.to_owned()]).collect())
        }
        (FinalizerChange::Remove, true) => {
            Some(now.iter().filter(|finalizer| *finalizer != STORED_OBJECT_FINALIZER).cloned().collect())
        }
        (FinalizerChange::Keep, _) | (FinalizerChange::Add, true) | (FinalizerChange::Remove, false) => None,
    }
}

/// Shows the newest good backup of the cluster this one is of, so that an old one looked at again changes nothing.
fn measure(ctx: &Context, backup: &EtcdBackup, namespace: &str) {
    let cluster = &backup.spec.cluster_ref.name;
    let good = ctx.caches.backups.state_filter(|other| {
        other.metadata.namespace.as_deref() == Some(namespace)
            && other.spec.cluster_ref.name == *cluster
            && other.status.as_ref().is_some_and(|status| status.phase == Some(BackupPhase::Succeeded))
    });
    let newest =
        good.iter().filter_map(|b| b.status.as_ref()).max_by_key(|s| s.completed_at.as_ref().map(|t| t.0));
    if let Some(status) = newest
        && let Some(at) = &status.completed_at
    {
        let figures = BackupFigures {
            finished_at_seconds: at.0.as_second() as f64,
            size_bytes: status.stored_size_bytes.unwrap_or_default(),
            duration_seconds: status.duration_seconds.unwrap_or_default() as f64,
        };
        ctx.metrics.backup(namespace, cluster, figures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalizers_of_others_are_kept_and_nothing_is_written_without_need() {
        let ours = STORED_OBJECT_FINALIZER.to_owned();
        let other = "example.com/other".to_owned();
        assert_eq!(
            changed_finalizers(std::slice::from_ref(&other), FinalizerChange::Add),
            Some(vec![other.clone(), ours.clone()])
        );
        assert_eq!(
            changed_finalizers(&[ours.clone(), other.clone()], FinalizerChange::Remove),
            Some(vec![other])
        );
        for (now, change) in [
            (vec![ours.clone()], FinalizerChange::Add),
            (vec![], FinalizerChange::Remove),
            (vec![ours], FinalizerChange::Keep),
        ] {
            assert_eq!(changed_finalizers(&now, change), None);
        }
    }
}
