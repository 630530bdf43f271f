//! What can go wrong with the log.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An error of the write-ahead log. Each is one line that names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
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
    /// Synced data is damaged. Nothing was changed.
    #[error(
        "write-ahead log {} is corrupt at byte {offset}: {reason}; no interrupted write explains it, so nothing was \
         cut off: replace this member with an empty data directory, or restore a backup if it is the only one",
        path.display()
    )]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where the bad record begins, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no log.
    #[error("no write-ahead log in {}; check --data-dir, or start the member as a new one", dir.display())]
    Missing {
        /// Where it should be.
        dir: PathBuf,
    },
    /// There is a log where a new one was to be made.
    #[error("a write-ahead log already exists in {}; start from it, or name an empty directory", dir.display())]
    Exists {
        /// Where it is.
        dir: PathBuf,
    },
    /// The log begins after the point to read from.
    #[error(
        "write-ahead log {} begins after index {index}, so entries are missing between the checkpoint and the log; \
         restore the removed segments or replace this member",
        dir.display()
    )]
    BeginsLater {
        /// The log.
        dir: PathBuf,
        /// The index to read from.
        index: u64,
    },
    /// The log does not say that a snapshot was taken at the point to read from.
    #[error(
        "write-ahead log {} has no snapshot mark of index {index} at term {term}; checkpoint and log do not belong \
         together: replace this member or restore both from one backup",
        dir.display()
    )]
    MarkMissing {
        /// The log.
        dir: PathBuf,
        /// The index asked for.
        index: u64,
        /// The term asked for.
        term: u64,
    },
    /// Another process uses the log.
    #[error("write-ahead log {} is in use by another process; stop it first", path.display())]
    Locked {
        /// The locked segment.
        path: PathBuf,
    },
    /// An earlier write or sync failed; what reached the disk is unknown.
    #[error("write-ahead log {} failed earlier and takes no more; restart the member", dir.display())]
    Failed {
        /// The log.
        dir: PathBuf,
    },
}

impl WalError {
    pub(super) fn corrupt(path: &Path, offset: usize, reason: &'static str) -> Self {
        WalError::Corrupt { path: path.to_owned(), offset: offset as u64, reason }
    }

    /// For `map_err`: what was attempted on which file.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| WalError::Io { action, path, source }
    }
}
