//! What all watch streams of a member share: who watches what, and an inbox for each stream.

use std::collections::{BTreeSet, HashMap};

use super::{SharedChange, WatchLimits, index::IntervalIndex};
use crate::{ids::Revision, key_range::KeyRange, state::View, store::Batch};

/// A client stream of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

/// A watcher of some stream.
type Token = (StreamId, i64);

/// See the module's documentation.
#[derive(Debug)]
pub struct WatchHub {
    limits: WatchLimits,
    view: View,
    index: IntervalIndex<Token>,
    streams: HashMap<StreamId, Inbox>,
    next_stream: u64,
}

/// Changes that a stream did not collect yet.
#[derive(Debug, Default)]
struct Inbox {
    changes: Vec<(i64, SharedChange)>,
    /// Intervals of watchers that get changes here.
    live: HashMap<i64, KeyRange>,
    /// Set when the inbox was full: it is complete up to here, and the stream's watchers get nothing here any more.
    cut_at: Option<Revision>,
}

/// What a stream collects.
#[derive(Debug)]
pub(super) struct Collected {
    /// Changes by watcher, in the order of revisions.
    pub(super) changes: Vec<(i64, SharedChange)>,
    /// Set when watchers were dropped from the hub; the changes are complete up to here.
    pub(super) cut_at: Option<Revision>,
    /// The state as of now.
    pub(super) view: View,
}

impl WatchHub {
    /// A hub without watchers, at the state that `view` shows.
    #[must_use]
    pub fn new(view: View, limits: WatchLimits) -> Self {
        Self { limits, view, index: IntervalIndex::default(), streams: HashMap::new(), next_stream: 0 }
    }

    /// Hands out the changes of a published batch. Returns the streams that have something to collect.
    pub fn publish(&mut self, batch: &Batch) -> BTreeSet<StreamId> {
        let before = std::mem::replace(&mut self.view, batch.view.clone()).revision();
        let mut woken = BTreeSet::new();
        if self.index.is_empty() {
            return woken;
        }
        for change in &batch.changes {
            let mut shared: Option<SharedChange> = None;
            let mut flooded = BTreeSet::new();
            let (streams, limit) = (&mut self.streams, self.limits.inbox_batch_changes);
            self.index.stab(change.kv.key_slice(), |(stream, watch)| {
                let Some(inbox) = streams.get_mut(&stream) else { return };
                woken.insert(stream);
                if inbox.changes.len() < limit {
                    let change = shared.get_or_insert_with(|| change.clone().into());
                    inbox.changes.push((watch, change.clone()));
                } else {
                    flooded.insert(stream);
                }
            });
            flooded.into_iter().for_each(|stream| self.cut_back(stream, before));
        }
        for stream in &woken {
            self.cut_if_full(*stream, before);
        }
        woken
    }

    /// Goes on from another state, after a snapshot of the leader replaced this member's. Watchers will catch up from
    /// where they are. Returns the streams to wake.
    pub fn reset(&mut self, view: View) -> BTreeSet<StreamId> {
        let before = std::mem::replace(&mut self.view, view).revision();
        let woken: BTreeSet<StreamId> = self
            .streams
            .iter()
            .filter(|(_, inbox)| !inbox.live.is_empty())
            .map(|(stream, _)| *stream)
            .collect();
        woken.iter().for_each(|stream| self.cut(*stream, before));
        woken
    }

    /// Number of watchers that are up to date.
    #[must_use]
    pub fn live_watchers(&self) -> usize {
        self.streams.values().map(|inbox| inbox.live.len()).sum()
    }

    /// Number of streams.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Revision up to which changes were handed out.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.view.revision()
    }

    pub(super) fn limits(&self) -> WatchLimits {
        self.limits
    }

    pub(super) fn compact_revision(&self) -> Revision {
        self.view.compact_revision()
    }

    pub(super) fn open(&mut self) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        self.streams.insert(stream, Inbox::default());
        stream
    }

    pub(super) fn close(&mut self, stream: StreamId) {
        if let Some(inbox) = self.streams.remove(&stream) {
            for (watch, range) in inbox.live {
                self.index.remove(&range, (stream, watch));
            }
        }
    }

    /// From now on `watch` gets every change in `range`; it must have, or be about to read, everything up to
    /// [`Self::revision`].
    pub(super) fn join(&mut self, stream: StreamId, watch: i64, range: &KeyRange) {
        if let Some(inbox) = self.streams.get_mut(&stream) {
            inbox.live.insert(watch, range.clone());
            self.index.insert(range, (stream, watch));
        }
    }

    pub(super) fn leave(&mut self, stream: StreamId, watch: i64) {
        if let Some(inbox) = self.streams.get_mut(&stream)
            && let Some(range) = inbox.live.remove(&watch)
        {
            inbox.changes.retain(|(other, _)| *other != watch);
            self.index.remove(&range, (stream, watch));
        }
    }

    pub(super) fn collect(&mut self, stream: StreamId) -> Collected {
        let view = self.view.clone();
        let Some(inbox) = self.streams.get_mut(&stream) else {
            return Collected { changes: Vec::new(), cut_at: None, view };
        };
        Collected { changes: std::mem::take(&mut inbox.changes), cut_at: inbox.cut_at.take(), view }
    }

    /// A stream that does not collect stops getting changes.
    fn cut_if_full(&mut self, stream: StreamId, complete: Revision) {
        let Some(inbox) = self.streams.get(&stream) else { return };
        // A batch that found the inbox empty is taken whole, where there is room for it at all.
        let waited = inbox.changes.first().is_some_and(|(_, change)| change.revision <= complete);
        if waited && inbox.changes.len() > self.limits.inbox_changes {
            self.cut_back(stream, complete);
        }
    }

    /// What it has been given up to `complete` stays.
    fn cut_back(&mut self, stream: StreamId, complete: Revision) {
        if let Some(inbox) = self.streams.get_mut(&stream) {
            let earlier = inbox.changes.partition_point(|(_, change)| change.revision <= complete);
            inbox.changes.truncate(earlier);
        }
        self.cut(stream, complete);
    }

    fn cut(&mut self, stream: StreamId, complete: Revision) {
        let Some(inbox) = self.streams.get_mut(&stream) else { return };
        inbox.cut_at = Some(inbox.cut_at.map_or(complete, |earlier| earlier.min(complete)));
        for (watch, range) in std::mem::take(&mut inbox.live) {
            self.index.remove(&range, (stream, watch));
        }
    }
}
