//! Writers that remember what was acknowledged, and how to wait for what takes a while.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kvnode_proto::etcdserverpb::{RangeRequest, kv_client::KvClient};
use tokio::task::JoinHandle;
use tonic::{Status, transport::Channel};

use super::{
    Member,
    cluster::{Cluster, put},
};

/// Writes one key after the other through all of its channels in turn, remembers what was acknowledged, and may read it
/// back at once through another.
pub struct Writer {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    channels: Mutex<Vec<Channel>>,
    acknowledged: Mutex<BTreeMap<String, String>>,
    longest_gap: Mutex<Duration>,
    /// Acknowledged, but not found by a linearizable read that began afterwards.
    missed: Mutex<Vec<String>>,
}

impl Shared {
    fn channel(&self, n: usize) -> Channel {
        let channels = self.channels.lock().unwrap();
        channels[n % channels.len()].clone()
    }

    async fn write(&self, task: usize, read_back: bool) {
        let limit = Duration::from_secs(2);
        let mut last = Instant::now();
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let key = format!("w{task}-{n:06}");
            match tokio::time::timeout(limit, put(&self.channel(n), &key, "v")).await {
                Ok(Ok(())) => {
                    self.acknowledged.lock().unwrap().insert(key.clone(), "v".to_owned());
                    let mut gap = self.longest_gap.lock().unwrap();
                    *gap = (*gap).max(last.elapsed());
                    last = Instant::now();
                }
                // A member that is down refuses at once.
                _ => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            }
            let request = RangeRequest { key: key.clone().into(), ..RangeRequest::default() };
            let mut kv = KvClient::new(self.channel(n + 1));
            if read_back
                && let Ok(Ok(answer)) = tokio::time::timeout(limit, kv.range(request)).await
                && answer.into_inner().kvs.is_empty()
            {
                self.missed.lock().unwrap().push(key);
            }
        }
    }
}

impl Writer {
    pub fn start(channels: &[Channel]) -> Self {
        Self::begin(channels, false)
    }

    /// A writer that reads back.
    pub fn start_verifying(channels: &[Channel]) -> Self {
        Self::begin(channels, true)
    }

    fn begin(channels: &[Channel], read_back: bool) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            channels: Mutex::new(channels.to_vec()),
            acknowledged: Mutex::default(),
            longest_gap: Mutex::default(),
            missed: Mutex::default(),
        });
        let spawn = |task| {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { shared.write(task, read_back).await })
        };
        let tasks = (0..4).map(spawn).collect();
        Self { shared, tasks }
    }

    /// Goes on through other members.
    pub fn use_channels(&self, channels: Vec<Channel>) {
        *self.shared.channels.lock().unwrap() = channels;
    }

    pub fn longest_gap(&self) -> Duration {
        *self.shared.longest_gap.lock().unwrap()
    }

    pub fn count(&self) -> usize {
        self.shared.acknowledged.lock().unwrap().len()
    }

    pub async fn wait_for_more(&self, more: usize) {
        let wanted = self.count() + more;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.count() < wanted {
            assert!(Instant::now() < deadline, "writes do not go on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What was acknowledged, all of which every read found.
    pub async fn end(self) -> BTreeMap<String, String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let missed = self.shared.missed.lock().unwrap();
        assert!(missed.is_empty(), "written, but not read: {missed:?}");
        let acknowledged = self.shared.acknowledged.lock().unwrap();
        acknowledged.clone()
    }
}

/// Calls until it succeeds; it may fail with `text` meanwhile: members count as healthy only after some seconds of being
/// connected, and learners need time to catch up.
pub async fn retry<T>(text: &str, call: impl AsyncFn() -> Result<tonic::Response<T>, Status>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match call().await {
            Ok(answer) => return answer.into_inner(),
            Err(e) => assert!(e.message().contains(text) && Instant::now() < deadline, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn assert_holds(found: &BTreeMap<String, String>, acknowledged: &BTreeMap<String, String>) {
    let lost: Vec<_> = acknowledged.keys().filter(|key| !found.contains_key(*key)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged writes are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
}

/// Writers go on on a thread of their own while a test waits for a process.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap().block_on(future)
}

pub fn channels(cluster: &Cluster) -> Vec<Channel> {
    cluster.members.iter().map(Member::channel).collect()
}
