//! Prints what the state machine costs: `cargo run --release -p kvnode-mvcc --example bench [KEYS]`.
//!
//! Single thread, no raft, no network. Times are those of the processor, so that other work on the machine disturbs them
//! little; still, take ratios between runs on one machine, not the absolute figures.

use std::{env, fs, hint::black_box};

use bytes::Bytes;
use kvnode_mvcc::{
    BUCKETS, Config, RaftIndex, ScrubProgress, Store, Term,
    watch::{WatchHub, WatchLimits, WatchStream},
};
use kvnode_proto::etcdserverpb::{
    CompactionRequest, InternalRaftRequest, PutRequest, RangeRequest, WatchCreateRequest,
};

/// Applied entries that share one publication, as under load.
const BATCH: u64 = 64;

struct Bench {
    store: Store,
    index: u64,
}

impl Bench {
    fn put(&mut self, key: Bytes, value: &Bytes) {
        let put = PutRequest { key, value: value.clone(), ..PutRequest::default() };
        self.apply(&InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() });
        if self.index.is_multiple_of(BATCH) {
            black_box(self.store.publish());
        }
    }

    fn apply(&mut self, request: &InternalRaftRequest) {
        self.index += 1;
        self.store.apply(RaftIndex(self.index), Term(1), request).expect("nothing here is refused");
    }
}

fn key(number: u64) -> Bytes {
    format!("/registry/pods/namespace-{:03}/pod-{number:012}", number % 100).into()
}

/// Numbers in an order without pattern, the same in every run.
fn shuffled(count: u64) -> impl Iterator<Item = u64> + Clone {
    let mut state = 88_172_645_463_325_252u64;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % count
    })
}

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Time that this thread spent on a processor so far.
fn cpu_microseconds() -> f64 {
    let schedule = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds: u64 = schedule.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
    nanoseconds as f64 / 1e3
}

fn time(what: &str, times: u64, mut run: impl FnMut()) {
    let start = cpu_microseconds();
    run();
    let each = (cpu_microseconds() - start) / times as f64;
    println!("{what:<44}{each:>12.3} us     rss {:>5} MiB", resident_mib());
}

fn writes(bench: &mut Bench, keys: u64, value: &Bytes) {
    time("put, new keys in order of insertion", keys, || (0..keys).for_each(|n| bench.put(key(n), value)));
    time("put, existing keys at random", keys, || shuffled(keys).for_each(|n| bench.put(key(n), value)));
    time("put, one hot key", 100_000, || (0..100_000).for_each(|_| bench.put(key(0), value)));
}

fn reads(bench: &mut Bench, keys: u64) {
    bench.store.publish();
    let reader = bench.store.reader();
    time("view", 1_000_000, || {
        for _ in 0..1_000_000 {
            black_box(reader.view());
        }
    });
    let view = reader.view();
    let all = RangeRequest { key: "/".into(), range_end: "0".into(), ..RangeRequest::default() };
    let range = |request: &RangeRequest| black_box(view.range(request).expect("readable"));
    time("range, one key at random", 1_000_000, || {
        for n in shuffled(keys).cycle().take(1_000_000) {
            range(&RangeRequest { key: key(n), ..RangeRequest::default() });
        }
    });
    time("range, 10,000 keys", 100, || {
        for _ in 0..100 {
            range(&RangeRequest { limit: 10_000, ..all.clone() });
        }
    });
    let old = view.revision().0 - 1_000;
    time("range, 500 keys at an older revision", 1_000, || {
        for _ in 0..1_000 {
            range(&RangeRequest { limit: 500, revision: old, ..all.clone() });
        }
    });
    let count = RangeRequest { key: "/registry/pods/namespace-05".into(), count_only: true, ..all };
    time("count, half of the keys", 10_000, || {
        for _ in 0..10_000 {
            range(&count);
        }
    });
    time("count, half of the keys, 1,000 revisions ago", 1_000, || {
        for _ in 0..1_000 {
            range(&RangeRequest { revision: old, ..count.clone() });
        }
    });
    time("hash of everything", 1, || {
        black_box(view.hash_kv(kvnode_mvcc::Revision(0)).expect("readable"));
    });
}

fn watching(bench: &mut Bench, value: &Bytes) {
    let mut hub = WatchHub::new(bench.store.publish().view, WatchLimits::default());
    let mut streams: Vec<_> = (0..100).map(|_| WatchStream::open(&mut hub)).collect();
    let request = WatchCreateRequest {
        key: "/registry/pods/".into(),
        range_end: "/registry/pods0".into(),
        ..WatchCreateRequest::default()
    };
    for stream in &mut streams {
        (0..100).for_each(|_| stream.create(&mut hub, &request, Ok(())));
        while stream.next_answer().is_some() {}
    }
    time("put with 100 streams of 100 watchers", 100, || {
        for n in 0..100 {
            bench.put(key(n), value);
            hub.publish(&bench.store.publish());
            for stream in &mut streams {
                stream.collect(&mut hub);
                stream.process();
                while let Some(answer) = stream.next_answer() {
                    black_box(answer);
                }
            }
        }
    });
}

fn main() {
    let keys: u64 = env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let value = Bytes::from(vec![b'v'; 256]);
    let config = Config { quota_bytes: None, ..Config::default() };
    let mut bench = Bench { store: Store::new(config), index: 0 };
    println!(
        "{keys} keys of {} bytes, values of {} bytes; rss at start {} MiB",
        key(0).len(),
        value.len(),
        resident_mib()
    );
    writes(&mut bench, keys, &value);
    reads(&mut bench, keys);
    watching(&mut bench, &value);
    let revision = bench.store.revision().0;
    let compaction = Some(CompactionRequest { revision, physical: false });
    bench.apply(&InternalRaftRequest { compaction, ..InternalRaftRequest::default() });
    let mut longest = 0.0f64;
    time("compaction, all steps", 1, || {
        loop {
            let start = cpu_microseconds();
            let progress = bench.store.scrub(1_000);
            longest = longest.max(cpu_microseconds() - start);
            bench.store.publish();
            if progress == ScrubProgress::Done {
                break;
            }
        }
    });
    println!("{:<44}{longest:>12.3} us", "compaction, longest step");
    let view = bench.store.view();
    let data: usize = view.bucket_items("key").map(|(_, record)| record.len()).sum();
    println!("{} keys, {} MiB of records", view.key_count(), data >> 20);
    let rows = |bucket: &str| view.bucket_items(bucket).collect::<Vec<_>>();
    let all: Vec<(&str, Vec<(Bytes, Bytes)>)> =
        BUCKETS.iter().map(|bucket| (*bucket, rows(bucket))).collect();
    time("restore", 1, || {
        let rows = |bucket: &str| all.iter().find(|(name, _)| *name == bucket).map(|(_, rows)| rows.clone());
        black_box(Store::restore(config, |bucket| rows(bucket).unwrap_or_default()).expect("its own rows"));
    });
}
