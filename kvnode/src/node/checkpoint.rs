//! Checkpoints: the state as a bbolt file, written in the background from a consistent view, so that a start need not
//! replay the whole log and the log need not be kept.
//!
//! A checkpoint is due when the log has grown by a share of the data since the last one: that bounds both what is written
//! beside the log (at most [`GROWTH_DIVISOR`] times as much) and how much a start replays. The log in memory is cut
//! independently of it, every `--snapshot-count` entries, as etcd does.
//!
//! Beyond that there is a file soon after a member's first entry, and one of everything it applied when it was asked to
//! end, since administrators, and etcd's offline tools, expect one. The log is not told of these: it goes on being read
//! from where it was, as etcd's is, so that a member that has just come back still has entries for slow followers.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Instant,
};

use bytes::Bytes;
use kvnode_mvcc::{BUCKETS, Config, RestoreError, Store, View};
use kvnode_proto::{raftpb, walpb};
use kvnode_storage::{
    bolt::{BoltError, BucketSource, Reader},
    checkpoint::{self, CheckpointError},
    layout::DataDir,
    raft_snapshot,
    vfs::Vfs,
};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::{
    inbox::Control,
    limits,
    shared::SharedRef,
    v2_store,
    wal_loop::{WalJob, mark_of},
};

/// A checkpoint is due when the log has grown by the data's size divided by this. Two: a file of the size of the data is
/// written for every half of it that is logged.
const GROWTH_DIVISOR: u64 = 2;

/// Smallest growth of the log, in bytes, that makes a checkpoint due: below it a replay takes milliseconds.
const GROWTH_MIN_BYTES: u64 = 4 << 20;

/// Largest growth of the log, in bytes, before a checkpoint is due: it bounds the replay at a start to seconds.
const GROWTH_MAX_BYTES: u64 = 1 << 30;

/// Why a snapshot could not take the place of the state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("reading the installed checkpoint: {0}")]
    Read(#[from] BoltError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("the checkpoint {path} is gone although it was just installed")]
    Gone { path: String },
    #[error(
        "the received state ends at entry {found}, not {wanted} as its message said; it was removed, ask the leader for another"
    )]
    OtherIndex { found: u64, wanted: u64 },
}

/// When to write a checkpoint, and the one that is being written.
pub(crate) struct Checkpoints {
    vfs: Arc<dyn Vfs>,
    data_dir: DataDir,
    config: Config,
    growth: Growth,
    entries_since_cut: u64,
    /// Whether this process has begun any.
    begun: bool,
    thread: Option<JoinHandle<()>>,
    progress: Arc<Progress>,
}

/// What the log holds behind its newest mark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Growth {
    /// Of entries that the newest checkpoint holds although the log has no mark for it.
    pub(crate) fn of(entries: &[raftpb::Entry], applied: u64) -> Self {
        let held = entries.iter().filter(|entry| entry.index <= applied);
        held.fold(Self::default(), |sum, entry| sum.plus(1, entry.data.len()))
    }

    fn plus(self, entries: usize, bytes: usize) -> Self {
        Self { entries: self.entries + entries as u64, bytes: self.bytes + bytes as u64 }
    }
}

/// Whether the log is told of a checkpoint, to be read from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    InLog,
    None,
}

/// How far writing is, known to both threads.
#[derive(Default)]
struct Progress {
    current: Mutex<Current>,
    ended: Condvar,
}

#[derive(Default)]
struct Current {
    running: bool,
    /// Index of the newest checkpoint; 0: there is none.
    written: u64,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Progress {
    /// `written`: the index of the new checkpoint, if it came to be.
    fn end(&self, written: Option<u64>) {
        let mut current = self.current.lock();
        current.running = false;
        current.written = written.unwrap_or(current.written);
        for done in current.waiting.drain(..) {
            // Whoever asked may be gone.
            let _ = done.send(());
        }
        self.ended.notify_all();
    }

    /// The index of the newest checkpoint once none is being written; `None`: that takes too long.
    fn idle_by(&self, deadline: Instant) -> Option<u64> {
        let mut current = self.current.lock();
        while current.running {
            if self.ended.wait_until(&mut current, deadline).timed_out() {
                break;
            }
        }
        (!current.running).then_some(current.written)
    }
}

impl Checkpoints {
    /// `newest`: index of the one on disk, 0 if there is none.
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        data_dir: DataDir,
        config: Config,
        newest: u64,
        growth: Growth,
    ) -> Self {
        let progress = Progress::default();
        progress.current.lock().written = newest;
        Self {
            vfs,
            data_dir,
            config,
            growth,
            entries_since_cut: growth.entries,
            begun: false,
            thread: None,
            progress: Arc::new(progress),
        }
    }

    /// Counts applied entries, and begins what is due.
    pub(crate) fn applied(&mut self, shared: &SharedRef, store: &Store, entries: usize, bytes: usize) {
        self.growth = self.growth.plus(entries, bytes);
        self.entries_since_cut += entries as u64;
        let settings = &shared.settings;
        // A member that is being sent a snapshot needs what follows it.
        let sending = shared.raft.snapshots_in_flight.load(Ordering::Relaxed) > 0;
        if self.entries_since_cut > settings.snapshot_count && !sending {
            self.entries_since_cut = 0;
            let applied = shared.raft.applied.load(Ordering::Relaxed);
            shared.inbox.control(Control::Compact(applied.saturating_sub(settings.catchup_entries)));
        }
        let (running, none) = {
            let current = self.progress.current.lock();
            (current.running, current.written == 0)
        };
        if running {
            return;
        }
        if self.is_due(settings.snapshot_count, store) {
            self.begin(shared, &store.view(), None);
        } else if none && !self.begun {
            self.start(shared, &store.view(), Mark::None);
        }
    }

    fn is_due(&self, snapshot_count: u64, store: &Store) -> bool {
        let many = self.growth.entries > snapshot_count;
        if !many && self.growth.bytes < GROWTH_MIN_BYTES {
            return false;
        }
        let share = store.view().size_bytes() / GROWTH_DIVISOR;
        // A small store is written in milliseconds, so the number of entries alone makes it due.
        if many && share <= GROWTH_MIN_BYTES {
            return true;
        }
        self.growth.bytes >= share.clamp(GROWTH_MIN_BYTES, GROWTH_MAX_BYTES)
    }

    /// Writes `view` in a thread of its own, then has the log note it. If one is being written already, that one counts.
    /// `done` is answered when it is over.
    pub(crate) fn begin(&mut self, shared: &SharedRef, view: &View, done: Option<oneshot::Sender<()>>) {
        self.progress.current.lock().waiting.extend(done);
        self.start(shared, view, Mark::InLog);
    }

    fn start(&mut self, shared: &SharedRef, view: &View, kind: Mark) {
        let mut current = self.progress.current.lock();
        if current.running {
            return;
        }
        let ((index, term), conf_state) = (view.applied(), view.conf_state());
        if conf_state.is_none() {
            // Nothing was applied: there is nothing to write.
            drop(current);
            return self.progress.end(None);
        }
        current.running = true;
        drop(current);
        self.begun = true;
        if kind == Mark::InLog {
            self.growth = Growth::default();
        }
        let mark = walpb::Snapshot { index: index.0, term: term.0, conf_state };
        let (vfs, data_dir) = (Arc::clone(&self.vfs), self.data_dir.clone());
        let (shared, view) = (Arc::clone(shared), view.clone());
        let progress = Arc::clone(&self.progress);
        let work = move || {
            let written = write(&*vfs, &data_dir, &shared, &view, mark, kind);
            progress.end(written.then_some(index.0));
        };
        match std::thread::Builder::new().name("checkpoint".to_owned()).spawn(work) {
            Ok(thread) => self.thread = Some(thread),
            Err(e) => {
                error!(error = %e, "failed to start a checkpoint; trying again later");
                self.progress.end(None);
            }
        }
    }

    /// Leaves a file of everything that is applied. Gives up after [`limits::LAST_CHECKPOINT`], as whoever asked the member
    /// to end may not wait for ever; nothing depends on it, the log holds everything.
    pub(crate) fn last(&mut self, shared: &SharedRef, view: &View) {
        let deadline = Instant::now() + limits::LAST_CHECKPOINT;
        let mut newest = self.progress.idle_by(deadline);
        if newest.is_some_and(|index| index < view.applied().0.0) {
            self.start(shared, view, Mark::None);
            newest = self.progress.idle_by(deadline);
        }
        if newest.is_none() {
            warn!(limit = ?limits::LAST_CHECKPOINT, "gave up saving the database file; the next start replays the log");
        }
    }

    /// Waits for the checkpoint that is being written, if there is one.
    pub(crate) fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic in it has already been reported; the old checkpoint stands.
            let _ = thread.join();
        }
    }

    /// Makes a received snapshot, which is on disk and marked in the log, the state. Once it begins, a crash at any point
    /// leaves a member that does it again at its start ([`recover_received`]).
    pub(crate) fn install(&mut self, meta: &raftpb::SnapshotMetadata) -> Result<Store, InstallError> {
        // Or an older checkpoint could replace the newer one.
        self.finish();
        (self.growth, self.entries_since_cut) = (Growth::default(), 0);
        let received = self.data_dir.received_snapshot(meta.index);
        checkpoint::install(&*self.vfs, &self.data_dir, &received)?;
        let opened = checkpoint::open(&*self.vfs, &self.data_dir)?
            .ok_or_else(|| InstallError::Gone { path: self.data_dir.checkpoint().display().to_string() })?;
        if opened.index != meta.index {
            return Err(InstallError::OtherIndex { found: opened.index, wanted: meta.index });
        }
        self.progress.current.lock().written = opened.index;
        let store = restore(self.config, &opened.reader)?;
        raft_snapshot_file(&*self.vfs, &self.data_dir, &store.view(), &mark_of(meta));
        Ok(store)
    }
}

/// Whether it is there.
fn write(
    vfs: &dyn Vfs,
    data_dir: &DataDir,
    shared: &SharedRef,
    view: &View,
    mark: walpb::Snapshot,
    kind: Mark,
) -> bool {
    let start = Instant::now();
    let bytes = match checkpoint::write(vfs, data_dir, &ViewSource(view)) {
        Ok(bytes) => bytes,
        // The old one and the whole log are still there: nothing is lost, and growth makes the next one due.
        Err(e) => {
            error!(error = %e, "failed to save snapshot");
            return false;
        }
    };
    if kind == Mark::None {
        info!(index = mark.index, bytes, took = ?start.elapsed(), "saved the database file");
        return true;
    }
    shared.metrics.disk.backend_snapshot.observe(start.elapsed().as_secs_f64());
    info!("snapshot-index" = mark.index, bytes, took = ?start.elapsed(), "saved snapshot");
    raft_snapshot_file(vfs, data_dir, view, &mark);
    if let Err(e) = checkpoint::remove_overtaken(vfs, data_dir, mark.index) {
        warn!(error = %e, "failed to remove received snapshots that are no longer needed");
    }
    shared.wal.push(WalJob::Checkpointed(mark));
    true
}

/// etcd before 3.7 starts from it, and tools that look into a data directory expect one for each mark in the log.
fn raft_snapshot_file(vfs: &dyn Vfs, data_dir: &DataDir, view: &View, mark: &walpb::Snapshot) {
    let metadata =
        raftpb::SnapshotMetadata { conf_state: mark.conf_state.clone(), index: mark.index, term: mark.term };
    let snapshot = raftpb::Snapshot { data: v2_store::encode(view).into(), metadata: Some(metadata) };
    if let Err(e) = raft_snapshot::write(vfs, data_dir, &snapshot) {
        error!(error = %e, "failed to save the snapshot file that older versions of etcd start from");
    }
}

/// A view as the content of a bolt file.
pub struct ViewSource<'a>(pub &'a View);

impl BucketSource for ViewSource<'_> {
    fn buckets(&self) -> Vec<&str> {
        BUCKETS.to_vec()
    }

    fn items(&self, bucket: &str) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + '_> {
        self.0.bucket_items(bucket)
    }
}

/// Builds a store from a bolt file.
pub(crate) fn restore(config: Config, reader: &Reader) -> Result<Store, InstallError> {
    let mut failed = None;
    let store = Store::restore(config, |bucket| {
        let mut rows = Vec::new();
        for item in reader.items(bucket) {
            match item {
                Ok(row) => rows.push(row),
                Err(e) => {
                    failed.get_or_insert(e);
                    break;
                }
            }
        }
        rows
    });
    match failed {
        Some(e) => Err(e.into()),
        None => Ok(store?),
    }
}

/// Finishes what a crash interrupted: a snapshot that was received whole and marked in the log, but not yet put in place.
pub(crate) fn recover_received(
    vfs: &dyn Vfs,
    data_dir: &DataDir,
    newest_mark: u64,
    checkpoint_index: u64,
) -> Result<bool, CheckpointError> {
    let received = data_dir.received_snapshot(newest_mark);
    let there = vfs.exists(&received).map_err(|source| CheckpointError::Io {
        action: "look for",
        path: received.clone(),
        source,
    })?;
    if newest_mark <= checkpoint_index || !there {
        return Ok(false);
    }
    info!("snapshot-index" = newest_mark, "Recovering from snapshot backend");
    checkpoint::install(vfs, data_dir, &received)?;
    Ok(true)
}
