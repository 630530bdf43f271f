//! Writes the four CustomResourceDefinitions to `crds/yaml/`: `cargo run -p crds --bin crdgen`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    std::fs::create_dir_all(&directory)?;
    for crd in crds::all() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let path = directory.join(format!("{name}.yaml"));
        std::fs::write(&path, crds::manifest(&crd)?)?;
        println!("{}", path.display());
    }
    Ok(())
}
