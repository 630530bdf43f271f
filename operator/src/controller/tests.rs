//! Whole passes against an API in memory: what is written, and above all what is not.

use std::sync::Arc;
use std::time::Duration;

use crds::names::STORED_OBJECT_FINALIZER;
use crds::{EtcdBackup, EtcdCluster};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use operator_plan::observed::{ClaimRef, Settings};
use operator_plan::plan::ClaimOwner;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::apply::ApplyError;
use super::caches::{self, Caches};
use super::context::{Context, Shared};
use super::fake::FakeApi;
use super::{PassError, backup, cluster};
use crate::etcd::Pool;
use crate::lease::Leadership;
use crate::metrics::Metrics;

const CLUSTER: &str = "/apis/kvnode.io/v1alpha1/namespaces/db/etcdclusters/core";
const SET: &str = "/apis/apps/v1/namespaces/db/statefulsets/core";
const SERVICE: &str = "/api/v1/namespaces/db/services/core-client";
const IDENTITY: &str = "/api/v1/namespaces/db/configmaps/core-identity";
const BACKUP: &str = "/apis/kvnode.io/v1alpha1/namespaces/db/etcdbackups/first";

struct World {
    api: FakeApi,
    ctx: Context,
    clusters: cluster::State,
    backups: backup::State,
    shared: Shared,
    _watches: JoinSet<()>,
}

impl World {
    async fn new(leads: bool) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let api = FakeApi::default();
        api.put(
            "/apis/storage.k8s.io/v1/storageclasses/standard",
            json!({
                "provisioner": "test",
                "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            }),
        );
        let mut watches = JoinSet::new();
        let (caches, triggers) = caches::start(&api.client(), None, &mut watches, &CancellationToken::new());
        caches.ready().await;
        // Nobody waits at the other ends here: without them a trigger is dropped at once.
        drop(triggers);
        let shared = Shared {
            settings: Settings {
                node_image: "kvnode:1".to_owned(),
                operator_image: "operator:1".to_owned(),
                node_image_pull_policy: None,
                operator_image_pull_policy: None,
                dns_domain: "cluster.local".to_owned(),
            },
            pool: Arc::new(Pool::default()),
            http: reqwest::Client::new(),
            metrics: Arc::new(Metrics::new()),
            leadership: Leadership::fixed(leads),
            identity: "test".to_owned(),
        };
        let ctx = Context::new(api.client(), caches, shared.clone());
        Self {
            api,
            ctx,
            shared,
            clusters: cluster::State::default(),
            backups: backup::State::default(),
            _watches: watches,
        }
    }

    async fn with_cluster(leads: bool) -> Self {
        let world = Self::new(leads).await;
        world.api.put(
            CLUSTER,
            json!({
                "apiVersion": "kvnode.io/v1alpha1", "kind": "EtcdCluster",
                "metadata": {"generation": 1},
                "spec": {"replicas": 3, "storage": {"size": "1Gi"}},
            }),
        );
        world
    }

    /// Waits until the caches show what the API holds at `path`.
    async fn seen<K>(&self, store: &kube::runtime::reflector::Store<K>, path: &str)
    where
        K: kube::Resource<DynamicType = ()> + Clone + 'static,
    {
        let name = path.rsplit('/').next().unwrap();
        let wanted =
            self.api.get(path).map(|o| o["metadata"]["resourceVersion"].as_str().unwrap().to_owned());
        let caught_up = async {
            while Caches::get(store, "db", name).and_then(|object| object.resource_version()) != wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), caught_up).await.expect("the caches catch up");
    }

    async fn caught_up(&self) {
        let caches = &self.ctx.caches;
        self.seen(&caches.clusters, CLUSTER).await;
        self.seen(&caches.stateful_sets, SET).await;
        self.seen(&caches.services, SERVICE).await;
        self.seen(&caches.services, "/api/v1/namespaces/db/services/core-peers").await;
        self.seen(&caches.budgets, "/apis/policy/v1/namespaces/db/poddisruptionbudgets/core").await;
        self.seen(&caches.config_maps, IDENTITY).await;
        for secret in ["core-ca", "core-server-tls", "core-peer-tls", "core-client-tls", "core-operator-tls"]
        {
            self.seen(&caches.secrets, &format!("/api/v1/namespaces/db/secrets/{secret}")).await;
        }
    }

    async fn pass(&self) -> Result<Duration, PassError> {
        self.caught_up().await;
        let cluster: Arc<EtcdCluster> = Caches::get(&self.ctx.caches.clusters, "db", "core").unwrap();
        cluster::pass(&self.ctx, &self.clusters, cluster).await
    }

    /// Passes until one writes nothing.
    async fn settle(&self) {
        for _ in 0..20 {
            self.pass().await.unwrap();
            if self.api.take_writes().is_empty() {
                return;
            }
        }
        panic!("twenty passes and still writing");
    }
}

fn writes_to(writes: &[String], what: &str) -> usize {
    writes.iter().filter(|write| write.contains(what)).count()
}

#[tokio::test]
async fn everything_of_a_cluster_is_written_once_and_then_nothing_is() {
    let world = World::with_cluster(true).await;
    let mut writes = Vec::new();
    for _ in 0..10 {
        world.pass().await.unwrap();
        writes.extend(world.api.take_writes());
    }
    for (object, times) in [
        ("PATCH statefulsets/core", 1),
        ("PATCH services/core-peers", 1),
        ("PATCH services/core-client", 1),
        ("PATCH poddisruptionbudgets/core", 1),
        ("secrets/core-ca", 1),
        ("secrets/core-server-tls", 1),
        ("POST configmaps/core-identity", 1),
    ] {
        assert_eq!(writes_to(&writes, object), times, "{object} in {writes:#?}");
    }
    world.settle().await;
    for _ in 0..3 {
        world.pass().await.unwrap();
    }
    assert_eq!(world.api.take_writes(), Vec::<String>::new());
}

/// What a pass of an operator that has just started writes.
async fn writes_after_restart(world: &World) -> Vec<String> {
    let mut watches = JoinSet::new();
    let (caches, _triggers) =
        caches::start(&world.api.client(), None, &mut watches, &CancellationToken::new());
    caches.ready().await;
    let shared = Shared {
        settings: world.ctx.settings.clone(),
        pool: Arc::new(Pool::default()),
        http: reqwest::Client::new(),
        metrics: Arc::new(Metrics::new()),
        leadership: Leadership::fixed(true),
        identity: "another".to_owned(),
    };
    let ctx = Context::new(world.api.client(), caches, shared);
    let cluster = Caches::get(&ctx.caches.clusters, "db", "core").unwrap();
    cluster::pass(&ctx, &cluster::State::default(), cluster).await.unwrap();
    world.api.take_writes()
}

#[tokio::test]
async fn a_restarted_operator_finds_nothing_to_write() {
    let world = World::with_cluster(true).await;
    world.settle().await;
    assert_eq!(writes_after_restart(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_record_without_our_label_is_the_record() {
    let world = World::with_cluster(true).await;
    world.settle().await;
    world.api.edit(IDENTITY, |record| record["metadata"]["labels"] = json!({}));
    assert_eq!(writes_after_restart(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_edited_object_is_put_back_and_nothing_else_is_touched() {
    let world = World::with_cluster(true).await;
    world.settle().await;
    let wanted = world.api.get(SERVICE).unwrap()["spec"].clone();
    world.api.edit(SERVICE, |service| service["spec"]["ports"][0]["port"] = json!(1));
    world.pass().await.unwrap();
    assert_eq!(world.api.take_writes(), ["PATCH services/core-client"]);
    assert_eq!(world.api.get(SERVICE).unwrap()["spec"], wanted);
}

#[tokio::test]
async fn lost_status_changes_nothing_but_status() {
    let world = World::with_cluster(true).await;
    world.settle().await;
    world.api.edit(CLUSTER, |cluster| cluster["status"] = Value::Null);
    world.pass().await.unwrap();
    let writes = world.api.take_writes();
    let others: Vec<_> =
        writes.iter().filter(|w| !w.contains("etcdclusters/core/status") && !w.contains("events/")).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(writes_to(&writes, "etcdclusters/core/status"), 1);
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone_and_told() {
    let world = World::with_cluster(true).await;
    let theirs = json!({"spec": {"ports": [{"port": 80}]}});
    world.api.put(SERVICE, theirs.clone());
    let service = world.api.get(SERVICE).unwrap();
    for _ in 0..4 {
        // The foreign Service has no label, so it is not in the caches: the pass must find it by itself.
        let cluster = Caches::get(&world.ctx.caches.clusters, "db", "core");
        let Some(cluster) = cluster else {
            world.seen(&world.ctx.caches.clusters, CLUSTER).await;
            continue;
        };
        let _fails = cluster::pass(&world.ctx, &world.clusters, cluster).await;
        world.seen(&world.ctx.caches.clusters, CLUSTER).await;
    }
    assert_eq!(world.api.get(SERVICE).unwrap(), service);
    let status = world.api.get(CLUSTER).unwrap()["status"].to_string();
    assert!(status.contains("core-client") && status.contains("not controlled by this cluster"), "{status}");
}

#[tokio::test]
async fn a_volume_without_our_label_is_left_over_too() {
    let world = World::with_cluster(true).await;
    world.api.put("/api/v1/namespaces/db/persistentvolumeclaims/data-core-0", json!({"spec": {}}));
    world.pass().await.unwrap();
    let again = world.pass().await.unwrap();
    let status = world.api.get(CLUSTER).unwrap()["status"].to_string();
    assert!(status.contains("LeftoverIdentity") && status.contains("data-core-0"), "{status}");
    assert_eq!((world.api.get(IDENTITY), world.api.get(SERVICE)), (None, None), "nothing is begun");
    assert_eq!(again, Duration::from_secs(60), "only a human can help");
    world.api.take_writes();
    world.pass().await.unwrap();
    assert_eq!(world.api.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_claim_is_taken_out_whatever_became_of_its_volume() {
    let world = World::new(true).await;
    let (claim, volume) =
        ("/api/v1/namespaces/db/persistentvolumeclaims/data-core-0", "/api/v1/persistentvolumes/pv");
    let take_out = async |bound_to: Option<&str>| {
        world.api.put(claim, json!({"metadata": {"uid": "own"}, "spec": {"volumeName": "pv"}}));
        if let Some(uid) = bound_to {
            let spec = json!({"persistentVolumeReclaimPolicy": "Delete", "claimRef": {"uid": uid}});
            world.api.put(volume, json!({"spec": spec}));
        }
        let reference = ClaimRef {
            name: "data-core-0".to_owned(),
            uid: "own".to_owned(),
            resource_version: String::new(),
        };
        cluster::act::quarantine(&world.ctx, "db", &reference, None).await.unwrap();
        assert_eq!(world.api.get(claim), None);
        world.api.get(volume).map(|volume| volume["spec"]["persistentVolumeReclaimPolicy"].clone())
    };
    assert_eq!(take_out(None).await, None, "it is gone");
    assert_eq!(take_out(Some("another")).await, Some(json!("Delete")), "it is another claim's");
    assert_eq!(take_out(Some("own")).await, Some(json!("Retain")), "it stays");
}

#[tokio::test]
async fn a_claim_gets_and_loses_its_cluster_as_an_owner_and_keeps_others() {
    let world = World::with_cluster(true).await;
    world.settle().await;
    let claim = "/api/v1/namespaces/db/persistentvolumeclaims/data-core-0";
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "other"});
    world.api.put(
        claim,
        json!({"metadata": {"labels": {"kvnode.io/cluster": "core"}, "ownerReferences": [other]}, "spec": {}}),
    );
    let owners = async |policy: &str| {
        world.api.edit(CLUSTER, |cluster| cluster["spec"]["deletionPolicy"] = json!(policy));
        for _ in 0..3 {
            world.seen(&world.ctx.caches.claims, claim).await;
            world.pass().await.unwrap();
        }
        world.api.get(claim).unwrap()["metadata"]["ownerReferences"].clone()
    };
    assert_eq!(owners("Retain").await, json!([other]));
    let uid = world.api.get(CLUSTER).unwrap()["metadata"]["uid"].clone();
    let cluster = json!({
        "apiVersion": "kvnode.io/v1alpha1", "kind": "EtcdCluster", "name": "core", "uid": uid,
        "blockOwnerDeletion": false,
    });
    world.api.take_writes();
    assert_eq!(owners("Delete").await, json!([other, cluster]));
    assert_eq!(writes_to(&world.api.take_writes(), "PATCH persistentvolumeclaims/data-core-0"), 1);
    assert_eq!(owners("Retain").await, json!([other]));
}

#[tokio::test]
async fn without_the_lease_nothing_irreversible_happens() {
    let world = World::with_cluster(false).await;
    for _ in 0..4 {
        let _refused = world.pass().await;
    }
    assert_eq!(world.api.get(IDENTITY), None);
}

#[tokio::test]
async fn without_the_lease_nothing_is_written_at_all() {
    let world = World::with_cluster(false).await;
    assert_eq!(world.pass().await.unwrap_err().reason(), "NotLeading");
    let service: Service =
        serde_json::from_value(json!({"metadata": {"name": "core-client"}, "spec": {}})).unwrap();
    let change = ClaimOwner {
        claim: ClaimRef {
            name: "data-core-0".to_owned(),
            uid: String::new(),
            resource_version: String::new(),
        },
        owner: OwnerReference::default(),
        owned: true,
    };
    let applier = &world.ctx.applier;
    for refused in [
        applier.apply("db", "uid", &service, None).await,
        applier.create("db", &service, None).await,
        applier.delete("db", &service).await,
        applier.own("db", &change).await,
    ] {
        assert!(matches!(refused, Err(ApplyError::NotLeading)), "{refused:?}");
    }
    assert_eq!(world.api.take_writes(), Vec::<String>::new());
}

/// What a Job of ours leaves behind when it has ended well.
fn finished_job(owner_uid: &Value) -> (Value, Value) {
    let labels = json!({"kvnode.io/cluster": "core", "batch.kubernetes.io/job-name": "first-backup"});
    let job = json!({
        "metadata": {"labels": labels, "ownerReferences": [{
            "apiVersion": "kvnode.io/v1alpha1", "kind": "EtcdBackup", "name": "first", "uid": owner_uid, "controller": true,
        }]},
        "status": {
            "startTime": "2026-11-22T10:00:00Z", "completionTime": "2026-11-22T10:00:09Z",
            "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-22T10:00:09Z"}],
        },
    });
    let said = json!({
        "location": "s3://b/k.db", "object": "k.db", "sizeBytes": 2080, "totalSizeBytes": 2048, "sha256": "ab",
        "hash": "1f", "revision": 7, "totalKeys": 3, "version": "3.7.0", "memberName": "core-1", "durationSeconds": 9,
    });
    let pod = json!({
        "metadata": {"labels": labels},
        "status": {"phase": "Succeeded", "containerStatuses": [{
            "name": "operator", "image": "operator:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "message": said.to_string(), "finishedAt": "2026-11-22T10:00:09Z"}},
        }]},
    });
    (job, pod)
}

/// A cluster at rest, and a new backup of it, told by its UID.
async fn world_with_backup() -> (World, Value) {
    let world = World::with_cluster(true).await;
    world.settle().await;
    world.api.put(
        BACKUP,
        json!({
            "apiVersion": "kvnode.io/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"generation": 1},
            "spec": {"clusterRef": {"name": "core"}, "store": {"local": {"claimName": "backups"}}},
        }),
    );
    let uid = world.api.get(BACKUP).unwrap()["metadata"]["uid"].clone();
    (world, uid)
}

#[tokio::test]
async fn a_finished_job_becomes_the_backups_status_once() {
    let (world, uid) = world_with_backup().await;
    let (job_path, pod_path) =
        ("/apis/batch/v1/namespaces/db/jobs/first-backup", "/api/v1/namespaces/db/pods/first-backup-x");
    let (job, pod) = finished_job(&uid);
    world.api.put(job_path, job);
    world.api.put(pod_path, pod);
    let pass = async || {
        world.seen(&world.ctx.caches.backups, BACKUP).await;
        world.seen(&world.ctx.caches.jobs, job_path).await;
        world.seen(&world.ctx.caches.pods, pod_path).await;
        let object: Arc<EtcdBackup> = Caches::get(&world.ctx.caches.backups, "db", "first").unwrap();
        backup::pass(&world.ctx, &world.backups, object).await.unwrap();
    };
    for _ in 0..4 {
        pass().await;
    }
    let status = world.api.get(BACKUP).unwrap()["status"].clone();
    for (field, value) in [
        ("phase", json!("Succeeded")),
        ("hash", json!("1f")),
        ("revision", json!(7)),
        ("totalKeys", json!(3)),
    ] {
        assert_eq!(status[field], value, "{field} of {status}");
    }
    world.api.take_writes();
    for _ in 0..3 {
        pass().await;
    }
    assert_eq!(world.api.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_result_that_the_caches_lack_is_read_before_it_is_given_up() {
    let (world, uid) = world_with_backup().await;
    let job_path = "/apis/batch/v1/namespaces/db/jobs/first-backup";
    let (job, mut pod) = finished_job(&uid);
    world.api.put(job_path, job);
    let phase = async || {
        world.seen(&world.ctx.caches.backups, BACKUP).await;
        world.seen(&world.ctx.caches.jobs, job_path).await;
        let object: Arc<EtcdBackup> = Caches::get(&world.ctx.caches.backups, "db", "first").unwrap();
        backup::pass(&world.ctx, &world.backups, object).await.unwrap();
        world.api.get(BACKUP).unwrap()["status"]["phase"].clone()
    };
    assert_ne!(phase().await, "Failed", "what is stored can be told of by another Job");
    // Without our label it is not in the caches.
    pod["metadata"]["labels"].as_object_mut().unwrap().remove("kvnode.io/cluster");
    world.api.put("/api/v1/namespaces/db/pods/first-backup-x", pod);
    assert_eq!(phase().await, "Succeeded");
}

const DELETE_JOB: &str = "/apis/batch/v1/namespaces/db/jobs/first-delete";

/// A backup that is being deleted with what it stored, and one pass over it.
async fn pass_over_a_deleted_backup(world: &World) {
    try_pass_over_a_deleted_backup(world).await.unwrap();
}

async fn try_pass_over_a_deleted_backup(world: &World) -> Result<Duration, PassError> {
    world.api.put(
        BACKUP,
        json!({
            "apiVersion": "kvnode.io/v1alpha1", "kind": "EtcdBackup",
            "metadata": {
                "uid": "first", "deletionTimestamp": "2026-11-22T11:00:00Z", "finalizers": [STORED_OBJECT_FINALIZER],
            },
            "spec": {
                "clusterRef": {"name": "core"}, "store": {"local": {"claimName": "backups"}}, "deletionPolicy": "Delete",
            },
            "status": {"phase": "Succeeded", "key": "k.db"},
        }),
    );
    world.seen(&world.ctx.caches.backups, BACKUP).await;
    let object: Arc<EtcdBackup> = Caches::get(&world.ctx.caches.backups, "db", "first").unwrap();
    backup::pass(&world.ctx, &world.backups, object).await
}

fn finalizers(world: &World) -> Value {
    world.api.get(BACKUP).unwrap()["metadata"]["finalizers"].clone()
}

#[tokio::test]
async fn a_backup_that_leaves_its_object_behind_says_so_before_it_goes() {
    let world = World::new(true).await;
    world.api.put(
        DELETE_JOB,
        json!({
            "metadata": {"labels": {"kvnode.io/cluster": "core"}, "ownerReferences": [{
                "apiVersion": "kvnode.io/v1alpha1", "kind": "EtcdBackup", "name": "first", "uid": "first", "controller": true,
            }]},
            "status": {"conditions": [{"type": "Failed", "status": "True", "message": "bucket is gone"}]},
        }),
    );
    world.seen(&world.ctx.caches.jobs, DELETE_JOB).await;
    pass_over_a_deleted_backup(&world).await;
    let writes = world.api.take_writes();
    assert_eq!(writes.len(), 2, "{writes:?}");
    assert!(writes[0].starts_with("POST events/"), "{writes:?}");
    assert_eq!(writes[1], "PATCH etcdbackups/first");
    assert_eq!(finalizers(&world), json!([]));
}

#[tokio::test]
async fn a_backup_does_not_hold_up_its_namespace() {
    let world = World::new(true).await;
    pass_over_a_deleted_backup(&world).await;
    assert!(world.api.get(DELETE_JOB).is_some(), "what is stored is deleted first");
    assert_eq!(finalizers(&world), json!([STORED_OBJECT_FINALIZER]));
    let world = World::new(true).await;
    world.api.terminate_namespace("db");
    pass_over_a_deleted_backup(&world).await;
    assert_eq!(finalizers(&world), json!([]), "no Job can be made any more");
}

#[tokio::test]
async fn a_backup_does_not_hold_up_a_namespace_whose_roles_are_gone() {
    for (lost, refused_at) in
        [(&["jobs"][..], "creating Job"), (&["secrets", "jobs", "events"], "reading Secret")]
    {
        let world = World::with_cluster(true).await;
        world.api.forbid(lost);
        let refused = try_pass_over_a_deleted_backup(&world).await.unwrap_err().to_string();
        assert!(refused.contains(refused_at), "{refused}");
        // Rights that lack for another reason are no reason to leave anything behind.
        assert_eq!(finalizers(&world), json!([STORED_OBJECT_FINALIZER]));
        world.api.terminate_namespace("db");
        pass_over_a_deleted_backup(&world).await;
        assert_eq!(finalizers(&world), json!([]), "{lost:?}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_gone_leaves_nothing_behind_in_memory() {
    let world = World::with_cluster(true).await;
    let (mut watches, mut controllers) = (JoinSet::new(), JoinSet::new());
    let stop = CancellationToken::new();
    let (caches, triggers) = caches::start(&world.api.client(), None, &mut watches, &stop);
    caches.ready().await;
    let ctx = Arc::new(Context::new(world.api.client(), caches, world.shared.clone()));
    super::start(&ctx, triggers, &mut controllers, &stop);
    let shows = |wanted: bool| {
        let metrics = Arc::clone(&ctx.metrics);
        async move {
            while metrics.text().unwrap().contains("cluster_members{") != wanted {
                tokio::task::yield_now().await;
            }
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, shows(true)).await.expect("a cluster is measured");
    world.api.remove(CLUSTER);
    tokio::time::timeout(limit, shows(false)).await.expect("its series go with it");
    stop.cancel();
    tokio::time::timeout(limit, async { while controllers.join_next().await.is_some() {} })
        .await
        .expect("controllers end when told to");
}

#[tokio::test]
async fn a_watch_tells_the_owner_about_its_children() {
    use futures::StreamExt;
    let world = World::new(true).await;
    let mut watches = JoinSet::new();
    let (caches, mut triggers) =
        caches::start(&world.api.client(), None, &mut watches, &CancellationToken::new());
    caches.ready().await;
    world.api.put(
        "/api/v1/namespaces/db/pods/core-0",
        json!({
            "metadata": {"labels": {"kvnode.io/cluster": "core", "kvnode.io/backup": "first"}},
        }),
    );
    let cluster =
        tokio::time::timeout(Duration::from_secs(10), triggers.clusters.next()).await.unwrap().unwrap();
    assert_eq!((cluster.name.as_str(), cluster.namespace.as_deref()), ("core", Some("db")));
    let backup =
        tokio::time::timeout(Duration::from_secs(10), triggers.backups.next()).await.unwrap().unwrap();
    assert_eq!(backup.name, "first");
}
