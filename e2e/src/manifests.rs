//! Manifests as users write them, with the few words that tests change.

/// An `EtcdCluster` that leaves everything to the defaults but its size.
pub fn cluster(name: &str, replicas: u16) -> String {
    format!(
        "apiVersion: kvnode.io/v1alpha1
kind: EtcdCluster
metadata:
  name: {name}
spec:
  replicas: {replicas}
"
    )
}

/// A manifest with further lines of spec, given as they would stand under `spec:`.
pub fn with_spec(manifest: &str, lines: &[&str]) -> String {
    let mut text = manifest.to_owned();
    for line in lines {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    text
}
