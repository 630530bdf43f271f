//! `v3lockpb.Lock`: mutual exclusion by leases (etcd: `server/etcdserver/api/v3lock`).
//!
//! A lock is held as long as its key exists; a lease that runs out takes it away from a holder that may not know it.

use bytes::Bytes;
use kvnode_proto::{
    etcdserverpb::{DeleteRangeRequest, RangeRequest, ResponseHeader, TxnRequest, response_op::Response},
    v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse},
};
use tonic::Status;
use tracing::warn;

use super::{
    call::Call,
    convert::wrong_answer,
    kv,
    recipe::{Contest, OnLeave, created_at, failed, get, inner, put, range},
};

/// Waits until the lease holds the lock, and tells the key that means so.
pub async fn lock(call: Call, request: LockRequest) -> Result<LockResponse, Status> {
    let lease = call.session(request.lease).await?;
    let contest = Contest::new(&request.name);
    let key = contest.key(lease);
    let (own, mut header) = acquire(&call, &contest, &key, lease).await?;
    if let Wanted::After(revision) = own {
        let leave = OnLeave::new(let_go(call.clone(), key.clone()));
        call.outlive(&contest, revision - 1).await?;
        let found = call.read_keys(RangeRequest { key: key.clone(), ..RangeRequest::default() }).await?;
        leave.forget();
        if found.kvs.is_empty() {
            return Err(failed("mutex: session is expired"));
        }
        header = found.header;
    }
    Ok(LockResponse { header, key })
}

/// Gives a lock back.
pub async fn unlock(call: Call, request: UnlockRequest) -> Result<UnlockResponse, Status> {
    let request = DeleteRangeRequest { key: request.key, ..DeleteRangeRequest::default() };
    let deleted = kv::delete_range(call, request).await.map_err(inner)?;
    Ok(UnlockResponse { header: deleted.header })
}

/// Whether a lock is held, or when all keys before this creation are gone.
enum Wanted {
    Held,
    After(i64),
}

/// Puts the key down, unless it is there, and looks whose turn it is.
async fn acquire(
    call: &Call,
    contest: &Contest,
    key: &Bytes,
    lease: i64,
) -> Result<(Wanted, Option<ResponseHeader>), Status> {
    let request = TxnRequest {
        compare: vec![created_at(key, 0)],
        success: vec![put(key, &Bytes::new(), lease), range(contest.first())],
        failure: vec![get(key), range(contest.first())],
    };
    let answer = kv::txn(call.clone(), request).await.map_err(inner)?;
    let found = |at: usize| match answer.responses.get(at).and_then(|op| op.response.as_ref()) {
        Some(Response::ResponseRange(found)) => Some(found.kvs.first().map(|kv| kv.create_revision)),
        _ => None,
    };
    let first = found(1).ok_or_else(wrong_answer)?;
    let own = match answer.succeeded {
        true => answer.header.as_ref().map_or(0, |header| header.revision),
        false => found(0).flatten().ok_or_else(wrong_answer)?,
    };
    let wanted = if first.is_none_or(|first| first == own) { Wanted::Held } else { Wanted::After(own) };
    Ok((wanted, answer.header))
}

/// Takes back a key whose owner waits no longer.
async fn let_go(call: Call, key: Bytes) {
    let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
    if let Err(error) = kv::delete_range(call, request).await {
        warn!(
            error = error.message(),
            "failed to take back a lock that is no longer waited for; its lease will"
        );
    }
}
