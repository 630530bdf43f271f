//! Up to 64 consecutive records of the revision log in one allocation.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{LogEntry, RevisionKey};
use crate::{limits::SEGMENT_RECORDS, record::Record};

/// A closed segment. Compaction replaces it by one that lacks the dropped records; slots keep their numbers.
#[derive(Debug)]
pub(super) struct Segment {
    /// Bit n is set while slot n is there.
    present: u64,
    /// One for every slot present, in order.
    entries: Box<[Place]>,
    data: Bytes,
}

/// Where a record lies; it ends where the next one starts.
#[derive(Clone, Copy, Debug)]
struct Place {
    main: i64,
    /// The sub-revision; the top bit marks a deletion.
    sub_and_kind: u32,
    start: u32,
}

const TOMBSTONE_BIT: u32 = 1 << 31;

impl Segment {
    /// Closes over `entries`. Copies them into one allocation, unless there is only one, which has its own already.
    pub(super) fn close(entries: &[LogEntry]) -> Self {
        debug_assert!(entries.len() <= SEGMENT_RECORDS, "one bit each must do");
        let present = if entries.len() == 64 { u64::MAX } else { (1u64 << entries.len()) - 1 };
        Self::build(present, entries)
    }

    fn build(present: u64, entries: &[LogEntry]) -> Self {
        let data = match entries {
            [only] => only.record.bytes().clone(),
            _ => {
                let mut data = BytesMut::with_capacity(entries.iter().map(|e| e.record.bytes().len()).sum());
                entries.iter().for_each(|entry| data.extend_from_slice(entry.record.bytes()));
                data.freeze()
            }
        };
        let mut start = 0;
        let places = entries.iter().map(|entry| {
            let place = Place {
                main: entry.key.main,
                sub_and_kind: entry.key.sub | if entry.key.tombstone { TOMBSTONE_BIT } else { 0 },
                start: u32::try_from(start).expect("a segment closes long before 4 GiB"),
            };
            start += entry.record.bytes().len();
            place
        });
        Self { present, entries: places.collect(), data }
    }

    /// The segment without the slots in `dead`; `None` if nothing is left.
    pub(super) fn without(&self, dead: u64) -> Option<Self> {
        let present = self.present & !dead;
        if present == 0 {
            return None;
        }
        let kept: Vec<LogEntry> =
            (0..64).filter(|slot| present & (1 << slot) != 0).filter_map(|slot| self.get(slot)).collect();
        Some(Self::build(present, &kept))
    }

    /// The record in `slot`, if compaction left it there.
    pub(super) fn get(&self, slot: u8) -> Option<LogEntry> {
        let bit = 1u64 << slot;
        if self.present & bit == 0 {
            return None;
        }
        self.nth((self.present & (bit - 1)).count_ones() as usize)
    }

    /// The n-th record present.
    pub(super) fn nth(&self, n: usize) -> Option<LogEntry> {
        let place = self.entries.get(n)?;
        let end = self.entries.get(n + 1).map_or(self.data.len(), |next| next.start as usize);
        Some(LogEntry {
            key: place.key(),
            record: Record::trusted(self.data.slice(place.start as usize..end)),
        })
    }

    /// Slot of the n-th record present.
    pub(super) fn slot_of(&self, n: usize) -> u8 {
        let mut present = self.present;
        for _ in 0..n {
            present &= present - 1;
        }
        u8::try_from(present.trailing_zeros()).expect("at most 64")
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn data_bytes(&self) -> usize {
        self.data.len()
    }

    /// How many of its records are below `main`.
    pub(super) fn count_below(&self, main: i64) -> usize {
        self.entries.partition_point(|place| place.main < main)
    }
}

impl Place {
    fn key(&self) -> RevisionKey {
        RevisionKey {
            main: self.main,
            sub: self.sub_and_kind & !TOMBSTONE_BIT,
            tombstone: self.sub_and_kind & TOMBSTONE_BIT != 0,
        }
    }
}

/// A place in the log's directory: a segment, or the gap that compaction left.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Main revision of the first record ever put there; orders the directory even over gaps.
    pub(super) first_main: i64,
    pub(super) segment: Option<Arc<Segment>>,
}
