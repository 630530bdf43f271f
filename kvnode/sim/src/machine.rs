//! One member: the real parts, put together as the server's threads put them together, but driven by events.
//!
//! Three queues stand for the server's threads: raft hands work to the log, the log hands what it made durable on, and
//! committed entries wait to be applied. Any of them may be slow, and a crash may come between any two steps.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use kvnode_mvcc::{
    ApplyError, BUCKETS, ConfChangeOutcome, Config as StoreConfig, MemberId as StoreMember, RaftIndex,
    Response, ScrubProgress, Store, Term, View,
    membership::{Member, json},
};
use kvnode_proto::{
    etcdserverpb::InternalRaftRequest,
    raftpb::{Entry, EntryType, HardState, Message, SnapshotMetadata},
    walpb,
};
use kvnode_raft::{
    Config as RaftConfig, DurableState, LogStart, MemberId, PreVote, RaftNode, ReadState, Ready, Role,
    conf_change,
};
use kvnode_storage::{
    bolt::{BucketSource, Layout},
    checkpoint,
    layout::DataDir,
    snapshot_file::{Receiver, Trailer, write_snapshot},
    vfs::{SimDisk, Vfs},
    wal::{Metadata, Preparation, Wal, WalOptions},
};
use prost::Message as _;

use crate::oracle::Violation;

/// Small, so that a run sees many segments.
const WAL_OPTIONS: WalOptions = WalOptions { segment_bytes: 16 << 10, preparation: Preparation::Inline };
const CLUSTER_ID: u64 = 0xC1;
/// Ticks: an election after 1 to 2 s, a heartbeat every 100 ms, as etcd's defaults.
const ELECTION_TICKS: usize = 10;
/// Keys looked at by one step of a compaction.
const SCRUB_KEYS: usize = 8;

/// Why a member stopped in the middle of something.
#[derive(Debug)]
pub enum Fault {
    /// The simulated power went off below it.
    PowerOff,
    /// Something happened that must not.
    Broken(Violation),
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Self {
        Fault::Broken(violation)
    }
}

/// What one step of a member led to outside of it.
#[derive(Debug, Default)]
pub struct Effects {
    pub messages: Vec<Message>,
    pub reads: Vec<ReadState>,
    pub applied: Vec<AppliedEntry>,
    /// Hard states that became durable, in order.
    pub durable: Vec<HardState>,
    /// The term it leads, when it begins to.
    pub leads: Option<u64>,
    pub snapshots_installed: u64,
    /// Publishing what was applied: everything up to here may be read.
    pub published: bool,
    /// It applied its own removal.
    pub removed: bool,
}

/// An entry and what came of it.
#[derive(Debug)]
pub struct AppliedEntry {
    pub entry: Entry,
    pub request: Option<InternalRaftRequest>,
    pub response: Option<Result<Response, ApplyError>>,
    pub change: Option<ConfChangeOutcome>,
}

/// A running member.
pub struct Process {
    pub id: u64,
    pub raft: RaftNode,
    pub store: Store,
    disk: SimDisk,
    wal: Wal,
    log_jobs: VecDeque<LogJob>,
    apply_jobs: VecDeque<ApplyJob>,
    state: HardState,
    scrub: ScrubProgress,
}

enum LogJob {
    Write(Box<Ready>),
    Checkpointed(walpb::Snapshot),
}

enum ApplyJob {
    Entries(Vec<Entry>),
    Install(SnapshotMetadata),
}

/// What a start found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub torn_tail: bool,
    pub snapshot_recovered: bool,
}

pub fn data_dir() -> DataDir {
    DataDir::new("/data")
}

fn url(id: u64) -> String {
    format!("http://m{id}:2380")
}

/// The member as the state machine knows it.
pub fn member(id: u64) -> Member {
    Member { id: StoreMember(id), name: format!("m{id}"), peer_urls: vec![url(id)], ..Member::default() }
}

fn store_config() -> StoreConfig {
    StoreConfig { max_learners: 1, quota_bytes: None, ..StoreConfig::default() }
}

fn raft_config(id: u64, seed: u64) -> RaftConfig {
    RaftConfig {
        id: MemberId(id),
        election_ticks: ELECTION_TICKS,
        heartbeat_ticks: 1,
        pre_vote: PreVote::On,
        // Small, so that messages carry parts of the log and the window fills.
        max_message_bytes: 512,
        max_inflight_messages: 8,
        max_uncommitted_bytes: 1 << 20,
        max_committed_bytes: 2048,
        jitter_seed: seed,
        log: None,
    }
}

/// A view as the content of a checkpoint.
struct ViewSource<'a>(&'a View);

impl BucketSource for ViewSource<'_> {
    fn buckets(&self) -> Vec<&str> {
        BUCKETS.to_vec()
    }

    fn items(&self, bucket: &str) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + '_> {
        self.0.bucket_items(bucket)
    }
}

/// Anything that fails while the power is on is a violation: the disk never fails otherwise.
fn io<T, E: std::fmt::Display>(disk: &SimDisk, id: u64, result: Result<T, E>) -> Result<T, Fault> {
    result.map_err(|error| {
        if disk.powered() {
            Fault::Broken(Violation(format!("member {id}: {error}")))
        } else {
            Fault::PowerOff
        }
    })
}

impl Process {
    /// Starts from what the disk holds. `founders` are the first members of the cluster; empty for one that joins.
    pub fn start(id: u64, disk: &SimDisk, founders: &[u64], jitter: u64) -> Result<(Self, Found), Fault> {
        let there = io(disk, id, Wal::exists(disk, &data_dir().wal()))?;
        let begun = if there { Self::recover(id, disk, jitter)? } else { None };
        match begun {
            Some(begun) => Ok(begun),
            None => Ok((Self::begin(id, disk, founders, jitter)?, Found::default())),
        }
    }

    fn begin(id: u64, disk: &SimDisk, founders: &[u64], jitter: u64) -> Result<Self, Fault> {
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let dir = data_dir().wal();
        io(disk, id, disk.remove_dir_all(&dir))?;
        let metadata = Metadata { node_id: id, cluster_id: CLUSTER_ID };
        let mut wal = io(disk, id, Wal::create(vfs, &dir, metadata, WAL_OPTIONS))?;
        let entries: Vec<_> = (1..)
            .zip(founders)
            .map(|(index, founder)| {
                let context = json::encode_member(&member(*founder)).into();
                conf_change::bootstrap_entry(index, MemberId(*founder), context)
            })
            .collect();
        let mut hard_state = HardState::default();
        if !entries.is_empty() {
            hard_state = HardState { term: 1, vote: 0, commit: entries.len() as u64 };
            wal.append(Some(&hard_state), &entries);
            io(disk, id, wal.sync())?;
        }
        let durable = DurableState { entries, hard_state, ..DurableState::default() };
        Self::assemble(id, disk, wal, Store::new(store_config()), durable, jitter)
    }

    /// `None` if the disk holds a log that was made but interrupted before anything was in it.
    fn recover(id: u64, disk: &SimDisk, jitter: u64) -> Result<Option<(Self, Found)>, Fault> {
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let dir = data_dir();
        let taken = io(disk, id, Wal::take(vfs, &dir.wal()))?;
        let marks = io(disk, id, Wal::snapshot_marks(disk, &dir.wal()))?;
        let mut opened = io(disk, id, checkpoint::open(disk, &dir))?;
        let mut found = Found::default();
        let covered = opened.as_ref().map_or(0, |checkpoint| checkpoint.index);
        if let Some(newest) = marks.last().filter(|mark| mark.index > covered) {
            let received = dir.received_snapshot(newest.index);
            if io(disk, id, disk.exists(&received))? {
                io(disk, id, checkpoint::install(disk, &dir, &received))?;
                opened = io(disk, id, checkpoint::open(disk, &dir))?;
                found.snapshot_recovered = true;
            }
        }
        io(disk, id, checkpoint::remove_leftovers(disk, &dir))?;
        let covered = opened.as_ref().map_or(0, |checkpoint| checkpoint.index);
        let mark = marks.into_iter().rfind(|mark| mark.index <= covered).unwrap_or_default();
        let (wal, replay) = io(disk, id, taken.open(&mark, WAL_OPTIONS))?;
        if replay.hard_state.term == 0 && replay.entries.is_empty() && opened.is_none() {
            return Ok(None);
        }
        found.torn_tail = replay.torn.is_some();
        let store = match &opened {
            Some(checkpoint) => restore(id, disk, checkpoint)?,
            None => Store::new(store_config()),
        };
        let durable = DurableState {
            start: LogStart { index: mark.index, term: mark.term },
            entries: replay.entries,
            hard_state: replay.hard_state,
            applied: covered,
            conf_state: store.view().conf_state().unwrap_or_default(),
        };
        Ok(Some((Self::assemble(id, disk, wal, store, durable, jitter)?, found)))
    }

    fn assemble(
        id: u64,
        disk: &SimDisk,
        wal: Wal,
        store: Store,
        durable: DurableState,
        jitter: u64,
    ) -> Result<Self, Fault> {
        let state = durable.hard_state;
        let raft = io(disk, id, RaftNode::new(&raft_config(id, jitter), durable))?;
        Ok(Self {
            id,
            raft,
            store,
            disk: disk.clone(),
            wal,
            log_jobs: VecDeque::new(),
            apply_jobs: VecDeque::new(),
            state,
            // Harmless if there is none to do.
            scrub: ScrubProgress::More,
        })
    }

    /// The newest durable hard state.
    pub fn durable_state(&self) -> HardState {
        self.state
    }

    pub fn has_log_work(&self) -> bool {
        !self.log_jobs.is_empty()
    }

    pub fn has_apply_work(&self) -> bool {
        !self.apply_jobs.is_empty() || self.scrub == ScrubProgress::More
    }

    pub fn role(&self) -> Role {
        self.raft.role().0
    }

    /// A leader never sends again what it knows a member to have: rejects that come late or twice must not make it.
    pub fn check_progress(&self) -> Result<(), Violation> {
        if self.role() != Role::Leader {
            return Ok(());
        }
        match self.raft.status().progress.iter().find(|peer| peer.next <= peer.matched) {
            Some(peer) => {
                Err(Violation(format!("m{} leads and went back behind what matches: {peer:?}", self.id)))
            }
            None => Ok(()),
        }
    }

    /// Takes everything raft wants done.
    pub fn pump(&mut self) -> Effects {
        let mut effects = Effects::default();
        let (role, leader) = self.raft.role();
        if role == Role::Follower && !leader.is_some() && self.raft.is_sole_voter() {
            self.raft.campaign();
        }
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            if matches!(ready.role_change, Some((Role::Leader, _))) {
                effects.leads = Some(self.raft.term_and_commit().0);
            }
            effects.messages.append(&mut ready.messages);
            effects.reads.append(&mut ready.read_states);
            let committed = std::mem::take(&mut ready.committed);
            if ready.concerns_log() {
                self.log_jobs.push_back(LogJob::Write(Box::new(ready)));
            }
            if !committed.is_empty() {
                self.apply_jobs.push_back(ApplyJob::Entries(committed));
            }
        }
        effects
    }

    /// The log takes up to `count` of what waits as one group.
    pub fn write_log(&mut self, count: usize) -> Result<Effects, Fault> {
        let mut effects = Effects::default();
        let mut group: Vec<Ready> = Vec::new();
        for _ in 0..count.min(self.log_jobs.len()) {
            match self.log_jobs.pop_front() {
                Some(LogJob::Write(ready)) => {
                    if let Some(meta) =
                        ready.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref())
                    {
                        self.finish_group(&mut group, &mut effects)?;
                        let installed = self.wal.install_snapshot(&mark_of(meta), ready.hard_state.as_ref());
                        io(&self.disk, self.id, installed)?;
                    }
                    self.wal.append(ready.hard_state.as_ref(), &ready.entries);
                    group.push(*ready);
                }
                Some(LogJob::Checkpointed(mark)) => {
                    self.finish_group(&mut group, &mut effects)?;
                    let marked = self.wal.mark_snapshot(&mark);
                    io(&self.disk, self.id, marked)?;
                    let released = self.wal.release_before(mark.index);
                    io(&self.disk, self.id, released)?;
                }
                None => {}
            }
        }
        self.finish_group(&mut group, &mut effects)?;
        Ok(effects)
    }

    fn finish_group(&mut self, group: &mut Vec<Ready>, effects: &mut Effects) -> Result<(), Fault> {
        let Some(last) = group.last().map(|ready| ready.number) else { return Ok(()) };
        let must_sync = group.iter().any(|ready| ready.must_sync);
        let written = if must_sync { self.wal.sync() } else { self.wal.flush() };
        io(&self.disk, self.id, written)?;
        for ready in group.drain(..) {
            if let Some(state) = ready.hard_state {
                self.state = state;
                if must_sync {
                    effects.durable.push(state);
                }
            }
            effects.messages.extend(ready.persisted_messages);
            if let Some(meta) = ready.snapshot.and_then(|snapshot| snapshot.metadata) {
                self.apply_jobs.push_back(ApplyJob::Install(meta));
            }
        }
        self.raft.persisted(last);
        Ok(())
    }

    /// Applies up to `count` of what waits, then shows it to readers.
    pub fn apply(&mut self, count: usize) -> Result<Effects, Fault> {
        let mut effects = Effects { published: true, ..Effects::default() };
        for _ in 0..count.min(self.apply_jobs.len()) {
            match self.apply_jobs.pop_front() {
                Some(ApplyJob::Entries(entries)) => {
                    for entry in entries {
                        if RaftIndex(entry.index) > self.store.applied().0 {
                            let applied = self.apply_entry(entry)?;
                            effects.removed |=
                                applied.change == Some(ConfChangeOutcome::Removed(StoreMember(self.id)));
                            effects.applied.push(applied);
                        }
                    }
                }
                Some(ApplyJob::Install(meta)) => {
                    self.install(&meta)?;
                    effects.snapshots_installed += 1;
                }
                None => {}
            }
        }
        if self.scrub == ScrubProgress::More {
            self.scrub = self.store.scrub(SCRUB_KEYS);
        }
        self.store.publish();
        self.raft.applied(self.store.applied().0.0);
        Ok(effects)
    }

    fn apply_entry(&mut self, entry: Entry) -> Result<AppliedEntry, Fault> {
        let (index, term) = (RaftIndex(entry.index), Term(entry.term));
        let mut applied = AppliedEntry { entry, request: None, response: None, change: None };
        let entry = &applied.entry;
        if entry.r#type == i32::from(EntryType::EntryConfChange) {
            let change = io(&self.disk, self.id, conf_change::decode(&entry.data))?;
            if let Ok(outcome) = self.store.apply_conf_change(index, term, &change) {
                let conf_state = io(&self.disk, self.id, self.raft.apply_conf_change(index.0, &change))?;
                self.store.set_conf_state(conf_state);
                applied.change = Some(outcome);
            }
        } else if entry.data.is_empty() {
            self.store.apply_empty(index, term);
        } else {
            let request = io(&self.disk, self.id, InternalRaftRequest::decode(entry.data.clone()))?;
            let response = self.store.apply(index, term, &request);
            if matches!(response, Ok(Response::Compact)) {
                self.scrub = ScrubProgress::More;
            }
            applied.response = Some(response);
            applied.request = Some(request);
        }
        Ok(applied)
    }

    fn install(&mut self, meta: &SnapshotMetadata) -> Result<(), Fault> {
        let dir = data_dir();
        let disk = self.disk.clone();
        io(&disk, self.id, checkpoint::install(&disk, &dir, &dir.received_snapshot(meta.index)))?;
        let opened = io(&disk, self.id, checkpoint::open(&disk, &dir))?
            .ok_or_else(|| Violation(format!("member {}: the installed snapshot is gone", self.id)))?;
        if opened.index != meta.index {
            return Err(Violation(format!(
                "member {}: snapshot {} instead of {meta:?}",
                self.id, opened.index
            ))
            .into());
        }
        self.store = restore(self.id, &disk, &opened)?;
        self.scrub = ScrubProgress::More;
        Ok(())
    }

    /// Writes a checkpoint of what is applied and has the log note it. Returns whether there was anything to write.
    pub fn checkpoint(&mut self, keep_entries: u64) -> Result<bool, Fault> {
        // A received snapshot that waits to be put in place is newer.
        if self.apply_jobs.iter().any(|job| matches!(job, ApplyJob::Install(_))) {
            return Ok(false);
        }
        let view = self.store.view();
        let (index, term) = view.applied();
        let Some(conf_state) = view.conf_state() else { return Ok(false) };
        io(&self.disk, self.id, checkpoint::write(&self.disk, &data_dir(), &ViewSource(&view)))?;
        let mark = walpb::Snapshot { index: index.0, term: term.0, conf_state: Some(conf_state) };
        self.log_jobs.push_back(LogJob::Checkpointed(mark));
        self.raft.compact(index.0.saturating_sub(keep_entries));
        Ok(true)
    }

    /// Puts the state into a snapshot message that is about to leave, and its true index.
    pub fn attach_state(&self, message: &mut Message) -> Result<Vec<u8>, Fault> {
        let view = self.store.view();
        let (index, term) = view.applied();
        if let Some(meta) = message.snapshot.as_mut().and_then(|snapshot| snapshot.metadata.as_mut()) {
            if index.0 < meta.index {
                return Err(Violation(format!("member {} sends a snapshot below {meta:?}", self.id)).into());
            }
            *meta = SnapshotMetadata { index: index.0, term: term.0, conf_state: view.conf_state() };
        }
        let source = ViewSource(&view);
        let layout = io(&self.disk, self.id, Layout::measure(&source))?;
        let mut state = Vec::new();
        io(&self.disk, self.id, write_snapshot(&source, &layout, &mut state))?;
        Ok(state)
    }

    /// Stores a received state durably, before raft hears of it.
    pub fn receive_state(&self, index: u64, state: &[u8]) -> Result<(), Fault> {
        let vfs: Arc<dyn Vfs> = Arc::new(self.disk.clone());
        let mut receiver =
            io(&self.disk, self.id, Receiver::create(vfs, &data_dir().received_snapshot(index)))?;
        for chunk in state.chunks(10_000) {
            io(&self.disk, self.id, receiver.write(chunk))?;
        }
        let finished = receiver.finish(Some(state.len() as u64), Trailer::Required);
        io(&self.disk, self.id, finished).map(|_| ())
    }
}

fn mark_of(meta: &SnapshotMetadata) -> walpb::Snapshot {
    walpb::Snapshot { index: meta.index, term: meta.term, conf_state: meta.conf_state.clone() }
}

fn restore(id: u64, disk: &SimDisk, from: &checkpoint::Checkpoint) -> Result<Store, Fault> {
    let mut failed = None;
    let store = Store::restore(store_config(), |bucket| {
        let rows = from.reader.items(bucket).collect::<Result<Vec<_>, _>>();
        rows.map_err(|error| failed = Some(error)).unwrap_or_default()
    });
    if let Some(error) = failed {
        return io(disk, id, Err(error));
    }
    io(disk, id, store)
}
