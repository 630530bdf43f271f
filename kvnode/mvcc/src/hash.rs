//! Hashes by which members find out that they differ (etcd: `server/storage/mvcc/hash.go`, `backend.Hash`).
//!
//! Both run over the bytes that stand in files, and equal etcd's.

use std::ops::ControlFlow;

use crate::{
    buckets::BUCKETS,
    error::ReadError,
    ids::Revision,
    key_range::KeyRange,
    kv::KeySpace,
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
        Ok(KeyHash { hash: hash_up_to(kv, up_to.0), compact_revision: kv.compacted, hash_revision: up_to })
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

fn hash_up_to(kv: &KeySpace, up_to: i64) -> u32 {
    let compacted = kv.compacted.0;
    let survivors = survivors(kv, up_to);
    let mut hash = crc32c::crc32c(b"key");
    for (address, entry) in kv.log.from(0) {
        let RevisionKey { main, tombstone, .. } = entry.key;
        if main > up_to {
            break;
        }
        // Members drop what compaction allows each at its own time, and older ones drop a deletion at the compacted
        // revision itself, so neither is part of the hash.
        let doomed = main <= compacted && survivors.binary_search(&address).is_err();
        if doomed || (main == compacted && tombstone) {
            continue;
        }
        hash = crc32c::crc32c_append(hash, &entry.key.to_bytes());
        hash = crc32c::crc32c_append(hash, entry.record.bytes());
    }
    hash
}

/// Of the writes up to the compacted revision, those that count: of each key the one that a reader at `up_to` sees. If no
/// such reader sees any key, those that compaction leaves, since etcd then hashes whatever is there.
fn survivors(kv: &KeySpace, up_to: i64) -> Vec<Address> {
    let compacted = kv.compacted.0;
    let mut survivors = Vec::new();
    let mut any = false;
    kv.index.visit(&KeyRange::all(), up_to, |_, version| {
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
