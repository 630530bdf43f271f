//! A snapshot as it travels: a bolt image followed by the SHA-256 of the image.
//!
//! `Maintenance.Snapshot` streams it, `etcdutl snapshot restore` insists on it, and kvnode's own checkpoints end with
//! it too, so that damage at rest is noticed. A file has the trailer if its length modulo 512 is 32; a bolt file
//! without one is a multiple of its page size.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sha2::{Digest, Sha256};

use crate::{
    bolt::{self, BoltError, BucketSource, Layout, Reader},
    limits::HASH_STEP_BYTES,
    vfs::{self, File, FileWriter, OpenMode, Vfs},
};

/// Length of the trailer, in bytes.
pub const TRAILER_BYTES: u64 = 32;
const SECTOR_BYTES: u64 = 512;

/// An error about a snapshot file. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is not what was hashed.
    #[error(
        "snapshot {} is damaged: its SHA-256 is {found} but its trailer says {expected}; fetch it again or take \
         another backup",
        path.display()
    )]
    WrongHash {
        /// The file.
        path: PathBuf,
        /// The trailer, in hex.
        expected: String,
        /// The hash of the image, in hex.
        found: String,
    },
    /// No trailer where one is needed.
    #[error(
        "snapshot {} has no SHA-256 trailer ({length} bytes): it is truncated, or a copied database file; fetch it \
         again, or skip the hash check if it was copied",
        path.display()
    )]
    NoTrailer {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
    /// Shorter or longer than announced.
    #[error("snapshot {} has {length} bytes instead of {expected}; fetch it again", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// What was announced, in bytes.
        expected: u64,
    },
    /// The image itself is unusable.
    #[error(transparent)]
    Bolt(#[from] BoltError),
}

impl SnapshotError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| SnapshotError::Io { action, path, source }
    }
}

/// Whether a file must end with a trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailer {
    /// As in a snapshot that was saved or downloaded.
    Required,
    /// Checked if it is there; a database file copied from a data directory has none.
    IfPresent,
}

/// Length of the snapshot of a source measured as `layout`, in bytes.
pub fn snapshot_bytes(layout: &Layout) -> u64 {
    layout.image_bytes() + TRAILER_BYTES
}

/// Writes the snapshot: the image, then its SHA-256. Returns the hash.
///
/// # Errors
/// As [`bolt::write_image`].
pub fn write_snapshot(
    source: &dyn BucketSource,
    layout: &Layout,
    out: &mut dyn Write,
) -> Result<[u8; TRAILER_BYTES as usize], BoltError> {
    let mut hashing = Hashing { hasher: Sha256::new(), out };
    bolt::write_image(source, layout, &mut hashing)?;
    let hash: [u8; TRAILER_BYTES as usize] = hashing.hasher.finalize().into();
    out.write_all(&hash).and_then(|()| out.flush()).map_err(|source| BoltError::Output { source })?;
    Ok(hash)
}

struct Hashing<'a> {
    hasher: Sha256,
    out: &'a mut dyn Write,
}

impl Write for Hashing<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.out.write(data)?;
        self.hasher.update(&data[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Checks the trailer of a file. Returns the length of the image in front of it, in bytes.
pub fn verify(vfs: &dyn Vfs, path: &Path, trailer: Trailer) -> Result<u64, SnapshotError> {
    let file = vfs.open(path, OpenMode::Read).map_err(SnapshotError::io("open", path))?;
    verify_open(&*file, path, trailer)
}

fn verify_open(file: &dyn File, path: &Path, trailer: Trailer) -> Result<u64, SnapshotError> {
    let length = file.length().map_err(SnapshotError::io("measure", path))?;
    if length % SECTOR_BYTES != TRAILER_BYTES {
        return match trailer {
            Trailer::Required => Err(SnapshotError::NoTrailer { path: path.to_owned(), length }),
            Trailer::IfPresent => Ok(length),
        };
    }
    let image_bytes = length - TRAILER_BYTES;
    let found = hash_of(file, image_bytes).map_err(SnapshotError::io("read", path))?;
    let mut expected = [0; TRAILER_BYTES as usize];
    file.read_exact_at(&mut expected, image_bytes).map_err(SnapshotError::io("read", path))?;
    if found != expected {
        return Err(SnapshotError::WrongHash {
            path: path.to_owned(),
            expected: hex(&expected),
            found: hex(&found),
        });
    }
    Ok(image_bytes)
}

fn hash_of(file: &dyn File, length: u64) -> io::Result<[u8; TRAILER_BYTES as usize]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASH_STEP_BYTES];
    let mut at = 0;
    while at < length {
        let step = usize::try_from(length - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..step], at)?;
        hasher.update(&buffer[..step]);
        at += step as u64;
    }
    Ok(hasher.finalize().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A snapshot on its way in, from a leader or a download. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub struct Receiver {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    temporary: PathBuf,
    out: FileWriter<Box<dyn File>>,
}

/// Receptions of this process: two of the same snapshot must not write to one file.
static RECEPTIONS: AtomicU64 = AtomicU64::new(0);

impl Drop for Receiver {
    fn drop(&mut self) {
        // Under this name no more if it was finished; what cannot be removed goes at the next start.
        let _ = self.vfs.remove_file(&self.temporary);
    }
}

impl Receiver {
    /// Begins to receive what will become `path`.
    pub fn create(vfs: Arc<dyn Vfs>, path: &Path) -> Result<Self, SnapshotError> {
        let number = RECEPTIONS.fetch_add(1, Ordering::Relaxed);
        let temporary = vfs::temporary_name(&path.with_added_extension(number.to_string()));
        if let Some(parent) = path.parent() {
            vfs::create_dir_durably(&*vfs, parent).map_err(SnapshotError::io("create", parent))?;
        }
        let file = vfs
            .open(&temporary, OpenMode::CreateOrTruncate)
            .map_err(SnapshotError::io("create", &temporary))?;
        Ok(Self { vfs, path: path.to_owned(), temporary, out: FileWriter::new(file) })
    }

    /// Appends what arrived.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        self.out.write_all(chunk).map_err(SnapshotError::io("write", &self.temporary))
    }

    /// Bytes received so far.
    pub fn received_bytes(&self) -> u64 {
        self.out.offset()
    }

    /// Checks what arrived (its length if announced, its trailer, that it is a bolt file with sound pages), makes it
    /// durable and gives it its name. Returns it opened.
    ///
    /// # Errors
    /// The file is removed if it is not what it should be.
    pub fn finish(self, announced_bytes: Option<u64>, trailer: Trailer) -> Result<Reader, SnapshotError> {
        self.check(announced_bytes, trailer)?;
        self.out.file().sync_data().map_err(SnapshotError::io("sync", &self.temporary))?;
        self.vfs
            .rename(&self.temporary, &self.path)
            .map_err(SnapshotError::io("rename into place", &self.path))?;
        vfs::sync_parent(&*self.vfs, &self.path)
            .map_err(SnapshotError::io("sync the parent of", &self.path))?;
        Ok(Reader::open(&*self.vfs, &self.path)?)
    }

    fn check(&self, announced_bytes: Option<u64>, trailer: Trailer) -> Result<(), SnapshotError> {
        if let Some(expected) = announced_bytes.filter(|expected| *expected != self.received_bytes()) {
            return Err(SnapshotError::WrongLength {
                path: self.path.clone(),
                length: self.received_bytes(),
                expected,
            });
        }
        verify_open(self.out.file(), &self.path, trailer)?;
        check_pages(&Reader::open(&*self.vfs, &self.temporary)?)?;
        Ok(())
    }
}

/// Follows the whole tree: every page whole, used once, in order.
pub fn check_pages(reader: &Reader) -> Result<(), BoltError> {
    let mut pages = reader.top_pages();
    for bucket in reader.buckets() {
        let mut items = reader.items_tracked(bucket, pages);
        for item in items.by_ref() {
            item?;
        }
        pages = items.into_pages();
    }
    reader.check_all_pages_accounted(pages)
}
