//! Where things are inside a data directory. The names are etcd's, so its tools find them.

use std::path::{Path, PathBuf};

/// A data directory and the paths in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// Names the directory; touches nothing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `member`: everything this member owns.
    pub fn member(&self) -> PathBuf {
        self.root.join("member")
    }

    /// `member/wal`: the write-ahead log.
    pub fn wal(&self) -> PathBuf {
        self.member().join("wal")
    }

    /// `member/snap`: checkpoints.
    pub fn snap(&self) -> PathBuf {
        self.member().join("snap")
    }

    /// `member/snap/db`: the newest checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.snap().join("db")
    }

    /// `member/snap/<index>.snap.db`: a snapshot of the state at `index` received from the leader.
    pub fn received_snapshot(&self, index: u64) -> PathBuf {
        self.snap().join(format!("{index:016x}.snap.db"))
    }

    /// `member/identity.json`: whose volume this is.
    pub fn identity(&self) -> PathBuf {
        self.member().join("identity.json")
    }
}
