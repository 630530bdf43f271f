//! One client's watch stream. See [`super`] for how a server drives it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kvnode_proto::etcdserverpb::{WatchCreateRequest, watch_create_request::FilterType};

use super::{
    AnswerKind, Fragment, NO_WATCH_ID, PrevKv, SharedChange, StreamId, WatchAnswer, WatchEvent, WatchHub,
    WatchLimits,
    catch_up::{self, Extent, Wanted},
};
use crate::{
    ids::Revision,
    key_range::KeyRange,
    kv::write::{Change, ChangeKind},
    state::View,
};

/// Why a watcher is not created. The text goes to the client as etcd words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The interval holds no key.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// The client chose an id twice.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
    /// A start below zero.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    NegativeStart,
    /// The client may not read that, or is not who it says; the text is the server's.
    #[error("{0}")]
    Denied(String),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct WatchStream {
    id: StreamId,
    limits: WatchLimits,
    watchers: BTreeMap<i64, Watcher>,
    /// Ids of watchers that a compaction ended and the client has not given up: it may not use them for others (etcd:
    /// `watchStream.cancels`).
    ended: BTreeSet<i64>,
    next_id: i64,
    /// Collected from the hub and not processed yet.
    pending: Vec<(i64, SharedChange)>,
    /// The state when last collected, while there is something to read in it.
    view: Option<View>,
    /// Revision up to which this stream collected.
    collected: Revision,
    /// How often the client asked for progress, and whether the interval passed; answered after what is pending.
    progress_requests: usize,
    ticked: bool,
    answers: VecDeque<WatchAnswer>,
    /// Events in those answers. Nothing more is read from the log before all of them are sent.
    unsent_events: usize,
}

#[derive(Debug)]
struct Watcher {
    range: KeyRange,
    /// Changes before this revision have been sent, or are not wanted.
    next: Revision,
    start: Revision,
    place: Place,
    no_put: bool,
    no_delete: bool,
    prev_kv: PrevKv,
    fragment: bool,
    progress_notify: bool,
    /// Whether nothing was sent since the last tick.
    quiet: bool,
}

/// Where a watcher gets its changes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// From the hub.
    Live,
    /// From the hub, once the rest of the log up to this revision is read.
    Joining { to: Revision },
    /// From the log.
    Behind,
}

impl WatchStream {
    /// Opens a stream, with the limits of the hub.
    pub fn open(hub: &mut WatchHub) -> Self {
        Self {
            id: hub.open(),
            limits: hub.limits(),
            watchers: BTreeMap::new(),
            ended: BTreeSet::new(),
            next_id: 0,
            pending: Vec::new(),
            view: None,
            collected: hub.revision(),
            progress_requests: 0,
            ticked: false,
            answers: VecDeque::new(),
            unsent_events: 0,
        }
    }

    /// The name by which the hub wakes this stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Ends the stream; the hub forgets its watchers.
    pub fn close(self, hub: &mut WatchHub) {
        hub.close(self.id);
    }

    /// Creates a watcher, or answers why not. `permitted` is what the server found out about the client's rights.
    pub fn create(
        &mut self,
        hub: &mut WatchHub,
        request: &WatchCreateRequest,
        permitted: Result<(), CreateError>,
    ) {
        // What the hub dropped is not to be mixed up with what joins now.
        self.collect(hub);
        let revision = hub.revision();
        match self.check(request, permitted) {
            Err(error) => self.answers.push_back(WatchAnswer {
                revision,
                watch_id: NO_WATCH_ID,
                kind: AnswerKind::Refused(error.to_string()),
                ..WatchAnswer::default()
            }),
            Ok((watch_id, range)) => {
                let kind = AnswerKind::Created;
                self.answers.push_back(WatchAnswer { revision, watch_id, kind, ..WatchAnswer::default() });
                self.add(hub, watch_id, range, request);
            }
        }
    }

    fn check(
        &mut self,
        request: &WatchCreateRequest,
        permitted: Result<(), CreateError>,
    ) -> Result<(i64, KeyRange), CreateError> {
        if request.start_revision < 0 {
            return Err(CreateError::NegativeStart);
        }
        permitted?;
        // The empty key stands for the smallest one.
        let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key.clone() };
        let range = KeyRange::new(&key, &request.range_end);
        if range.is_empty() {
            return Err(CreateError::EmptyRange);
        }
        if request.watch_id != 0 {
            return if self.taken(request.watch_id) {
                Err(CreateError::DuplicateId)
            } else {
                Ok((request.watch_id, range))
            };
        }
        while self.taken(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok((self.next_id - 1, range))
    }

    fn taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.ended.contains(&id)
    }

    fn add(&mut self, hub: &mut WatchHub, id: i64, range: KeyRange, request: &WatchCreateRequest) {
        let (current, start) = (hub.revision(), Revision(request.start_revision));
        let live = start.0 == 0 || start > current;
        let next = if live { start.max(current.next()) } else { start };
        if live {
            hub.join(self.id, id, &range);
        }
        let filters: Vec<FilterType> = request.filters().collect();
        let watcher = Watcher {
            range,
            next,
            start,
            place: if live { Place::Live } else { Place::Behind },
            no_put: filters.contains(&FilterType::Noput),
            no_delete: filters.contains(&FilterType::Nodelete),
            prev_kv: if request.prev_kv { PrevKv::Wanted } else { PrevKv::Unwanted },
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            quiet: true,
        };
        self.watchers.insert(id, watcher);
        if !live {
            self.collect(hub);
        }
    }

    /// Cancels a watcher; one that a compaction ended gets a second answer and an unknown one none, as in etcd.
    pub fn cancel(&mut self, hub: &mut WatchHub, watch_id: i64) {
        if self.watchers.remove(&watch_id).is_some() || self.ended.remove(&watch_id) {
            hub.leave(self.id, watch_id);
            self.pending.retain(|(other, _)| *other != watch_id);
            let kind = AnswerKind::Canceled;
            self.answers.push_back(WatchAnswer {
                revision: hub.revision(),
                watch_id,
                kind,
                ..WatchAnswer::default()
            });
        }
    }

    /// Asks for a progress answer for the whole stream. It comes after every change up to its revision, and not at all
    /// while a watcher is behind or waits for its start: then the client asks again.
    pub fn request_progress(&mut self, hub: &mut WatchHub) {
        self.collect(hub);
        self.progress_requests += 1;
    }

    /// Sends progress to watchers that asked for it and were sent nothing since the last tick. Call it once in each
    /// progress interval.
    pub fn tick(&mut self, hub: &mut WatchHub) {
        self.collect(hub);
        self.ticked = true;
    }

    /// Takes what the hub has for this stream and lets watchers that caught up join. Cheap; [`Self::process`] does the
    /// work outside the hub's lock.
    pub fn collect(&mut self, hub: &mut WatchHub) {
        let collected = hub.collect(self.id);
        self.pending.extend(collected.changes);
        if let Some(complete) = collected.cut_at {
            self.fall_behind(complete);
        }
        self.cancel_compacted(hub);
        let to = hub.revision();
        self.collected = to;
        self.let_join(hub, to);
        self.view =
            self.watchers.values().any(|watcher| watcher.place != Place::Live).then_some(collected.view);
    }

    /// Lets watchers join that have little left to read, as many as can read that in one go.
    fn let_join(&mut self, hub: &mut WatchHub, to: Revision) {
        let mut room = if self.unsent_events == 0 { self.limits.batch_revisions } else { 0 };
        for (id, watcher) in &mut self.watchers {
            let left = usize::try_from(to.0 - watcher.next.0).unwrap_or(0) + 1;
            if watcher.place == Place::Behind && left <= room {
                hub.join(self.id, *id, &watcher.range);
                watcher.place = Place::Joining { to };
                room -= left;
            }
        }
    }

    /// The hub dropped this stream's watchers after `complete`.
    fn fall_behind(&mut self, complete: Revision) {
        // Those still joining have yet to read what came before they joined, and then read this again.
        let watchers = &self.watchers;
        self.pending.retain(|(id, _)| watchers.get(id).is_some_and(|watcher| watcher.place == Place::Live));
        self.process_pending();
        for watcher in self.watchers.values_mut() {
            if watcher.place == Place::Live {
                watcher.next = watcher.next.max(complete.next());
            }
            watcher.place = Place::Behind;
        }
    }

    /// Cancels watchers that are owed changes which are gone.
    fn cancel_compacted(&mut self, hub: &mut WatchHub) {
        let compacted = hub.compact_revision();
        let (stream, pending) = (self.id, &mut self.pending);
        let (answers, ended) = (&mut self.answers, &mut self.ended);
        self.watchers.retain(|id, watcher| {
            let lost = watcher.place != Place::Live && watcher.next < compacted;
            if lost {
                hub.leave(stream, *id);
                ended.insert(*id);
                pending.retain(|(other, _)| other != id);
                let kind = AnswerKind::Compacted(compacted);
                answers.push_back(WatchAnswer { watch_id: *id, kind, ..WatchAnswer::default() });
            }
            !lost
        });
    }

    /// Turns what was collected into answers, and reads the next part of the log for watchers that are behind.
    pub fn process(&mut self) {
        let view = self.view.take();
        if let Some(view) = &view {
            self.read_log(view, Extent::ToTheEnd);
        }
        self.process_pending();
        if let Some(view) = view.filter(|_| self.unsent_events == 0) {
            self.read_log(&view, Extent::OneBatch);
        }
        let revision = self.collected;
        let ready = |watcher: &Watcher| watcher.place == Place::Live && revision >= watcher.start;
        let all_ready = !self.watchers.is_empty() && self.watchers.values().all(ready);
        for _ in 0..std::mem::take(&mut self.progress_requests) {
            if all_ready {
                self.answers.push_back(WatchAnswer {
                    revision,
                    watch_id: NO_WATCH_ID,
                    ..WatchAnswer::default()
                });
            }
        }
        if std::mem::take(&mut self.ticked) {
            self.answer_tick(revision);
        }
    }

    fn answer_tick(&mut self, revision: Revision) {
        for (watch_id, watcher) in &mut self.watchers {
            let due = watcher.progress_notify && watcher.quiet;
            watcher.quiet = true;
            if due && watcher.place == Place::Live && revision >= watcher.start {
                self.answers.push_back(WatchAnswer {
                    revision,
                    watch_id: *watch_id,
                    ..WatchAnswer::default()
                });
            }
        }
    }

    /// Whether watchers are behind: then collect and process again without waiting to be woken.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.watchers.values().any(|watcher| watcher.place == Place::Behind)
    }

    /// The next answer to send.
    pub fn next_answer(&mut self) -> Option<WatchAnswer> {
        let answer = self.answers.pop_front()?;
        self.unsent_events -= answer.events.len();
        Some(answer)
    }

    /// Number of watchers.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.watchers.len()
    }

    fn process_pending(&mut self) {
        let mut by_watcher: BTreeMap<i64, Vec<SharedChange>> = BTreeMap::new();
        for (id, change) in std::mem::take(&mut self.pending) {
            by_watcher.entry(id).or_default().push(change);
        }
        for (id, changes) in by_watcher {
            for part in batches(&changes, self.limits) {
                self.answer(id, part, None);
            }
        }
    }

    /// Reads the log for joining watchers to the end, or for those behind as far as one batch goes.
    fn read_log(&mut self, view: &View, extent: Extent) {
        let mut wanted = Vec::new();
        for (id, watcher) in &self.watchers {
            let to = match (watcher.place, extent) {
                (Place::Joining { to }, Extent::ToTheEnd) => to,
                (Place::Behind, Extent::OneBatch) => view.revision(),
                _ => continue,
            };
            let Watcher { range, next, prev_kv, .. } = watcher;
            wanted.push(Wanted { id: *id, range, next: *next, to, prev_kv: *prev_kv });
        }
        let at_once = self.limits.batch_watchers;
        if extent == Extent::OneBatch && wanted.len() > at_once {
            // Those that are furthest behind.
            wanted.select_nth_unstable_by_key(at_once, |watcher| watcher.next);
            wanted.truncate(at_once);
        }
        if wanted.is_empty() {
            return;
        }
        let found = catch_up::read(&view.0.kv, &wanted, extent, self.limits);
        let ids: Vec<_> = wanted.iter().map(|watcher| (watcher.id, watcher.to)).collect();
        for ((id, to), changes) in ids.into_iter().zip(found.changes) {
            for part in batches(&changes, self.limits) {
                self.answer(id, part, Some(to));
            }
            if let Some(watcher) = self.watchers.get_mut(&id) {
                watcher.next = watcher.next.max(found.read_to.min(to).next());
                if extent == Extent::ToTheEnd {
                    watcher.place = Place::Live;
                }
            }
        }
    }

    /// Sends changes that a watcher is owed; `revision` is that of their last one unless given.
    fn answer(&mut self, watch_id: i64, changes: &[SharedChange], revision: Option<Revision>) {
        let (Some(watcher), Some(last)) = (self.watchers.get_mut(&watch_id), changes.last()) else { return };
        let events: Vec<WatchEvent> = changes
            .iter()
            .filter(|change| watcher.wants(change))
            .map(|c| WatchEvent::new(c, watcher.prev_kv))
            .collect();
        watcher.next = watcher.next.max(last.revision.next());
        if events.is_empty() {
            return;
        }
        watcher.quiet = false;
        self.unsent_events += events.len();
        let revision = revision.unwrap_or(last.revision);
        let answer = WatchAnswer { revision, watch_id, events, ..WatchAnswer::default() };
        if watcher.fragment {
            self.answers.extend(fragments(answer, self.limits.fragment_bytes));
        } else {
            self.answers.push_back(answer);
        }
    }
}

impl Watcher {
    fn wants(&self, change: &Change) -> bool {
        let filtered = match change.kind {
            ChangeKind::Put => self.no_put,
            ChangeKind::Delete => self.no_delete,
        };
        change.revision >= self.next && !filtered
    }
}

/// Divides changes into answers of bounded size, between revisions.
fn batches(changes: &[SharedChange], limits: WatchLimits) -> impl Iterator<Item = &[SharedChange]> {
    let mut rest = changes;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let (mut revisions, mut bytes, mut end, mut current) = (1, 0, 0, first.revision);
        for change in rest {
            if change.revision != current {
                if revisions >= limits.batch_revisions || bytes >= limits.batch_bytes {
                    break;
                }
                revisions += 1;
                current = change.revision;
            }
            bytes += change.kv.bytes().len();
            end += 1;
        }
        let (batch, left) = rest.split_at(end);
        rest = left;
        Some(batch)
    })
}

/// Bytes of an answer beside its events, generously.
const ANSWER_OVERHEAD_BYTES: usize = 64;

/// Divides an answer that is too large, as etcd does: parts of at least one event, below the limit where possible.
fn fragments(answer: WatchAnswer, limit_bytes: usize) -> Vec<WatchAnswer> {
    let framed = |event: &WatchEvent| event.encoded_len() + 5;
    let total: usize = answer.events.iter().map(framed).sum();
    if total + ANSWER_OVERHEAD_BYTES < limit_bytes || answer.events.len() < 2 {
        return vec![answer];
    }
    let WatchAnswer { revision, watch_id, kind, events, .. } = answer;
    let part =
        |events| WatchAnswer { revision, watch_id, kind: kind.clone(), events, fragment: Fragment::More };
    let (mut parts, mut current, mut bytes) = (Vec::new(), Vec::new(), ANSWER_OVERHEAD_BYTES);
    for event in events {
        let size = framed(&event);
        if !current.is_empty() && bytes + size >= limit_bytes {
            parts.push(part(std::mem::take(&mut current)));
            bytes = ANSWER_OVERHEAD_BYTES;
        }
        bytes += size;
        current.push(event);
    }
    parts.push(WatchAnswer { fragment: Fragment::Last, ..part(current) });
    parts
}
