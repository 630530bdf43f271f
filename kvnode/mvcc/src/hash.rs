//! Hashes by which members find out that they differ (etcd: `server/storage/mvcc/hash.go`, `backend.Hash`).
//!
//! Both run over the bytes that stand in files, and equal etcd's.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::ControlFlow,
};

use crate::{
    buckets::BUCKETS,
    error::ReadError,
    ids::{RaftIndex, Revision},
    key_range::KeyRange,
    kv::KeySpace,
    limits::COMPACTION_HASHES,
    log::{Address, RevisionKey},
    state::View,
};

/// The hash of the key space up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash {
    /// CRC-32 (Castagnoli).
    pub hash: u32,
    /// The compacted revision that it was computed with; hashes compare only if these are equal.
    pub compact_revision: Revision,
    /// The revision up to which it runs.
    pub hash_revision: Revision,
}

/// A compaction that was applied: the state just before it can still be hashed up to the compacted revision.
#[derive(Clone, Debug)]
pub struct PastCompaction {
    /// The state before. It holds on to what the compaction drops, so hash it soon and let it go.
    pub before: View,
    /// The entry that asked for it.
    pub index: RaftIndex,
    /// The revision compacted to.
    pub revision: Revision,
}

impl PastCompaction {
    /// Hashes everything between the compaction before and this one, as etcd does while it compacts. Takes time in
    /// proportion to the data.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        let kv = &self.before.0.kv;
        // etcd counts the deletions that this compaction keeps as something that is left, which readers do not.
        let at = kv.log.from(self.revision.0).map(|(_, entry)| entry.key);
        let mut at = at.take_while(|key| key.main == self.revision.0);
        let others = if at.any(|key| key.tombstone) { Others::Left } else { Others::None };
        let hash = hash_up_to(kv, self.revision.0, others);
        KeyHash { hash, compact_revision: kv.compacted, hash_revision: self.revision }
    }
}

/// Hashes of the last compactions. Members compare these, since they all compacted at the same revisions, and the RPC
/// `HashKV` answers from here for their revisions (etcd: `hashStorage`).
#[derive(Clone, Debug, Default)]
pub struct CompactionHashes {
    hashes: VecDeque<KeyHash>,
}

impl CompactionHashes {
    /// Remembers one more and forgets the oldest.
    pub fn remember(&mut self, hash: KeyHash) {
        self.hashes.push_back(hash);
        self.hashes.make_contiguous().sort_unstable_by_key(|hash| hash.hash_revision);
        if self.hashes.len() > COMPACTION_HASHES {
            self.hashes.pop_front();
        }
    }

    /// The hash up to a compacted revision, if remembered.
    #[must_use]
    pub fn get(&self, revision: Revision) -> Option<KeyHash> {
        self.hashes.iter().find(|hash| hash.hash_revision == revision).copied()
    }

    /// All that are remembered, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = KeyHash> + '_ {
        self.hashes.iter().copied()
    }
}

impl View {
    /// Hashes the key space up to `revision`, 0 for the current one: the RPC `HashKV`. Takes time in proportion to the
    /// data and belongs on a thread that may be busy.
    ///
    /// # Errors
    /// The revision is compacted or in the future.
    pub fn hash_kv(&self, revision: Revision) -> Result<KeyHash, ReadError> {
        let kv = &self.0.kv;
        if revision.0 > 0 && revision < kv.compacted {
            return Err(ReadError::Compacted(kv.compacted));
        }
        if revision > kv.revision {
            return Err(ReadError::FutureRevision(kv.revision));
        }
        let up_to = if revision.0 == 0 { kv.revision } else { revision };
        Ok(KeyHash {
            hash: hash_up_to(kv, up_to.0, Others::None),
            compact_revision: kv.compacted,
            hash_revision: up_to,
        })
    }

    /// Hashes everything that a checkpoint holds, but for what may differ between healthy members: the RPC `Hash`.
    #[must_use]
    pub fn hash(&self) -> u32 {
        BUCKETS.iter().fold(0, |hash, bucket| {
            let hash = crc32c::crc32c_append(hash, bucket.as_bytes());
            let rows = self.bucket_items(bucket).filter(|(key, _)| !is_local(bucket, key));
            rows.fold(hash, |hash, (key, value)| {
                crc32c::crc32c_append(crc32c::crc32c_append(hash, &key), &value)
            })
        })
    }
}

fn is_local(bucket: &str, key: &[u8]) -> bool {
    bucket == "meta" && matches!(key, b"consistent_index" | b"term" | b"storageVersion")
}

/// Whether something is left beside what readers see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Left,
    None,
}

fn hash_up_to(kv: &KeySpace, up_to: i64, others: Others) -> u32 {
    let compacted = kv.compacted.0;
    let survivors = survivors(kv, up_to, others);
    let mut hash = crc32c::crc32c(b"key");
    for (address, entry) in kv.log.from(0) {
        let RevisionKey { main, .. } = entry.key;
        if main > up_to {
            break;
        }
        // Members drop what compaction allows each at its own time, and older ones drop a deletion at the compacted
        // revision itself, so neither is part of the hash. No deletion is ever a survivor.
        if main <= compacted && survivors.binary_search(&address).is_err() {
            continue;
        }
        hash = crc32c::crc32c_append(hash, &entry.key.to_bytes());
        hash = crc32c::crc32c_append(hash, entry.record.bytes());
    }
    hash
}

/// Of the writes up to the compacted revision, those that count: of each key the one that a reader at `up_to` sees. If no
/// such reader sees any key and nothing else is left, those that compaction leaves, since etcd then hashes whatever is there.
fn survivors(kv: &KeySpace, up_to: i64, others: Others) -> Vec<Address> {
    let compacted = kv.compacted.0;
    let mut survivors = Vec::new();
    let mut any = others == Others::Left;
    // To etcd a key that was deleted and put again at the very end is a deleted one.
    let last = kv.log.from(up_to).map(|(_, entry)| entry).take_while(|entry| entry.key.main == up_to);
    let deleted =
        last.filter(|entry| entry.key.tombstone).map(|entry| entry.record.key()).collect::<BTreeSet<_>>();
    kv.index.visit(&KeyRange::all(), up_to, |key, version| {
        if deleted.contains(key) {
            return ControlFlow::Continue(());
        }
        any = true;
        if version.main <= compacted {
            survivors.push(version.address);
        }
        ControlFlow::Continue(())
    });
    if !any {
        kv.index.visit(&KeyRange::all(), compacted, |_, version| {
            survivors.push(version.address);
            ControlFlow::Continue(())
        });
    }
    survivors.sort_unstable();
    survivors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_hashes_are_remembered() {
        let hash = |revision: i64| KeyHash {
            hash: u32::try_from(revision).unwrap(),
            compact_revision: Revision(revision - 1),
            hash_revision: Revision(revision),
        };
        let mut hashes = CompactionHashes::default();
        [5, 3, 4]
            .iter()
            .chain(&[6, 7, 8, 9, 10, 11, 12, 13])
            .for_each(|revision| hashes.remember(hash(*revision)));
        assert_eq!(hashes.get(Revision(3)), None);
        assert_eq!(hashes.get(Revision(4)), Some(hash(4)));
        assert_eq!(
            hashes.iter().map(|hash| hash.hash_revision.0).collect::<Vec<_>>(),
            (4..=13).collect::<Vec<_>>()
        );
    }
}
