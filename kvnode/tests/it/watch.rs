//! Watching: what a stream is sent, and in which order.

use kvnode_proto::{
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, PutRequest, WatchCancelRequest, WatchCreateRequest,
        WatchProgressRequest, WatchRequest, WatchResponse, kv_client::KvClient, watch_client::WatchClient,
        watch_create_request::FilterType, watch_request::RequestUnion,
    },
    mvccpb::event::EventType,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming, transport::Channel};

use crate::support::{Member, Options, block_on};

/// One watch stream and a client for writes.
struct Session {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    kv: KvClient<Channel>,
}

impl Session {
    async fn open(member: &Member) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let mut watch = WatchClient::new(member.channel());
        let answers = watch.watch(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { requests, answers, kv: KvClient::new(member.channel()) }
    }

    async fn send(&self, request: RequestUnion) {
        self.requests.send(WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    async fn next(&mut self) -> WatchResponse {
        self.answers.message().await.unwrap().unwrap()
    }

    /// Creates a watch and takes its first answer.
    async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.send(RequestUnion::CreateRequest(request)).await;
        self.next().await
    }

    async fn put(&mut self, key: &str, value: &str) -> i64 {
        let put = PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        };
        self.kv.put(put).await.unwrap().into_inner().header.unwrap().revision
    }

    async fn delete(&mut self, key: &str) -> i64 {
        let delete = DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() };
        self.kv.delete_range(delete).await.unwrap().into_inner().header.unwrap().revision
    }
}

fn on(key: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_owned().into(), ..WatchCreateRequest::default() }
}

/// Kind, key, value, revision and previous value of each event.
fn seen(answer: &WatchResponse) -> Vec<(bool, String, String, i64, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    answer
        .events
        .iter()
        .map(|event| {
            let kv = event.kv.as_ref().unwrap();
            let before = event.prev_kv.as_ref().map(|kv| text(&kv.value));
            (event.r#type() == EventType::Delete, text(&kv.key), text(&kv.value), kv.mod_revision, before)
        })
        .collect()
}

#[test]
fn changes_come_in_order_with_what_was_before() {
    let member = Member::start();
    block_on(async {
        let mut session = Session::open(&member).await;
        session.put("k", "0").await;
        let created = session.create(WatchCreateRequest { prev_kv: true, ..on("k") }).await;
        assert!(created.created && !created.canceled);
        assert_eq!((created.watch_id, created.header.unwrap().revision), (0, 2));
        session.put("k", "1").await;
        session.put("other", "x").await;
        session.delete("k").await;
        // A member that is behind may put both revisions into one answer; what counts is the order.
        let mut events = Vec::new();
        while events.len() < 2 {
            let answer = session.next().await;
            let last = seen(&answer).last().map(|event| event.3);
            assert!(last <= answer.header.map(|header| header.revision), "an answer is as new as its events");
            events.extend(seen(&answer));
        }
        let put = (false, "k".into(), "1".into(), 3, Some("0".into()));
        let delete = (true, "k".into(), String::new(), 5, Some("1".into()));
        assert_eq!(events, [put, delete]);
    });
}

#[test]
fn a_watch_from_the_past_catches_up_and_goes_on() {
    let member = Member::start();
    block_on(async {
        let mut session = Session::open(&member).await;
        for n in 0..30 {
            session.put(&format!("k{n}"), "v").await;
        }
        let request = WatchCreateRequest { range_end: "l".into(), start_revision: 11, ..on("k") };
        assert!(session.create(request).await.created);
        session.put("k-live", "v").await;
        let mut revisions = Vec::new();
        while revisions.len() < 22 {
            revisions.extend(seen(&session.next().await).iter().map(|event| event.3));
        }
        assert_eq!(revisions, (11..=32).collect::<Vec<_>>());
    });
}

#[test]
fn filters_ids_and_cancellation_are_kept_to() {
    let member = Member::start();
    block_on(async {
        let mut session = Session::open(&member).await;
        let no_put = WatchCreateRequest { filters: vec![FilterType::Noput as i32], ..on("k") };
        assert_eq!(session.create(no_put).await.watch_id, 0);
        let own_id =
            WatchCreateRequest { watch_id: 7, filters: vec![FilterType::Nodelete as i32], ..on("k") };
        assert_eq!(session.create(own_id.clone()).await.watch_id, 7);
        let twice = session.create(own_id).await;
        assert!(twice.created && twice.canceled);
        assert_eq!(
            (twice.watch_id, twice.cancel_reason.as_str()),
            (-1, "mvcc: duplicate watch ID provided on the WatchStream")
        );
        let empty = session.create(WatchCreateRequest { range_end: "a".into(), ..on("k") }).await;
        assert_eq!((empty.canceled, empty.cancel_reason.as_str()), (true, "mvcc: watcher range is empty"));
        let negative = session.create(WatchCreateRequest { start_revision: -1, ..on("k") }).await;
        assert_eq!(negative.cancel_reason, "etcdserver: mvcc: required revision has been compacted");

        session.put("k", "1").await;
        let put = session.next().await;
        assert_eq!((put.watch_id, seen(&put).len()), (7, 1));
        session.delete("k").await;
        let deleted = session.next().await;
        assert_eq!((deleted.watch_id, seen(&deleted)[0].0), (0, true));

        session.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 })).await;
        let canceled = session.next().await;
        assert!(canceled.canceled && canceled.watch_id == 7);
    });
}

#[test]
fn a_compacted_start_is_cancelled_with_the_revision_to_go_on_from() {
    let member = Member::start();
    block_on(async {
        let mut session = Session::open(&member).await;
        for n in 0..5 {
            session.put("k", &n.to_string()).await;
        }
        session.kv.compact(CompactionRequest { revision: 5, physical: false }).await.unwrap();
        assert!(session.create(WatchCreateRequest { start_revision: 3, ..on("k") }).await.created);
        let canceled = session.next().await;
        assert!(canceled.canceled && canceled.events.is_empty());
        assert_eq!((canceled.compact_revision, canceled.cancel_reason.as_str()), (5, ""));
        assert!(session.create(WatchCreateRequest { start_revision: 5, ..on("k") }).await.created);
        let mut revisions = Vec::new();
        while revisions.len() < 2 {
            revisions.extend(seen(&session.next().await).iter().map(|event| event.3));
        }
        assert_eq!(revisions, [5, 6]);
    });
}

#[test]
fn progress_is_told_on_request_and_by_interval() {
    let member = Member::start_with(Options::with(&["--watch-progress-notify-interval=100ms"]));
    block_on(async {
        let mut session = Session::open(&member).await;
        session.create(WatchCreateRequest { progress_notify: true, ..on("k") }).await;
        let revision = session.put("elsewhere", "v").await;
        let notified = loop {
            let answer = session.next().await;
            if answer.header.unwrap().revision == revision {
                break answer;
            }
        };
        assert_eq!((notified.watch_id, notified.events.len(), notified.created), (0, 0, false));
        session.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
        let asked = loop {
            let answer = session.next().await;
            if answer.watch_id == -1 {
                break answer;
            }
        };
        assert_eq!(asked.header.unwrap().revision, revision);
    });
}

#[test]
fn large_answers_are_fragmented_for_those_who_asked() {
    let member = Member::start_with(Options::with(&["--max-request-bytes=100000"]));
    block_on(async {
        let mut session = Session::open(&member).await;
        for n in 0..40 {
            session.put(&format!("k{n}"), &"v".repeat(50_000)).await;
        }
        let request = WatchCreateRequest { range_end: "l".into(), fragment: true, prev_kv: true, ..on("k") };
        session.create(request).await;
        let all =
            DeleteRangeRequest { key: "k".into(), range_end: "l".into(), ..DeleteRangeRequest::default() };
        session.kv.delete_range(all).await.unwrap();
        let mut parts = vec![session.next().await];
        while parts.last().is_some_and(|part| part.fragment) {
            parts.push(session.next().await);
        }
        let events: usize = parts.iter().map(|part| part.events.len()).sum();
        assert!(parts.len() >= 3 && events == 40, "{} parts, {events} events", parts.len());
        assert!(parts.iter().all(|part| part.header.unwrap().revision == 42));
    });
}

#[test]
fn a_stream_that_wants_a_leader_starts_only_with_one_and_streams_are_counted() {
    let member = Member::start();
    block_on(async {
        let (requests, receiver) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(receiver));
        request.metadata_mut().insert("hasleader", "true".parse().unwrap());
        let mut watch = WatchClient::new(member.channel());
        let mut answers = watch.watch(request).await.unwrap().into_inner();
        let union = Some(RequestUnion::CreateRequest(on("k")));
        requests.send(WatchRequest { request_union: union }).await.unwrap();
        assert!(answers.message().await.unwrap().unwrap().created);
        assert_eq!(member.metric("etcd_debugging_mvcc_watcher_total"), Some(1.0));
        assert_eq!(member.metric("etcd_debugging_mvcc_watch_stream_total"), Some(1.0));
        drop(answers);
        drop(requests);
        let canceled = "grpc_server_handled_total{grpc_code=\"Canceled\",grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"}";
        while member.metric(canceled) != Some(1.0) {
            tokio::task::yield_now().await;
        }
        assert_eq!(member.metric("etcd_debugging_mvcc_watcher_total"), Some(0.0));
    });
}

#[test]
fn a_stopping_member_ends_its_streams() {
    let mut member = Member::start();
    block_on(async {
        let mut session = Session::open(&member).await;
        session.create(on("k")).await;
        member.signal(rustix::process::Signal::TERM);
        let error = loop {
            match session.answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a reason"),
                Err(error) => break error,
            }
        };
        assert_eq!((error.code(), error.message()), (Code::Unavailable, "etcdserver: server stopped"));
    });
    member.wait();
}
