//! The Jobs of one backup: the one that makes it, and the one that deletes its stored object.

use std::collections::BTreeMap;

use crds::EtcdBackup;
use crds::names::{self, ClusterNames};
use crds::store::NameRef;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, PodSpec, PodTemplateSpec, ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::statefulset::{Access, mount, secret_volume};
use super::store::{StoreAccess, store_access};
use super::{Component, container_security, labels, pod_security, pull_secrets};
use crate::observed::Settings;

const TLS_DIR: &str = "/etc/kvnode/tls/operator";
const SCRATCH_DIR: &str = "/scratch";
/// Attempts after the first: a store that is away for a moment does not lose the run.
const RETRIES: i32 = 2;
/// Deleting is tried longer: what is not deleted now is never deleted.
const DELETE_RETRIES: i32 = 5;
/// Seconds for a deletion in all.
const DELETE_TIMEOUT_SECONDS: i64 = 600;

/// What the Jobs depend on besides the backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobContext {
    /// Names of the cluster's objects.
    pub names: ClusterNames,
    /// Members to ask.
    pub members: u32,
    /// Secret with the certificate to show to members.
    pub operator_secret: String,
    /// How the operator was installed.
    pub settings: Settings,
    /// Full path of the stored object.
    pub key: String,
    /// Secrets to pull the operator's image with: those of the cluster, if it exists.
    pub image_pull_secrets: Vec<NameRef>,
}

/// The Job that takes the snapshot and stores it.
pub fn backup_job(backup: &EtcdBackup, context: &JobContext) -> Job {
    let endpoints: Vec<String> = (0..context.members).map(|o| context.names.client_url(o)).collect();
    let mut access = store_access(&backup.spec.store, &context.key);
    let mut arguments = vec![
        "backup".to_owned(),
        format!("--endpoints={}", endpoints.join(",")),
        format!("--ca-file={TLS_DIR}/ca.crt"),
        format!("--cert-file={TLS_DIR}/tls.crt"),
        format!("--key-file={TLS_DIR}/tls.key"),
        format!("--scratch-dir={SCRATCH_DIR}"),
        format!("--compression={}", backup.spec.compression.as_str()),
    ];
    arguments.append(&mut access.arguments);
    access.volumes.push(secret_volume("operator-tls", context.operator_secret.clone()));
    access.mounts.push(mount("operator-tls", TLS_DIR, Access::ReadOnly));
    access.volumes.push(scratch());
    access.mounts.push(mount("scratch", SCRATCH_DIR, Access::ReadWrite));
    let limits = Limits { retries: RETRIES, timeout_seconds: backup.spec.timeout_seconds };
    let name = names::backup_job(&backup_name(backup));
    job(backup, name, context, StoreAccess { arguments, ..access }, limits)
}

/// The Job that deletes the stored object.
pub fn delete_job(backup: &EtcdBackup, context: &JobContext) -> Job {
    let mut access = store_access(&backup.spec.store, &context.key);
    access.arguments.insert(0, "delete-backup".to_owned());
    let limits = Limits { retries: DELETE_RETRIES, timeout_seconds: DELETE_TIMEOUT_SECONDS };
    job(backup, names::backup_delete_job(&backup_name(backup)), context, access, limits)
}

#[derive(Clone, Copy)]
struct Limits {
    retries: i32,
    timeout_seconds: i64,
}

fn backup_name(backup: &EtcdBackup) -> String {
    backup.metadata.name.clone().unwrap_or_default()
}

fn job(backup: &EtcdBackup, name: String, context: &JobContext, access: StoreAccess, limits: Limits) -> Job {
    let mut job_labels = labels(context.names.cluster(), Component::Backup);
    job_labels.insert(names::BACKUP_LABEL.to_owned(), backup_name(backup));
    let owner = OwnerReference {
        api_version: format!("{}/{}", crds::GROUP, crds::VERSION),
        kind: "EtcdBackup".to_owned(),
        name: backup_name(backup),
        uid: backup.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let container = Container {
        name: "operator".to_owned(),
        args: Some(access.arguments),
        ..job_container(&context.settings, access.mounts)
    };
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(context.names.namespace().to_owned()),
            labels: Some(job_labels.clone()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(limits.retries),
            active_deadline_seconds: Some(limits.timeout_seconds),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(job_labels), ..ObjectMeta::default() }),
                spec: Some(PodSpec {
                    service_account_name: backup.spec.service_account_name.clone(),
                    image_pull_secrets: pull_secrets(&context.image_pull_secrets),
                    containers: vec![container],
                    volumes: Some(access.volumes),
                    ..job_pod()
                }),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// What the pods of all Jobs have in common: no API token, restricted, started once.
pub(super) fn job_pod() -> PodSpec {
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        ..PodSpec::default()
    }
}

/// What containers of the operator's image in Jobs have in common.
pub(super) fn job_container(settings: &Settings, mounts: Vec<VolumeMount>) -> Container {
    let requests = BTreeMap::from([
        ("cpu".to_owned(), Quantity("50m".to_owned())),
        ("memory".to_owned(), Quantity("64Mi".to_owned())),
    ]);
    Container {
        image: Some(settings.operator_image.clone()),
        image_pull_policy: settings.operator_image_pull_policy.clone(),
        security_context: Some(container_security()),
        resources: Some(ResourceRequirements { requests: Some(requests), ..ResourceRequirements::default() }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn scratch() -> Volume {
    Volume {
        name: "scratch".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}
