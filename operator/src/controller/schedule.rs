//! One pass over an `EtcdBackupSchedule`: the backup that is due, those that may go, its report.

use std::sync::Arc;
use std::time::Duration;

use crds::names::{FIELD_MANAGER, SCHEDULE_LABEL};
use crds::{EtcdBackup, EtcdBackupSchedule, EtcdCluster};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Preconditions;
use operator_plan::backup::{ObservedSchedule, plan_schedule};

use super::PassError;
use super::caches::Caches;
use super::cluster::act::delete;
use super::context::{Context, Newest};
use super::report;

/// The controller's own state: what it wrote last.
#[derive(Default)]
pub struct State {
    newest: Newest<EtcdBackupSchedule>,
}

impl State {
    /// The object is gone.
    pub fn forget(&self, name: &(String, String)) {
        self.newest.forget(name);
    }
}

/// Makes one pass; says when to look again even if nothing is heard.
pub async fn pass(
    ctx: &Context,
    state: &State,
    schedule: Arc<EtcdBackupSchedule>,
) -> Result<Duration, PassError> {
    let schedule = state.newest.of(schedule);
    let namespace = schedule.namespace().unwrap_or_default();
    let name = schedule.name_any();
    let plan = plan_schedule(&ObservedSchedule {
        now: Timestamp::now(),
        schedule: EtcdBackupSchedule::clone(&schedule),
        cluster: Caches::get(&ctx.caches.clusters, &namespace, &schedule.spec.cluster_ref.name)
            .map(|cluster| cluster.as_ref().clone()),
        backups: backups(ctx, &namespace, &name),
        clusters: clusters(ctx, &namespace),
    });
    if !ctx.leadership.held() {
        return Err(PassError::NotLeading);
    }
    if let Some(backup) = &plan.create {
        let live = Caches::get(&ctx.caches.backups, &namespace, &backup.name_any());
        ctx.applier.create(&namespace, backup, live.as_deref()).await?;
    }
    for expired in &plan.delete {
        let preconditions = Preconditions { uid: Some(expired.uid.clone()), resource_version: None };
        delete::<EtcdBackup>(ctx, &namespace, &expired.name, preconditions).await?;
    }
    if let Some(written) =
        report::status(&ctx.client, FIELD_MANAGER, schedule.as_ref(), schedule.status.as_ref(), &plan.status)
            .await?
    {
        state.newest.wrote(written);
    }
    report::events(&ctx.recorder, schedule.as_ref(), &plan.events).await;
    Ok(plan.recheck)
}

fn clusters(ctx: &Context, namespace: &str) -> Vec<EtcdCluster> {
    let here = |cluster: &EtcdCluster| cluster.metadata.namespace.as_deref() == Some(namespace);
    ctx.caches.clusters.state_filter(here).iter().map(|cluster| cluster.as_ref().clone()).collect()
}

fn backups(ctx: &Context, namespace: &str, schedule: &str) -> Vec<EtcdBackup> {
    let made_by = |backup: &EtcdBackup| {
        backup.metadata.namespace.as_deref() == Some(namespace)
            && backup.labels().get(SCHEDULE_LABEL).is_some_and(|label| label == schedule)
    };
    let mut found: Vec<_> =
        ctx.caches.backups.state_filter(made_by).iter().map(|b| b.as_ref().clone()).collect();
    found.sort_by_key(ResourceExt::name_any);
    found
}
