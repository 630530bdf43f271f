//! Writes the four CustomResourceDefinitions: `cargo run -p crds --bin crdgen`.

use std::path::Path;

/// Where they are kept, from this crate's directory: as manifests to apply, and in the chart, which cannot reach outside.
const DIRECTORIES: [&str; 2] = ["yaml", "../charts/kvnode-operator/files/crds"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for directory in DIRECTORIES {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        std::fs::create_dir_all(&directory)?;
        for crd in crds::all() {
            let name = crd.metadata.name.clone().unwrap_or_default();
            let path = directory.join(format!("{name}.yaml"));
            std::fs::write(&path, crds::manifest(&crd)?)?;
            println!("{}", path.display());
        }
    }
    Ok(())
}
