//! From records back to what the log says: hard state, entries, snapshot marks.

use std::path::{Path, PathBuf};

use kvnode_proto::{
    raftpb::{Entry, HardState},
    walpb,
};

use super::{
    error::WalError,
    frame::{Frame, Kind},
    record::{self, Metadata},
    scan::{self, Ending, Place, Position},
    segment::SegmentName,
};
use crate::vfs::{Vfs, read_all, read_file};

/// What a log holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// Whose log it is.
    pub metadata: Metadata,
    /// The last hard state; default if none was written.
    pub hard_state: HardState,
    /// All entries behind the snapshot mark it was opened at, without gaps. Those above `hard_state.commit` may still
    /// be overwritten by a leader.
    pub entries: Vec<Entry>,
    /// What was cut off the end, if a write had been interrupted.
    pub torn: Option<TornTail>,
}

/// The remains of an interrupted write. Nothing in it was ever promised to anyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub path: PathBuf,
    /// Where the log now ends, in bytes.
    pub offset: u64,
    /// How many bytes behind that were blanked.
    pub bytes: u64,
    /// What was wrong with the first of them.
    pub reason: &'static str,
}

/// Collects records into a [`Replay`].
pub struct Collector {
    from: walpb::Snapshot,
    pub metadata: Option<Vec<u8>>,
    pub state: HardState,
    pub entries: Vec<Entry>,
    pub last_index: u64,
    found_mark: bool,
    /// Term of the entry at `from.index`, while the log has one.
    term_at_from: Option<u64>,
    /// A received snapshot whose hard state was not read yet.
    unconfirmed: Option<Unconfirmed>,
}

/// A mark of a received snapshot, and what the log held before it. The snapshot counts once a hard state follows that
/// covers it. Until then nobody was told of it, and if the log ends there, it never was.
struct Unconfirmed {
    path: PathBuf,
    position: Position,
    index: u64,
    entries: Vec<Entry>,
    last_index: u64,
    term_at_from: Option<u64>,
}

impl Collector {
    pub fn new(from: &walpb::Snapshot) -> Self {
        Self {
            from: from.clone(),
            metadata: None,
            state: HardState::default(),
            entries: Vec::new(),
            last_index: 0,
            found_mark: false,
            term_at_from: None,
            unconfirmed: None,
        }
    }

    /// Whether the mark to read from was there.
    pub fn found_mark(&self) -> bool {
        self.found_mark
    }

    pub fn visit(&mut self, path: &Path, position: Position, record: Frame<'_>) -> Result<(), WalError> {
        self.take(path, position, record).map_err(|reason| WalError::corrupt(path, position.at, reason))
    }

    fn take(&mut self, path: &Path, position: Position, record: Frame<'_>) -> Result<(), &'static str> {
        match record.kind {
            Kind::Metadata => self.take_metadata(record.data),
            Kind::Entry => self.take_entry(record::decode_entry(record.data).ok_or("malformed entry")?),
            Kind::State => self.take_state(record::decode_state(record.data).ok_or("malformed hard state")?),
            Kind::Snapshot => {
                let mark = record::decode_mark(record.data).ok_or("malformed snapshot mark")?;
                self.take_mark(path, position, &mark)
            }
            Kind::Crc => Ok(()),
        }
    }

    fn take_metadata(&mut self, data: &[u8]) -> Result<(), &'static str> {
        match &self.metadata {
            Some(known) if known != data => Err("metadata of another member or cluster"),
            Some(_) => Ok(()),
            None => {
                self.metadata = Some(data.to_vec());
                Ok(())
            }
        }
    }

    fn take_state(&mut self, state: HardState) -> Result<(), &'static str> {
        if state.term < self.state.term {
            return Err("the term goes back");
        }
        self.state = state;
        self.unconfirmed.take_if(|snapshot| snapshot.index <= state.commit);
        Ok(())
    }

    /// A later entry of the same index replaces the earlier one and all behind it.
    fn take_entry(&mut self, entry: Entry) -> Result<(), &'static str> {
        // The log went on from before the snapshot: a start had found it unconfirmed and left it there, as etcd does.
        if self.unconfirmed.as_ref().is_some_and(|snapshot| entry.index <= snapshot.index) {
            self.drop_unconfirmed();
        }
        self.last_index = entry.index;
        if entry.index <= self.from.index {
            // It was part of the snapshot later on, but what it replaced must not come back behind the snapshot.
            self.entries.clear();
            self.term_at_from = (entry.index == self.from.index).then_some(entry.term);
            return Ok(());
        }
        let position =
            usize::try_from(entry.index - self.from.index - 1).map_err(|_| "an entry out of order")?;
        if position > self.entries.len() {
            return Err("entries are missing before this one");
        }
        self.entries.truncate(position);
        if self.entries.last().is_some_and(|last| last.term > entry.term) {
            return Err("an entry's term is below that of the entry before it");
        }
        self.entries.push(entry);
        Ok(())
    }

    /// A mark of the state that this log led to leaves the log as it is. A snapshot received from a leader has an entry
    /// that this log does not have, and replaces all of it: raft dropped what was here, and were it to come back with
    /// its older term, this member would vote for candidates that lack committed entries.
    fn take_mark(
        &mut self,
        path: &Path,
        position: Position,
        mark: &walpb::Snapshot,
    ) -> Result<(), &'static str> {
        let received = mark.index > 0 && self.term_at(mark.index) != Some(mark.term);
        if received && mark.index >= self.from.index {
            // Of two without a hard state between them the first counts for where the log is cut.
            self.unconfirmed.get_or_insert(Unconfirmed {
                path: path.to_owned(),
                position,
                index: mark.index,
                entries: std::mem::take(&mut self.entries),
                last_index: self.last_index,
                term_at_from: self.term_at_from,
            });
            self.entries.clear();
            self.term_at_from = (mark.index == self.from.index).then_some(mark.term);
        }
        if mark.index == self.from.index {
            if mark.term != self.from.term {
                return Err("the snapshot mark has another term than the checkpoint");
            }
            self.found_mark = true;
        }
        self.last_index = self.last_index.max(mark.index);
        Ok(())
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        match index.checked_sub(self.from.index)? {
            0 => self.term_at_from,
            beyond => self.entries.get(usize::try_from(beyond - 1).ok()?).map(|entry| entry.term),
        }
    }

    /// Forgets a snapshot that was never confirmed: the log is what it was before. Returns where it stands.
    pub fn drop_unconfirmed(&mut self) -> Option<(PathBuf, Position)> {
        let snapshot = self.unconfirmed.take()?;
        self.entries = snapshot.entries;
        self.last_index = snapshot.last_index;
        self.term_at_from = snapshot.term_at_from;
        Some((snapshot.path, snapshot.position))
    }
}

/// The marks of snapshots that the log says were taken, by ascending index, up to its commit index. `names` is a run of
/// segments without gaps.
pub fn snapshot_marks(
    vfs: &dyn Vfs,
    dir: &Path,
    names: &[SegmentName],
) -> Result<Vec<walpb::Snapshot>, WalError> {
    let mut marks = Vec::new();
    let mut commit = 0;
    let mut crc = None;
    for (position, name) in names.iter().enumerate() {
        let path = name.path_in(dir);
        let data = read_file(vfs, &path).map_err(WalError::io("read write-ahead log segment", &path))?;
        let place = if position + 1 == names.len() { Place::Tail } else { Place::Inner };
        scan::scan(&path, &data, place, &mut crc, |Position { at, .. }, record| {
            match record.kind {
                Kind::Snapshot => marks.push(
                    record::decode_mark(record.data)
                        .ok_or_else(|| WalError::corrupt(&path, at, "malformed snapshot mark"))?,
                ),
                Kind::State => {
                    commit = record::decode_state(record.data)
                        .ok_or_else(|| WalError::corrupt(&path, at, "malformed hard state"))?
                        .commit;
                }
                _ => {}
            }
            Ok(())
        })?;
    }
    marks.retain(|mark| mark.index <= commit);
    // A checkpoint that was being written when a newer snapshot arrived is marked after it.
    marks.sort_by_key(|mark| mark.index);
    Ok(marks)
}

/// Reads `names` into `collector`; the last of them is `tail`, already open. Returns how it ends and the checksum there.
pub fn read_segments(
    vfs: &dyn Vfs,
    dir: &Path,
    names: &[SegmentName],
    tail: &dyn crate::vfs::File,
    collector: &mut Collector,
) -> Result<(Ending, u32), WalError> {
    let mut crc = None;
    let Some((last, inner)) = names.split_last() else {
        return Err(WalError::Missing { dir: dir.to_owned() });
    };
    for name in inner {
        let path = name.path_in(dir);
        let data = read_file(vfs, &path).map_err(WalError::io("read write-ahead log segment", &path))?;
        scan::scan(&path, &data, Place::Inner, &mut crc, |position, record| {
            collector.visit(&path, position, record)
        })?;
    }
    let path = last.path_in(dir);
    let data = read_all(tail).map_err(WalError::io("read write-ahead log segment", &path))?;
    let mut ending = scan::scan(&path, &data, Place::Tail, &mut crc, |position, record| {
        collector.visit(&path, position, record)
    })?;
    let mut crc = crc.unwrap_or(0);
    if let Some((at, position)) = collector.drop_unconfirmed() {
        // A new segment begins with a hard state, so what is unconfirmed cannot be in an older one.
        if at != path {
            return Err(WalError::corrupt(
                &at,
                position.at,
                "a snapshot mark without a hard state behind it",
            ));
        }
        ending.end = position.at;
        ending.torn = Some("a snapshot mark without the hard state that follows it");
        ending.lost_length.take_if(|(lost, _)| *lost >= position.at);
        crc = position.crc;
    }
    Ok((ending, crc))
}
