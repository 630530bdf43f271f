//! Compiles the .proto files in Rust, so that a build needs no `protoc`.

use std::{env, error::Error, fs, path::Path};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    let mut files = Vec::new();
    for package in fs::read_dir(root)? {
        for file in fs::read_dir(package?.path())? {
            files.push(file?.path());
        }
    }
    files.sort();
    println!("cargo:rerun-if-changed=proto");

    let mut descriptors = protox::compile(&files, [root])?;
    let code = descriptors.clone();
    // Where things stand in the files is worth keeping for the compiler alone.
    descriptors.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(Path::new(&env::var("OUT_DIR")?).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".etcdserverpb.TxnRequest", "crate::etcdserverpb::TxnRequest")
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(code)?;
    Ok(())
}
