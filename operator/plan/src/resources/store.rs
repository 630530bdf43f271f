//! What a Job needs to reach a store: arguments, mounts and the Secrets they come from.

use crds::backup::Compression;
use crds::names::ClusterNames;
use crds::store::{AZURE_CREDENTIAL_KEYS, BackupStore, CA_KEY, GCS_CREDENTIAL_KEYS, S3_CREDENTIAL_KEYS};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume, VolumeMount};

use super::statefulset::{Access, mount, secret_volume};

const CREDENTIALS_DIR: &str = "/etc/kvnode/store-credentials";
const CA_DIR: &str = "/etc/kvnode/store-ca";
const LOCAL_ROOT: &str = "/backups";

/// A Secret a store names, and the keys it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSecret {
    /// Its name.
    pub name: String,
    /// Keys that must be there and not empty.
    pub keys: Vec<&'static str>,
}

/// The Secrets of a store.
pub fn store_secrets(store: &BackupStore) -> Vec<StoreSecret> {
    let mut secrets = Vec::new();
    let mut add = |name: Option<&crds::store::NameRef>, keys: &[&'static str]| {
        if let Some(reference) = name {
            secrets.push(StoreSecret { name: reference.name.clone(), keys: keys.to_vec() });
        }
    };
    if let Some(s3) = &store.s3 {
        add(s3.credentials_secret_ref.as_ref(), &S3_CREDENTIAL_KEYS);
        add(s3.ca_secret_ref.as_ref(), &[CA_KEY]);
    }
    if let Some(gcs) = &store.gcs {
        add(gcs.credentials_secret_ref.as_ref(), &GCS_CREDENTIAL_KEYS);
    }
    if let Some(azure) = &store.azure {
        add(azure.credentials_secret_ref.as_ref(), &AZURE_CREDENTIAL_KEYS);
    }
    secrets
}

/// Full path of a backup's object inside its store. The UID keeps a later backup of the same name from ever
/// overwriting it.
pub fn object_key(
    store: &BackupStore,
    names: &ClusterNames,
    backup: &str,
    backup_uid: &str,
    compression: Compression,
) -> String {
    let default = format!("{}/{}", names.namespace(), names.cluster());
    let prefix = match prefix(store) {
        Some("") => String::new(),
        Some(prefix) => format!("{prefix}/"),
        None => format!("{default}/"),
    };
    let short: String = backup_uid.chars().take(8).collect();
    let suffix = match compression {
        Compression::None => "db",
        Compression::Zstd => "db.zst",
    };
    format!("{prefix}{backup}-{short}.{suffix}")
}

fn prefix(store: &BackupStore) -> Option<&str> {
    let s3 = store.s3.as_ref().map(|s| &s.prefix);
    let gcs = store.gcs.as_ref().map(|s| &s.prefix);
    let azure = store.azure.as_ref().map(|s| &s.prefix);
    let local = store.local.as_ref().map(|s| &s.prefix);
    s3.or(gcs).or(azure).or(local)?.as_deref()
}

/// Arguments, volumes and mounts of a container that reaches a store.
#[derive(Clone, Debug, Default)]
pub(super) struct StoreAccess {
    pub(super) arguments: Vec<String>,
    pub(super) volumes: Vec<Volume>,
    pub(super) mounts: Vec<VolumeMount>,
}

/// Access to the object `key` in `store`.
pub(super) fn store_access(store: &BackupStore, key: &str) -> StoreAccess {
    let json = serde_json::to_string(store).unwrap_or_default();
    let mut access = StoreAccess {
        arguments: vec![format!("--store={json}"), format!("--object={key}")],
        ..StoreAccess::default()
    };
    let s3 = store.s3.as_ref();
    let credentials = s3
        .and_then(|s| s.credentials_secret_ref.as_ref())
        .or_else(|| store.gcs.as_ref().and_then(|s| s.credentials_secret_ref.as_ref()))
        .or_else(|| store.azure.as_ref().and_then(|s| s.credentials_secret_ref.as_ref()));
    if let Some(secret) = credentials {
        access.arguments.push(format!("--credentials-dir={CREDENTIALS_DIR}"));
        access.volumes.push(secret_volume("store-credentials", secret.name.clone()));
        access.mounts.push(mount("store-credentials", CREDENTIALS_DIR, Access::ReadOnly));
    }
    if let Some(secret) = s3.and_then(|s| s.ca_secret_ref.as_ref()) {
        access.arguments.push(format!("--store-ca-file={CA_DIR}/{CA_KEY}"));
        access.volumes.push(secret_volume("store-ca", secret.name.clone()));
        access.mounts.push(mount("store-ca", CA_DIR, Access::ReadOnly));
    }
    if let Some(local) = &store.local {
        access.arguments.push(format!("--local-root={LOCAL_ROOT}"));
        access.volumes.push(Volume {
            name: "backups".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: local.claim_name.clone(),
                read_only: None,
            }),
            ..Volume::default()
        });
        access.mounts.push(mount("backups", LOCAL_ROOT, Access::ReadWrite));
    }
    access
}
