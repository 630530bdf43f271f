//! HASH, REVISION, TOTAL KEYS and TOTAL SIZE of a snapshot, as `etcdutl snapshot status` prints them.
//!
//! The fold over records is here; reading the file format is `kvnode-storage`'s.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use bytes::Bytes;
use kvnode_proto::mvccpb::KeyValue;
use kvnode_storage::bolt::Reader;
use kvnode_storage::vfs::RealDisk;
use prost::Message;

/// Bucket with all revisions of all keys.
const KEY_BUCKET: &str = "key";
/// Bucket with facts about the store.
const META_BUCKET: &str = "meta";
/// Key in [`META_BUCKET`] with the etcd version of the format.
const STORAGE_VERSION: &[u8] = b"storageVersion";
/// A revision as a key: eight bytes, `_`, eight bytes.
const REVISION_BYTES: usize = 17;
/// What follows the revision of a deletion.
const TOMBSTONE: u8 = b't';

/// The figures of one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// CRC32C over bucket names, keys and values in order.
    pub hash: u32,
    /// The newest revision.
    pub revision: i64,
    /// Keys that exist at that revision.
    pub total_keys: u64,
    /// Size of the database in bytes, without the trailer.
    pub total_size_bytes: u64,
    /// etcd version of the format, if recorded.
    pub version: Option<String>,
}

/// Reads the whole database at `path` (a trailer is ignored), checking every page on the way. Blocking.
///
/// # Errors
/// A sentence about the first thing that is damaged.
pub fn of_file(path: &Path) -> Result<Figures, String> {
    let reader = Reader::open(&RealDisk, path).map_err(|error| error.to_string())?;
    let mut fold = Fold::default();
    let mut pages = reader.top_pages();
    for bucket in reader.buckets() {
        fold.bucket(bucket.as_bytes());
        let mut items = reader.items_tracked(bucket, pages);
        for item in items.by_ref() {
            let (key, value) = item.map_err(|error| error.to_string())?;
            fold.record(bucket, &key, &value)?;
        }
        pages = items.into_pages();
    }
    reader.check_all_pages_accounted(pages).map_err(|error| error.to_string())?;
    Ok(fold.finish(reader.image_bytes()))
}

/// Adds records up in the order of the file.
#[derive(Default)]
pub struct Fold {
    crc: u32,
    revision: i64,
    version: Option<String>,
    /// Fingerprints of living keys: a set of the keys themselves would need the memory of the whole database.
    living: HashSet<u128>,
}

impl Fold {
    /// The records of another bucket follow.
    pub fn bucket(&mut self, name: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, name);
    }

    /// The next record of the bucket called `bucket`. An error says what is wrong with the record.
    pub fn record(&mut self, bucket: &str, key: &[u8], value: &[u8]) -> Result<(), String> {
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, key), value);
        match bucket {
            KEY_BUCKET => self.revision_of(key, value),
            META_BUCKET if key == STORAGE_VERSION => {
                self.version = Some(String::from_utf8_lossy(value).into_owned());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The sum, for a database of `total_size_bytes`.
    pub fn finish(self, total_size_bytes: u64) -> Figures {
        Figures {
            hash: self.crc,
            revision: self.revision,
            total_keys: self.living.len() as u64,
            total_size_bytes,
            version: self.version,
        }
    }

    fn revision_of(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let main = key.first_chunk::<8>().filter(|_| key.len() >= REVISION_BYTES);
        let main = main.ok_or_else(|| format!("a revision key has {} bytes", key.len()))?;
        self.revision = i64::from_be_bytes(*main);
        let record = KeyValue::decode(Bytes::copy_from_slice(value))
            .map_err(|error| format!("the record of revision {} does not decode: {error}", self.revision))?;
        let fingerprint = fingerprint(&record.key);
        if key.get(REVISION_BYTES) == Some(&TOMBSTONE) {
            self.living.remove(&fingerprint);
        } else {
            self.living.insert(fingerprint);
        }
        Ok(())
    }
}

fn fingerprint(key: &[u8]) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, key).hash(&mut hasher);
        hasher.finish()
    };
    u128::from(half(0)) << 64 | u128::from(half(1))
}
