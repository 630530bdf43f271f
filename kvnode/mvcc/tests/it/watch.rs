//! Watch streams under random writes, compactions, slow clients and snapshots, against what every watcher is owed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kvnode_mvcc::{
    BUCKETS, ChangeKind, Config, KeyRange, RaftIndex, Revision, Store, Term, View,
    watch::{
        AnswerKind, CreateError, Fragment, NO_WATCH_ID, WatchAnswer, WatchHub, WatchLimits, WatchStream,
    },
};
use kvnode_proto::{
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, InternalRaftRequest, PutRequest, RequestOp, TxnRequest,
        WatchCreateRequest, request_op::Request, watch_create_request::FilterType,
    },
    mvccpb::{Event, KeyValue, event::EventType},
};
use proptest::prelude::*;
use prost::Message;

const STREAMS: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>),
    Delete { key: u8, end: Option<u8> },
    Publish,
    Compact { back: i64 },
    Create { stream: usize, key: u8, end: Option<u8>, start: i64, flags: u8 },
    Cancel { stream: usize, id: i64 },
    Progress { stream: usize },
    Tick { stream: usize },
    Collect { stream: usize },
    Process { stream: usize },
    Snapshot,
}

fn op() -> impl Strategy<Value = Op> {
    let stream = 0..STREAMS;
    prop_oneof![
        8 => prop::collection::btree_set(0..6u8, 1..4).prop_map(|keys| Op::Put(keys.into_iter().collect())),
        3 => (0..6u8, prop::option::of(0..8u8)).prop_map(|(key, end)| Op::Delete { key, end }),
        6 => Just(Op::Publish),
        1 => (0..30i64).prop_map(|back| Op::Compact { back }),
        4 => (stream.clone(), 0..6u8, prop::option::of(0..8u8), -40..6i64, any::<u8>())
            .prop_map(|(stream, key, end, start, flags)| Op::Create { stream, key, end, start, flags }),
        1 => (stream.clone(), 0..4i64).prop_map(|(stream, id)| Op::Cancel { stream, id }),
        2 => stream.clone().prop_map(|stream| Op::Progress { stream }),
        1 => stream.clone().prop_map(|stream| Op::Tick { stream }),
        4 => stream.clone().prop_map(|stream| Op::Collect { stream }),
        6 => stream.prop_map(|stream| Op::Process { stream }),
        1 => Just(Op::Snapshot),
    ]
}

fn name(key: u8) -> Bytes {
    vec![b'a' + key].into()
}

/// What a client knows of one of its watchers.
#[derive(Debug)]
struct Client {
    range: KeyRange,
    /// The first revision it is owed.
    first: i64,
    filters: Vec<FilterType>,
    prev_kv: bool,
    progress_notify: bool,
    received: Vec<Event>,
    /// Everything up to here was promised to have come.
    promised: i64,
    in_fragments: bool,
    ended: Option<AnswerKind>,
}

struct Machine {
    store: Store,
    hub: WatchHub,
    streams: Vec<WatchStream>,
    clients: Vec<BTreeMap<i64, Client>>,
    /// Ids of those that a compaction ended, until the client gives them up.
    compacted: Vec<BTreeSet<i64>>,
    ended: Vec<Client>,
    requests: Vec<Vec<WatchCreateRequest>>,
    history: Vec<Event>,
}

impl Machine {
    fn new() -> Self {
        let mut store = Store::new(Config::default());
        let limits = WatchLimits {
            inbox_changes: 4,
            inbox_batch_changes: 6,
            batch_watchers: 2,
            batch_revisions: 3,
            batch_bytes: 60,
            scan_entries: 5,
            fragment_bytes: 120,
        };
        let mut hub = WatchHub::new(store.publish().view, limits);
        let streams = (0..STREAMS).map(|_| WatchStream::open(&mut hub)).collect();
        Self {
            store,
            hub,
            streams,
            clients: (0..STREAMS).map(|_| BTreeMap::new()).collect(),
            compacted: vec![BTreeSet::new(); STREAMS],
            ended: Vec::new(),
            requests: vec![Vec::new(); STREAMS],
            history: Vec::new(),
        }
    }

    fn apply(&mut self, request: &InternalRaftRequest) {
        let index = RaftIndex(self.store.applied().0.0 + 1);
        let before = self.store.view();
        self.store.apply(index, Term(1), request).unwrap();
        let after = self.store.view();
        if after.revision() > before.revision() {
            self.record(&before, &after);
        }
    }

    /// Notes what changed between two revisions, told by reading both.
    fn record(&mut self, before: &View, after: &View) {
        let main = after.revision();
        for key in (0..6).map(name) {
            let (old, new) = (before.get(&key, before.revision()), after.get(&key, main));
            if old == new {
                continue;
            }
            let kind = if new.is_some() { EventType::Put } else { EventType::Delete };
            let deleted = KeyValue { key, mod_revision: main.0, ..KeyValue::default() };
            self.history.push(Event {
                r#type: kind as i32,
                kv: Some(new.map_or(deleted, |record| record.to_key_value())),
                prev_kv: old.map(|record| record.to_key_value()),
            });
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Put(keys) => {
                let put = |key: &u8| {
                    let value = Bytes::from(vec![b'v'; usize::from(*key) * 20]);
                    Request::RequestPut(PutRequest { key: name(*key), value, ..PutRequest::default() })
                };
                let success = keys.iter().map(|key| RequestOp { request: Some(put(key)) }).collect();
                let txn = Some(TxnRequest { success, ..TxnRequest::default() });
                self.apply(&InternalRaftRequest { txn, ..InternalRaftRequest::default() });
            }
            Op::Delete { key, end } => {
                let range_end = end.map(name).unwrap_or_default();
                let delete_range = Some(DeleteRangeRequest { key: name(*key), range_end, prev_kv: false });
                self.apply(&InternalRaftRequest { delete_range, ..InternalRaftRequest::default() });
            }
            Op::Publish => {
                let batch = self.store.publish();
                self.hub.publish(&batch);
            }
            Op::Compact { back } => {
                let revision = self.store.revision().0 - back;
                if revision > self.store.view().compact_revision().0 {
                    let compaction = Some(CompactionRequest { revision, physical: false });
                    self.apply(&InternalRaftRequest { compaction, ..InternalRaftRequest::default() });
                    self.store.scrub(1000);
                }
            }
            Op::Create { stream, key, end, start, flags } => self.create(*stream, *key, *end, *start, *flags),
            Op::Cancel { stream, id } => self.streams[*stream].cancel(&mut self.hub, *id),
            Op::Progress { stream } => self.streams[*stream].request_progress(&mut self.hub),
            Op::Tick { stream } => self.streams[*stream].tick(&mut self.hub),
            Op::Collect { stream } => self.streams[*stream].collect(&mut self.hub),
            Op::Process { stream } => self.process(*stream),
            Op::Snapshot => {
                // What another member says replaces this one's store; unpublished changes come with it.
                let view = self.store.publish().view;
                let rows: BTreeMap<&str, Vec<_>> =
                    BUCKETS.iter().map(|bucket| (*bucket, view.bucket_items(bucket).collect())).collect();
                self.store = Store::restore(Config::default(), |bucket| rows[bucket].clone()).unwrap();
                self.hub.reset(self.store.view());
            }
        }
    }

    fn create(&mut self, stream: usize, key: u8, end: Option<u8>, start: i64, flags: u8) {
        let start_revision = if start == -40 { -1 } else { (self.store.revision().0 + start).max(0) };
        let mut filters = Vec::new();
        if flags & 3 == 1 {
            filters.push(FilterType::Noput as i32);
        }
        if flags & 12 == 4 {
            filters.push(FilterType::Nodelete as i32);
        }
        let request = WatchCreateRequest {
            key: name(key),
            range_end: end.map(name).unwrap_or_default(),
            start_revision,
            progress_notify: flags & 16 != 0,
            filters,
            prev_kv: flags & 32 != 0,
            watch_id: if flags & 192 == 192 { 2 } else { 0 },
            fragment: flags & 64 != 0,
        };
        self.requests[stream].push(request.clone());
        let permitted = if flags == 255 { Err(CreateError::Denied("no".into())) } else { Ok(()) };
        self.streams[stream].create(&mut self.hub, &request, permitted);
        // The client reads no answer to a creation before its next one, so that it can tell which it is.
        let answers: Vec<_> = std::iter::from_fn(|| self.streams[stream].next_answer()).collect();
        answers.into_iter().for_each(|answer| self.receive(stream, answer));
    }

    fn process(&mut self, stream: usize) {
        self.streams[stream].process();
        while let Some(answer) = self.streams[stream].next_answer() {
            self.receive(stream, answer);
        }
    }

    fn receive(&mut self, stream: usize, answer: WatchAnswer) {
        let clients = &mut self.clients[stream];
        match &answer.kind {
            AnswerKind::Created => {
                let request = self.requests[stream].remove(0);
                let first =
                    if request.start_revision == 0 { answer.revision.0 + 1 } else { request.start_revision };
                let client = Client {
                    range: KeyRange::new(&request.key, &request.range_end),
                    first,
                    filters: request.filters().collect(),
                    prev_kv: request.prev_kv,
                    progress_notify: request.progress_notify,
                    received: Vec::new(),
                    promised: first - 1,
                    in_fragments: false,
                    ended: None,
                };
                assert!(!self.compacted[stream].contains(&answer.watch_id), "the client still knows that id");
                assert!(clients.insert(answer.watch_id, client).is_none(), "an id was given twice");
            }
            AnswerKind::Refused(reason) => {
                let request = self.requests[stream].remove(0);
                assert_eq!(answer.watch_id, NO_WATCH_ID);
                let why = [
                    request.start_revision < 0 && reason.ends_with("has been compacted"),
                    request.range_end <= request.key && reason == "mvcc: watcher range is empty",
                    request.watch_id == 2 && reason.starts_with("mvcc: duplicate watch ID"),
                    reason == "no",
                ];
                assert!(why.contains(&true), "{reason:?} for {request:?}");
            }
            AnswerKind::Canceled if self.compacted[stream].remove(&answer.watch_id) => {}
            AnswerKind::Canceled | AnswerKind::Compacted(_) => {
                if answer.kind != AnswerKind::Canceled {
                    self.compacted[stream].insert(answer.watch_id);
                }
                let mut client = clients.remove(&answer.watch_id).expect("only watchers end");
                client.ended = Some(answer.kind);
                self.ended.push(client);
            }
            AnswerKind::Events if answer.events.is_empty() && answer.watch_id == NO_WATCH_ID => {
                clients.values_mut().for_each(|client| client.promise(answer.revision));
            }
            AnswerKind::Events if answer.events.is_empty() => {
                let client = clients.get_mut(&answer.watch_id).expect("only watchers progress");
                assert!(client.progress_notify);
                client.promise(answer.revision);
            }
            AnswerKind::Events => {
                clients.get_mut(&answer.watch_id).expect("only watchers get events").take(&answer);
            }
        }
    }

    fn finish(mut self) {
        self.run(&Op::Publish);
        for stream in 0..STREAMS {
            for _ in 0..10_000 {
                self.streams[stream].collect(&mut self.hub);
                self.process(stream);
                if !self.streams[stream].is_behind() {
                    break;
                }
            }
            assert!(!self.streams[stream].is_behind(), "a watcher never catches up");
        }
        let last = self.store.revision().0;
        let live = self.clients.iter().flat_map(|clients| clients.values());
        for client in live.chain(&self.ended) {
            client.check(&self.history, last);
        }
        assert_eq!(self.hub.live_watchers(), self.clients.iter().map(BTreeMap::len).sum::<usize>());
        for stream in self.streams {
            stream.close(&mut self.hub);
        }
        assert_eq!((self.hub.live_watchers(), self.hub.streams()), (0, 0));
    }
}

impl Client {
    fn promise(&mut self, revision: Revision) {
        assert!(revision.0 >= self.first - 1 || revision.0 >= self.promised, "progress before the start");
        self.promised = self.promised.max(revision.0);
    }

    fn take(&mut self, answer: &WatchAnswer) {
        let first = answer.events[0].to_event().kv.unwrap().mod_revision;
        let newest = self.received.last().map_or(0, |event| event.kv.as_ref().unwrap().mod_revision);
        assert!(first > newest || self.in_fragments, "a revision was divided or repeated");
        assert!(
            first > self.promised || self.in_fragments,
            "an event after the promise of {}",
            self.promised
        );
        self.in_fragments = answer.fragment == Fragment::More;
        let mut bytes = 0;
        for event in &answer.events {
            let message = event.to_event();
            let mut encoded = bytes::BytesMut::new();
            event.encode(&mut encoded);
            assert_eq!(encoded.as_ref(), message.encode_to_vec(), "the hand-made encoding");
            assert_eq!(encoded.len(), event.encoded_len());
            assert_eq!(event.kind == ChangeKind::Delete, message.r#type == EventType::Delete as i32);
            assert!(self.prev_kv || message.prev_kv.is_none());
            bytes += encoded.len();
            self.received.push(message);
        }
        if self.in_fragments {
            assert!(bytes < 120 || answer.events.len() == 1, "a fragment of {bytes} bytes");
        } else {
            let newest = answer.events.last().unwrap().to_event().kv.unwrap().mod_revision;
            assert!(answer.revision.0 >= newest);
        }
    }

    /// Everything it is owed, in order and once; if it was ended, a beginning of that without gaps.
    fn check(&self, history: &[Event], last: i64) {
        let key = |event: &Event| event.kv.clone().unwrap();
        let owed = history.iter().filter(|event| {
            let kind =
                if event.r#type == EventType::Put as i32 { FilterType::Noput } else { FilterType::Nodelete };
            key(event).mod_revision >= self.first
                && self.range.contains(&key(event).key)
                && !self.filters.contains(&kind)
        });
        let owed: Vec<&Event> = owed.collect();
        if self.ended.is_none() {
            assert_eq!(self.received.len(), owed.len(), "{self:#?}\nowed {owed:#?} up to {last}");
        }
        for (received, owed) in self.received.iter().zip(&owed) {
            assert_eq!((received.r#type, &received.kv), (owed.r#type, &owed.kv), "{self:#?}");
            // What was before may have been compacted meanwhile, but is never anything else.
            assert!(received.prev_kv.is_none() || received.prev_kv == owed.prev_kv, "{received:?} {owed:?}");
        }
        if let Some(AnswerKind::Compacted(at)) = self.ended {
            let next = owed.get(self.received.len()).map_or(i64::MAX, |event| key(event).mod_revision);
            assert!(self.first < at.0, "cancelled although nothing was lost: {next}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_watcher_gets_what_it_is_owed(ops in prop::collection::vec(op(), 0..150)) {
        let mut machine = Machine::new();
        ops.iter().for_each(|op| machine.run(op));
        machine.finish();
    }
}

/// However many watchers of one stream want the same, little of it waits at a time: not when they catch up, asked for one
/// after the other while nothing is sent, and not when a batch is more than they can take together.
#[test]
fn what_waits_for_many_watchers_is_bounded() {
    const WATCHERS: usize = 300;
    const WRITES: usize = 1500;
    const WAITING_MAX: usize = 65_536;
    let mut store = Store::new(Config::default());
    let mut hub = WatchHub::new(store.publish().view, WatchLimits::default());
    let mut write = |hub: &mut WatchHub| {
        for _ in 0..WRITES {
            let put = PutRequest { key: name(0), value: vec![b'v'; 20].into(), ..PutRequest::default() };
            let request = InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() };
            store.apply(RaftIndex(store.applied().0.0 + 1), Term(1), &request).unwrap();
        }
        hub.publish(&store.publish());
    };
    let receive = |hub: &mut WatchHub, stream: &mut WatchStream| {
        let mut received = 0;
        loop {
            let events: usize =
                std::iter::from_fn(|| stream.next_answer()).map(|answer| answer.events.len()).sum();
            assert!(events <= WAITING_MAX, "{events} events waited");
            received += events;
            if events == 0 && !stream.is_behind() {
                return received;
            }
            stream.collect(hub);
            stream.process();
        }
    };
    write(&mut hub);
    let mut stream = WatchStream::open(&mut hub);
    for _ in 0..WATCHERS {
        let request = WatchCreateRequest { key: name(0), start_revision: 2, ..WatchCreateRequest::default() };
        stream.create(&mut hub, &request, Ok(()));
        stream.process();
    }
    assert_eq!(receive(&mut hub, &mut stream), WATCHERS * WRITES);
    assert_eq!(hub.live_watchers(), WATCHERS);
    write(&mut hub);
    assert_eq!(hub.live_watchers(), 0, "they were sent to the log");
    stream.collect(&mut hub);
    stream.process();
    assert_eq!(receive(&mut hub, &mut stream), WATCHERS * WRITES);
}
