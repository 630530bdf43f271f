//! A writer that never stops trying and remembers every write that was acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use kvnode_proto::etcdserverpb::{PutRequest, RangeRequest};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{
    cluster::Cluster,
    member::Member,
    wait::{Seen, until},
};

/// Pause after a failed attempt, so that a cluster that is down is not hammered through the API server.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long all members may take to show the writes after the disturbance is over.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

/// Keys are `writes/<number>`; `writes0` is the end of that range.
const PREFIX: &str = "writes/";
const PREFIX_END: &str = "writes0";

/// What a writer saw.
#[derive(Default, Clone)]
pub struct Written {
    /// Acknowledged keys with their values.
    pub acknowledged: BTreeMap<String, String>,
    /// Attempts that were answered with an error or not at all; such a write may or may not be there.
    pub failed_attempts: usize,
    /// The longest time between two acknowledged writes.
    pub longest_gap: Duration,
}

/// A running writer.
pub struct Writer {
    stop: Arc<AtomicBool>,
    progress: watch::Receiver<usize>,
    task: JoinHandle<Written>,
}

impl Writer {
    /// Starts to write through whichever member answers.
    pub fn start(cluster: &Cluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (report, progress) = watch::channel(0);
        let task = tokio::spawn(write_until_stopped(cluster.clone(), stop.clone(), report));
        Self { stop, progress, task }
    }

    /// Waits until this many further writes have been acknowledged: the cluster serves.
    pub async fn acknowledged_more(&mut self, count: usize, limit: Duration) -> Result<()> {
        let target = *self.progress.borrow() + count;
        let wait = self.progress.wait_for(|done| *done >= target);
        let outcome = tokio::time::timeout(limit, wait).await;
        outcome
            .with_context(|| format!("wait {}s for {count} more writes", limit.as_secs()))?
            .map(|_| ())
            .context("the writer ended by itself")
    }

    /// Stops, and gives what was written.
    pub async fn stop(self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.context("the writer panicked")
    }
}

async fn write_until_stopped(
    cluster: Cluster,
    stop: Arc<AtomicBool>,
    report: watch::Sender<usize>,
) -> Written {
    let mut written = Written::default();
    let mut last_success = Instant::now();
    let mut connection: Option<Member> = None;
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{PREFIX}{turn:08}");
        let value = format!("value-{turn}");
        match attempt(&cluster, &mut connection, turn, &key, &value).await {
            Ok(()) => {
                written.longest_gap = written.longest_gap.max(last_success.elapsed());
                last_success = Instant::now();
                written.acknowledged.insert(key, value);
                report.send_replace(written.acknowledged.len());
            }
            Err(_) => {
                connection = None;
                written.failed_attempts += 1;
                sleep(RETRY_PAUSE).await;
            }
        }
        turn += 1;
    }
    written
}

async fn attempt(
    cluster: &Cluster,
    connection: &mut Option<Member>,
    turn: usize,
    key: &str,
    value: &str,
) -> Result<()> {
    let member = match connection {
        Some(member) => member,
        None => connection.insert(cluster.some_member(turn).await?),
    };
    let request = PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: value.as_bytes().to_vec().into(),
        ..Default::default()
    };
    member.kv().put(request).await?;
    Ok(())
}

impl Written {
    /// Reads every acknowledged key back through every member, once each of them answers.
    pub async fn verify(&self, cluster: &Cluster) -> Result<()> {
        ensure!(!self.acknowledged.is_empty(), "no write was acknowledged at all");
        for pod in cluster.pod_names() {
            let found = until(&format!("{pod} to answer a linearizable read"), CATCH_UP_LIMIT, async || {
                let member = cluster.member(&pod).await?;
                Ok(Seen::Done(read_all(&member).await?))
            })
            .await?;
            for (key, value) in &self.acknowledged {
                let read = found.get(key);
                ensure!(
                    read == Some(value),
                    "{pod} answers {read:?} for {key}, which was acknowledged with {value:?} ({} writes were)",
                    self.acknowledged.len()
                );
            }
        }
        Ok(())
    }
}

async fn read_all(member: &Member) -> Result<BTreeMap<String, String>> {
    let request = RangeRequest { key: PREFIX.into(), range_end: PREFIX_END.into(), ..Default::default() };
    let kvs = member.kv().range(request).await?.into_inner().kvs;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect())
}
