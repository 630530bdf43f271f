//! Watching: which changes each watch stream is sent, and in which order (etcd: `server/storage/mvcc/watchable_store.go`,
//! `server/etcdserver/api/v3rpc/watch.go`).
//!
//! [`WatchHub`] is shared by all streams of a member. It is fed every published batch, finds the watchers that care
//! through an interval index, and puts the changes into the inboxes of their streams. [`WatchStream`] is the state of one
//! client stream: it turns requests, its inbox and, for watchers that are behind, the log into answers.
//!
//! Promises, per watcher: every change at or after its start exactly once, in the order of revisions, a revision never
//! divided among answers (unless fragments were asked for); or an explicit cancellation because of compaction. A progress
//! answer at R comes after every change up to R. A slow client costs a bounded inbox, then a position in the log, and
//! never anybody else's time.
//!
//! Pure: no locks, clocks or tasks. A server holds the hub under a lock and, for each stream:
//! ```text
//! request from the client  -> lock the hub; stream.create / cancel / request_progress; unlock; stream.process()
//! woken by the hub         -> lock the hub; stream.collect(&mut hub); unlock; stream.process()
//! interval passed          -> lock the hub; stream.tick(&mut hub); unlock; stream.process()
//! after each of these      -> send while let Some(answer) = stream.next_answer(); then, while stream.is_behind(),
//!                             collect and process again before waiting
//! ```
//! Sending first and collecting after is what bounds memory: while the client does not read, nothing is collected, and
//! while events wait to be sent, nothing is read from the log.

mod catch_up;
mod hub;
mod index;
mod stream;

pub use hub::{StreamId, WatchHub};
pub use stream::{CreateError, WatchStream};

use std::sync::Arc;

use bytes::BufMut;
use kvnode_proto::mvccpb::{Event, event::EventType};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::{
    ids::Revision,
    kv::write::{Change, ChangeKind},
    limits,
    record::Record,
};

/// The id that stands for no watcher: of refused ones, and of progress answers for a whole stream.
pub const NO_WATCH_ID: i64 = -1;

/// How much is done for a stream at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// Changes that may wait in the inbox of a stream before its watchers are sent to the log.
    pub inbox_changes: usize,
    /// Changes of one batch that a stream takes when nothing waits in its inbox.
    pub inbox_batch_changes: usize,
    /// Watchers of one stream that catch up at a time, those behind most.
    pub batch_watchers: usize,
    /// Distinct revisions in one answer to a watcher that catches up.
    pub batch_revisions: usize,
    /// Bytes of records after which an answer ends at the next revision; in catching up, of all answers of one step.
    pub batch_bytes: usize,
    /// Log entries looked at in one step of catching up.
    pub scan_entries: usize,
    /// Size in bytes above which an answer is sent in fragments to those who asked for it: etcd's
    /// `--max-request-bytes` and 512 KiB.
    pub fragment_bytes: usize,
}

impl Default for WatchLimits {
    /// The argued constants; fragments as with etcd's default request size.
    fn default() -> Self {
        Self {
            inbox_changes: limits::WATCH_INBOX_CHANGES,
            inbox_batch_changes: limits::WATCH_INBOX_BATCH_CHANGES,
            batch_watchers: limits::WATCH_BATCH_WATCHERS,
            batch_revisions: limits::WATCH_BATCH_REVISIONS,
            batch_bytes: limits::WATCH_BATCH_BYTES,
            scan_entries: limits::WATCH_SCAN_ENTRIES,
            fragment_bytes: limits::WATCH_FRAGMENT_BYTES_DEFAULT,
        }
    }
}

/// One answer on a watch stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchAnswer {
    /// For the header; 0 when a watcher is cancelled because of compaction, as in etcd.
    pub revision: Revision,
    /// Which watcher, or [`NO_WATCH_ID`].
    pub watch_id: i64,
    /// What is said beside events.
    pub kind: AnswerKind,
    /// Changes, in the order of revisions.
    pub events: Vec<WatchEvent>,
    /// Whether more events of the same answer follow in another one.
    pub fragment: Fragment,
}

/// What an answer says beside its events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AnswerKind {
    /// Events; or progress, when there are none.
    #[default]
    Events,
    /// The watcher exists now.
    Created,
    /// The watcher was asked for and refused for this reason.
    Refused(String),
    /// The watcher is gone, as the client wished.
    Canceled,
    /// The watcher is gone since changes it was owed have been compacted; it may start again here.
    Compacted(Revision),
}

/// Whether an answer is a part of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// The whole, or its last part.
    #[default]
    Last,
    /// More follows.
    More,
}

/// One change in an answer. Its records are shared with the store and with other watchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// What happened.
    pub kind: ChangeKind,
    /// The key after it; of a deletion, its name and revision.
    pub kv: Record,
    /// The key before it, if asked for and known.
    pub prev_kv: Option<Record>,
}

impl WatchEvent {
    pub(crate) fn new(change: &Change, prev_kv: PrevKv) -> Self {
        let prev_kv = if prev_kv == PrevKv::Wanted { change.prev_kv.clone() } else { None };
        Self { kind: change.kind, kv: change.kv.clone(), prev_kv }
    }

    /// Length of the encoded `mvccpb.Event`.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let kind = if self.kind == ChangeKind::Delete { 2 } else { 0 };
        let framed = |record: &Record| {
            let len = record.bytes().len();
            1 + encoded_len_varint(len as u64) + len
        };
        kind + framed(&self.kv) + self.prev_kv.as_ref().map_or(0, framed)
    }

    /// Encodes the `mvccpb.Event` from its parts, none of which is decoded.
    pub fn encode(&self, buffer: &mut impl BufMut) {
        if self.kind == ChangeKind::Delete {
            buffer.put_slice(&[1 << 3, 1]);
        }
        let mut put = |tag: u8, record: &Record| {
            buffer.put_u8(tag << 3 | 2);
            encode_varint(record.bytes().len() as u64, buffer);
            buffer.put_slice(record.bytes());
        };
        put(2, &self.kv);
        self.prev_kv.iter().for_each(|record| put(3, record));
    }

    /// The event as a message; keys and values are not copied.
    #[must_use]
    pub fn to_event(&self) -> Event {
        let kind = if self.kind == ChangeKind::Delete { EventType::Delete } else { EventType::Put };
        Event {
            r#type: kind as i32,
            kv: Some(self.kv.to_key_value()),
            prev_kv: self.prev_kv.as_ref().map(Record::to_key_value),
        }
    }
}

/// Whether a watcher wants to see keys as they were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrevKv {
    Wanted,
    Unwanted,
}

/// A change on its way to watchers, shared by all of them.
type SharedChange = Arc<Change>;
