//! The newest state on disk: `member/snap/db`, a bolt file that appears whole or not at all.
//!
//! A checkpoint written here ends with the SHA-256 of its image, checked when it is opened. bbolt ignores the trailer:
//! once it has changed the file, as etcd and its offline tools have it do, the file is taken as etcd's.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    bolt::{BoltError, BucketSource, Layout, Reader},
    layout::DataDir,
    snapshot_file::{self, SnapshotError, Trailer, snapshot_bytes, write_snapshot},
    vfs::{self, FileWriter, OpenMode, Vfs},
};

/// The newest storage version that is understood, major and minor: etcd's numbering.
pub const STORAGE_VERSION: (u32, u32) = (3, 7);

/// An error about the checkpoint. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}; check the disk and its permissions, then start again", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Written by a newer program.
    #[error(
        "checkpoint {} has storage version {found}, newer than 3.7 that this program understands; start a newer one, \
         or downgrade the cluster first",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// A fact about the state is missing or malformed.
    #[error(
        "checkpoint {} has a malformed {field} in its meta bucket; replace this member or restore a backup",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The key in the meta bucket.
        field: &'static str,
    },
    /// The image is unusable.
    #[error(
        "checkpoint unusable: {0}; replace this member with an empty data directory, or restore a backup"
    )]
    Image(#[from] SnapshotError),
}

impl From<BoltError> for CheckpointError {
    fn from(error: BoltError) -> Self {
        CheckpointError::Image(error.into())
    }
}

impl CheckpointError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| CheckpointError::Io { action, path, source }
    }
}

/// A checkpoint that was opened and found whole.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its content.
    pub reader: Reader,
    /// Index of the last entry in it (`consistent_index`); 0 if none.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// `storageVersion`, absent before etcd 3.6.
    pub storage_version: Option<String>,
}

/// Writes the state as the newest checkpoint and makes it durable. Returns its length in bytes. After a crash either
/// the old or the new one is there.
pub fn write(vfs: &dyn Vfs, data_dir: &DataDir, source: &dyn BucketSource) -> Result<u64, CheckpointError> {
    let path = data_dir.checkpoint();
    let snap = data_dir.snap();
    vfs::create_dir_durably(vfs, &snap).map_err(CheckpointError::io("create", &snap))?;
    write_to(vfs, &path, source)
}

/// Writes the state as a checkpoint named `path`, whose directory exists.
pub fn write_to(vfs: &dyn Vfs, path: &Path, source: &dyn BucketSource) -> Result<u64, CheckpointError> {
    let temporary = vfs::temporary_name(path);
    let length = write_temporary(vfs, &temporary, source).inspect_err(|_| {
        // The log needs the room more.
        let _ = vfs.remove_file(&temporary);
    })?;
    vfs.rename(&temporary, path).map_err(CheckpointError::io("rename into place", path))?;
    vfs::sync_parent(vfs, path).map_err(CheckpointError::io("sync the parent of", path))?;
    Ok(length)
}

fn write_temporary(
    vfs: &dyn Vfs,
    temporary: &Path,
    source: &dyn BucketSource,
) -> Result<u64, CheckpointError> {
    let layout = Layout::measure(source)?;
    let length = snapshot_bytes(&layout);
    let file =
        vfs.open(temporary, OpenMode::CreateOrTruncate).map_err(CheckpointError::io("create", temporary))?;
    file.allocate(length).map_err(CheckpointError::io("reserve space for", temporary))?;
    write_snapshot(source, &layout, &mut FileWriter::new(&*file)).map_err(|error| match error {
        BoltError::Output { source } => CheckpointError::io("write", temporary)(source),
        other => other.into(),
    })?;
    file.sync_data().map_err(CheckpointError::io("sync", temporary))?;
    Ok(length)
}

/// Makes a received snapshot the newest checkpoint, durably. It was checked when it was received.
pub fn install(vfs: &dyn Vfs, data_dir: &DataDir, received: &Path) -> Result<(), CheckpointError> {
    let path = data_dir.checkpoint();
    vfs.rename(received, &path).map_err(CheckpointError::io("rename into place", &path))?;
    vfs::sync_parent(vfs, &path).map_err(CheckpointError::io("sync the parent of", &path))
}

/// Opens the newest checkpoint; `None` if there is none. Checks its hash if it has one, and its version.
pub fn open(vfs: &dyn Vfs, data_dir: &DataDir) -> Result<Option<Checkpoint>, CheckpointError> {
    let path = data_dir.checkpoint();
    if !vfs.exists(&path).map_err(CheckpointError::io("look for", &path))? {
        return Ok(None);
    }
    let reader = Reader::open(vfs, &path)?;
    // bbolt may change a file without making it longer, and leaves the hash of what it was behind it.
    if !reader.has_changed() {
        snapshot_file::verify(vfs, &path, Trailer::IfPresent)?;
    }
    let malformed = |field| CheckpointError::Malformed { path: path.clone(), field };

    let mut checkpoint = Checkpoint { index: 0, term: 0, storage_version: None, reader };
    for item in checkpoint.reader.items("meta") {
        let (key, value) = item?;
        match &key[..] {
            b"consistent_index" => {
                checkpoint.index = be_u64(&value).ok_or_else(|| malformed("consistent_index"))?;
            }
            b"term" => checkpoint.term = be_u64(&value).ok_or_else(|| malformed("term"))?,
            b"storageVersion" => {
                let text = String::from_utf8(value.to_vec()).map_err(|_| malformed("storageVersion"))?;
                if major_minor(&text).ok_or_else(|| malformed("storageVersion"))? > STORAGE_VERSION {
                    return Err(CheckpointError::Newer { path, found: text });
                }
                checkpoint.storage_version = Some(text);
            }
            _ => {}
        }
    }
    Ok(Some(checkpoint))
}

/// Removes what interrupted writes and receptions left in `member/snap`.
pub fn remove_leftovers(vfs: &dyn Vfs, data_dir: &DataDir) -> Result<(), CheckpointError> {
    let snap = data_dir.snap();
    if !vfs.exists(&snap).map_err(CheckpointError::io("look for", &snap))? {
        return Ok(());
    }
    for name in vfs.list(&snap).map_err(CheckpointError::io("list", &snap))? {
        if name.ends_with(".tmp") || name.ends_with(".snap.db") {
            let path = snap.join(name);
            vfs.remove_file(&path).map_err(CheckpointError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Removes snapshots that were received and never installed, up to that of `index`, which the newest checkpoint overtook.
pub fn remove_overtaken(vfs: &dyn Vfs, data_dir: &DataDir, index: u64) -> Result<(), CheckpointError> {
    let snap = data_dir.snap();
    for name in vfs.list(&snap).map_err(CheckpointError::io("list", &snap))? {
        let received = name.strip_suffix(".snap.db").and_then(|index| u64::from_str_radix(index, 16).ok());
        if received.is_some_and(|received| received <= index) {
            let path = snap.join(name);
            vfs.remove_file(&path).map_err(CheckpointError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn be_u64(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let (major, rest) = version.split_once('.')?;
    let minor = rest.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
