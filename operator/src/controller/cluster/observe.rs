//! Puts everything a decision may depend on into one value: Kubernetes objects and what the members say.

use std::sync::Arc;

use crds::EtcdCluster;
use crds::names::ClusterNames;
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use operator_plan::identity::IdentityRecord;
use operator_plan::observed::{IdentityView, JobView, Observed, PodView, StatefulSetView, VolumeView};

use super::children::{Children, From};
use super::probe::{self, Target};
use crate::controller::apply::ApplyError;
use crate::controller::context::Context;
use crate::etcd::TlsMaterial;

/// One look at a cluster: the facts, and the means to act on them.
pub struct Look {
    /// The facts.
    pub observed: Observed,
    /// The objects behind them.
    pub children: Children,
    /// Names of everything.
    pub names: ClusterNames,
    /// Pods that can be reached.
    pub targets: Vec<Target>,
    /// Certificates to reach them with.
    pub tls: Option<TlsMaterial>,
}

/// Looks at a cluster. `None` if, read afresh, it is gone.
pub async fn look(ctx: &Context, cluster: Arc<EtcdCluster>, from: From) -> Result<Option<Look>, ApplyError> {
    let Some(children) = Children::gather(ctx, cluster, from).await? else { return Ok(None) };
    let cluster = &children.cluster;
    let names = ClusterNames::new(&cluster.namespace().unwrap_or_default(), &cluster.name_any());
    let targets = probe::targets(&names, children.pods.iter().map(AsRef::as_ref));
    let tls = children.secrets.get(&operator_plan::operator_secret(cluster)).and_then(probe::tls_material);
    let answers = probe::ask(ctx, &targets, tls.as_ref()).await;
    let observed = Observed {
        now: Timestamp::now(),
        settings: ctx.settings.clone(),
        cluster: EtcdCluster::clone(cluster),
        identity: identity(&children),
        stateful_set: children.stateful_set.as_deref().map(StatefulSetView::from_object),
        pods: children.pods.iter().filter_map(|pod| PodView::from_object(pod, &names)).collect(),
        volumes: children.claims.iter().filter_map(|claim| VolumeView::from_object(claim, &names)).collect(),
        secrets: children.secrets.clone(),
        restore_job: children
            .restore_job
            .as_deref()
            .map(|job| JobView::from_objects(job, &children.restore_pods(&names))),
        storage_class: children.storage_class.clone(),
        members: answers.members,
        nodes: answers.nodes,
        linearizable_read: answers.linearizable_read,
        backups: backups(ctx, &children, &names),
        schedules: schedules(ctx, &names),
        failures: ctx.failures(cluster.as_ref()),
    };
    Ok(Some(Look { observed, names, targets, tls, children }))
}

fn identity(children: &Children) -> IdentityView {
    let Some(map) = children.identity.as_deref() else { return IdentityView::Absent };
    match IdentityRecord::from_config_map(map) {
        Ok(record) => IdentityView::Present {
            record,
            resource_version: map.meta().resource_version.clone().unwrap_or_default(),
        },
        Err(error) => IdentityView::Malformed { error: error.to_string() },
    }
}

fn backups(ctx: &Context, children: &Children, names: &ClusterNames) -> Vec<crds::EtcdBackup> {
    let of_cluster = |backup: &crds::EtcdBackup| {
        backup.metadata.namespace.as_deref() == Some(names.namespace())
            && backup.spec.cluster_ref.name == names.cluster()
    };
    let mut found: Vec<_> =
        ctx.caches.backups.state_filter(of_cluster).iter().map(|b| b.as_ref().clone()).collect();
    if let Some(source) = &children.restore_source
        && !found.iter().any(|backup| backup.uid() == source.uid())
    {
        found.push(source.as_ref().clone());
    }
    // The store has no order; the same facts must give the same plan.
    found.sort_by_key(ResourceExt::name_any);
    found
}

fn schedules(ctx: &Context, names: &ClusterNames) -> Vec<crds::EtcdBackupSchedule> {
    let of_cluster = |schedule: &crds::EtcdBackupSchedule| {
        schedule.metadata.namespace.as_deref() == Some(names.namespace())
            && schedule.spec.cluster_ref.name == names.cluster()
    };
    let mut found: Vec<_> =
        ctx.caches.schedules.state_filter(of_cluster).iter().map(|s| s.as_ref().clone()).collect();
    found.sort_by_key(ResourceExt::name_any);
    found
}
