//! The raft snapshot file, `member/snap/<term>-<index>.snap`: etcd before 3.7 starts from the newest one that the log
//! marks, and finds in it nothing that `db` does not have, too (etcd: `server/etcdserver/api/snap/snapshotter.go`).
//!
//! kvnode itself does not read it.

use std::io;

use kvnode_proto::{raftpb, snappb};
use prost::Message;

use crate::{
    layout::DataDir,
    vfs::{self, Vfs},
};

const EXTENSION: &str = ".snap";

/// Files that stay: the newest may not be marked in the log yet when the process ends.
const KEPT: usize = 2;

/// Writes the file durably, and removes those before the last.
///
/// # Errors
/// Those of the file system.
pub fn write(vfs: &dyn Vfs, data_dir: &DataDir, snapshot: &raftpb::Snapshot) -> io::Result<()> {
    let data = snapshot.encode_to_vec();
    let envelope = snappb::Snapshot { crc: crc32c::crc32c(&data), data: data.into() };
    let meta = snapshot.metadata.clone().unwrap_or_default();
    let name = format!("{:016x}-{:016x}{EXTENSION}", meta.term, meta.index);
    vfs::replace_file(vfs, &data_dir.snap().join(&name), &envelope.encode_to_vec())?;
    let mut names = vfs.list(&data_dir.snap())?;
    names.retain(|name| name.ends_with(EXTENSION));
    // By term, then index.
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.iter().skip(KEPT).try_for_each(|name| vfs.remove_file(&data_dir.snap().join(name)))
}
