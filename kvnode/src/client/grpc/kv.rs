//! The KV service (etcd: `server/etcdserver/api/v3rpc/key.go`, `v3_server.go`).
//!
//! Writes go through raft. Reads do not: a linearizable one waits until this member is as current as the cluster was
//! when it came in, a serializable one does not even do that.

use std::time::Instant;

use kvnode_mvcc::{Response, TxnResult, View, is_read_only, is_serializable, quota, validate};
use kvnode_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, InternalRaftRequest,
    PutRequest, PutResponse, RangeRequest, RequestHeader, TxnRequest, TxnResponse,
};
use tonic::Status;

use super::{
    access::Permit,
    call::Call,
    codec::RangeAnswer,
    convert::{self, wrong_answer},
    maintenance::off_thread,
};
use crate::auth::Identity;
use crate::client::error::{not_supported_for_learner, status};
use crate::node::Applied;

/// Reads keys.
pub async fn range(call: Call, request: RangeRequest) -> Result<RangeAnswer, Status> {
    let services = &call.services;
    if !request.serializable && services.node.is_learner() {
        return Err(not_supported_for_learner());
    }
    validate::range(&request).map_err(status)?;
    let started = Instant::now();
    let outcome = read(&call, &request).await;
    services.metrics.mvcc.range_total.inc();
    services.durations.range.observe(started, &outcome);
    outcome
}

async fn read(call: &Call, request: &RangeRequest) -> Result<RangeAnswer, Status> {
    let services = &call.services;
    if !request.serializable {
        services.node.linearize().await.map_err(status)?;
    }
    let Permit { view, who } = call.permit(|may, who| may.range(who.requester(), request)).await?;
    let started = Instant::now();
    let result = if is_large(&view, request) {
        let request = request.clone();
        off_thread(move || view.range(&request)).await?
    } else {
        view.range(request)
    };
    services.durations.reading.observe(started, &result);
    call.still(&who)?;
    let result = result.map_err(status)?;
    Ok(RangeAnswer::new(services.header(result.revision), result))
}

/// Whether reading would keep the thread from its other connections for long. Counting costs next to nothing.
fn is_large(view: &View, request: &RangeRequest) -> bool {
    if request.range_end.is_empty() || request.count_only || (1..=LARGE_RANGE_KEYS).contains(&request.limit) {
        return false;
    }
    let count = RangeRequest { count_only: true, ..request.clone() };
    view.range(&count).is_ok_and(|result| result.count > LARGE_RANGE_KEYS)
}

/// Keys that are read on the spot: a millisecond's work, at which handing it over and back begins to pay.
const LARGE_RANGE_KEYS: i64 = 5_000;

/// Writes a key.
pub async fn put(call: Call, request: PutRequest) -> Result<PutResponse, Status> {
    call.has_room(quota::put_cost_bytes(&request)).await?;
    validate::put(&request).map_err(status)?;
    let body = InternalRaftRequest { put: Some(request), ..InternalRaftRequest::default() };
    match call.propose(body).await?.response {
        Response::Put(result) => Ok(convert::put(call.services.header(result.revision), &result)),
        _ => Err(wrong_answer()),
    }
}

/// Deletes keys.
pub async fn delete_range(call: Call, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, Status> {
    validate::delete_range(&request).map_err(status)?;
    let body = InternalRaftRequest { delete_range: Some(request), ..InternalRaftRequest::default() };
    match call.propose(body).await?.response {
        Response::DeleteRange(result) => {
            Ok(convert::delete_range(call.services.header(result.revision), &result))
        }
        _ => Err(wrong_answer()),
    }
}

/// Compares and then reads or writes, all at once.
pub async fn txn(call: Call, request: TxnRequest) -> Result<TxnResponse, Status> {
    let services = &call.services;
    call.has_room(quota::txn_cost_bytes(&request)).await?;
    validate::txn(&request, services.config.max_txn_ops).map_err(status)?;
    let result = if is_read_only(&request) {
        if !is_serializable(&request) {
            services.node.linearize().await.map_err(status)?;
        }
        let started = Instant::now();
        let outcome = read_txn(&call, &request).await;
        services.durations.read_only_txn.observe(started, &outcome);
        outcome?
    } else {
        let body = InternalRaftRequest { txn: Some(request), ..InternalRaftRequest::default() };
        match call.propose(body).await?.response {
            Response::Txn(result) => result,
            _ => return Err(wrong_answer()),
        }
    };
    let header = match result.revision {
        Some(revision) => services.header(revision),
        None => services.header_now(),
    };
    Ok(convert::txn(Some(header), &result))
}

async fn read_txn(call: &Call, request: &TxnRequest) -> Result<TxnResult, Status> {
    let Permit { view, who } = call.permit(|may, who| may.txn(who.requester(), request)).await?;
    call.services.metrics.mvcc.txn_total.inc();
    let result = view.txn(request);
    call.still(&who)?;
    result.map_err(status)
}

/// Forgets old revisions.
pub async fn compact(call: Call, request: CompactionRequest) -> Result<CompactionResponse, Status> {
    call.admin().await?;
    let body = InternalRaftRequest { compaction: Some(request), ..InternalRaftRequest::default() };
    let applied = call.propose(body).await?;
    match applied.response {
        Response::Compact => Ok(CompactionResponse { header: Some(call.services.header(applied.revision)) }),
        _ => Err(wrong_answer()),
    }
}

impl Call {
    /// Puts a request through raft, in the caller's name. A password has been compared before, so that nobody need be
    /// somebody to ask for a token.
    pub(super) async fn propose(&self, mut body: InternalRaftRequest) -> Result<Applied, Status> {
        let started = Instant::now();
        if body.authenticate.is_none() {
            let Identity { user, auth_revision } = self.identity().await?;
            body.header = Some(RequestHeader { id: 0, username: user, auth_revision });
        }
        let durations = self.services.durations.of(&body);
        let outcome = self.services.node.propose(body).await;
        durations.observe(started, &outcome);
        outcome.map_err(status)
    }
}
