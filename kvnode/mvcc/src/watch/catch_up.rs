//! Changes read back from the log, for watchers that are behind.

use crate::{
    ids::Revision,
    key_range::KeyRange,
    kv::{
        KeySpace,
        write::{Change, ChangeKind},
    },
    log::LogEntry,
};

use super::{PrevKv, SharedChange, WatchLimits};

/// A watcher that wants changes from `next` up to `to`.
pub(super) struct Wanted<'a> {
    pub(super) id: i64,
    pub(super) range: &'a KeyRange,
    pub(super) next: Revision,
    pub(super) to: Revision,
    pub(super) prev_kv: PrevKv,
}

/// How far one pass over the log may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// To the end: there is little left.
    ToTheEnd,
    /// As far as the limits of a batch allow.
    OneBatch,
}

/// What one pass found.
pub(super) struct Found {
    /// For each watcher, what it wants, in the order of the log.
    pub(super) changes: Vec<Vec<SharedChange>>,
    /// The last revision that was read, completely.
    pub(super) read_to: Revision,
}

/// Reads the log from the first wanted revision on. Stops between two revisions.
pub(super) fn read(kv: &KeySpace, wanted: &[Wanted<'_>], extent: Extent, limits: WatchLimits) -> Found {
    let mut found = Found { changes: vec![Vec::new(); wanted.len()], read_to: kv.revision };
    let Some(first) = wanted.iter().map(|watcher| watcher.next).min() else { return found };
    let (mut revisions, mut bytes, mut scanned) = (0, 0, 0);
    let (mut reading, mut counted) = (first.0, 0);
    for (_, entry) in kv.log.from(first.0) {
        let main = entry.key.main;
        let full = revisions >= limits.batch_revisions
            || bytes >= limits.batch_bytes
            || scanned >= limits.scan_entries;
        if main != reading && full && extent == Extent::OneBatch {
            found.read_to = Revision(main - 1);
            return found;
        }
        reading = main;
        scanned += 1;
        let mut shared: Option<SharedChange> = None;
        for (watcher, changes) in wanted.iter().zip(&mut found.changes) {
            if watcher.wants(&entry) {
                changes.push(shared.get_or_insert_with(|| change(kv, &entry, wanted).into()).clone());
                // The record is shared; what is kept and sent for each of them is not.
                bytes += entry.record.bytes().len();
            }
        }
        if shared.is_some() {
            revisions += usize::from(main != counted);
            counted = main;
        }
    }
    found
}

impl Wanted<'_> {
    fn wants(&self, entry: &LogEntry) -> bool {
        let main = entry.key.main;
        self.next.0 <= main && main <= self.to.0 && self.range.contains(entry.record.key_slice())
    }
}

fn change(kv: &KeySpace, entry: &LogEntry, wanted: &[Wanted<'_>]) -> Change {
    let main = entry.key.main;
    let revision = Revision(main);
    let created = || !entry.key.tombstone && entry.record.meta().create_revision == main;
    let with_prev = wanted.iter().any(|watcher| watcher.prev_kv == PrevKv::Wanted);
    // What was there before the compacted revision is gone.
    let prev_kv = if with_prev && main > kv.compacted.0 && !created() {
        kv.get(entry.record.key_slice(), main - 1)
    } else {
        None
    };
    let (kind, record) = if entry.key.tombstone {
        (ChangeKind::Delete, entry.record.deletion_event(main))
    } else {
        (ChangeKind::Put, entry.record.clone())
    };
    Change { revision, kind, kv: record, prev_kv }
}
