//! Writes of one transaction: they share one revision and are numbered by sub-revision (etcd:
//! `server/storage/mvcc/kvstore_txn.go`).

use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};
use kvnode_proto::{
    etcdserverpb::{DeleteRangeRequest, PutRequest},
    mvccpb::KeyValue,
};

use super::KeySpace;
use crate::{
    error::ApplyError,
    ids::{LeaseId, Revision},
    index::Version,
    key_range::KeyRange,
    lease::Leases,
    log::RevisionKey,
    record::Record,
};

/// One change of one key, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Revision of its transaction.
    pub revision: Revision,
    /// What happened.
    pub kind: ChangeKind,
    /// The `kv` of the event: the record put, or key and revision of a deletion.
    pub kv: Record,
    /// The key as it was before, if it was.
    pub prev_kv: Option<Record>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It was put.
    Put,
    /// It was deleted, by a request or with its lease.
    Delete,
}

/// What a put did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutResult {
    /// For the header.
    pub revision: Revision,
    /// The key as it was before, if asked for.
    pub prev_kv: Option<Record>,
}

/// What a deletion did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRangeResult {
    /// For the header: the current revision if nothing was deleted.
    pub revision: Revision,
    /// Number of keys deleted.
    pub deleted: i64,
    /// The keys as they were before, if asked for.
    pub prev_kvs: Vec<Record>,
}

/// A write transaction under way. Dropping it without [`WriteTxn::finish`] would leave writes without a revision, so
/// everything that may fail is checked before the first write.
pub(crate) struct WriteTxn<'a> {
    pub(crate) kv: &'a mut KeySpace,
    pub(crate) leases: &'a mut Leases,
    /// Where small records are encoded.
    pub(crate) chunk: &'a mut BytesMut,
    pub(crate) changes: &'a mut Vec<Change>,
    writes: u32,
}

/// Records are encoded into allocations of this size; they live there until their segment is closed.
const CHUNK_BYTES: usize = 32 * 1024;

impl<'a> WriteTxn<'a> {
    pub(crate) fn begin(
        kv: &'a mut KeySpace,
        leases: &'a mut Leases,
        chunk: &'a mut BytesMut,
        changes: &'a mut Vec<Change>,
    ) -> Self {
        Self { kv, leases, chunk, changes, writes: 0 }
    }

    /// The revision that reads inside this transaction see: its own, once it wrote something.
    pub(crate) fn visible(&self) -> Revision {
        if self.writes == 0 { self.kv.revision } else { self.kv.revision.next() }
    }

    /// Ends the transaction; the revision moves on if something was written. Returns it.
    pub(crate) fn finish(self) -> Revision {
        self.kv.revision = self.visible();
        self.kv.revision
    }

    /// Puts one key. `ignore_value` and `ignore_lease` have been checked by [`KeySpace::check_put`].
    pub(crate) fn put(&mut self, request: &PutRequest) -> PutResult {
        let revision = self.kv.revision.next();
        let key = RevisionKey { main: revision.0, sub: self.writes, tombstone: false };
        let chunk = &mut *self.chunk;
        let log = &mut self.kv.log;
        let (mut prev, mut stored, mut old_lease) = (None, None, LeaseId::NONE);
        let mut lease = LeaseId(request.lease);
        self.kv.index.upsert(&request.key, |entry| {
            prev = entry.and_then(|entry| entry.at(revision.0)).map(|version| log.get(version.address));
            let before = prev.as_ref().map(Record::meta);
            old_lease = LeaseId(before.map_or(0, |meta| meta.lease));
            if request.ignore_lease {
                lease = old_lease;
            }
            let value = match &prev {
                Some(prev) if request.ignore_value => prev.value(),
                _ => request.value.clone(),
            };
            let record = encode(
                &KeyValue {
                    key: request.key.clone(),
                    create_revision: before.map_or(revision.0, |meta| meta.create_revision),
                    mod_revision: revision.0,
                    version: before.map_or(0, |meta| meta.version) + 1,
                    value,
                    lease: lease.0,
                },
                chunk,
            );
            let address = log.append(key, record.clone());
            stored = Some(record);
            Version { main: revision.0, address, tombstone: false }
        });
        self.writes += 1;
        if old_lease != lease {
            self.leases.detach(old_lease, &request.key);
            self.leases.attach(lease, &request.key);
        }
        let kv = stored.expect("the index calls back exactly once");
        let prev_kv = prev.clone().filter(|_| request.prev_kv);
        self.changes.push(Change { revision, kind: ChangeKind::Put, kv, prev_kv: prev });
        PutResult { revision, prev_kv }
    }

    /// Deletes the keys of a range that exist now, in order.
    pub(crate) fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResult {
        let range = KeyRange::new(&request.key, &request.range_end);
        let mut keys = Vec::new();
        self.kv.index.visit(&range, self.visible().0, |key, _| {
            keys.push(Bytes::copy_from_slice(key));
            ControlFlow::Continue(())
        });
        let prev_kvs: Vec<Record> = keys.iter().filter_map(|key| self.delete(key)).collect();
        DeleteRangeResult {
            revision: self.visible(),
            deleted: i64::try_from(keys.len()).expect("keys fit in memory"),
            prev_kvs: if request.prev_kv { prev_kvs } else { Vec::new() },
        }
    }

    /// Deletes one key, if it exists, and returns what it was.
    pub(crate) fn delete(&mut self, key: &Bytes) -> Option<Record> {
        let prev = self.kv.get(key, self.visible().0)?;
        let revision = self.kv.revision.next();
        let name = RevisionKey { main: revision.0, sub: self.writes, tombstone: true };
        let tombstone = encode(&KeyValue { key: key.clone(), ..KeyValue::default() }, self.chunk);
        let kv = tombstone.deletion_event(revision.0);
        let address = self.kv.log.append(name, tombstone);
        self.kv.index.upsert(key, |_| Version { main: revision.0, address, tombstone: true });
        self.writes += 1;
        self.leases.detach(LeaseId(prev.meta().lease), key);
        // Watchers are shown what was there before the transaction.
        let before = if prev.meta().mod_revision == revision.0 {
            self.kv.get(key, self.kv.revision.0)
        } else {
            Some(prev.clone())
        };
        self.changes.push(Change { revision, kind: ChangeKind::Delete, kv, prev_kv: before });
        Some(prev)
    }
}

fn encode(kv: &KeyValue, chunk: &mut BytesMut) -> Record {
    if kv.key.len() + kv.value.len() >= crate::limits::LONE_RECORD_BYTES {
        return Record::encode(kv);
    }
    if chunk.capacity() < CHUNK_BYTES / 8 {
        *chunk = BytesMut::with_capacity(CHUNK_BYTES);
    }
    Record::encode_into(kv, chunk)
}

impl KeySpace {
    /// What must hold before `request` may write: its lease exists, and its key does if it is to keep value or lease.
    pub(crate) fn check_put(&self, request: &PutRequest, leases: &Leases) -> Result<(), ApplyError> {
        let lease = LeaseId(request.lease);
        if lease != LeaseId::NONE && !leases.contains(lease) {
            return Err(ApplyError::LeaseNotFound);
        }
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && self.index.get(&request.key, self.revision.0).is_none() {
            return Err(ApplyError::KeyNotFound);
        }
        Ok(())
    }
}
