//! Every revision that is not compacted away, in the order of writing: what watchers catch up from, what HashKV runs
//! over, and what the bucket `key` of a checkpoint holds.
//!
//! Append-only for the one writer; a clone is a consistent view that costs a few reference counts. Records sit in closed
//! segments of up to 64; the open segment holds the newest. A record is addressed by segment and slot, which never
//! change, so that a later implementation may serve old segments from a mapped file.
//!
//! It knows nothing of keys; [`crate::index`] does.

mod segment;

use std::sync::Arc;

use crate::{
    limits::{LONE_RECORD_BYTES, SEGMENT_BYTES, SEGMENT_RECORDS},
    record::Record,
};
use segment::{Segment, Slot};

/// Where a record lies in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    pub(crate) segment: u32,
    pub(crate) slot: u8,
}

/// The name of one write: etcd's bucket key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionKey {
    /// Revision of the transaction.
    pub main: i64,
    /// Position of the write inside its transaction.
    pub sub: u32,
    /// Whether the write is a deletion.
    pub tombstone: bool,
}

/// One write: its name and its encoded `mvccpb.KeyValue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Which write.
    pub key: RevisionKey,
    /// What was written.
    pub record: Record,
}

/// The log. See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(crate) struct RevisionLog {
    closed: imbl::Vector<Slot>,
    /// Number of the first segment in `closed`; those before are gone.
    first_segment: u32,
    open: Arc<Vec<LogEntry>>,
    open_bytes: usize,
    /// Records and bytes of all segments, the open one included.
    records: u64,
    bytes: u64,
}

impl RevisionLog {
    /// Appends the newest write.
    pub(crate) fn append(&mut self, key: RevisionKey, record: Record) -> Address {
        let size = record.bytes().len();
        let lone = size >= LONE_RECORD_BYTES;
        if self.open.len() == SEGMENT_RECORDS
            || self.open_bytes >= SEGMENT_BYTES
            || (lone && !self.open.is_empty())
        {
            self.close_segment();
        }
        let address = Address {
            segment: self.open_segment(),
            slot: u8::try_from(self.open.len()).expect("a segment holds at most 64 records"),
        };
        self.records += 1;
        self.bytes += size as u64;
        self.open_bytes += size;
        Arc::make_mut(&mut self.open).push(LogEntry { key, record });
        if lone {
            self.close_segment();
        }
        address
    }

    /// Closes the open segment, so that compaction may rewrite every record written so far.
    pub(crate) fn close_segment(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let first_main = self.open[0].key.main;
        self.closed.push_back(Slot { first_main, segment: Some(Arc::new(Segment::close(&self.open))) });
        self.open_bytes = 0;
        match Arc::get_mut(&mut self.open) {
            Some(entries) => entries.clear(),
            None => self.open = Arc::new(Vec::with_capacity(SEGMENT_RECORDS)),
        }
    }

    /// The record at `address`. Panics if compaction dropped it: the index never keeps such an address.
    pub(crate) fn get(&self, address: Address) -> Record {
        self.entry(address)
            .map(|entry| entry.record)
            .expect("the index points only at records that are there")
    }

    /// The write at `address`, unless compaction dropped it.
    pub(crate) fn entry(&self, address: Address) -> Option<LogEntry> {
        if address.segment == self.open_segment() {
            return self.open.get(usize::from(address.slot)).cloned();
        }
        let at = address.segment.checked_sub(self.first_segment)?;
        self.closed.get(at as usize)?.segment.as_ref()?.get(address.slot)
    }

    /// Drops the slots whose bits are set in `dead` from a closed segment.
    pub(crate) fn drop_slots(&mut self, segment: u32, dead: u64) {
        let Some(at) = segment.checked_sub(self.first_segment) else { return };
        let Some(slot) = self.closed.get_mut(at as usize) else { return };
        let Some(old) = slot.segment.take() else { return };
        slot.segment = old.without(dead).map(Arc::new);
        let (left, left_bytes) = slot.segment.as_ref().map_or((0, 0), |s| (s.len(), s.data_bytes()));
        self.records -= (old.len() - left) as u64;
        self.bytes -= (old.data_bytes() - left_bytes) as u64;
        while self.closed.front().is_some_and(|slot| slot.segment.is_none()) {
            self.closed.pop_front();
            self.first_segment += 1;
        }
    }

    /// Writes from revision `main` on, in order.
    pub(crate) fn from(&self, main: i64) -> impl Iterator<Item = (Address, LogEntry)> + '_ {
        let segments = self.closed.len();
        // The last segment that starts below `main` may still hold some of it.
        let first = partition_point(segments, |i| self.closed[i].first_main < main).saturating_sub(1);
        let closed =
            self.closed.focus().narrow(first..segments).into_iter().enumerate().flat_map(move |(i, slot)| {
                let segment =
                    self.first_segment + u32::try_from(first + i).expect("segment numbers are 32 bits");
                slot.segment.iter().flat_map(move |s| {
                    (s.count_below(main)..s.len())
                        .filter_map(move |n| Some((Address { segment, slot: s.slot_of(n) }, s.nth(n)?)))
                })
            });
        let open_segment = self.open_segment();
        let skip = self.open.partition_point(|entry| entry.key.main < main);
        let open = self.open.iter().enumerate().skip(skip).map(move |(slot, entry)| {
            (Address { segment: open_segment, slot: u8::try_from(slot).expect("at most 64") }, entry.clone())
        });
        closed.chain(open)
    }

    /// Number of writes kept.
    pub(crate) fn len(&self) -> u64 {
        self.records
    }

    /// Bytes of all records kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn open_segment(&self) -> u32 {
        self.first_segment + u32::try_from(self.closed.len()).expect("segment numbers are 32 bits")
    }
}

fn partition_point(len: usize, below: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let mid = low + (high - low) / 2;
        if below(mid) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(log: &mut RevisionLog, main: i64, bytes: usize) -> Address {
        let record = Record::tombstone(&vec![b'k'; bytes]);
        log.append(RevisionKey { main, sub: 0, tombstone: main % 3 == 0 }, record)
    }

    #[test]
    fn every_write_is_found_by_address_and_by_revision() {
        let mut log = RevisionLog::default();
        let addresses: Vec<_> =
            (2..500).map(|main| write(&mut log, main, usize::try_from(main % 7).unwrap())).collect();
        let view = log.clone();
        write(&mut log, 500, LONE_RECORD_BYTES);
        for (main, address) in (2..500).zip(&addresses) {
            assert_eq!(view.entry(*address).unwrap().key.main, main);
            assert_eq!(view.entry(*address).unwrap().key.tombstone, main % 3 == 0);
        }
        for start in [0, 2, 65, 66, 67, 130, 499, 500] {
            let mains: Vec<_> = view.from(start).map(|(_, e)| e.key.main).collect();
            assert_eq!(mains, (start.max(2)..500).collect::<Vec<_>>(), "a view does not see later writes");
        }
        assert_eq!(log.from(0).count(), 499);
        assert_eq!(log.from(0).map(|(_, e)| e.record.bytes().len() as u64).sum::<u64>(), log.bytes());
    }

    #[test]
    fn dropped_slots_leave_the_others_where_they_were() {
        let mut log = RevisionLog::default();
        let addresses: Vec<_> = (0..200).map(|main| write(&mut log, main, 10)).collect();
        log.close_segment();
        let before = log.clone();
        for address in addresses.iter().filter(|a| a.segment < 2 || a.slot % 5 != 0) {
            log.drop_slots(address.segment, 1 << address.slot);
        }
        for address in &addresses {
            let kept = address.segment >= 2 && address.slot % 5 == 0;
            assert_eq!(log.entry(*address).is_some(), kept, "{address:?}");
            assert!(before.entry(*address).is_some(), "an older view keeps what it had");
        }
        assert_eq!(log.from(0).count() as u64, log.len());
        let found: Vec<_> = log.from(0).map(|(address, _)| address).collect();
        assert_eq!(
            found,
            addresses.into_iter().filter(|a| a.segment >= 2 && a.slot % 5 == 0).collect::<Vec<_>>()
        );
        write(&mut log, 300, 1);
        assert_eq!(log.from(201).count(), 1);
    }
}
