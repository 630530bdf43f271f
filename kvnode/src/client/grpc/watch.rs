//! The Watch service: one client stream, its requests and what it is sent (etcd:
//! `server/etcdserver/api/v3rpc/watch.go`).
//!
//! What is sent, and in which order, is decided by [`kvnode_mvcc::watch`]. The stream of answers is only polled while the
//! transport has room, and only then is anything collected: a client that does not read costs no memory.

use std::time::Duration;

use bytes::BufMut;
use futures::Stream;
use kvnode_mvcc::watch::{AnswerKind, CreateError, Fragment, WatchAnswer, WatchEvent};
use kvnode_proto::etcdserverpb::{
    ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::{Status, Streaming};

use super::{
    call::Call,
    codec::{Wire, field_len},
    rpc::Rpc,
};
use crate::{client::error, watches::Watching};

/// Serves one stream until the client leaves.
pub async fn watch(
    call: Call,
    requests: Streaming<WatchRequest>,
) -> Result<impl Stream<Item = Result<Answer, Status>>, Status> {
    let session = Session::new(call, requests);
    Ok(futures::stream::try_unfold(session, |mut session| async move {
        let answer = session.next().await?;
        Ok(Some((answer, session)))
    }))
}

/// One client stream.
struct Session {
    call: Call,
    /// `None` once the client will ask for nothing more; it may go on listening.
    requests: Option<Streaming<WatchRequest>>,
    watching: Watching,
    ticks: Interval,
    /// As counted in metrics.
    watchers: usize,
}

impl Session {
    fn new(call: Call, requests: Streaming<WatchRequest>) -> Self {
        let config = &call.services.config;
        let watching = call.services.node.watches().open();
        let ticks = ticks(config.watch_progress_notify_interval);
        call.services.metrics.mvcc.watch_streams.inc();
        Self { call, requests: Some(requests), watching, ticks, watchers: 0 }
    }

    /// The next answer; waits for it as long as it takes.
    async fn next(&mut self) -> Result<Answer, Status> {
        loop {
            tokio::select! {
                // In no fixed order: a stream that always has something to send must still hear a cancellation.
                answer = self.watching.answer() => {
                    return answer.map(|answer| self.answer(answer)).ok_or_else(error::stopped);
                }
                request = message(&mut self.requests) => match request? {
                    Some(request) => self.request(&request).await,
                    None => self.requests = None,
                },
                _ = self.ticks.tick() => self.watching.with(|stream, hub| stream.tick(hub)),
            }
        }
    }

    async fn request(&mut self, request: &WatchRequest) {
        self.call.services.methods.metrics(Rpc::Watch).received.inc();
        let permitted = match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.permitted(create).await,
            _ => Ok(()),
        };
        self.watching.with(|stream, hub| match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => stream.create(hub, create, permitted),
            Some(RequestUnion::CancelRequest(cancel)) => stream.cancel(hub, cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => stream.request_progress(hub),
            // etcd ignores what it does not know.
            None => {}
        });
        self.count_watchers();
    }

    /// Whether the client may watch that; if not, the reason is a gRPC error as Go prints it.
    async fn permitted(&self, create: &WatchCreateRequest) -> Result<(), CreateError> {
        match self.call.permit(|may, who| may.watch(who.requester(), create)).await {
            Ok(_) => Ok(()),
            Err(status) => Err(CreateError::Denied(format!(
                "rpc error: code = {} desc = {}",
                error::code_name(status.code()),
                status.message()
            ))),
        }
    }

    fn count_watchers(&mut self) {
        let now = self.watching.stream().map_or(0, |stream| stream.watchers());
        let gauge = &self.call.services.metrics.mvcc.watchers;
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        gauge.add(signed(now) - signed(self.watchers));
        self.watchers = now;
    }

    fn answer(&mut self, answer: WatchAnswer) -> Answer {
        if matches!(answer.kind, AnswerKind::Compacted(_)) {
            self.count_watchers();
        }
        self.call.services.metrics.mvcc.events.inc_by(answer.events.len() as u64);
        let head = head(self.call.services.header(answer.revision), &answer);
        Answer { head, events: answer.events }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mvcc = &self.call.services.metrics.mvcc;
        mvcc.watch_streams.dec();
        mvcc.watchers.sub(i64::try_from(self.watchers).unwrap_or(i64::MAX));
    }
}

/// The client's next request; waits for ever once it has none left. Cancel-safe.
async fn message(requests: &mut Option<Streaming<WatchRequest>>) -> Result<Option<WatchRequest>, Status> {
    match requests {
        // A client that breaks the stream has cancelled its watches.
        Some(requests) => requests.message().await.map_err(|_| error::watch_canceled()),
        None => std::future::pending().await,
    }
}

/// Each stream's interval is up to a tenth longer, so that those opened together do not all speak at once.
fn ticks(interval: Duration) -> Interval {
    let interval = interval.max(PROGRESS_INTERVAL_MIN);
    let interval = interval.mul_f64(1.0 + rand::random::<f64>() / 10.0);
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// etcd's `minWatchProgressInterval`.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Everything but the events.
fn head(header: ResponseHeader, answer: &WatchAnswer) -> WatchResponse {
    let mut head = WatchResponse {
        header: Some(header),
        watch_id: answer.watch_id,
        fragment: answer.fragment == Fragment::More,
        ..WatchResponse::default()
    };
    match &answer.kind {
        AnswerKind::Events => {}
        AnswerKind::Created => head.created = true,
        AnswerKind::Refused(reason) => {
            (head.created, head.canceled) = (true, true);
            head.cancel_reason.clone_from(reason);
        }
        AnswerKind::Canceled => head.canceled = true,
        AnswerKind::Compacted(revision) => {
            head.canceled = true;
            head.compact_revision = revision.0;
        }
    }
    head
}

/// An `etcdserverpb.WatchResponse` whose events are stored records.
#[derive(Debug)]
pub struct Answer {
    /// Has no events.
    head: WatchResponse,
    events: Vec<WatchEvent>,
}

/// Field number of `events`.
const EVENTS: u32 = 11;

impl Wire for Answer {
    fn wire_len(&self) -> usize {
        let events: usize = self.events.iter().map(|event| field_len(EVENTS, event.encoded_len())).sum();
        self.head.encoded_len() + events
    }

    fn write(&self, buf: &mut impl BufMut) {
        self.head.encode_raw(buf);
        for event in &self.events {
            encode_key(EVENTS, WireType::LengthDelimited, buf);
            encode_varint(event.encoded_len() as u64, buf);
            event.encode(buf);
        }
    }
}

#[cfg(test)]
mod tests {
    use kvnode_mvcc::{ChangeKind, Record, Revision};
    use kvnode_proto::mvccpb::KeyValue;

    use super::*;

    #[test]
    fn an_answer_is_written_as_prost_would() {
        let kv = |key: &'static str, revision| {
            let key = key.into();
            Record::encode(&KeyValue { key, mod_revision: revision, version: 1, ..KeyValue::default() })
        };
        let events = vec![
            WatchEvent { kind: ChangeKind::Put, kv: kv("a", 7), prev_kv: Some(kv("a", 3)) },
            WatchEvent { kind: ChangeKind::Delete, kv: kv("b", 7), prev_kv: None },
        ];
        let answer = WatchAnswer {
            revision: Revision(7),
            watch_id: 5,
            events: events.clone(),
            ..WatchAnswer::default()
        };
        let header = ResponseHeader { cluster_id: 1, member_id: 2, revision: 7, raft_term: 3 };
        let mut expected = head(header, &answer);
        let answer = Answer { head: expected.clone(), events };
        expected.events = answer.events.iter().map(WatchEvent::to_event).collect();
        let mut bytes = Vec::new();
        answer.write(&mut bytes);
        assert_eq!(bytes, expected.encode_to_vec());
        assert_eq!(bytes.len(), answer.wire_len());
    }

    #[test]
    fn what_is_said_beside_events_is_etcds() {
        let said = |kind| {
            let answer = WatchAnswer { kind, watch_id: 1, ..WatchAnswer::default() };
            let head = head(ResponseHeader::default(), &answer);
            (head.created, head.canceled, head.compact_revision, head.cancel_reason)
        };
        assert_eq!(said(AnswerKind::Created), (true, false, 0, String::new()));
        assert_eq!(said(AnswerKind::Refused("why".into())), (true, true, 0, "why".into()));
        assert_eq!(said(AnswerKind::Canceled), (false, true, 0, String::new()));
        assert_eq!(said(AnswerKind::Compacted(Revision(9))), (false, true, 9, String::new()));
    }
}
