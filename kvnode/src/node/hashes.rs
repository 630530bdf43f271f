//! Hashes of the key space at a revision, and those of the last compactions, computed where they delay nobody.
//!
//! A compaction is hashed by a thread of its own from the state just before it; who waits for a compaction to be complete
//! is answered after that, as in etcd (`kvstore.go: compact`).

use kvnode_mvcc::{CompactionHashes, KeyHash, PastCompaction, ReadError, Reader, Revision};
use parking_lot::Mutex;
use tracing::info;

use super::{queue::Queue, shared::SharedRef, waiters::Answer};

/// Work of the thread that hashes.
pub(crate) enum HashJob {
    /// Hash it and remember the hash.
    Compaction(PastCompaction),
    /// Everything before was done: tell these callers.
    Answer(Vec<(u64, Answer)>),
}

/// What hashes are known, and what is still to be hashed.
#[derive(Default)]
pub(crate) struct Hashes {
    pub(crate) jobs: Queue<HashJob>,
    compactions: Mutex<CompactionHashes>,
}

impl Hashes {
    /// The hash up to `revision`, 0 for the current one, and the current revision. Takes time in proportion to the data,
    /// unless it is one of the last compactions.
    ///
    /// # Errors
    /// The revision is compacted or in the future.
    pub(crate) fn at(&self, reader: &Reader, revision: Revision) -> Result<(KeyHash, Revision), ReadError> {
        let view = reader.view();
        let known = self.compactions.lock().get(revision);
        let hash = known.map_or_else(|| view.hash_kv(revision), Ok)?;
        Ok((hash, view.revision()))
    }

    /// Hashes of the last compactions, newest first.
    pub(crate) fn compactions(&self) -> Vec<KeyHash> {
        let mut found: Vec<KeyHash> = self.compactions.lock().iter().collect();
        found.reverse();
        found
    }

    fn remember(&self, hash: KeyHash) {
        info!(
            hash = hash.hash,
            revision = hash.hash_revision.0,
            "compact-revision" = hash.compact_revision.0,
            "storing new hash"
        );
        self.compactions.lock().remember(hash);
    }
}

/// Runs until the queue is closed.
pub(crate) fn run(shared: &SharedRef) {
    let hashes = &shared.hashes;
    let mut jobs = Vec::new();
    while hashes.jobs.take_all(&mut jobs) {
        for job in jobs.drain(..) {
            match job {
                HashJob::Compaction(past) => hashes.remember(past.hash()),
                HashJob::Answer(mut answers) => shared.waiters.answer_all(&mut answers),
            }
        }
    }
}
