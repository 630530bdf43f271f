//! The raft snapshot file, `member/snap/<term>-<index>.snap`: etcd before 3.7 starts from the newest one that the log
//! marks, and finds in it nothing that `db` does not have, too (etcd: `server/etcdserver/api/snap/snapshotter.go`).
//!
//! kvnode itself does not read it. It is written when etcd of an older version may go on with the directory.

use std::io;

use kvnode_proto::{raftpb, snappb};
use prost::Message;

use crate::{
    layout::DataDir,
    vfs::{self, Vfs},
};

const EXTENSION: &str = ".snap";

/// Writes the file durably, and removes those before it.
///
/// # Errors
/// Those of the file system.
pub fn write(vfs: &dyn Vfs, data_dir: &DataDir, snapshot: &raftpb::Snapshot) -> io::Result<()> {
    let data = snapshot.encode_to_vec();
    let envelope = snappb::Snapshot { crc: crc32c::crc32c(&data), data: data.into() };
    let meta = snapshot.metadata.clone().unwrap_or_default();
    let name = format!("{:016x}-{:016x}{EXTENSION}", meta.term, meta.index);
    vfs::replace_file(vfs, &data_dir.snap().join(&name), &envelope.encode_to_vec())?;
    remove(vfs, data_dir, Some(&name))
}

/// Removes the files, but for one.
///
/// # Errors
/// Those of the file system.
pub fn remove(vfs: &dyn Vfs, data_dir: &DataDir, but: Option<&str>) -> io::Result<()> {
    for name in vfs.list(&data_dir.snap())? {
        if name.ends_with(EXTENSION) && Some(name.as_str()) != but {
            vfs.remove_file(&data_dir.snap().join(name))?;
        }
    }
    Ok(())
}
