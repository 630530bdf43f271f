//! Range: which keys, in which order, how many (etcd: `server/etcdserver/txn/range.go`, `server/storage/mvcc/index.go`).

use std::ops::ControlFlow;

use kvnode_proto::etcdserverpb::{
    RangeRequest,
    range_request::{SortOrder, SortTarget},
};

use super::KeySpace;
use crate::{
    error::ReadError,
    ids::Revision,
    key_range::KeyRange,
    record::{KeepLease, Record, RecordMeta},
};

/// What a range found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// For the header: the current revision, also when an older one was read.
    pub revision: Revision,
    /// The keys, encoded as they go into the answer.
    pub kvs: Vec<Record>,
    /// Whether the limit cut keys off.
    pub more: bool,
    /// Number of keys in the range at the revision read, whatever limit and filters did.
    pub count: i64,
}

impl KeySpace {
    /// Answers `request` for a reader whose newest revision is `current`.
    pub(crate) fn range(&self, request: &RangeRequest, current: Revision) -> Result<RangeResult, ReadError> {
        let at = self.readable(request.revision, current)?;
        let range = KeyRange::new(&request.key, &request.range_end);
        if request.count_only {
            let count = self.index.count(&range, at).cast_signed();
            return Ok(RangeResult { revision: current, count, ..RangeResult::default() });
        }
        let fetch_limit = fetch_limit(request);
        let (mut kvs, count) = self.collect(&range, at, fetch_limit);
        filter(&mut kvs, request);
        sort(&mut kvs, request);
        let mut more = false;
        if let Some(limit) = positive(request.limit)
            && kvs.len() > limit
        {
            kvs.truncate(limit);
            more = true;
        }
        if request.keys_only {
            let by_value = request.sort_target == SortTarget::Value as i32;
            let lease = if by_value { KeepLease::Yes } else { KeepLease::No };
            kvs.iter_mut().for_each(|record| *record = record.without_value(lease));
        }
        Ok(RangeResult { revision: current, kvs, more, count })
    }

    /// The revision to read for one that was asked for; 0 and below mean the newest.
    pub(crate) fn readable(&self, wanted: i64, current: Revision) -> Result<i64, ReadError> {
        if wanted > current.0 {
            return Err(ReadError::FutureRevision(current));
        }
        let at = if wanted <= 0 { current.0 } else { wanted };
        if at < self.compacted.0 {
            return Err(ReadError::Compacted(self.compacted));
        }
        Ok(at)
    }

    /// The first `limit` records of `range` at revision `at`, and how many there are in all.
    fn collect(&self, range: &KeyRange, at: i64, limit: Option<usize>) -> (Vec<Record>, i64) {
        let mut kvs = Vec::new();
        self.index.visit(range, at, |_, version| {
            kvs.push(self.log.get(version.address));
            if limit.is_some_and(|limit| kvs.len() >= limit) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let cut = limit.is_some_and(|limit| kvs.len() >= limit);
        let count = if cut { self.index.count(range, at) } else { kvs.len() as u64 };
        (kvs, count.cast_signed())
    }
}

fn positive(limit: i64) -> Option<usize> {
    usize::try_from(limit).ok().filter(|limit| *limit > 0)
}

/// How many keys to fetch: one more than wanted tells whether there are more. Sorting and filtering need all of them.
/// etcd takes every request without a sort order for the default one here, also if it names a sort target.
fn fetch_limit(request: &RangeRequest) -> Option<usize> {
    if !is_default_order(request) || has_revision_filters(request) {
        return None;
    }
    positive(request.limit).map(|limit| limit.saturating_add(1))
}

/// Whether `request` wants keys in the order in which they are stored.
#[must_use]
pub fn is_default_order(request: &RangeRequest) -> bool {
    request.sort_order == SortOrder::None as i32
        || (request.sort_target == SortTarget::Key as i32 && request.sort_order == SortOrder::Ascend as i32)
}

/// Whether `request` filters by create or mod revision.
#[must_use]
pub fn has_revision_filters(request: &RangeRequest) -> bool {
    [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ]
    .iter()
    .any(|bound| *bound != 0)
}

fn filter(kvs: &mut Vec<Record>, request: &RangeRequest) {
    if !has_revision_filters(request) {
        return;
    }
    let above = |bound: i64, revision: i64| bound != 0 && revision > bound;
    let below = |bound: i64, revision: i64| bound != 0 && revision < bound;
    kvs.retain(|record| {
        let RecordMeta { create_revision, mod_revision, .. } = record.meta();
        !above(request.max_mod_revision, mod_revision)
            && !below(request.min_mod_revision, mod_revision)
            && !above(request.max_create_revision, create_revision)
            && !below(request.min_create_revision, create_revision)
    });
}

/// Sorts as asked; a target other than the key without an order is ascending. Equal elements keep key order, whichever
/// way the others go.
fn sort(kvs: &mut [Record], request: &RangeRequest) {
    let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
    let descending = request.sort_order == SortOrder::Descend as i32;
    if descending && target != SortTarget::Key {
        kvs.reverse();
    }
    match target {
        SortTarget::Version => kvs.sort_by_cached_key(|record| record.meta().version),
        SortTarget::Create => kvs.sort_by_cached_key(|record| record.meta().create_revision),
        SortTarget::Mod => kvs.sort_by_cached_key(|record| record.meta().mod_revision),
        SortTarget::Value => kvs.sort_by(|a, b| a.value_slice().cmp(b.value_slice())),
        SortTarget::Key => {}
    }
    if descending {
        kvs.reverse();
    }
}
