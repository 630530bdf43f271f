//! The few file operations that storage needs, as a trait with two disks behind it: [`RealDisk`] and [`SimDisk`],
//! which loses exactly what POSIX allows a power cut to take.
//!
//! Durability rules both follow: data written to a file is safe after [`File::sync_data`]; a name (created, renamed,
//! removed) is safe after [`Vfs::sync_dir`] of its directory. Nothing else is promised.

mod real;
mod sim;
mod stream;

use std::{fmt::Debug, io, path::Path};

pub use real::RealDisk;
pub use sim::{CrashPlan, SimDisk};
pub use stream::FileWriter;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist; no writing.
    Read,
    /// The file must exist.
    ReadWrite,
    /// The file must not exist.
    CreateNew,
    /// The file is created, or emptied if it exists.
    CreateOrTruncate,
}

/// An open file. Offsets and lengths are in bytes.
pub trait File: Debug + Send + Sync {
    /// Reads at most `buf.len()` bytes at `offset`; 0 means end of file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `data` at `offset`, growing the file as needed. Not durable until synced.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the data and the length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Reserves disk space up to `length`, so that later writes within it need no new space. The file is at least
    /// this long afterwards and new bytes read as zero.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Current length.
    fn length(&self) -> io::Result<u64>;

    /// Takes an exclusive lock that other processes (etcd included) respect, until the file is closed. Fails with
    /// [`io::ErrorKind::WouldBlock`] when another holds it.
    fn lock_exclusive(&self) -> io::Result<()>;

    /// Fills `buf` from `offset`, or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }
}

/// A disk.
pub trait Vfs: Debug + Send + Sync {
    /// Opens or creates a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>>;

    /// Creates a directory and its parents; succeeds if it exists. New directories are private to their owner.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Renames a file or directory within one parent directory, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all in it; succeeds if it does not exist.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Whether a file or directory of this name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// Reads a whole file.
pub fn read_file(vfs: &dyn Vfs, path: &Path) -> io::Result<Vec<u8>> {
    let file = vfs.open(path, OpenMode::Read)?;
    read_all(&*file)
}

/// Reads all of an open file from its beginning.
pub fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.length()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut data = vec![0; length];
    file.read_exact_at(&mut data, 0)?;
    Ok(data)
}

/// Replaces the file at `path` so that after a crash either the old or the new content is there, never a mixture:
/// writes `<path>.tmp`, syncs it, renames it, syncs the directory.
pub fn replace_file(vfs: &dyn Vfs, path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path);
    let file = vfs.open(&temporary, OpenMode::CreateOrTruncate)?;
    file.write_all_at(content, 0)?;
    file.sync_data()?;
    drop(file);
    vfs.rename(&temporary, path)?;
    sync_parent(vfs, path)
}

/// `<path>.tmp`, beside the file it will become.
pub fn temporary_name(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Makes the name of `path` durable.
pub fn sync_parent(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => vfs.sync_dir(parent),
        _ => vfs.sync_dir(Path::new(".")),
    }
}

/// Creates `path` and its parents and makes their names durable up to the first that already existed.
pub fn create_dir_durably(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut here = Some(path);
    while let Some(dir) = here {
        if dir.as_os_str().is_empty() || vfs.exists(dir)? {
            break;
        }
        missing.push(dir);
        here = dir.parent();
    }
    vfs.create_dir_all(path)?;
    for dir in missing.iter().rev() {
        sync_parent(vfs, dir)?;
    }
    Ok(())
}
