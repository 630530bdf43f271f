//! What the API server refuses, evaluated here from the generated schema: CEL rules by the rules themselves,
//! bounds and patterns by reading the schema.

use crds::all;
use kube::core::cel::Validator;
use serde_json::{Value, json};

fn schema(kind: &str) -> Value {
    let crd = all().into_iter().find(|c| c.spec.names.kind == kind).expect("a kind");
    let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    serde_json::to_value(schema).unwrap()
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "kvnode.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Messages of the rules that refuse `new` (as a change of `old`, if given).
fn refusals(kind: &str, name: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    let old = old.map(|spec| object(kind, name, spec));
    match Validator::new().validate(&schema(kind), &object(kind, name, new), old.as_ref()) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(|e| e.to_string()).collect(),
    }
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as literals")]
fn accepts(kind: &str, new: Value, old: Option<Value>) {
    let found = refusals(kind, "core", &new, old.as_ref());
    assert!(found.is_empty(), "{new} is refused: {found:?}");
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as literals")]
fn refuses(kind: &str, new: Value, old: Option<Value>, words: &str) {
    let found = refusals(kind, "core", &new, old.as_ref());
    assert!(found.iter().any(|m| m.contains(words)), "{new} from {old:?}: expected {words:?}, got {found:?}");
}

#[expect(clippy::needless_pass_by_value, reason = "cases read better as literals")]
fn cluster(fields: Value) -> Value {
    let mut spec =
        json!({"replicas": 3, "storage": {"size": "8Gi"}, "deletionPolicy": "Retain", "paused": false});
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

#[test]
fn clusters_have_an_odd_number_of_members() {
    for replicas in [1, 3, 5, 7] {
        accepts("EtcdCluster", cluster(json!({"replicas": replicas})), None);
    }
    for replicas in [2, 4, 6] {
        refuses("EtcdCluster", cluster(json!({"replicas": replicas})), None, "must be odd (1, 3, 5 or 7)");
    }
    let replicas = schema("EtcdCluster")["properties"]["spec"]["properties"]["replicas"].clone();
    assert_eq!((replicas["minimum"].as_f64(), replicas["maximum"].as_f64()), (Some(1.0), Some(7.0)));
}

#[test]
fn storage_grows_and_never_shrinks_or_moves() {
    let size = |size: &str| cluster(json!({"storage": {"size": size}}));
    accepts("EtcdCluster", size("16Gi"), Some(size("8Gi")));
    accepts("EtcdCluster", size("8192Mi"), Some(size("8Gi")));
    refuses("EtcdCluster", size("4Gi"), Some(size("8Gi")), "cannot shrink");
    refuses("EtcdCluster", size("1Mi"), None, "at least 64Mi");
    let class = |class: &str| cluster(json!({"storage": {"size": "8Gi", "storageClassName": class}}));
    accepts("EtcdCluster", class("fast"), Some(class("fast")));
    refuses("EtcdCluster", class("slow"), Some(class("fast")), "storageClassName cannot be changed");
    refuses("EtcdCluster", class("slow"), Some(size("8Gi")), "storageClassName cannot be changed");
    refuses("EtcdCluster", size("8Gi"), Some(class("fast")), "storageClassName cannot be changed");
}

#[test]
fn how_a_cluster_began_cannot_be_changed() {
    let from = |name: &str| cluster(json!({"bootstrap": {"fromBackup": {"backupRef": {"name": name}}}}));
    accepts("EtcdCluster", from("a"), Some(from("a")));
    refuses("EtcdCluster", from("b"), Some(from("a")), "bootstrap says how the cluster began");
    refuses("EtcdCluster", cluster(json!({})), Some(from("a")), "bootstrap says how the cluster began");
    refuses("EtcdCluster", from("a"), Some(cluster(json!({}))), "bootstrap says how the cluster began");
    let source = |source: Value| cluster(json!({"bootstrap": {"fromBackup": source}}));
    let store = json!({"local": {"claimName": "backups"}});
    accepts("EtcdCluster", source(json!({"store": store, "key": "a/b.db"})), None);
    refuses("EtcdCluster", source(json!({})), None, "either backupRef or store");
    refuses("EtcdCluster", source(json!({"store": store})), None, "store and key go together");
    let both = json!({"backupRef": {"name": "a"}, "store": store, "key": "k"});
    refuses("EtcdCluster", source(both), None, "either backupRef or store");
}

#[test]
fn tls_cannot_be_changed_on_a_running_cluster() {
    let tls = |name: &str| {
        let reference = json!({"name": name});
        cluster(
            json!({"tls": {"serverSecretRef": reference, "peerSecretRef": reference, "operatorSecretRef": reference}}),
        )
    };
    accepts("EtcdCluster", tls("a"), Some(tls("a")));
    refuses("EtcdCluster", tls("b"), Some(tls("a")), "tls cannot be changed");
    refuses("EtcdCluster", tls("a"), Some(cluster(json!({}))), "tls cannot be changed");
}

#[test]
fn timers_and_compaction_fit_together() {
    let options = |options: Value| cluster(json!({"options": options}));
    accepts("EtcdCluster", options(json!({"heartbeatIntervalMilliseconds": 200})), None);
    let slow = json!({"heartbeatIntervalMilliseconds": 500});
    refuses("EtcdCluster", options(slow), None, "at most a fifth of electionTimeoutMilliseconds");
    let short = json!({"electionTimeoutMilliseconds": 400});
    refuses("EtcdCluster", options(short), None, "at least five times heartbeatIntervalMilliseconds");
    let both = json!({"heartbeatIntervalMilliseconds": 500, "electionTimeoutMilliseconds": 5000});
    accepts("EtcdCluster", options(both), None);
    let mode = json!({"autoCompactionMode": "Periodic"});
    refuses(
        "EtcdCluster",
        options(mode),
        None,
        "set autoCompactionMode and autoCompactionRetention together",
    );
    let revision = json!({"autoCompactionMode": "Revision", "autoCompactionRetention": "1h"});
    refuses("EtcdCluster", options(revision), None, "a count of revisions");
    let revision = json!({"autoCompactionMode": "Revision", "autoCompactionRetention": "1000"});
    accepts("EtcdCluster", options(revision), None);
}

#[test]
fn names_leave_room_for_what_is_named_after_them() {
    let spec = cluster(json!({}));
    let long = "a".repeat(41);
    assert!(refusals("EtcdCluster", &long, &spec, None)[0].contains("at most 40 characters"));
    assert!(refusals("EtcdCluster", "1core", &spec, None)[0].contains("start with a letter"));
    assert!(refusals("EtcdCluster", "co.re", &spec, None)[0].contains("start with a letter"));
    assert!(refusals("EtcdCluster", "core-1", &spec, None).is_empty());
    let schedule = schedule("0 3 * * *");
    assert!(refusals("EtcdBackupSchedule", &"a".repeat(45), &schedule, None)[0].contains("at most 44"));
    assert!(refusals("EtcdBackup", &"a".repeat(57), &backup(), None)[0].contains("at most 56"));
}

fn s3() -> Value {
    json!({"s3": {"bucket": "backups", "region": "us-east-1", "forcePathStyle": true}})
}

fn schedule(cron: &str) -> Value {
    json!({"clusterRef": {"name": "core"}, "schedule": cron, "store": s3()})
}

fn backup() -> Value {
    json!({"clusterRef": {"name": "core"}, "store": s3(), "compression": "None"})
}

#[test]
fn cron_lines_have_five_fields_within_their_ranges() {
    let accepted = [
        "0 3 * * *",
        "*/15 * * * *",
        "0 0 1,15 * MON-FRI",
        "30 2 L * *",
        "0 0 * JAN SUN#2",
        "5-59/10,0 0-23 31 12 7",
        "00 03 15W 02 5L",
        "0 0 ? * ?",
        "0 0 LW * *",
    ];
    for cron in accepted {
        accepts("EtcdBackupSchedule", schedule(cron), None);
    }
    let refused = [
        "0 3 * *",
        "0 0 3 * * *",
        "@daily now ok",
        "0  3 * * *",
        "every day at 3",
        "a b c d e",
        "60 * * * *",
        "0 24 * * *",
        "0 0 32 * *",
        "0 0 W * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "*/0 * * * *",
        "1- * * * *",
        ", * * * *",
    ];
    for cron in refused {
        refuses("EtcdBackupSchedule", schedule(cron), None, "five cron fields");
    }
}

#[test]
fn a_store_is_exactly_one_place() {
    let with = |store: Value| json!({"clusterRef": {"name": "core"}, "store": store, "compression": "None"});
    accepts("EtcdBackup", with(s3()), None);
    refuses("EtcdBackup", with(json!({})), None, "exactly one of s3, gcs, azure and local");
    let mut two = s3();
    two["local"] = json!({"claimName": "x"});
    refuses("EtcdBackup", with(two), None, "exactly one of s3, gcs, azure and local");
}

#[test]
fn endpoints_are_urls_and_only_azures_may_name_the_account_in_the_path() {
    let store = schema("EtcdBackup")["properties"]["spec"]["properties"]["store"]["properties"].clone();
    let pattern = |kind: &str| store[kind]["properties"]["endpoint"]["pattern"].as_str().unwrap().to_owned();
    assert_eq!((pattern("s3"), pattern("gcs")), (r"^https?://[^/]+/?$".into(), r"^https?://[^/]+/?$".into()));
    assert_eq!(pattern("azure"), r"^https?://[^/]+(/[^/]+)?/?$");
}

#[test]
fn what_runs_once_is_not_changed() {
    let mut other = backup();
    other["clusterRef"]["name"] = json!("other");
    refuses("EtcdBackup", other, Some(backup()), "create another EtcdBackup");
    let operation = |type_: &str| json!({"clusterRef": {"name": "core"}, "type": type_});
    accepts("EtcdOperation", operation("Restart"), Some(operation("Restart")));
    refuses(
        "EtcdOperation",
        operation("Defragment"),
        Some(operation("Restart")),
        "create another EtcdOperation",
    );
    let member = json!({"clusterRef": {"name": "core"}, "type": "Restart", "member": "core-1"});
    refuses("EtcdOperation", member, None, "only for type MoveLeader");
}

#[test]
fn every_rule_says_what_to_do() {
    fn rules(schema: &Value, found: &mut Vec<(String, String)>) {
        if let Some(list) = schema["x-kubernetes-validations"].as_array() {
            for rule in list {
                let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
                found.push((text("rule"), text("message")));
            }
        }
        let children = schema["properties"].as_object().into_iter().flat_map(|p| p.values());
        children.chain([&schema["items"]]).for_each(|child| {
            if child.is_object() {
                rules(child, found);
            }
        });
    }
    for kind in ["EtcdCluster", "EtcdBackup", "EtcdBackupSchedule", "EtcdOperation"] {
        let mut found = Vec::new();
        rules(&schema(kind), &mut found);
        assert!(!found.is_empty());
        for (rule, message) in found {
            assert!(message.len() > 20, "{kind}: {rule} says only {message:?}");
        }
    }
}
