//! Whether an object already is what is wanted: pure. This is what keeps a cluster at rest free of writes.
//!
//! The API server adds defaults, so equality is no measure. Every field we set must be there with our value; fields we
//! stopped setting are noticed by the digest of the whole wish, which travels in an annotation.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Annotation with the digest of the object as it was last applied.
pub const APPLIED_ANNOTATION: &str = "kvnode.io/applied";

/// True if every field of `wanted` is in `live` with an equal value. Lists must have equal length and order: ours have.
pub fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wish)| match live.get(key) {
                Some(value) => contains(value, wish),
                None => is_empty(wish),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wish)| contains(live, wish))
        }
        (live, wanted) => live == wanted,
    }
}

/// The fields of `wanted` with the values they have in `live`: what to compare after the server normalised a value.
pub fn projection(live: &Value, wanted: &Value) -> Value {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => Value::Object(
            wanted
                .iter()
                .map(|(key, wish)| {
                    (key.clone(), live.get(key).map_or(Value::Null, |value| projection(value, wish)))
                })
                .collect(),
        ),
        (Value::Array(live), Value::Array(wanted)) if live.len() == wanted.len() => {
            Value::Array(live.iter().zip(wanted).map(|(live, wish)| projection(live, wish)).collect())
        }
        (live, _) => live.clone(),
    }
}

/// A short digest of a JSON value; maps are sorted, so equal values give equal digests.
pub fn digest(value: &Value) -> String {
    let hash = Sha256::digest(value.to_string());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the digest of the whole object into its annotation.
pub fn mark(wanted: &mut Value) {
    let digest = digest(wanted);
    let metadata = &mut wanted["metadata"];
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = Value::Object(serde_json::Map::new());
    }
    metadata["annotations"][APPLIED_ANNOTATION] = Value::String(digest);
}

/// The server drops what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        Value::String(_) | Value::Number(_) | Value::Bool(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_of_the_server_are_no_difference() {
        let wanted = json!({"spec": {"ports": [{"port": 1}], "selector": {"a": "b"}, "nothing": {}}});
        let live = json!({
            "metadata": {"uid": "u"},
            "spec": {"ports": [{"port": 1, "protocol": "TCP"}], "selector": {"a": "b"}, "type": "ClusterIP"},
        });
        assert!(contains(&live, &wanted));
        assert_eq!(projection(&live, &wanted)["spec"]["ports"], json!([{"port": 1}]));
    }

    #[test]
    fn an_edit_of_one_of_our_fields_is_a_difference() {
        let wanted = json!({"spec": {"ports": [{"port": 1}, {"port": 2}], "replicas": 3}});
        for live in [
            json!({"spec": {"ports": [{"port": 1}, {"port": 2}], "replicas": 2}}),
            json!({"spec": {"ports": [{"port": 2}, {"port": 1}], "replicas": 3}}),
            json!({"spec": {"ports": [{"port": 1}], "replicas": 3}}),
            json!({"spec": {"ports": [{"port": 1}, {"port": 2}]}}),
            json!({}),
        ] {
            assert!(!contains(&live, &wanted), "{live}");
        }
    }

    #[test]
    fn a_field_that_is_not_wanted_any_more_is_a_difference() {
        let (mut before, mut after) = (json!({"spec": {"a": 1, "b": 2}}), json!({"spec": {"a": 1}}));
        mark(&mut before);
        mark(&mut after);
        assert!(contains(&before, &before.clone()));
        assert!(!contains(&before, &after), "the annotation tells");
    }
}
