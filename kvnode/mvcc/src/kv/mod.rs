//! The key space: log and index together, read at any revision that is not compacted away.
//!
//! [`range`] reads, [`write`] writes inside one transaction, [`txn`] decides what a transaction does, [`compact`] forgets.

pub(crate) mod compact;
pub(crate) mod range;
pub(crate) mod txn;
pub mod validate;
pub(crate) mod write;

use crate::{ids::Revision, index::KeyIndex, log::RevisionLog, record::Record};

/// The key space at one moment. Cloning costs a few reference counts.
#[derive(Clone, Debug)]
pub(crate) struct KeySpace {
    pub(crate) log: RevisionLog,
    pub(crate) index: KeyIndex,
    /// Revision of the last transaction that changed something.
    pub(crate) revision: Revision,
    /// Nothing older than this can be read. -1 before the first compaction, as etcd has it.
    pub(crate) compacted: Revision,
    /// Up to where dropped revisions are really gone; -1 if never.
    pub(crate) scrubbed: Revision,
    /// Writes forgotten since the start. Not part of the replicated state.
    pub(crate) forgotten: u64,
}

impl Default for KeySpace {
    fn default() -> Self {
        Self {
            log: RevisionLog::default(),
            index: KeyIndex::default(),
            revision: Revision::FIRST,
            compacted: Revision(-1),
            scrubbed: Revision(-1),
            forgotten: 0,
        }
    }
}

impl KeySpace {
    /// `key` as readers at revision `main` see it. The caller has checked that `main` is readable.
    pub(crate) fn get(&self, key: &[u8], main: i64) -> Option<Record> {
        self.index.get(key, main).map(|version| self.log.get(version.address))
    }
}
