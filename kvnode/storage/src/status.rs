//! The four numbers by which a snapshot is known: hash, revision, keys, size, as `etcdutl snapshot status` counts them.

use std::{collections::HashSet, path::Path};

use kvnode_proto::mvccpb::KeyValue;
use prost::Message;

use crate::{
    bolt::{BoltError, Reader},
    vfs::Vfs,
};

/// What `etcdutl snapshot status` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over bucket names, keys and values in order.
    pub hash: u32,
    /// Main part of the last revision in the file; 0 if there is none.
    pub revision: i64,
    /// Keys that exist at that revision.
    pub total_keys: u64,
    /// Length of the image, without trailer or unused space, in bytes.
    pub total_bytes: u64,
    /// Version of the storage format, empty before etcd 3.6.
    pub version: String,
}

/// Reads a whole snapshot or checkpoint, checking every page, and counts. Does not look at the SHA-256 trailer; that
/// is for [`crate::snapshot_file::verify`].
pub fn status(vfs: &dyn Vfs, path: &Path) -> Result<Status, BoltError> {
    let reader = Reader::open(vfs, path)?;
    let mut status = Status {
        hash: 0,
        revision: 0,
        total_keys: 0,
        total_bytes: reader.image_bytes(),
        version: String::new(),
    };
    let mut live: HashSet<Box<[u8]>> = HashSet::new();
    let mut pages = reader.top_pages();
    for bucket in reader.buckets() {
        status.hash = crc32c::crc32c_append(status.hash, bucket.as_bytes());
        let mut items = reader.items_tracked(bucket, pages);
        for item in items.by_ref() {
            let (key, value) = item?;
            status.hash = crc32c::crc32c_append(status.hash, &key);
            status.hash = crc32c::crc32c_append(status.hash, &value);
            match bucket {
                "key" => count_revision(&mut status, &mut live, &key, &value).ok_or(BoltError::NotBolt {
                    path: path.to_owned(),
                    reason: "a revision in it is malformed",
                })?,
                "meta" if key == "storageVersion" => {
                    status.version = String::from_utf8_lossy(&value).into_owned();
                }
                _ => {}
            }
        }
        pages = items.into_pages();
    }
    reader.check_all_pages_accounted(pages)?;
    status.total_keys = live.len() as u64;
    Ok(status)
}

/// Bytes of a revision: main, an underscore, sub.
const REVISION_BYTES: usize = 17;

fn count_revision(
    status: &mut Status,
    live: &mut HashSet<Box<[u8]>>,
    key: &[u8],
    value: &[u8],
) -> Option<()> {
    if key.len() < REVISION_BYTES {
        return None;
    }
    status.revision = i64::from_be_bytes(*key.first_chunk()?);
    let record = KeyValue::decode(value).ok()?;
    if key.get(REVISION_BYTES) == Some(&b't') {
        live.remove(&*record.key);
    } else {
        live.insert(record.key.as_ref().into());
    }
    Some(())
}
