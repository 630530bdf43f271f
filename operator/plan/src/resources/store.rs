//! What a Job needs to reach a store: arguments, mounts and the Secrets they come from.

use crds::backup::Compression;
use crds::names::ClusterNames;
use crds::store::{BackupStore, CA_KEY};
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
    let credentials = store.credentials_secret().map(|secret| (secret, store.credential_keys()));
    let authority = store.ca_secret().map(|secret| (secret, &[CA_KEY][..]));
    credentials
        .into_iter()
        .chain(authority)
        .map(|(secret, keys)| StoreSecret { name: secret.name.clone(), keys: keys.to_vec() })
        .collect()
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
    if let Some(secret) = store.credentials_secret() {
        access.arguments.push(format!("--credentials-dir={CREDENTIALS_DIR}"));
        access.volumes.push(secret_volume("store-credentials", secret.name.clone()));
        access.mounts.push(mount("store-credentials", CREDENTIALS_DIR, Access::ReadOnly));
    }
    if let Some(secret) = store.ca_secret() {
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
