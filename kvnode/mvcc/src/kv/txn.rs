//! Transactions: which branches are taken, whether they may run, and what they did (etcd: `server/etcdserver/txn/txn.go`).
//!
//! All compares, of nested transactions too, look at the state before the transaction. Everything that may fail is
//! checked before the first write, so a transaction happens as a whole or not at all.

use std::ops::ControlFlow;

use kvnode_proto::etcdserverpb::{
    Compare, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};

use super::{
    KeySpace,
    range::RangeResult,
    write::{DeleteRangeResult, PutResult, WriteTxn},
};
use crate::{
    error::{ApplyError, ReadError},
    ids::Revision,
    key_range::KeyRange,
    lease::Leases,
    record::RecordMeta,
};

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResult {
    /// For the header; `None` in a nested transaction, whose header etcd leaves empty.
    pub revision: Option<Revision>,
    /// Whether all compares held.
    pub succeeded: bool,
    /// One for each operation of the branch taken.
    pub responses: Vec<OpResult>,
}

/// What one operation of a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// A range; it saw what the transaction wrote before it.
    Range(RangeResult),
    /// A put.
    Put(PutResult),
    /// A deletion.
    DeleteRange(DeleteRangeResult),
    /// A nested transaction.
    Txn(TxnResult),
    /// An operation without a kind, which [`crate::validate`] refuses.
    Empty,
}

/// Whether no branch of `request` can write, so that it need not go through raft. As etcd sees it: a nested transaction
/// always might.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    let reads = |op: &RequestOp| matches!(op.request, Some(Request::RequestRange(_)));
    request.success.iter().chain(&request.failure).all(reads)
}

/// Whether every range of `request` is serializable, so that it needs no leader.
#[must_use]
pub fn is_serializable(request: &TxnRequest) -> bool {
    let local =
        |op: &RequestOp| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable);
    request.success.iter().chain(&request.failure).all(local)
}

/// A transaction whose branches are chosen.
pub(crate) struct Plan<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Plain(&'a RequestOp),
    Nested(Plan<'a>),
}

impl KeySpace {
    /// Chooses the branches of `request` by the state as it is.
    pub(crate) fn plan<'a>(&self, request: &'a TxnRequest) -> Plan<'a> {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &request.success } else { &request.failure };
        let steps = ops.iter().map(|op| match &op.request {
            Some(Request::RequestTxn(nested)) => Step::Nested(self.plan(nested)),
            _ => Step::Plain(op),
        });
        Plan { succeeded, steps: steps.collect() }
    }

    /// A read-only transaction, for a reader at the newest revision.
    pub(crate) fn read_txn(&self, request: &TxnRequest) -> Result<TxnResult, ReadError> {
        let plan = self.plan(request);
        let ranges = || plan.steps.iter().filter_map(Step::as_range);
        ranges().try_for_each(|range| self.check_range(range))?;
        let responses = ranges().map(|range| self.range(range, self.revision).map(OpResult::Range));
        Ok(TxnResult {
            revision: Some(self.revision),
            succeeded: plan.succeeded,
            responses: responses.collect::<Result<_, _>>()?,
        })
    }

    fn check_range(&self, request: &RangeRequest) -> Result<(), ReadError> {
        match request.revision {
            0 => Ok(()),
            wanted if wanted > self.revision.0 => Err(ReadError::FutureRevision(self.revision)),
            wanted if wanted < self.compacted.0 => Err(ReadError::Compacted(self.compacted)),
            _ => Ok(()),
        }
    }

    /// Whether `compare` holds for every key of its range. A range without keys compares as a key of zeros, except that
    /// a value never compares.
    fn holds(&self, compare: &Compare) -> bool {
        let range = KeyRange::new(&compare.key, &compare.range_end);
        let by_value = compare.target == CompareTarget::Value as i32;
        let (mut found, mut all) = (false, true);
        self.index.visit(&range, self.revision.0, |_, version| {
            let record = self.log.get(version.address);
            found = true;
            all = matches(compare, record.meta(), record.value_slice());
            if all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if found { all } else { !by_value && matches(compare, RecordMeta::default(), &[]) }
    }
}

fn matches(compare: &Compare, meta: RecordMeta, value: &[u8]) -> bool {
    let wanted = compare.target_union.as_ref();
    let number = |have: i64, want: Option<i64>| have.cmp(&want.unwrap_or(0));
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => match wanted {
            Some(TargetUnion::Value(want)) => value.cmp(want),
            _ => value.cmp(&[]),
        },
        Ok(CompareTarget::Create) => number(meta.create_revision, wanted.and_then(create_revision)),
        Ok(CompareTarget::Mod) => number(meta.mod_revision, wanted.and_then(mod_revision)),
        Ok(CompareTarget::Version) => number(meta.version, wanted.and_then(version)),
        Ok(CompareTarget::Lease) => number(meta.lease, wanted.and_then(lease)),
        // etcd compares nothing for a target it does not know, and so finds both sides equal.
        Err(_) => std::cmp::Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

// A compare whose value is of another kind than its target compares with zero, as in etcd.
fn create_revision(wanted: &TargetUnion) -> Option<i64> {
    if let TargetUnion::CreateRevision(want) = wanted { Some(*want) } else { None }
}

fn mod_revision(wanted: &TargetUnion) -> Option<i64> {
    if let TargetUnion::ModRevision(want) = wanted { Some(*want) } else { None }
}

fn version(wanted: &TargetUnion) -> Option<i64> {
    if let TargetUnion::Version(want) = wanted { Some(*want) } else { None }
}

fn lease(wanted: &TargetUnion) -> Option<i64> {
    if let TargetUnion::Lease(want) = wanted { Some(*want) } else { None }
}

impl<'a> Step<'a> {
    fn as_range(&self) -> Option<&'a RangeRequest> {
        match self {
            Self::Plain(RequestOp { request: Some(Request::RequestRange(range)) }) => Some(range),
            _ => None,
        }
    }
}

impl Plan<'_> {
    /// Whether everything on the chosen branches can succeed.
    pub(crate) fn check(&self, kv: &KeySpace, leases: &Leases) -> Result<(), ApplyError> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Nested(plan) => plan.check(kv, leases),
            Step::Plain(RequestOp { request: Some(Request::RequestRange(range)) }) => {
                Ok(kv.check_range(range)?)
            }
            Step::Plain(RequestOp { request: Some(Request::RequestPut(put)) }) => kv.check_put(put, leases),
            Step::Plain(_) => Ok(()),
        })
    }

    /// Runs the chosen branches. The plan was made and checked on the state that `txn` begins with.
    pub(crate) fn run(&self, txn: &mut WriteTxn<'_>) -> TxnResult {
        let responses = self.steps.iter().map(|step| match step {
            Step::Nested(plan) => OpResult::Txn(plan.run(txn)),
            Step::Plain(op) => match &op.request {
                Some(Request::RequestRange(range)) => {
                    let result = txn.kv.range(range, txn.visible());
                    OpResult::Range(result.expect("the revision was checked before the first write"))
                }
                Some(Request::RequestPut(put)) => OpResult::Put(txn.put(put)),
                Some(Request::RequestDeleteRange(delete)) => OpResult::DeleteRange(txn.delete_range(delete)),
                Some(Request::RequestTxn(_)) | None => OpResult::Empty,
            },
        });
        TxnResult { revision: None, succeeded: self.succeeded, responses: responses.collect() }
    }
}
