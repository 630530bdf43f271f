//! ConfigMap `<cluster>-identity`.

use crds::names::ClusterNames;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Component, labels};
use crate::identity::IdentityRecord;

/// The record as an object. It has no owner: it lives as long as the volumes, which outlive the cluster, so
/// that a cluster of the same name cannot take them for its own.
pub fn identity_config_map(names: &ClusterNames, record: &IdentityRecord) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(names.identity()),
            namespace: Some(names.namespace().to_owned()),
            labels: Some(labels(names.cluster(), Component::Member)),
            ..ObjectMeta::default()
        },
        data: Some(record.to_data()),
        ..ConfigMap::default()
    }
}
