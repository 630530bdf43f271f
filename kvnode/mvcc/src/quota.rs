//! What a request is taken to cost, and whether the quota has room for it (etcd: `server/storage/quota.go`).

use kvnode_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};

use crate::limits::QUOTA_PUT_OVERHEAD_BYTES;

pub use crate::limits::QUOTA_LEASE_BYTES;

/// Whether a store of `size_bytes` may grow by `cost_bytes`. What costs nothing always fits; `None` is no limit.
#[must_use]
pub fn fits(quota_bytes: Option<u64>, size_bytes: u64, cost_bytes: u64) -> bool {
    cost_bytes == 0 || quota_bytes.is_none_or(|quota| size_bytes + cost_bytes < quota)
}

/// Bytes that `request` may add to the store.
#[must_use]
pub fn put_cost_bytes(request: &PutRequest) -> u64 {
    QUOTA_PUT_OVERHEAD_BYTES + (request.key.len() + request.value.len()) as u64
}

/// Bytes that `request` may add to the store: those of its dearer branch. 0 if no branch puts anything.
#[must_use]
pub fn txn_cost_bytes(request: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| ops.iter().map(op_cost_bytes).sum::<u64>();
    branch(&request.success).max(branch(&request.failure))
}

fn op_cost_bytes(op: &RequestOp) -> u64 {
    match &op.request {
        Some(Request::RequestPut(put)) => put_cost_bytes(put),
        Some(Request::RequestTxn(txn)) => txn_cost_bytes(txn),
        _ => 0,
    }
}
