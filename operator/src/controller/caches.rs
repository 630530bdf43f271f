//! What the watches have seen of one namespace, or of all: a store a kind, and triggers for the controllers.
//!
//! Passes read these stores, so a cluster at rest costs no requests. They may lag: nothing destructive is decided on
//! them (see `cluster::act`). Only objects with our label are kept; a foreign Secret is fetched by name when needed.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use crds::names::{BACKUP_LABEL, CLUSTER_LABEL, SCHEDULE_LABEL};
use crds::{EtcdBackup, EtcdBackupSchedule, EtcdCluster, EtcdOperation};
use futures::StreamExt;
use futures::channel::mpsc;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::apply::Object;
use crate::limits;

/// A place to ask for a pass over an object of kind `K`.
pub type Trigger<K> = mpsc::Sender<ObjectRef<K>>;
/// The other end.
pub type Triggered<K> = mpsc::Receiver<ObjectRef<K>>;

/// The stores of one scope.
#[derive(Clone)]
pub struct Caches {
    /// The namespace, or `None` for all.
    pub namespace: Option<String>,
    /// Clusters.
    pub clusters: Store<EtcdCluster>,
    /// Backups.
    pub backups: Store<EtcdBackup>,
    /// Schedules.
    pub schedules: Store<EtcdBackupSchedule>,
    /// Operations.
    pub operations: Store<EtcdOperation>,
    /// StatefulSets of clusters.
    pub stateful_sets: Store<StatefulSet>,
    /// Pods of clusters and of our Jobs.
    pub pods: Store<Pod>,
    /// Volume claims of clusters.
    pub claims: Store<PersistentVolumeClaim>,
    /// Services of clusters.
    pub services: Store<Service>,
    /// Disruption budgets of clusters.
    pub budgets: Store<PodDisruptionBudget>,
    /// Identity records.
    pub config_maps: Store<ConfigMap>,
    /// Secrets that we issued.
    pub secrets: Store<Secret>,
    /// Backup and restore Jobs.
    pub jobs: Store<Job>,
    /// Storage classes; `None` until they were listed, for ever if we may not.
    pub storage_classes: Store<StorageClass>,
}

/// The receiving ends of all triggers of one scope.
pub struct Triggers {
    /// For the cluster controller.
    pub clusters: Triggered<EtcdCluster>,
    /// For the backup controller.
    pub backups: Triggered<EtcdBackup>,
    /// For the schedule controller.
    pub schedules: Triggered<EtcdBackupSchedule>,
    /// For the operation controller.
    pub operations: Triggered<EtcdOperation>,
}

/// The sending ends.
#[derive(Clone)]
struct Wires {
    clusters: Trigger<EtcdCluster>,
    backups: Trigger<EtcdBackup>,
    schedules: Trigger<EtcdBackupSchedule>,
    operations: Trigger<EtcdOperation>,
}

impl Wires {
    fn new() -> (Self, Triggers) {
        let (clusters, cluster_end) = mpsc::channel(limits::TRIGGER_QUEUE);
        let (backups, backup_end) = mpsc::channel(limits::TRIGGER_QUEUE);
        let (schedules, schedule_end) = mpsc::channel(limits::TRIGGER_QUEUE);
        let (operations, operation_end) = mpsc::channel(limits::TRIGGER_QUEUE);
        let triggers = Triggers {
            clusters: cluster_end,
            backups: backup_end,
            schedules: schedule_end,
            operations: operation_end,
        };
        (Self { clusters, backups, schedules, operations }, triggers)
    }

    /// A child changed: its cluster and its backup look again.
    async fn child<K: Resource>(&mut self, child: &K) {
        let Some(namespace) = child.namespace() else { return };
        let label = |key: &str| child.labels().get(key).cloned();
        if let Some(cluster) = label(CLUSTER_LABEL) {
            send(&mut self.clusters, &cluster, &namespace).await;
        }
        if let Some(backup) = label(BACKUP_LABEL) {
            send(&mut self.backups, &backup, &namespace).await;
        }
    }

    /// A backup changed: itself, its cluster's report, its schedule's history.
    async fn backup(&mut self, backup: &EtcdBackup) {
        let Some(namespace) = backup.namespace() else { return };
        send(&mut self.backups, &backup.name_any(), &namespace).await;
        send(&mut self.clusters, &backup.spec.cluster_ref.name, &namespace).await;
        if let Some(schedule) = backup.labels().get(SCHEDULE_LABEL) {
            send(&mut self.schedules, schedule, &namespace).await;
        }
    }

    async fn schedule(&mut self, schedule: &EtcdBackupSchedule) {
        let Some(namespace) = schedule.namespace() else { return };
        send(&mut self.schedules, &schedule.name_any(), &namespace).await;
        send(&mut self.clusters, &schedule.spec.cluster_ref.name, &namespace).await;
    }
}

/// A full queue slows the watch down instead of growing; a closed one belongs to a controller that stops.
async fn send<K>(trigger: &mut Trigger<K>, name: &str, namespace: &str)
where
    K: Resource<DynamicType = ()> + 'static,
{
    use futures::SinkExt;
    let _stopping = trigger.send(ObjectRef::new(name).within(namespace)).await;
}

/// Starts all watches of a scope as tasks of `tasks`; they end at `stop`.
pub fn start(
    client: &Client,
    namespace: Option<&str>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> (Caches, Triggers) {
    let (wires, triggers) = Wires::new();
    let ours = || watcher::Config::default().labels(CLUSTER_LABEL);
    let mut watching = Watching { client, namespace, tasks, stop };
    let w = wires.clone();
    let clusters = watching.watch(watcher::Config::default(), move |cluster: EtcdCluster| {
        let mut w = w.clone();
        async move {
            send(&mut w.clusters, &cluster.name_any(), &cluster.namespace().unwrap_or_default()).await;
        }
    });
    let w = wires.clone();
    let operations = watching.watch(watcher::Config::default(), move |operation: EtcdOperation| {
        let mut w = w.clone();
        async move {
            send(&mut w.operations, &operation.name_any(), &operation.namespace().unwrap_or_default()).await;
        }
    });
    let w = wires.clone();
    let backups = watching.watch(watcher::Config::default(), move |backup: EtcdBackup| {
        let mut w = w.clone();
        async move { w.backup(&backup).await }
    });
    let w = wires.clone();
    let schedules = watching.watch(watcher::Config::default(), move |schedule: EtcdBackupSchedule| {
        let mut w = w.clone();
        async move { w.schedule(&schedule).await }
    });
    let caches = Caches {
        namespace: namespace.map(str::to_owned),
        clusters,
        backups,
        schedules,
        operations,
        stateful_sets: watching.children(ours(), &wires),
        pods: watching.children(ours(), &wires),
        claims: watching.children(ours(), &wires),
        services: watching.children(ours(), &wires),
        budgets: watching.children(ours(), &wires),
        config_maps: watching.children(ours(), &wires),
        secrets: watching.children(ours(), &wires),
        jobs: watching.children(ours(), &wires),
        storage_classes: watching.storage_classes(),
    };
    (caches, triggers)
}

impl Caches {
    /// Waits for the first lists; storage classes are not waited for, because a namespaced operator may not see them.
    pub async fn ready(&self) {
        let waits = [
            wait(&self.clusters),
            wait(&self.backups),
            wait(&self.schedules),
            wait(&self.operations),
            wait(&self.stateful_sets),
            wait(&self.pods),
            wait(&self.claims),
            wait(&self.services),
            wait(&self.budgets),
            wait(&self.config_maps),
            wait(&self.secrets),
            wait(&self.jobs),
        ];
        futures::future::join_all(waits).await;
    }

    /// The object of a name, as last seen.
    pub fn get<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        store.get(&ObjectRef::new(name).within(namespace))
    }

    /// Everything of a kind that belongs to a cluster by label.
    pub fn of_cluster<K>(store: &Store<K>, namespace: &str, cluster: &str) -> Vec<Arc<K>>
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        store.state_filter(|object| {
            object.meta().namespace.as_deref() == Some(namespace)
                && object.labels().get(CLUSTER_LABEL).is_some_and(|label| label == cluster)
        })
    }
}

fn wait<K>(store: &Store<K>) -> futures::future::BoxFuture<'_, ()>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    Box::pin(async {
        // The writer only goes when the process stops.
        let _stopping = store.wait_until_ready().await;
    })
}

struct Watching<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    tasks: &'a mut JoinSet<()>,
    stop: &'a CancellationToken,
}

impl Watching<'_> {
    fn children<K: Object>(&mut self, config: watcher::Config, wires: &Wires) -> Store<K> {
        let wires = wires.clone();
        self.watch(config, move |child: K| {
            let mut wires = wires.clone();
            async move { wires.child(&child).await }
        })
    }

    fn watch<K, F>(&mut self, config: watcher::Config, touched: impl Fn(K) -> F + Send + 'static) -> Store<K>
    where
        K: Object,
        F: Future<Output = ()> + Send + 'static,
    {
        let api: Api<K> = match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        self.reflect(api, config, touched)
    }

    fn storage_classes(&mut self) -> Store<StorageClass> {
        self.reflect(Api::all(self.client.clone()), watcher::Config::default(), |_| async {})
    }

    fn reflect<K, F>(
        &mut self,
        api: Api<K>,
        config: watcher::Config,
        touched: impl Fn(K) -> F + Send + 'static,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Eq + Hash + Clone,
        F: Future<Output = ()> + Send + 'static,
    {
        let (reader, writer) = store::<K>();
        let stop = self.stop.clone();
        let kind = K::kind(&()).into_owned();
        self.tasks.spawn(async move {
            let stream = watcher(api, config)
                .modify(|object| {
                    // Never looked at, and often most of an object's bytes.
                    object.managed_fields_mut().clear();
                })
                .default_backoff()
                .reflect(writer)
                .touched_objects()
                .take_until(stop.cancelled_owned());
            let mut stream = Box::pin(stream);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(object) => touched(object).await,
                    Err(error) => tracing::warn!(kind, %error, "a watch broke; it is begun again"),
                }
            }
        });
        reader
    }
}
