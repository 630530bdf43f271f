//! What can go wrong with a bolt file.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An error about a bolt file. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoltError {
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
    /// The bytes could not be handed on.
    #[error("cannot write the database image: {source}")]
    Output {
        /// What the receiver said.
        source: io::Error,
    },
    /// Not a bolt file, or its beginning is damaged.
    #[error("{} is not a usable database file: {reason}; take another copy or backup", path.display())]
    NotBolt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A page is damaged.
    #[error("database file {} is damaged at page {page}: {reason}; take another copy or backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The page's number.
        page: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The caller's data cannot be put into a bolt file.
    #[error("bucket {bucket:?} cannot be written: {reason}; this is a defect, please report it")]
    BadSource {
        /// The bucket.
        bucket: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl BoltError {
    /// For `map_err`: what was attempted on which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| BoltError::Io { action, path, source }
    }
}
