//! The raft log on disk, in etcd's format: the only thing that is synced before anything is promised.
//!
//! Many entries are buffered, then written with one write and one `fdatasync`. Segments of 64 MB are reserved before
//! they are needed and used again after they were released. A log opened after a crash holds everything that was
//! synced; the torn rest of an interrupted write is cut off, any other damage is refused ([`WalError::Corrupt`]).
//!
//! It never decides what to write, never reads a clock and takes no raft types but the messages. Formats: FORMAT.md.
//! Read on: [`frame`] for the bytes, [`scan`] for torn against corrupt.

mod error;
mod frame;
mod prepare;
mod record;
mod replay;
mod scan;
mod segment;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use kvnode_proto::{
    raftpb::{Entry, HardState},
    walpb,
};

pub use error::WalError;
pub use prepare::{Preparation, Progress};
pub use record::Metadata;
pub use replay::{Replay, TornTail};

use crate::{
    limits::{SEGMENT_BYTES, UNSYNCED_BYTES_MAX, WRITE_BUFFER_KEEP_BYTES},
    vfs::{self, File, OpenMode, Vfs},
};
use frame::{Kind, put_record};
use prepare::Preparer;
use scan::Ending;
use segment::SegmentName;

/// How to run a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Size at which a segment is closed, in bytes.
    pub segment_bytes: u64,
    /// Who makes the next segment ready.
    pub preparation: Preparation,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES, preparation: Preparation::Background }
    }
}

/// An open log, ready to be appended to. Holds a lock that etcd respects too.
#[derive(Debug)]
pub struct Wal {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    options: WalOptions,
    metadata: Vec<u8>,
    /// All segments, oldest first; the last is `tail`.
    segments: Vec<SegmentName>,
    tail: Box<dyn File>,
    /// Where the next byte goes in `tail`; the buffer comes first.
    offset: u64,
    /// Bytes before `offset` that were written but not synced.
    unsynced_bytes: u64,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    crc: u32,
    state: HardState,
    last_index: u64,
    preparer: Preparer,
    health: Health,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    /// After a failed write or sync nobody knows what the disk holds; retrying may report success for lost data.
    Failed,
}

impl Wal {
    /// Whether `dir` holds a log.
    pub fn exists(vfs: &dyn Vfs, dir: &Path) -> Result<bool, WalError> {
        let there = vfs.exists(dir).map_err(WalError::io("look for", dir))?;
        Ok(there && !segment::list(vfs, dir).map_err(WalError::io("list", dir))?.is_empty())
    }

    /// Makes a new log. It appears whole or not at all: built in `<dir>.tmp`, then renamed.
    ///
    /// # Errors
    /// [`WalError::Exists`] if `dir` already holds one.
    pub fn create(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        metadata: Metadata,
        options: WalOptions,
    ) -> Result<Self, WalError> {
        if Self::exists(&*vfs, dir)? {
            return Err(WalError::Exists { dir: dir.to_owned() });
        }
        let metadata = metadata.encode();
        let mut crc = 0;
        let mut head = Vec::new();
        put_record(&mut head, &mut crc, Kind::Crc, &[]);
        put_record(&mut head, &mut crc, Kind::Metadata, &[&metadata]);
        put_record(&mut head, &mut crc, Kind::Snapshot, &[&record::encode_mark(&walpb::Snapshot::default())]);

        let name = SegmentName { sequence: 0, first_index: 0 };
        let tail = create_first(&*vfs, dir, name, &head, options.segment_bytes)?;
        let preparer = Preparer::new(vfs.clone(), dir.to_owned(), options.segment_bytes, options.preparation);
        Ok(Self {
            vfs,
            dir: dir.to_owned(),
            options,
            metadata,
            segments: vec![name],
            tail,
            offset: head.len() as u64,
            unsynced_bytes: 0,
            buffer: Vec::new(),
            scratch: Vec::new(),
            crc,
            state: HardState::default(),
            last_index: 0,
            preparer,
            health: Health::Good,
        })
    }

    /// Takes a log that is there, before anything that belongs to it is changed.
    ///
    /// # Errors
    /// [`WalError::Locked`] if another process has it.
    pub fn take(vfs: Arc<dyn Vfs>, dir: &Path) -> Result<TakenWal, WalError> {
        let names = list_segments(&*vfs, dir)?;
        let (tail, path) = open_tail(&*vfs, dir, &names)?;
        // Whoever had it may have gone on to the next segment just before.
        if list_segments(&*vfs, dir)? != names {
            return Err(WalError::Locked { path });
        }
        let segments = segment::contiguous_suffix(&names).to_vec();
        Ok(TakenWal { vfs, dir: dir.to_owned(), segments, tail, path })
    }

    /// [`Wal::take`] and [`TakenWal::open`].
    ///
    /// # Errors
    /// Those of both.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        from: &walpb::Snapshot,
        options: WalOptions,
    ) -> Result<(Self, Replay), WalError> {
        Self::take(vfs, dir)?.open(from, options)
    }

    /// The snapshot marks in the log up to its commit index, by ascending index. Does not need the log to be closed.
    pub fn snapshot_marks(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<walpb::Snapshot>, WalError> {
        let names = list_segments(vfs, dir)?;
        replay::snapshot_marks(vfs, dir, segment::contiguous_suffix(&names))
    }

    /// Buffers entries, then the hard state if given: the order in which etcd writes them. Entries must follow the
    /// last one without a gap or replace some of those before it. Nothing is durable before [`Wal::sync`].
    pub fn append(&mut self, state: Option<&HardState>, entries: &[Entry]) {
        for entry in entries {
            let head = record::entry_head(&mut self.scratch, entry);
            put_record(&mut self.buffer, &mut self.crc, Kind::Entry, &[head, &entry.data]);
            self.last_index = entry.index;
        }
        if let Some(state) = state {
            self.put_state(*state);
        }
    }

    /// Writes what is buffered and makes all of it durable: one write and one `fdatasync` for any number of entries
    /// (one more per 4 MiB). Closes the segment if it is full.
    ///
    /// # Errors
    /// After an error the log takes nothing more: what the disk holds is then unknown.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.guarded(|wal| {
            wal.write_buffer()?;
            wal.sync_tail()?;
            wal.after_write()
        })
    }

    /// Hands what is buffered to the operating system without waiting for the disk: enough for a commit index, which
    /// may be lost, when nobody waits.
    pub fn flush(&mut self) -> Result<(), WalError> {
        self.guarded(|wal| {
            wal.write_buffer()?;
            wal.after_write()
        })
    }

    /// Records durably that the state this log led to up to `mark.index` is kept elsewhere, which must already be
    /// durable. `conf_state` must be set, as etcd demands.
    pub fn mark_snapshot(&mut self, mark: &walpb::Snapshot) -> Result<(), WalError> {
        // A mark above the commit index does not count. What is in a checkpoint is committed, but that may have been
        // learned after the last hard state that was written.
        if mark.index > self.state.commit && self.state.term > 0 {
            self.put_state(HardState { commit: mark.index, ..self.state });
        }
        self.put_mark(mark);
        self.sync()
    }

    /// Records durably that a snapshot from a leader, already durable elsewhere, takes the place of all that was here.
    /// `state` is the hard state that comes with it. Both become durable before anything behind them is written: an
    /// entry that follows a snapshot means nothing without it. Nor does a commit index above the mark, which counts such
    /// entries: it is written with them.
    pub fn install_snapshot(
        &mut self,
        mark: &walpb::Snapshot,
        state: Option<&HardState>,
    ) -> Result<(), WalError> {
        let state = state.copied().unwrap_or(self.state);
        self.put_mark(mark);
        self.put_state(HardState { commit: mark.index, ..state });
        self.last_index = mark.index;
        self.sync()
    }

    fn put_mark(&mut self, mark: &walpb::Snapshot) {
        put_record(&mut self.buffer, &mut self.crc, Kind::Snapshot, &[&record::encode_mark(mark)]);
        self.last_index = self.last_index.max(mark.index);
    }

    /// A hard state without a term says nothing; raft has none before its first.
    fn put_state(&mut self, state: HardState) {
        if state.term > 0 {
            let data = record::encode_state(&mut self.scratch, &state);
            put_record(&mut self.buffer, &mut self.crc, Kind::State, &[data]);
            self.state = state;
        }
    }

    /// Gives up the segments that are not needed to read from a snapshot mark at `index`. Returns how many.
    pub fn release_before(&mut self, index: u64) -> Result<usize, WalError> {
        let count = segment::position_for(&self.segments, index).unwrap_or(0);
        if count == 0 {
            return Ok(0);
        }
        let recycled = self.preparer.recycled_path();
        let mut room = !self.vfs.exists(&recycled).map_err(WalError::io("look for", &recycled))?;
        for name in self.segments.drain(..count) {
            let path = name.path_in(&self.dir);
            // Oldest first, so that whatever is left after a crash has its gap before all that is needed.
            let outcome = if std::mem::take(&mut room) {
                self.vfs.rename(&path, &recycled)
            } else {
                self.vfs.remove_file(&path)
            };
            outcome.map_err(WalError::io("release", &path))?;
            self.preparer.progress().step();
        }
        // What is released stays so over a power cut.
        self.sync_names()?;
        Ok(count)
    }

    /// What the log has got done on its disk, for others to look at meanwhile.
    pub fn progress(&self) -> &Progress {
        self.preparer.progress()
    }

    /// Bytes buffered and not yet written.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Index of the last entry or snapshot mark appended.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// How many segments the log has.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    fn guarded(&mut self, write: impl FnOnce(&mut Self) -> Result<(), WalError>) -> Result<(), WalError> {
        if self.health == Health::Failed {
            return Err(WalError::Failed { dir: self.dir.clone() });
        }
        let outcome = write(self);
        if outcome.is_err() {
            self.health = Health::Failed;
        }
        outcome
    }

    fn tail_path(&self) -> PathBuf {
        self.segments.last().map_or_else(|| self.dir.clone(), |name| name.path_in(&self.dir))
    }

    fn write_buffer(&mut self) -> Result<(), WalError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            let room = usize::try_from(UNSYNCED_BYTES_MAX - self.unsynced_bytes).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.tail.write_all_at(now, self.offset).map_err(|source| WalError::Io {
                action: "write",
                path: self.tail_path(),
                source,
            })?;
            self.offset += now.len() as u64;
            self.unsynced_bytes += now.len() as u64;
            if self.unsynced_bytes == UNSYNCED_BYTES_MAX {
                self.sync_tail()?;
            }
            rest = later;
        }
        buffer.clear();
        buffer.shrink_to(WRITE_BUFFER_KEEP_BYTES);
        self.buffer = buffer;
        Ok(())
    }

    fn sync_tail(&mut self) -> Result<(), WalError> {
        self.tail.sync_data().map_err(|source| WalError::Io {
            action: "sync",
            path: self.tail_path(),
            source,
        })?;
        self.unsynced_bytes = 0;
        self.progress().step();
        Ok(())
    }

    fn sync_names(&self) -> Result<(), WalError> {
        self.vfs.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))?;
        self.progress().step();
        Ok(())
    }

    fn after_write(&mut self) -> Result<(), WalError> {
        if self.offset >= self.options.segment_bytes {
            return self.cut();
        }
        if self.offset >= self.options.segment_bytes / 2 {
            self.preparer.begin().map_err(WalError::io("prepare a segment in", &self.dir))?;
        }
        Ok(())
    }

    /// Closes the segment and begins the next, which appears under its name only when its head is durable.
    fn cut(&mut self) -> Result<(), WalError> {
        let old_path = self.tail_path();
        self.tail.set_len(self.offset).map_err(WalError::io("cut", &old_path))?;
        self.sync_tail()?;

        let sequence = self.segments.last().map_or(0, |name| name.sequence + 1);
        let name = SegmentName { sequence, first_index: self.last_index + 1 };
        let path = name.path_in(&self.dir);
        let next = self.preparer.take().map_err(WalError::io("prepare", &path))?;
        let mut head = Vec::new();
        put_record(&mut head, &mut self.crc, Kind::Crc, &[]);
        put_record(&mut head, &mut self.crc, Kind::Metadata, &[&self.metadata]);
        if self.state.term > 0 {
            let data = record::encode_state(&mut self.scratch, &self.state);
            put_record(&mut head, &mut self.crc, Kind::State, &[data]);
        }
        next.write_all_at(&head, 0).map_err(WalError::io("write", &path))?;
        next.sync_data().map_err(WalError::io("sync", &path))?;
        self.progress().step();
        next.lock_exclusive().map_err(lock_error(&path))?;
        self.vfs
            .rename(&self.preparer.next_path(), &path)
            .map_err(WalError::io("rename into place", &path))?;
        self.sync_names()?;
        self.segments.push(name);
        self.tail = next;
        self.offset = head.len() as u64;
        Ok(())
    }
}

/// A log that this process has and has not read.
#[derive(Debug)]
pub struct TakenWal {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    segments: Vec<SegmentName>,
    tail: Box<dyn File>,
    path: PathBuf,
}

impl TakenWal {
    /// Opens the log and reads what it holds behind `from`, a snapshot mark that must be in it (the default value
    /// names the one every log begins with). Cuts off a torn tail, and makes durable what it has read.
    ///
    /// # Errors
    /// [`WalError::Corrupt`] for damage that no interrupted write explains; nothing was changed then.
    pub fn open(self, from: &walpb::Snapshot, options: WalOptions) -> Result<(Wal, Replay), WalError> {
        let Self { vfs, dir, segments, tail, path } = self;
        let first = segment::position_for(&segments, from.index)
            .ok_or_else(|| WalError::BeginsLater { dir: dir.clone(), index: from.index })?;
        let mut found = replay::Collector::new(from);
        let (ending, crc) = replay::read_segments(&*vfs, &dir, &segments[first..], &*tail, &mut found)?;
        if !found.found_mark() {
            return Err(WalError::MarkMissing { dir, index: from.index, term: from.term });
        }
        let metadata_bytes = found.metadata.take().unwrap_or_default();
        let metadata = Metadata::decode(&metadata_bytes)
            .ok_or_else(|| WalError::corrupt(&path, 0, "malformed metadata"))?;
        mend_tail(&*tail, &ending, options.segment_bytes).map_err(WalError::io("clean the end of", &path))?;
        prepare::remove_leftovers(&*vfs, &dir).map_err(WalError::io("clean", &dir))?;
        vfs.sync_dir(&dir).map_err(WalError::io("sync", &dir))?;

        let torn = ending.torn.map(|reason| TornTail {
            path,
            offset: ending.end as u64,
            bytes: (ending.dirty_end - ending.end) as u64,
            reason,
        });
        let preparer = Preparer::new(vfs.clone(), dir.clone(), options.segment_bytes, options.preparation);
        let wal = Wal {
            vfs,
            dir,
            options,
            metadata: metadata_bytes,
            segments,
            tail,
            offset: ending.end as u64,
            unsynced_bytes: 0,
            buffer: Vec::new(),
            scratch: Vec::new(),
            crc,
            state: found.state,
            last_index: found.last_index,
            preparer,
            health: Health::Good,
        };
        Ok((wal, Replay { metadata, hard_state: found.state, entries: found.entries, torn }))
    }
}

fn list_segments(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<SegmentName>, WalError> {
    let missing = || WalError::Missing { dir: dir.to_owned() };
    if !vfs.exists(dir).map_err(WalError::io("look for", dir))? {
        return Err(missing());
    }
    let names = segment::list(vfs, dir).map_err(WalError::io("list", dir))?;
    if names.is_empty() { Err(missing()) } else { Ok(names) }
}

fn open_tail(vfs: &dyn Vfs, dir: &Path, names: &[SegmentName]) -> Result<(Box<dyn File>, PathBuf), WalError> {
    let name = names.last().ok_or_else(|| WalError::Missing { dir: dir.to_owned() })?;
    let path = name.path_in(dir);
    let tail = vfs.open(&path, OpenMode::ReadWrite).map_err(WalError::io("open", &path))?;
    tail.lock_exclusive().map_err(lock_error(&path))?;
    Ok((tail, path))
}

fn lock_error(path: &Path) -> impl FnOnce(std::io::Error) -> WalError {
    let path = path.to_owned();
    move |source| match source.kind() {
        std::io::ErrorKind::WouldBlock => WalError::Locked { path },
        _ => WalError::Io { action: "lock", path, source },
    }
}

fn create_first(
    vfs: &dyn Vfs,
    dir: &Path,
    name: SegmentName,
    head: &[u8],
    segment_bytes: u64,
) -> Result<Box<dyn File>, WalError> {
    let building = vfs::temporary_name(dir);
    let path = name.path_in(&building);
    vfs.remove_dir_all(&building).map_err(WalError::io("remove", &building))?;
    vfs::create_dir_durably(vfs, &building).map_err(WalError::io("create", &building))?;
    let file = vfs.open(&path, OpenMode::CreateNew).map_err(WalError::io("create", &path))?;
    file.lock_exclusive().map_err(lock_error(&path))?;
    file.allocate(segment_bytes).map_err(WalError::io("reserve space for", &path))?;
    file.write_all_at(head, 0).map_err(WalError::io("write", &path))?;
    file.sync_data().map_err(WalError::io("sync", &path))?;
    vfs.sync_dir(&building).map_err(WalError::io("sync", &building))?;
    // It holds no segment, as was checked; a rename does not replace a directory with something in it.
    vfs.remove_dir_all(dir).map_err(WalError::io("remove", dir))?;
    vfs.rename(&building, dir).map_err(WalError::io("rename into place", dir))?;
    vfs::sync_parent(vfs, dir).map_err(WalError::io("sync the parent of", dir))?;
    Ok(file)
}

/// Puts the tail into a state that the next writes may rely on: zeros behind the last record, and durably so, else
/// remains of an old write could mix with a new one.
///
/// What was read may never have reached the disk: whoever wrote it was killed before it synced, or its sync failed, after
/// which the system takes for written what it still has in memory. So the last group is written again, and synced: this
/// member answers for all that it has.
fn mend_tail(tail: &dyn File, ending: &Ending, segment_bytes: u64) -> std::io::Result<()> {
    if let Some((at, word)) = ending.lost_length {
        tail.write_all_at(&word, at as u64)?;
        tail.sync_data()?;
    }
    prepare::zero(tail, ending.end as u64, ending.dirty_end as u64, &Progress::default())?;
    if tail.length()? < segment_bytes {
        tail.allocate(segment_bytes)?;
    }
    let group = (ending.end as u64).min(UNSYNCED_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(group).unwrap_or(usize::MAX)];
    let at = ending.end as u64 - group;
    tail.read_exact_at(&mut bytes, at)?;
    tail.write_all_at(&bytes, at)?;
    tail.sync_data()
}
