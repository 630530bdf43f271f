//! The Kubernetes objects of a cluster, one file a kind. No decisions: the same cluster gives the same bytes.

mod backup_job;
mod identity;
mod pdb;
mod restore_job;
mod service;
mod statefulset;
mod store;

use std::collections::BTreeMap;

use crds::names::{APP_NAME, CLUSTER_LABEL, ClusterNames, FIELD_MANAGER};
use crds::store::NameRef;
use k8s_openapi::api::core::v1::{
    Capabilities, LocalObjectReference, PodSecurityContext, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub use backup_job::{JobContext, backup_job, delete_job};
pub use identity::identity_config_map;
pub use pdb::{min_available, pod_disruption_budget};
pub use restore_job::{RestoreFrom, restore_job, seed_claim};
pub use service::{client_service, peer_service};
pub use statefulset::{StatefulSetInput, stateful_set};
pub use store::{StoreSecret, object_key, store_secrets};

use crate::observed::owner_uid;
use crate::validate::ValidatedCluster;

/// User and group that every container runs as.
pub const NON_ROOT_UID: i64 = 65532;

/// What an object is for; the value of `app.kubernetes.io/component`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The members and what serves them.
    Member,
    /// Certificates.
    Certificates,
    /// Backups.
    Backup,
    /// A restore.
    Restore,
}

impl Component {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Certificates => "certificates",
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }
}

/// An object of the name is not ours to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} exists and is not controlled by this cluster; rename or delete it, or use another cluster name"
)]
pub struct NotOwned {
    /// Name of the object.
    pub name: String,
}

/// Whether an existing object may be written: only if its controller is the cluster of this UID.
///
/// # Errors
/// If it belongs to someone else or to nobody.
pub fn may_apply(existing: &ObjectMeta, cluster_uid: &str) -> Result<(), NotOwned> {
    may_apply_uid(owner_uid(existing), existing.name.as_deref().unwrap_or_default(), cluster_uid)
}

/// The same for an object of which only the controller's UID and the name were kept.
///
/// # Errors
/// If it belongs to someone else or to nobody.
pub fn may_apply_uid(owner: Option<&str>, name: &str, cluster_uid: &str) -> Result<(), NotOwned> {
    if owner == Some(cluster_uid) { Ok(()) } else { Err(NotOwned { name: name.to_owned() }) }
}

/// Labels on every object of a cluster.
pub fn labels(cluster: &str, component: Component) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", APP_NAME),
        ("app.kubernetes.io/instance", cluster),
        ("app.kubernetes.io/component", component.as_str()),
        ("app.kubernetes.io/part-of", APP_NAME),
        ("app.kubernetes.io/managed-by", FIELD_MANAGER),
        (CLUSTER_LABEL, cluster),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The labels that select a cluster's members and nothing else.
pub fn member_selector(names: &ClusterNames) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", APP_NAME),
        ("app.kubernetes.io/component", Component::Member.as_str()),
        (CLUSTER_LABEL, names.cluster()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The member selector as text, for `status.selector`.
pub fn member_selector_text(names: &ClusterNames) -> String {
    let pairs: Vec<String> = member_selector(names).iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(",")
}

/// The controlling owner of every object of a cluster, volumes and the identity record aside.
pub fn owner_reference(cluster: &ValidatedCluster) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/{}", crds::GROUP, crds::VERSION),
        kind: "EtcdCluster".to_owned(),
        name: cluster.names.cluster().to_owned(),
        uid: cluster.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The cluster as an owner of a volume claim: what goes with it, but neither is controlled by it nor holds up its end.
pub fn volume_owner(cluster: &ValidatedCluster) -> OwnerReference {
    OwnerReference { controller: None, block_owner_deletion: Some(false), ..owner_reference(cluster) }
}

/// Metadata of an object of a cluster, owned by it.
pub fn metadata(cluster: &ValidatedCluster, name: String, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.names.namespace().to_owned()),
        labels: Some(labels(cluster.names.cluster(), component)),
        owner_references: Some(vec![owner_reference(cluster)]),
        ..ObjectMeta::default()
    }
}

/// Secrets to pull images with, as a pod names them.
pub(crate) fn pull_secrets(secrets: &[NameRef]) -> Option<Vec<LocalObjectReference>> {
    let named: Vec<_> =
        secrets.iter().map(|secret| LocalObjectReference { name: secret.name.clone() }).collect();
    (!named.is_empty()).then_some(named)
}

/// Pod security of everything we run: the *restricted* standard.
pub(crate) fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NON_ROOT_UID),
        run_as_group: Some(NON_ROOT_UID),
        fs_group: Some(NON_ROOT_UID),
        // A volume of many gigabytes must not be walked at every start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

/// Container security of everything we run: the *restricted* standard and a read-only root.
pub(crate) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}
