//! The restore: the first member's claim, and the Job that fills it from a backup.

use crds::store::BackupStore;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Container, EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource,
    PodSpec, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::backup_job::{job_container, job_pod};
use super::statefulset::{Access, claim_spec, mount};
use super::store::store_access;
use super::{Component, container_security, labels, metadata, pull_secrets};
use crate::observed::Settings;
use crate::validate::ValidatedCluster;

const DATA_MOUNT: &str = "/var/lib/kvnode";
const DATA_DIR: &str = "/var/lib/kvnode/data";
/// Not on the data volume: nothing of the download may be left there.
const SNAPSHOT_DIR: &str = "/restore";
const SNAPSHOT: &str = "/restore/snapshot.db";
/// Attempts after the first, before the planner looks at the failure.
const RETRIES: i32 = 2;
/// Seconds for all attempts: room for a large download.
const TIMEOUT_SECONDS: i64 = 4 * 3600;

/// The stored object to restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreFrom {
    /// Its store.
    pub store: BackupStore,
    /// Its full path in the store.
    pub key: String,
    /// SHA-256 it must have, if known.
    pub sha256: Option<String>,
    /// Size in bytes it must have, if known.
    pub size_bytes: Option<i64>,
    /// Service account of the Job, if the store trusts one instead of a Secret.
    pub service_account_name: Option<String>,
}

/// The claim of the first member, exactly as the StatefulSet would make it. It has no owner, as the
/// StatefulSet's own claims have none: data outlives what uses it. What `deletionPolicy` says is done to all alike.
pub fn seed_claim(cluster: &ValidatedCluster) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(cluster.names.claim(0)),
            namespace: Some(cluster.names.namespace().to_owned()),
            labels: Some(labels(cluster.names.cluster(), Component::Member)),
            ..ObjectMeta::default()
        },
        spec: Some(claim_spec(cluster, &cluster.spec.storage.size)),
        status: None,
    }
}

/// The Job: download and verify, then write the data directory.
pub fn restore_job(cluster: &ValidatedCluster, settings: &Settings, from: &RestoreFrom) -> Job {
    let mut access = store_access(&from.store, &from.key);
    access.arguments.insert(0, "fetch-backup".to_owned());
    access.arguments.push(format!("--output={SNAPSHOT}"));
    access.arguments.extend(from.sha256.as_ref().map(|sum| format!("--sha256={sum}")));
    access.arguments.extend(from.size_bytes.map(|size| format!("--size={size}")));
    // A member's data is never written over, so with such there the snapshot would not be read.
    access.arguments.push(format!("--unless-exists={DATA_DIR}/member"));
    access.mounts.push(mount("restore", SNAPSHOT_DIR, Access::ReadWrite));
    access.mounts.push(mount("data", DATA_MOUNT, Access::ReadOnly));
    access.volumes.push(Volume {
        name: "restore".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    access.volumes.push(Volume {
        name: "data".to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: cluster.names.claim(0),
            read_only: None,
        }),
        ..Volume::default()
    });
    let fetch = Container {
        name: "fetch".to_owned(),
        args: Some(access.arguments),
        ..job_container(settings, access.mounts)
    };
    let job_labels = labels(cluster.names.cluster(), Component::Restore);
    let scheduling = cluster.spec.scheduling.clone().unwrap_or_default();
    Job {
        metadata: metadata(cluster, cluster.names.restore_job(), Component::Restore),
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            active_deadline_seconds: Some(TIMEOUT_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(job_labels), ..ObjectMeta::default() }),
                spec: Some(PodSpec {
                    service_account_name: from.service_account_name.clone(),
                    // The volume may be bound to the first node that uses it: it must be one a member may use.
                    affinity: scheduling.affinity.and_then(node_affinity),
                    tolerations: (!scheduling.tolerations.is_empty()).then_some(scheduling.tolerations),
                    node_selector: (!scheduling.node_selector.is_empty()).then_some(scheduling.node_selector),
                    image_pull_secrets: pull_secrets(&cluster.spec.image_pull_secrets),
                    init_containers: Some(vec![fetch]),
                    containers: vec![restore_container(cluster)],
                    volumes: Some(access.volumes),
                    ..job_pod()
                }),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// What is said of nodes alone: there are no members yet to be near to or apart from.
fn node_affinity(affinity: Affinity) -> Option<Affinity> {
    let node_affinity = Some(affinity.node_affinity?);
    Some(Affinity { node_affinity, ..Affinity::default() })
}

fn restore_container(cluster: &ValidatedCluster) -> Container {
    let name = cluster.names.pod(0);
    let peer_url = cluster.names.peer_url(0);
    Container {
        name: "restore".to_owned(),
        image: Some(cluster.image.clone()),
        image_pull_policy: cluster.image_pull_policy.clone(),
        args: Some(vec![
            "snapshot".to_owned(),
            "restore".to_owned(),
            SNAPSHOT.to_owned(),
            format!("--data-dir={DATA_DIR}"),
            format!("--name={name}"),
            format!("--initial-cluster={name}={peer_url}"),
            format!("--initial-cluster-token={}", cluster.uid),
            format!("--initial-advertise-peer-urls={peer_url}"),
            // The Job runs again if its end was not heard of, or it was deleted.
            "--unless-restored".to_owned(),
        ]),
        security_context: Some(container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![
            mount("data", DATA_MOUNT, Access::ReadWrite),
            mount("restore", SNAPSHOT_DIR, Access::ReadOnly),
        ]),
        ..Container::default()
    }
}
