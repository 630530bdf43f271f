//! What the API refuses before it proposes anything (etcd: `server/etcdserver/api/v3rpc/key.go`).

use std::collections::HashSet;

use bytes::Bytes;
use kvnode_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};

use crate::{
    error::RequestError,
    key_range::{KeyRange, RangeEnd},
};

/// Checks a range.
///
/// # Errors
/// An empty key or an unknown sort option.
pub fn range(request: &RangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    let known =
        SortOrder::try_from(request.sort_order).is_ok() && SortTarget::try_from(request.sort_target).is_ok();
    if known { Ok(()) } else { Err(RequestError::InvalidSortOption) }
}

/// Checks a put.
///
/// # Errors
/// An empty key, or a value or lease beside the wish to keep the old one.
pub fn put(request: &PutRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
///
/// # Errors
/// An empty key.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() { Err(RequestError::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction. Of `max_ops` operations, counted as the longest of compares and branches, nested transactions
/// get what is left.
///
/// # Errors
/// Too many operations, a key written twice on one path, or whatever is wrong with an operation.
pub fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), RequestError> {
    check_ops(request, max_ops)?;
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

fn check_ops(request: &TxnRequest, max_ops: usize) -> Result<(), RequestError> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    let Some(left) = max_ops.checked_sub(ops) else {
        return Err(RequestError::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(RequestError::EmptyKey);
    }
    request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => check_ops(request, left),
        None => Err(RequestError::EmptyOperation),
    })
}

/// What a branch writes, on any path through it.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a Bytes>,
    deletes: Vec<KeyRange>,
}

impl<'a> Writes<'a> {
    /// etcd's check does not see deletions "from this key on", nor empty intervals.
    fn deletes(&self, key: &Bytes) -> bool {
        self.deletes.iter().any(|range| range.end != RangeEnd::Unbounded && range.contains(key))
    }

    fn add_put(&mut self, key: &'a Bytes) -> Result<(), RequestError> {
        if self.deletes(key) || !self.puts.insert(key) { Err(RequestError::DuplicateKey) } else { Ok(()) }
    }

    /// Adds the two branches of a nested transaction. They exclude each other, so both may put the same key.
    fn add_nested(&mut self, then: Self, otherwise: Self) -> Result<(), RequestError> {
        for key in &then.puts {
            self.add_put(key)?;
        }
        for key in otherwise.puts {
            if self.deletes(key) || (!self.puts.insert(key) && !then.puts.contains(key)) {
                return Err(RequestError::DuplicateKey);
            }
        }
        self.deletes.extend(then.deletes);
        self.deletes.extend(otherwise.deletes);
        Ok(())
    }
}

/// Collects what `ops` write: deletions of this level first, then nested transactions, then puts of this level, each
/// checked against what came before it. The order is etcd's and decides which overlaps are seen.
fn writes(ops: &[RequestOp]) -> Result<Writes<'_>, RequestError> {
    let mut all = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            all.deletes.push(KeyRange::new(&delete.key, &delete.range_end));
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            all.add_nested(writes(&nested.success)?, writes(&nested.failure)?)?;
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            all.add_put(&put.key)?;
        }
    }
    Ok(all)
}
