//! The Kubernetes objects a pass looks at, from the caches or read afresh. No member is asked here.
//!
//! Fresh reads leave resourceVersion unset, so the API server answers from a quorum of its own store: what a
//! destructive action is decided on can be neither old nor somebody else's memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::names::{CLUSTER_LABEL, ClusterNames};
use crds::{EtcdBackup, EtcdCluster};
use futures::FutureExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use operator_plan::identity::IdentityRecord;
use operator_plan::observed::StorageClassView;

use crate::controller::apply::{ApplyError, Object, failed};
use crate::controller::caches::Caches;
use crate::controller::context::Context;

/// Label that Kubernetes puts on the pods of a Job.
const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// Annotation of the storage class that claims get which name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// How recent the objects have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// What the watches saw.
    Caches,
    /// Read now.
    Api,
}

/// The objects of one cluster.
pub struct Children {
    /// The cluster.
    pub cluster: Arc<EtcdCluster>,
    /// Its StatefulSet.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// Pods with its label.
    pub pods: Vec<Arc<Pod>>,
    /// Its volume claims.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// Its identity record.
    pub identity: Option<Arc<ConfigMap>>,
    /// Secrets it may need, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Its restore Job.
    pub restore_job: Option<Arc<Job>>,
    /// Whether its storage class exists.
    pub storage_class: StorageClassView,
    /// The backup it begins from, if one is named and exists.
    pub restore_source: Option<Arc<EtcdBackup>>,
}

impl Children {
    /// Gathers them. `None` if, read afresh, the cluster is gone or another one has its name.
    pub async fn gather(
        ctx: &Context,
        cluster: Arc<EtcdCluster>,
        from: From,
    ) -> Result<Option<Self>, ApplyError> {
        let namespace = cluster.namespace().unwrap_or_default();
        let cluster = match from {
            From::Caches => cluster,
            From::Api => match read::<EtcdCluster>(ctx, &namespace, &cluster.name_any()).await? {
                Some(fresh) if fresh.uid() == cluster.uid() => fresh,
                _ => return Ok(None),
            },
        };
        let names = ClusterNames::new(&namespace, &cluster.name_any());
        let restore_source =
            match cluster.spec.bootstrap.as_ref().and_then(|b| b.from_backup.backup_ref.as_ref()) {
                Some(reference) => one(ctx, &ctx.caches.backups, &namespace, &reference.name, from).await?,
                None => None,
            };
        let wanted = operator_plan::wanted_secrets(&cluster, restore_source.as_deref());
        let identity = match one(ctx, &ctx.caches.config_maps, &namespace, &names.identity(), from).await? {
            // As with Secrets: a record that lost its label still is the record.
            None if from == From::Caches => read(ctx, &namespace, &names.identity()).await?,
            found => found,
        };
        // Whether there is anything to begin over must not depend on labels. Once the record says that this very
        // cluster has begun, that was looked at.
        let claims_from = if is_record_of(identity.as_deref(), &cluster) { from } else { From::Api };
        Ok(Some(Self {
            stateful_set: one(ctx, &ctx.caches.stateful_sets, &namespace, &names.stateful_set(), from)
                .await?,
            identity,
            restore_job: one(ctx, &ctx.caches.jobs, &namespace, &names.restore_job(), from).await?,
            pods: pods(ctx, &names, from).await?,
            claims: claims(ctx, &names, claims_from).await?,
            secrets: secrets(ctx, &namespace, wanted, from).await?,
            storage_class: storage_class(&ctx.caches, cluster.spec.storage.storage_class_name.as_deref()),
            restore_source,
            cluster,
        }))
    }

    /// The pods of the restore Job.
    pub fn restore_pods(&self, names: &ClusterNames) -> Vec<Pod> {
        pods_of_job(&self.pods, &names.restore_job())
    }
}

fn is_record_of(identity: Option<&ConfigMap>, cluster: &EtcdCluster) -> bool {
    let record = identity.map(IdentityRecord::from_config_map);
    matches!(record, Some(Ok(record)) if Some(&record.cluster_uid) == cluster.uid().as_ref())
}

/// The pods of a Job among `pods`.
pub fn pods_of_job(pods: &[Arc<Pod>], job: &str) -> Vec<Pod> {
    let of_job = |pod: &&Arc<Pod>| pod.labels().get(JOB_NAME_LABEL).is_some_and(|label| label == job);
    pods.iter().filter(of_job).map(|pod| Pod::clone(pod)).collect()
}

/// The pods of a Job, read now.
pub async fn read_pods_of_job(
    ctx: &Context,
    namespace: &str,
    job: &str,
) -> Result<Vec<Arc<Pod>>, ApplyError> {
    list(ctx, namespace, &ListParams::default().labels(&format!("{JOB_NAME_LABEL}={job}"))).await
}

/// Secrets by name: the cached ones we issued, the others read by name because they are not ours to watch.
pub async fn secrets(
    ctx: &Context,
    namespace: &str,
    wanted: Vec<String>,
    from: From,
) -> Result<BTreeMap<String, Secret>, ApplyError> {
    let mut found = BTreeMap::new();
    for name in wanted {
        let cached = match from {
            From::Caches => Caches::get(&ctx.caches.secrets, namespace, &name),
            From::Api => None,
        };
        let secret = match cached {
            Some(secret) => Some(secret),
            None => read::<Secret>(ctx, namespace, &name).await?,
        };
        if let Some(secret) = secret {
            found.insert(name, Secret::clone(&secret));
        }
    }
    Ok(found)
}

async fn one<K: Object>(
    ctx: &Context,
    store: &kube::runtime::reflector::Store<K>,
    namespace: &str,
    name: &str,
    from: From,
) -> Result<Option<Arc<K>>, ApplyError> {
    match from {
        From::Caches => Ok(Caches::get(store, namespace, name)),
        From::Api => read(ctx, namespace, name).await,
    }
}

/// Reads one object now.
pub async fn read<K: Object>(
    ctx: &Context,
    namespace: &str,
    name: &str,
) -> Result<Option<Arc<K>>, ApplyError> {
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    api.get_opt(name)
        .await
        .map(|found| found.map(Arc::new))
        .map_err(|error| failed::<K>("reading", name, error))
}

async fn list<K: Object>(
    ctx: &Context,
    namespace: &str,
    params: &ListParams,
) -> Result<Vec<Arc<K>>, ApplyError> {
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    let found = api.list(params).await.map_err(|error| failed::<K>("listing", namespace, error))?;
    Ok(found.items.into_iter().map(Arc::new).collect())
}

async fn pods(ctx: &Context, names: &ClusterNames, from: From) -> Result<Vec<Arc<Pod>>, ApplyError> {
    match from {
        From::Caches => Ok(Caches::of_cluster(&ctx.caches.pods, names.namespace(), names.cluster())),
        From::Api => {
            let selector = format!("{CLUSTER_LABEL}={}", names.cluster());
            list(ctx, names.namespace(), &ListParams::default().labels(&selector)).await
        }
    }
}

/// Claims by label from the cache; read afresh, by name too: a claim whose label was removed still holds data.
async fn claims(
    ctx: &Context,
    names: &ClusterNames,
    from: From,
) -> Result<Vec<Arc<PersistentVolumeClaim>>, ApplyError> {
    match from {
        From::Caches => Ok(Caches::of_cluster(&ctx.caches.claims, names.namespace(), names.cluster())),
        From::Api => {
            let mut all: Vec<Arc<PersistentVolumeClaim>> =
                list(ctx, names.namespace(), &ListParams::default()).await?;
            all.retain(|claim| {
                claim.labels().get(CLUSTER_LABEL).is_some_and(|label| label == names.cluster())
                    || names.ordinal_of_claim(&claim.name_any()).is_some()
            });
            Ok(all)
        }
    }
}

fn storage_class(caches: &Caches, wanted: Option<&str>) -> StorageClassView {
    let store = &caches.storage_classes;
    if store.wait_until_ready().now_or_never().is_none_or(|ready| ready.is_err()) {
        return StorageClassView::Unknown;
    }
    match wanted {
        Some(name) if store.find(|class| class.name_any() == name).is_some() => StorageClassView::Usable,
        Some(name) => StorageClassView::Missing { name: name.to_owned() },
        None => {
            let is_default = |class: &k8s_openapi::api::storage::v1::StorageClass| {
                class.annotations().get(DEFAULT_CLASS).is_some_and(|value| value == "true")
            };
            if store.find(is_default).is_some() {
                StorageClassView::Usable
            } else {
                StorageClassView::NoDefault
            }
        }
    }
}
