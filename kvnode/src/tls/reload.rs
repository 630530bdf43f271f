//! A value built from files, built anew when one of them changes.
//!
//! Nobody watches the files: each use compares their identity (device, inode, size, modification time), which costs a
//! few microseconds against a TLS handshake's millisecond, and cannot miss a change. Secrets mounted by Kubernetes
//! change all at once through a symbolic link, so the identity is taken before and after reading: a set read across a
//! change is read again.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing::{error, info};

use super::TlsError;

/// Attempts to read a consistent set while files are being replaced.
const ATTEMPTS: usize = 3;

type Build<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

pub(super) struct Reloading<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    build: Build<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Identity of the files at the last attempt, good or bad.
    seen: Vec<Option<Identity>>,
    /// Built from the last good files.
    value: Arc<T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

fn identity(path: &Path) -> Option<Identity> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Identity {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
    })
}

fn identities(files: &[PathBuf]) -> Vec<Option<Identity>> {
    files.iter().map(|path| identity(path)).collect()
}

impl<T> Reloading<T> {
    /// Builds the value for the first time; then a failure is the caller's.
    pub(super) fn new(what: &'static str, files: Vec<PathBuf>, build: Build<T>) -> Result<Self, TlsError> {
        let (seen, value) = build_consistently(&files, &build);
        let value = Arc::new(value?);
        Ok(Self { what, files, build, state: Mutex::new(State { seen, value }) })
    }

    /// The value of the files as they are now, or of the last good ones.
    pub(super) fn current(&self) -> Arc<T> {
        let mut state = self.state.lock();
        if state.seen != identities(&self.files) {
            let (seen, value) = build_consistently(&self.files, &self.build);
            state.seen = seen;
            match value {
                Ok(value) => {
                    state.value = Arc::new(value);
                    info!(files = ?self.files, "reloaded {} TLS files", self.what);
                }
                Err(why) => error!(
                    error = %why,
                    "cannot reload {} TLS files; the previous ones stay in use until this is repaired", self.what
                ),
            }
        }
        Arc::clone(&state.value)
    }
}

fn build_consistently<T>(
    files: &[PathBuf],
    build: &Build<T>,
) -> (Vec<Option<Identity>>, Result<T, TlsError>) {
    let mut before = identities(files);
    for _ in 1..ATTEMPTS {
        let value = build();
        let after = identities(files);
        if before == after {
            return (before, value);
        }
        before = after;
    }
    (before, build())
}
