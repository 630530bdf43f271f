//! The stored form of one revision of one key: an encoded `mvccpb.KeyValue`.
//!
//! The bytes equal those of Go's encoder (fields in number order, zeros left out; a deletion keeps only the key), since
//! HashKV runs over them and files carry them. They are handed out without being copied.

use bytes::{Bytes, BytesMut};
use kvnode_proto::mvccpb::KeyValue;
use prost::Message;

/// One encoded `mvccpb.KeyValue`. Cloning it copies no data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(Bytes);

/// What a record says beside its key and value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordMeta {
    /// Revision at which the key came into being (0 in a deletion).
    pub create_revision: i64,
    /// Revision of this write (0 in a deletion).
    pub mod_revision: i64,
    /// Number of writes since creation, this one included (0 in a deletion).
    pub version: i64,
    /// Lease the key hangs on, 0 for none.
    pub lease: i64,
}

/// Positions inside a record, found without decoding it into owned fields.
#[derive(Clone, Copy, Default)]
struct Layout {
    meta: RecordMeta,
    key: (usize, usize),
    value: (usize, usize),
}

impl Record {
    /// Encodes `kv` behind what `chunk` already holds and takes it out of there, so that many small records share one
    /// allocation.
    pub(crate) fn encode_into(kv: &KeyValue, chunk: &mut BytesMut) -> Self {
        chunk.reserve(kv.encoded_len());
        kv.encode_raw(chunk);
        Self(chunk.split().freeze())
    }

    /// Encodes `kv` in an allocation of its own.
    #[must_use]
    pub fn encode(kv: &KeyValue) -> Self {
        Self(Bytes::from(kv.encode_to_vec()))
    }

    /// The deletion of `key`, as stored.
    #[must_use]
    pub fn tombstone(key: &[u8]) -> Self {
        Self::encode(&KeyValue { key: Bytes::copy_from_slice(key), ..KeyValue::default() })
    }

    /// Takes bytes that came from a file. `None` if they are no `mvccpb.KeyValue`.
    pub(crate) fn checked(bytes: Bytes) -> Option<Self> {
        KeyValue::decode(bytes.clone()).ok()?;
        layout(&bytes)?;
        Some(Self(bytes))
    }

    /// Takes bytes that were cut out of a log segment, where only checked records go.
    pub(crate) fn trusted(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The encoded message, ready to be framed into an answer.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The key, without copying.
    #[must_use]
    pub fn key(&self) -> Bytes {
        let (start, end) = self.layout().key;
        self.0.slice(start..end)
    }

    /// The key, borrowed.
    #[must_use]
    pub fn key_slice(&self) -> &[u8] {
        let (start, end) = self.layout().key;
        &self.0[start..end]
    }

    /// The value, borrowed.
    #[must_use]
    pub fn value_slice(&self) -> &[u8] {
        let (start, end) = self.layout().value;
        &self.0[start..end]
    }

    /// The value, without copying.
    #[must_use]
    pub fn value(&self) -> Bytes {
        let (start, end) = self.layout().value;
        self.0.slice(start..end)
    }

    /// Revisions, version and lease.
    #[must_use]
    pub fn meta(&self) -> RecordMeta {
        self.layout().meta
    }

    /// The message in fields; key and value still share the record's bytes.
    #[must_use]
    pub fn to_key_value(&self) -> KeyValue {
        let at = self.layout();
        KeyValue {
            key: self.0.slice(at.key.0..at.key.1),
            create_revision: at.meta.create_revision,
            mod_revision: at.meta.mod_revision,
            version: at.meta.version,
            value: self.0.slice(at.value.0..at.value.1),
            lease: at.meta.lease,
        }
    }

    /// The same record with its value left out; `lease` says whether the lease stays.
    #[must_use]
    pub fn without_value(&self, lease: KeepLease) -> Self {
        let mut kv = self.to_key_value();
        kv.value = Bytes::new();
        if lease == KeepLease::No {
            kv.lease = 0;
        }
        Self::encode(&kv)
    }

    /// The `kv` of a DELETE event: key and revision, nothing else.
    #[must_use]
    pub fn deletion_event(&self, mod_revision: i64) -> Self {
        Self::encode(&KeyValue { key: self.key(), mod_revision, ..KeyValue::default() })
    }

    fn layout(&self) -> Layout {
        layout(&self.0).expect("a stored record was checked when it came in")
    }
}

/// Whether [`Record::without_value`] keeps the lease. etcd answers keys-only ranges from its index, which knows no
/// leases, unless the answer is sorted by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepLease {
    /// Keep it.
    Yes,
    /// Drop it.
    No,
}

/// Finds the fields of an encoded `mvccpb.KeyValue`, in whatever order they stand.
fn layout(bytes: &[u8]) -> Option<Layout> {
    let mut at = Layout::default();
    let mut pos = 0;
    while pos < bytes.len() {
        let tag = varint(bytes, &mut pos)?;
        match tag & 7 {
            0 => {
                let number = varint(bytes, &mut pos)?.cast_signed();
                match tag >> 3 {
                    2 => at.meta.create_revision = number,
                    3 => at.meta.mod_revision = number,
                    4 => at.meta.version = number,
                    6 => at.meta.lease = number,
                    _ => return None,
                }
            }
            2 => {
                let len = usize::try_from(varint(bytes, &mut pos)?).ok()?;
                let end = pos.checked_add(len).filter(|end| *end <= bytes.len())?;
                match tag >> 3 {
                    1 => at.key = (pos, end),
                    5 => at.value = (pos, end),
                    _ => return None,
                }
                pos = end;
            }
            _ => return None,
        }
    }
    Some(at)
}

fn varint(bytes: &[u8], pos: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*pos)?;
        *pos += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_those_of_gos_encoder() {
        let kv = KeyValue {
            key: Bytes::from_static(b"foo"),
            create_revision: 2,
            mod_revision: 300,
            version: 1,
            value: Bytes::from_static(b"bar"),
            lease: -1,
        };
        let expected =
            b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x01\x2a\x03bar\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(Record::encode(&kv).bytes().as_ref(), expected);
        assert_eq!(Record::tombstone(b"foo").bytes().as_ref(), b"\x0a\x03foo");
    }

    #[test]
    fn other_messages_are_refused() {
        for bytes in [&b"\x0a\x05foo"[..], b"\x0b", b"\x38\x01", b"\x10"] {
            assert_eq!(Record::checked(Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn fields_come_back(key: Vec<u8>, value: Vec<u8>, create_revision: i64, mod_revision: i64, version: i64, lease: i64) {
            let kv = KeyValue { key: key.into(), create_revision, mod_revision, version, value: value.into(), lease };
            let record = Record::encode(&kv);
            prop_assert_eq!(record.to_key_value(), kv.clone());
            prop_assert_eq!(record.key(), kv.key);
            prop_assert!(Record::checked(record.bytes().clone()).is_some());
        }
    }
}
