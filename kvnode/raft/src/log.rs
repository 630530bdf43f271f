//! The raft log in memory: what the core reads, from the compaction point to the last entry.
//!
//! It is a cache of the durable log, not the log itself: entries enter when a [`crate::Ready`] is taken, before they are on
//! disk, and leave by compaction. Entry data is shared with the durable log's buffers and the state machine.

use std::collections::VecDeque;

use kvnode_proto::raftpb;
use raft::{
    GetEntriesContext, RaftState, Storage,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};

use crate::convert;

/// Bytes an entry costs beside its data: the structs around it in the deque and in messages.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// Where the log starts: the last entry that is no longer in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStart {
    /// Index of that entry; the first entry in the log is the next one.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

pub(crate) struct MemoryLog {
    start: LogStart,
    entries: VecDeque<Entry>,
    size_bytes: usize,
    initial: RaftState,
    /// What a follower that needs more than the log holds is offered: the applied state.
    applied: u64,
    conf_state: ConfState,
}

impl MemoryLog {
    pub(crate) fn new(
        start: LogStart,
        entries: Vec<raftpb::Entry>,
        hard_state: raftpb::HardState,
        applied: u64,
        conf_state: raftpb::ConfState,
    ) -> Self {
        let conf_state = convert::conf_state_in(conf_state);
        let hard_state: HardState = convert::hard_state_in(hard_state);
        let mut log = Self {
            start,
            entries: VecDeque::with_capacity(entries.len()),
            size_bytes: 0,
            initial: RaftState::new(hard_state, conf_state.clone()),
            applied,
            conf_state,
        };
        for entry in entries {
            log.push(convert::entry_in(entry));
        }
        log
    }

    pub(crate) fn start(&self) -> LogStart {
        self.start
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(crate) fn last(&self) -> u64 {
        self.start.index + self.entries.len() as u64
    }

    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        self.position(index).and_then(|at| self.entries.get(at)).map(|e| e.term)
    }

    /// Takes entries from a Ready; a later entry of the same index replaces the earlier one and all after it.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.start.index && first.index <= self.last() + 1,
            "raft hands out entries in order: got {} for a log of {}..={}",
            first.index,
            self.start.index + 1,
            self.last(),
        );
        while self.last() >= first.index {
            if let Some(e) = self.entries.pop_back() {
                self.size_bytes -= cost(&e);
            }
        }
        for entry in entries {
            self.push(entry.clone());
        }
    }

    /// Restarts the log after a snapshot: nothing before or after `start` is known.
    pub(crate) fn reset(&mut self, start: LogStart, conf_state: ConfState) {
        self.entries.clear();
        self.size_bytes = 0;
        self.start = start;
        self.applied = self.applied.max(start.index);
        self.conf_state = conf_state;
    }

    pub(crate) fn set_applied(&mut self, index: u64) {
        self.applied = self.applied.max(index);
    }

    pub(crate) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    pub(crate) fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// Forgets entries up to `index`, which must be applied: a peer that still needs them gets a snapshot.
    pub(crate) fn compact(&mut self, index: u64) {
        let to = index.min(self.applied).min(self.last());
        while self.start.index < to {
            let Some(e) = self.entries.pop_front() else { break };
            self.size_bytes -= cost(&e);
            self.start = LogStart { index: e.index, term: e.term };
        }
        // A burst must not pin its memory for ever.
        if self.entries.capacity() > 4 * self.entries.len().max(1024) {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    fn push(&mut self, entry: Entry) {
        self.size_bytes += cost(&entry);
        self.entries.push_back(entry);
    }

    fn position(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.start.index + 1)?).ok()
    }
}

fn cost(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.start.index {
            return Err(raft::Error::Store(raft::StorageError::Compacted));
        }
        assert!(
            high <= self.last() + 1,
            "raft asks for entries below {high} of a log that ends at {}",
            self.last()
        );
        let (Some(from), Some(to)) = (self.position(low), self.position(high)) else {
            return Err(raft::Error::Store(raft::StorageError::Unavailable));
        };
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut taken = 0u64;
        let mut out = Vec::with_capacity((to - from).min(64));
        for entry in self.entries.range(from..to) {
            taken = taken.saturating_add(entry.data.len() as u64 + 12);
            // At least one, or an entry above the limit would stop replication for good.
            if taken > limit && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.start.index {
            return Err(raft::Error::Store(raft::StorageError::Compacted));
        }
        self.term_of(index).ok_or(raft::Error::Store(raft::StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Metadata only. The sender attaches a state at least as new when it starts to stream, and sets its true index.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let unavailable = raft::Error::Store(raft::StorageError::SnapshotTemporarilyUnavailable);
        if self.applied == 0 || self.applied < request_index {
            return Err(unavailable);
        }
        let Some(term) = self.term_of(self.applied) else { return Err(unavailable) };
        let mut snapshot = Snapshot::default();
        let meta = snapshot.mut_metadata();
        meta.index = self.applied;
        meta.term = term;
        meta.set_conf_state(self.conf_state.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn entry(index: u64, term: u64) -> raftpb::Entry {
        raftpb::Entry { r#type: 0, index, term, data: Bytes::from(vec![b'x'; 10]) }
    }

    fn log(last: u64) -> MemoryLog {
        let entries = (1..=last).map(|i| entry(i, 1)).collect();
        MemoryLog::new(
            LogStart::default(),
            entries,
            raftpb::HardState::default(),
            last,
            raftpb::ConfState::default(),
        )
    }

    #[test]
    fn later_entries_replace_earlier_ones() {
        let mut log = log(5);
        let size = log.size_bytes();
        log.append(&[convert::entry_in(entry(4, 2))]);
        assert_eq!((log.last(), log.term_of(4), log.term_of(5)), (4, Some(2), None));
        assert_eq!(log.size_bytes(), size / 5 * 4);
    }

    #[test]
    fn compaction_keeps_the_term_before_the_first_entry() {
        let mut log = log(5);
        log.compact(3);
        assert_eq!(log.start(), LogStart { index: 3, term: 1 });
        assert!(matches!(log.term(2), Err(raft::Error::Store(raft::StorageError::Compacted))));
        assert_eq!(log.term(3), Ok(1));
        log.compact(99);
        assert_eq!(log.start().index, 5, "never beyond what is applied and known");
        assert_eq!(log.size_bytes(), 0);
    }

    #[test]
    fn a_batch_is_cut_at_its_size_but_never_empty() {
        let log = log(5);
        let of =
            |max: u64| log.entries(1, 6, Some(max), GetEntriesContext::empty(false)).expect("in range").len();
        assert_eq!((of(0), of(22), of(44), of(u64::MAX)), (1, 1, 2, 5));
    }
}
