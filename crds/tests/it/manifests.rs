//! The manifests in `yaml/` and the shape every kind must have.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

fn yaml_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml")
}

#[test]
fn committed_manifests_are_current() {
    for crd in crds::all() {
        let name = crd.metadata.name.clone().unwrap();
        let path = yaml_dir().join(format!("{name}.yaml"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let current = crds::manifest(&crd).unwrap();
        assert!(
            committed == current,
            "{} is not current: run `cargo run -p crds --bin crdgen`",
            path.display()
        );
        let read: CustomResourceDefinition = serde_saphyr::from_str(&committed).unwrap();
        assert_eq!(read, crd, "{name}: the text reads back as the definition");
    }
}

#[test]
fn every_kind_has_status_short_name_and_category() {
    let mut short = Vec::new();
    for crd in crds::all() {
        let spec = &crd.spec;
        assert_eq!(spec.names.categories.as_deref(), Some(["kvnode".to_owned()].as_slice()));
        short.extend(spec.names.short_names.clone().unwrap());
        let version = &spec.versions[0];
        assert!(version.subresources.as_ref().unwrap().status.is_some());
        let columns = version.additional_printer_columns.as_ref().unwrap();
        assert_eq!(
            columns.iter().rfind(|c| c.priority.unwrap_or(0) == 0).unwrap().name,
            "Age",
            "Age comes last"
        );
        assert!(columns.iter().all(|c| !c.name.contains(' ')), "no spaces in titles");
    }
    assert_eq!(short, ["ekb", "ekbs", "ekc", "eko"]);
}

#[test]
fn clusters_scale() {
    let crd = crds::all().into_iter().find(|c| c.spec.names.kind == "EtcdCluster").unwrap();
    let scale = crd.spec.versions[0].subresources.clone().unwrap().scale.unwrap();
    assert_eq!(scale.spec_replicas_path, ".spec.replicas");
    assert_eq!(scale.status_replicas_path, ".status.replicas");
    assert_eq!(scale.label_selector_path.as_deref(), Some(".status.selector"));
}

#[test]
fn conditions_are_maps_by_type_and_fields_are_described() {
    for crd in crds::all() {
        let kind = crd.spec.names.kind.clone();
        let schema = serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap()).unwrap();
        let root = &schema["openAPIV3Schema"]["properties"];
        let conditions = &root["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{kind}");
        assert_eq!(conditions["x-kubernetes-list-map-keys"], serde_json::json!(["type"]), "{kind}");
        undescribed(&format!("{kind}.spec"), &root["spec"]);
        undescribed(&format!("{kind}.status"), &root["status"]);
    }
}

/// `kubectl explain` shows a description for every field of ours.
fn undescribed(path: &str, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, field) in properties {
        let path = format!("{path}.{name}");
        // Fields of Kubernetes' own types are described upstream.
        if path.contains("scheduling.") || path.contains("resources") || path.contains("conditions") {
            continue;
        }
        assert!(field["description"].is_string(), "{path} has no description");
        undescribed(&path, field);
        undescribed(&path, &field["items"]);
    }
}

#[test]
fn the_smallest_cluster_shows_its_defaults() {
    let spec: crds::EtcdClusterSpec = serde_json::from_str("{}").unwrap();
    let shown = serde_json::to_value(&spec).unwrap();
    assert_eq!(
        shown,
        serde_json::json!({
            "replicas": 3, "storage": {"size": "8Gi"}, "deletionPolicy": "Retain", "paused": false
        })
    );
    let crd = crds::all().into_iter().find(|c| c.spec.names.kind == "EtcdCluster").unwrap();
    let schema = serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap()).unwrap();
    let properties = &schema["openAPIV3Schema"]["properties"]["spec"]["properties"];
    for (field, default) in shown.as_object().unwrap() {
        assert_eq!(
            &properties[field]["default"], default,
            "{field}: the API server fills in the same default"
        );
    }
}
