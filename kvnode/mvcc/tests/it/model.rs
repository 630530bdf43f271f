//! The store against a model that is too simple to be wrong: every write ever made in one list.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kvnode_mvcc::{
    BUCKETS, Config, LeaseId, RaftIndex, ReadError, Record, Response, Revision, RevisionKey, ScrubProgress,
    Store, Term, View, validate,
};
use kvnode_proto::{
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest,
        PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
    },
    mvccpb::KeyValue,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Put { key: u8, value: u8, lease: i64 },
    Delete { key: u8, end: Option<u8> },
    Txn(Vec<Op>),
    Revoke(i64),
    Compact { back: i64 },
    Scrub(usize),
    Restore,
    Check { back: i64 },
}

fn write_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..12u8, any::<u8>(), 0..4i64).prop_map(|(key, value, lease)| Op::Put { key, value, lease }),
        2 => (0..12u8, prop::option::of(0..14u8)).prop_map(|(key, end)| Op::Delete { key, end }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => write_op(),
        3 => prop::collection::vec(write_op(), 0..5).prop_map(Op::Txn),
        1 => (1..4i64).prop_map(Op::Revoke),
        1 => (0..20i64).prop_map(|back| Op::Compact { back }),
        2 => (0..200usize).prop_map(Op::Scrub),
        1 => Just(Op::Restore),
        3 => (0..30i64).prop_map(|back| Op::Check { back }),
    ]
}

/// Every write of every transaction, in order, with the record it stored.
#[derive(Default)]
struct Model {
    writes: Vec<(RevisionKey, KeyValue)>,
    leases: BTreeSet<i64>,
    revision: i64,
    compacted: i64,
}

impl Model {
    fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        let mut keys = BTreeMap::new();
        for (name, kv) in self.writes.iter().filter(|(name, _)| name.main <= revision) {
            if name.tombstone {
                keys.remove(&kv.key);
            } else {
                keys.insert(kv.key.clone(), kv.clone());
            }
        }
        keys
    }

    fn push(&mut self, main: i64, tombstone: bool, kv: KeyValue) {
        let sub = self.writes.iter().filter(|(name, _)| name.main == main).count();
        self.writes.push((RevisionKey { main, sub: u32::try_from(sub).unwrap(), tombstone }, kv));
    }

    /// Applies one operation as part of the transaction that makes revision `main`.
    fn write(&mut self, op: &Op, main: i64) {
        match op {
            Op::Put { key, value, lease } => {
                let key = name(*key);
                let old = self.at(main).remove(&key);
                let create_revision = old.as_ref().map_or(main, |kv| kv.create_revision);
                let version = old.map_or(1, |kv| kv.version + 1);
                let value = Bytes::from(vec![*value; usize::from(*value)]);
                let kv = KeyValue { key, create_revision, mod_revision: main, version, value, lease: *lease };
                self.push(main, false, kv);
            }
            Op::Delete { key, end } => {
                let (start, end) = (name(*key), end.map(name));
                let inside = |key: &Bytes| match &end {
                    None => *key == start,
                    Some(end) => *key >= start && key < end,
                };
                for key in self.at(main).into_keys().filter(inside) {
                    self.push(main, true, KeyValue { key, ..KeyValue::default() });
                }
            }
            Op::Txn(ops) => ops.iter().for_each(|op| self.write(op, main)),
            Op::Revoke(lease) => {
                self.leases.remove(lease);
                for (key, kv) in self.at(main) {
                    if kv.lease == *lease {
                        self.push(main, true, KeyValue { key, ..KeyValue::default() });
                    }
                }
            }
            _ => {}
        }
        self.revision = self.writes.last().map_or(1, |(name, _)| name.main.max(self.revision));
    }

    fn valid(&self, op: &Op) -> bool {
        match op {
            Op::Put { lease, .. } => *lease == 0 || self.leases.contains(lease),
            Op::Txn(ops) => ops.iter().all(|op| self.valid(op)),
            Op::Revoke(lease) => self.leases.contains(lease),
            _ => true,
        }
    }

    /// What compaction leaves: what a reader at the compacted revision or later can see, and deletions at it.
    fn kept(&self) -> Vec<&(RevisionKey, KeyValue)> {
        let newest = |kv: &KeyValue, up_to: i64| {
            let mut newest_first = self.writes.iter().rev();
            newest_first
                .find(|(name, other)| other.key == kv.key && name.main <= up_to)
                .map(|(name, _)| *name)
        };
        let keep = |(name, kv): &&(RevisionKey, KeyValue)| {
            let seen =
                newest(kv, self.compacted) == Some(*name) && (!name.tombstone || name.main == self.compacted);
            name.main > self.compacted || seen
        };
        self.writes.iter().filter(keep).collect()
    }

    /// HashKV, word by word as etcd computes it over a scrubbed store.
    fn hash(&self, up_to: i64) -> u32 {
        let live = self.at(up_to);
        let mut hash = crc32c::crc32c(b"key");
        for (name, kv) in self.kept() {
            let keep = live.get(&kv.key).is_some_and(|newest| newest.mod_revision == name.main);
            let skip = name.main <= self.compacted && !live.is_empty() && !keep;
            if name.main > up_to || skip || (name.main == self.compacted && name.tombstone) {
                continue;
            }
            hash = crc32c::crc32c_append(hash, &name.to_bytes());
            hash = crc32c::crc32c_append(hash, Record::encode(kv).bytes());
        }
        hash
    }
}

fn name(key: u8) -> Bytes {
    // Long enough for several leaves and chunks to be in play with few keys.
    format!("k{key:02}").into_bytes().into()
}

fn request(op: &Op) -> InternalRaftRequest {
    let mut request = InternalRaftRequest::default();
    match op {
        Op::Put { .. } | Op::Delete { .. } => match operation(op).request {
            Some(Request::RequestPut(put)) => request.put = Some(put),
            Some(Request::RequestDeleteRange(delete)) => request.delete_range = Some(delete),
            _ => unreachable!(),
        },
        Op::Txn(ops) => {
            let success = ops.iter().map(operation).collect();
            request.txn = Some(TxnRequest { success, ..TxnRequest::default() });
        }
        Op::Revoke(id) => request.lease_revoke = Some(LeaseRevokeRequest { id: *id }),
        _ => unreachable!(),
    }
    request
}

fn operation(op: &Op) -> RequestOp {
    let request = match op {
        Op::Put { key, value, lease } => Request::RequestPut(PutRequest {
            key: name(*key),
            value: vec![*value; usize::from(*value)].into(),
            lease: *lease,
            ..PutRequest::default()
        }),
        Op::Delete { key, end } => Request::RequestDeleteRange(DeleteRangeRequest {
            key: name(*key),
            range_end: end.map(name).unwrap_or_default(),
            prev_kv: false,
        }),
        _ => unreachable!(),
    };
    RequestOp { request: Some(request) }
}

fn restored(view: &View) -> Store {
    let rows: BTreeMap<&str, Vec<_>> = BUCKETS.iter().map(|b| (*b, view.bucket_items(b).collect())).collect();
    Store::restore(Config::default(), |bucket| rows[bucket].clone()).unwrap()
}

fn check(view: &View, model: &Model, revision: i64) {
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..RangeRequest::default() };
    let result = view.range(&all);
    if revision < model.compacted {
        assert_eq!(result, Err(ReadError::Compacted(Revision(model.compacted))));
        return;
    }
    let result = result.unwrap();
    let found: Vec<_> = result.kvs.iter().map(Record::to_key_value).collect();
    let expected: Vec<_> = model.at(revision).into_values().collect();
    assert_eq!(found, expected, "at revision {revision}");
    assert_eq!(result.count, i64::try_from(expected.len()).unwrap());
    let limited = view.range(&RangeRequest { limit: 3, ..all.clone() }).unwrap();
    assert_eq!((limited.kvs.len(), limited.count), (expected.len().min(3), result.count));
    assert_eq!(view.hash_kv(Revision(revision)).unwrap().hash, model.hash(revision), "hash up to {revision}");
    for lease in &model.leases {
        let keys: Vec<_> =
            model.at(model.revision).into_values().filter(|kv| kv.lease == *lease).map(|kv| kv.key).collect();
        assert_eq!(view.lease_keys(LeaseId(*lease)), keys, "keys of lease {lease}");
    }
}

struct Machine {
    store: Store,
    model: Model,
    views: Vec<(View, i64, BTreeMap<Bytes, KeyValue>)>,
}

impl Machine {
    fn new() -> Self {
        let model = Model { revision: 1, compacted: -1, ..Model::default() };
        let mut machine = Self { store: Store::new(Config::default()), model, views: Vec::new() };
        for id in 1..=3 {
            machine.model.leases.insert(id);
            let lease_grant = Some(LeaseGrantRequest { id, ttl: 100 });
            machine.apply(&InternalRaftRequest { lease_grant, ..InternalRaftRequest::default() }).unwrap();
        }
        machine
    }

    fn apply(&mut self, request: &InternalRaftRequest) -> Result<Response, kvnode_mvcc::ApplyError> {
        let index = RaftIndex(self.store.applied().0.0 + 1);
        self.store.apply(index, Term(1), request)
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Compact { back } => {
                let revision = (self.model.revision - back).max(0);
                let compaction = Some(CompactionRequest { revision, physical: false });
                let result =
                    self.apply(&InternalRaftRequest { compaction, ..InternalRaftRequest::default() });
                assert_eq!(result.is_ok(), revision > self.model.compacted);
                self.model.compacted = self.model.compacted.max(revision);
            }
            Op::Scrub(budget) => {
                self.store.scrub(*budget);
            }
            Op::Restore => self.store = restored(&self.store.view()),
            Op::Check { back } => {
                // Zero and below mean the newest revision.
                check(&self.store.view(), &self.model, (self.model.revision - back).max(1));
                let at = self.model.revision;
                self.views.push((self.store.publish().view, at, self.model.at(at)));
            }
            write => {
                let request = request(write);
                if request.txn.as_ref().is_some_and(|txn| validate::txn(txn, 128).is_err()) {
                    return;
                }
                let result = self.apply(&request);
                assert_eq!(result.is_ok(), self.model.valid(write), "{write:?}: {result:?}");
                if result.is_ok() {
                    self.model.write(write, self.model.revision + 1);
                }
                assert_eq!(self.store.revision().0, self.model.revision);
            }
        }
    }

    fn finish(mut self) {
        for (view, at, keys) in self.views {
            let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
            let found: Vec<_> = view.range(&all).unwrap().kvs.iter().map(Record::to_key_value).collect();
            assert_eq!(found, keys.into_values().collect::<Vec<_>>(), "a view of revision {at} changed");
        }
        check(&self.store.view(), &self.model, self.model.revision);
        check(&restored(&self.store.view()).view(), &self.model, self.model.revision);
        while self.store.scrub(16) == ScrubProgress::More {}
        let rows: Vec<_> = self.store.view().bucket_items("key").map(|(key, _)| key).collect();
        let kept: Vec<_> = self.model.kept().iter().map(|(name, _)| name.to_bytes()).collect();
        assert_eq!(rows, kept, "what is left after compaction");
        check(&self.store.view(), &self.model, self.model.revision);
        let again = restored(&self.store.view());
        for bucket in BUCKETS {
            let rows = |view: &View| view.bucket_items(bucket).collect::<Vec<_>>();
            assert_eq!(rows(&again.view()), rows(&self.store.view()), "bucket {bucket} after a restore");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_store_does_what_the_model_does(ops in prop::collection::vec(op(), 0..250)) {
        let mut machine = Machine::new();
        ops.iter().for_each(|op| machine.run(op));
        machine.finish();
    }
}
