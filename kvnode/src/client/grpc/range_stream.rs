//! `KV.RangeStream`: a range in pieces, so that neither side holds all of it (etcd: `rangeStream` in `v3_server.go`).
//!
//! All pieces are read at the revision of the first. The last one carries the header, `more` and the count.

use bytes::Bytes;
use futures::Stream;
use kvnode_mvcc::{Record, has_revision_filters, is_default_order, validate};
use kvnode_proto::etcdserverpb::{RangeRequest, ResponseHeader};
use tonic::Status;

use super::{
    call::Call,
    codec::{RangeAnswer, RangeChunk},
};
use crate::{auth::Identity, client::error::status};

/// Keys in the first piece.
const FIRST_KEYS: i64 = 10;

/// As a limit: all keys.
const UNLIMITED: i64 = 0;

/// Reads keys, piece by piece.
pub async fn range_stream(
    call: Call,
    request: RangeRequest,
) -> Result<impl Stream<Item = Result<RangeChunk, Status>>, Status> {
    validate::range(&request).map_err(status)?;
    if !is_default_order(&request) {
        return Err(Status::unimplemented("RangeStream does not support custom sort orders"));
    }
    if has_revision_filters(&request) {
        return Err(Status::unimplemented("RangeStream does not support revision filters"));
    }
    if !request.serializable {
        call.services.node.linearize().await.map_err(status)?;
    }
    let who = call.permit(|may, who| may.range(who.requester(), &request)).await?.who;
    call.services.metrics.mvcc.range_total.inc();
    let pieces = Pieces::new(call, who, request);
    Ok(futures::stream::try_unfold(Some(pieces), |pieces| async move {
        match pieces {
            Some(pieces) => pieces.next().map(Some),
            None => Ok(None),
        }
    }))
}

/// What is still to be sent.
struct Pieces {
    call: Call,
    who: Identity,
    /// The range that is left.
    request: RangeRequest,
    header: ResponseHeader,
    /// Keys the client still wants; `None` is all.
    wanted: Option<i64>,
    sent: i64,
    keys: i64,
    target_bytes: usize,
}

impl Pieces {
    fn new(call: Call, who: Identity, mut request: RangeRequest) -> Self {
        let header = call.services.header_now();
        if request.revision <= 0 {
            request.revision = header.revision;
        }
        let wanted = (request.limit > 0).then_some(request.limit);
        // A limit below zero has etcd, too, send everything in one piece.
        let keys = if request.limit < 0 { UNLIMITED } else { FIRST_KEYS };
        let target_bytes = call.services.config.max_request_bytes;
        Self { call, who, request, header, wanted, sent: 0, keys, target_bytes }
    }

    fn next(mut self) -> Result<(RangeChunk, Option<Self>), Status> {
        let limit = self.wanted.map_or(self.keys, |wanted| wanted.min(self.keys));
        self.request.limit = limit;
        let view = self.call.services.node.reader().view();
        let result = view.range(&self.request).map_err(status)?;
        self.call.still(&self.who)?;
        let got = i64::try_from(result.kvs.len()).unwrap_or(i64::MAX);
        let wanted = self.wanted.map(|wanted| wanted - got);
        if self.request.count_only || !result.more || wanted == Some(0) {
            let answer = RangeAnswer {
                header: Some(self.header),
                kvs: result.kvs,
                more: result.more,
                count: self.sent + result.count,
            };
            return Ok((RangeChunk(answer), None));
        }
        self.sent += got;
        self.wanted = wanted;
        self.adapt(&result.kvs);
        if let Some(last) = result.kvs.last() {
            self.request.key = after(last);
        }
        let answer = RangeAnswer { header: None, kvs: result.kvs, more: false, count: 0 };
        Ok((RangeChunk(answer), Some(self)))
    }

    /// Makes the next piece about as large as a request may be.
    fn adapt(&mut self, kvs: &[Record]) {
        let bytes: usize = kvs.iter().map(|record| record.bytes().len()).sum();
        if bytes > self.target_bytes {
            self.keys = (self.keys / 2).max(1);
        } else if bytes * 2 <= self.target_bytes {
            self.keys = self.keys.saturating_mul(2);
        }
    }
}

/// The smallest key above the record's.
fn after(record: &Record) -> Bytes {
    let mut key = record.key_slice().to_vec();
    key.push(0);
    key.into()
}
