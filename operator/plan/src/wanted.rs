//! Which Secrets the shell has to look up before it asks for a plan.

use std::collections::BTreeSet;

use crds::names::ClusterNames;
use crds::{EtcdBackup, EtcdCluster};

use crate::resources::store_secrets;

/// Names of the Secrets `Observed.secrets` should hold for a cluster: its own, those of `spec.tls`, and those of
/// the store it begins from. `source` is the `EtcdBackup` that `spec.bootstrap` names, if it exists.
pub fn wanted_secrets(cluster: &EtcdCluster, source: Option<&EtcdBackup>) -> Vec<String> {
    let meta = &cluster.metadata;
    let names = ClusterNames::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    let mut wanted = BTreeSet::from([
        names.ca_secret(),
        names.server_secret(),
        names.peer_secret(),
        names.client_secret(),
        names.operator_secret(),
    ]);
    if let Some(tls) = &cluster.spec.tls {
        for reference in [&tls.server_secret_ref, &tls.peer_secret_ref, &tls.operator_secret_ref] {
            wanted.insert(reference.name.clone());
        }
    }
    let from = cluster.spec.bootstrap.as_ref().map(|b| &b.from_backup);
    let stores = [from.and_then(|f| f.store.as_ref()), source.map(|s| &s.spec.store)];
    for store in stores.into_iter().flatten() {
        wanted.extend(store_secrets(store).into_iter().map(|secret| secret.name));
    }
    wanted.into_iter().collect()
}

/// Names of the Secrets `ObservedBackup.secrets` should hold: those of its store, and the operator's of its
/// cluster.
pub fn wanted_backup_secrets(backup: &EtcdBackup, cluster: Option<&EtcdCluster>) -> Vec<String> {
    let mut wanted: BTreeSet<String> =
        store_secrets(&backup.spec.store).into_iter().map(|secret| secret.name).collect();
    wanted.extend(cluster.map(operator_secret));
    wanted.into_iter().collect()
}

/// The Secret with which the operator and its Jobs reach a cluster's members.
pub fn operator_secret(cluster: &EtcdCluster) -> String {
    let meta = &cluster.metadata;
    let names = ClusterNames::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    match &cluster.spec.tls {
        Some(tls) => tls.operator_secret_ref.name.clone(),
        None => names.operator_secret(),
    }
}
