//! The log thread: the only one that writes to the log, and the only place where anything becomes durable.
//!
//! It takes everything that waits, writes it with one write and one sync, and only then tells raft and lets messages go
//! that depend on it. While it syncs, raft goes on and the next group gathers.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use kvnode_proto::{raftpb, walpb};
use kvnode_storage::wal::{Progress, Wal, WalError};
use tracing::{error, info, warn};

use super::{
    shared::{SharedRef, Transport},
    stop::StopReason,
};

/// Work for the log thread, done in order.
pub(crate) enum WalJob {
    /// What a Ready wants written, and what may happen when it is.
    Write(Write),
    /// The state up to this mark is durable elsewhere: note it, and give up older segments.
    Checkpointed(walpb::Snapshot),
}

/// The durable part of a Ready.
pub(crate) struct Write {
    pub(crate) number: u64,
    pub(crate) hard_state: Option<raftpb::HardState>,
    pub(crate) entries: Vec<raftpb::Entry>,
    /// A received snapshot, whose file is already durable.
    pub(crate) snapshot: Option<raftpb::SnapshotMetadata>,
    pub(crate) must_sync: bool,
    pub(crate) messages: Vec<raftpb::Message>,
}

/// Segments kept although a checkpoint covers them (etcd's `--max-wals`): tools that check histories read them, and they
/// cost at most 320 MB.
const SEGMENTS_KEPT: usize = 5;

/// Whether writes wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyncMode {
    /// They do.
    Always,
    /// They do not (`--unsafe-no-fsync`): a power cut loses acknowledged writes.
    Never,
}

/// Shows the raft thread whether the log thread gets on.
#[derive(Default)]
pub(crate) struct LogWatch {
    /// How often it began or ended to work: odd while it does.
    turns: AtomicU64,
    progress: OnceLock<Progress>,
}

impl LogWatch {
    /// Work begins, or ends.
    pub(crate) fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// How far it is while it works, in any unit: the same twice means that nothing was done in between.
    pub(crate) fn at_work(&self) -> Option<u64> {
        let turns = self.turns.load(Ordering::Relaxed);
        (turns % 2 == 1).then(|| turns + self.progress.get().map_or(0, Progress::steps))
    }
}

pub(crate) struct WalLoop {
    pub(crate) shared: SharedRef,
    pub(crate) wal: Wal,
    pub(crate) sync: SyncMode,
    pub(crate) transport: Arc<dyn Transport>,
}

impl WalLoop {
    /// Runs until the queue is closed.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let watch = &shared.raft.log;
        watch.progress.get_or_init(|| self.wal.progress().clone());
        let mut jobs = Vec::new();
        while shared.wal.take_all(&mut jobs) {
            watch.turn();
            let outcome = self.work(&mut jobs);
            watch.turn();
            if let Err(e) = outcome {
                // After a failed write or sync nobody knows what the disk holds; promising anything more would be a lie.
                error!(error = %e, "failed to write the write-ahead log");
                self.shared.stopper.stop(StopReason::Fatal(e.to_string()));
                return;
            }
        }
    }

    /// Writes a group. Marks stand between groups: they sync by themselves.
    fn work(&mut self, jobs: &mut Vec<WalJob>) -> Result<(), WalError> {
        let mut group = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            match job {
                WalJob::Write(write) => {
                    if let Some(meta) = &write.snapshot {
                        self.finish(&mut group)?;
                        // Durable with its hard state before any entry behind it is written.
                        self.wal.install_snapshot(&mark_of(meta), write.hard_state.as_ref())?;
                    }
                    self.wal.append(write.hard_state.as_ref(), &write.entries);
                    group.push(write);
                }
                WalJob::Checkpointed(mark) => {
                    self.finish(&mut group)?;
                    self.checkpointed(&mark)?;
                }
            }
        }
        self.finish(&mut group)
    }

    /// Makes a group durable and tells whoever depends on it.
    fn finish(&mut self, group: &mut Vec<Write>) -> Result<(), WalError> {
        let Some(number) = group.last().map(|write| write.number) else { return Ok(()) };
        let bytes = i64::try_from(self.wal.buffered_bytes()).unwrap_or(i64::MAX);
        self.shared.metrics.disk.wal_write_bytes.add(bytes);
        if self.sync == SyncMode::Always && group.iter().any(|write| write.must_sync) {
            let start = Instant::now();
            self.wal.sync()?;
            let took = start.elapsed();
            self.shared.metrics.disk.wal_fsync.observe(took.as_secs_f64());
            if took.as_secs() >= 1 {
                warn!(took = ?took, expected = "1s", "slow fdatasync");
            }
        } else {
            let start = Instant::now();
            self.wal.flush()?;
            self.shared.metrics.disk.wal_write.observe(start.elapsed().as_secs_f64());
        }
        // Only the first of a group has one. Raft hears of it before anybody can answer the messages, or installs it.
        let snapshot = group.first_mut().and_then(|write| write.snapshot.take());
        self.shared.inbox.persisted(number, snapshot);
        for write in group.drain(..) {
            if !write.messages.is_empty() {
                self.transport.send(write.messages);
            }
        }
        Ok(())
    }

    fn checkpointed(&mut self, mark: &walpb::Snapshot) -> Result<(), WalError> {
        self.wal.mark_snapshot(mark)?;
        if self.wal.segment_count() > SEGMENTS_KEPT {
            let released = self.wal.release_before(mark.index)?;
            info!(released, "snapshot-index" = mark.index, "released write-ahead log segments");
        }
        Ok(())
    }
}

/// The log's own form of a snapshot's metadata.
pub(crate) fn mark_of(meta: &raftpb::SnapshotMetadata) -> walpb::Snapshot {
    walpb::Snapshot { index: meta.index, term: meta.term, conf_state: meta.conf_state.clone() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kvnode_storage::{
        vfs::SimDisk,
        wal::{Metadata, Preparation, WalOptions},
    };

    use super::*;
    use crate::node::{inbox::Letters, shared::testing};

    /// An answer to a message can be here before the log thread goes on, and so can the state of a snapshot.
    #[test]
    fn raft_hears_what_is_durable_before_anybody_can_react_to_it() {
        let options = WalOptions { segment_bytes: 1 << 16, preparation: Preparation::Inline };
        let disk = Arc::new(SimDisk::new());
        let wal = Wal::create(disk, Path::new("/wal"), Metadata { node_id: 1, cluster_id: 1 }, options)
            .expect("an empty disk");
        let shared = testing::shared();
        let (heard, sent) = (Arc::clone(&shared), Arc::new(AtomicU64::new(0)));
        let sendings = Arc::clone(&sent);
        let transport = Arc::new(testing::Outbox(move |_| {
            let mut letters = Letters::default();
            heard.inbox.take(&mut letters, Instant::now());
            assert_eq!((letters.persisted, letters.snapshots.len()), (8, 1));
            sendings.fetch_add(1, Ordering::Relaxed);
        }));
        let mut log = WalLoop { shared: Arc::clone(&shared), wal, sync: SyncMode::Always, transport };
        let write = |number, snapshot| Write {
            number,
            hard_state: Some(raftpb::HardState { term: 2, vote: 0, commit: 10 }),
            entries: Vec::new(),
            snapshot,
            must_sync: true,
            messages: Vec::new(),
        };
        let conf_state = Some(raftpb::ConfState { voters: vec![1], ..Default::default() });
        let snapshot = raftpb::SnapshotMetadata { index: 10, term: 2, conf_state };
        let answer = Write { messages: vec![raftpb::Message::default()], ..write(8, None) };
        log.work(&mut vec![WalJob::Write(write(7, Some(snapshot))), WalJob::Write(answer)]).expect("power");
        assert_eq!(sent.load(Ordering::Relaxed), 1);
        let mut installs = Vec::new();
        shared.apply.take_all_within(&mut installs, std::time::Duration::ZERO);
        assert!(installs.is_empty(), "raft hands them out, in order with entries");
    }
}
