//! One other member: the queues to it, and whether it can be reached.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use kvnode_mvcc::MemberId;
use kvnode_proto::raftpb::{Message, MessageType};
use kvnode_raft::SnapshotOutcome;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{codec::StreamKind, limits};
use crate::node::peer_api::PeerApi;

/// Another member.
pub(crate) struct Remote {
    pub(crate) id: MemberId,
    urls: Mutex<Urls>,
    /// The sending ends of streams that it opened to us.
    append: Mutex<Option<mpsc::Sender<Message>>>,
    message: Mutex<Option<mpsc::Sender<Message>>>,
    /// For when there is no stream.
    pipeline: mpsc::Sender<Message>,
    active: Mutex<Option<Instant>>,
    /// It opened a stream, so it is there.
    introduction: Notify,
    /// Why it could not be reached since it was last active, as far as that was said.
    complaints: Mutex<BTreeSet<String>>,
    api: Arc<PeerApi>,
    meters: Meters,
    /// Its tasks end with this.
    pub(crate) gone: CancellationToken,
}

/// Handles of this member's series: looking labels up at each message would cost more than sending it.
struct Meters {
    sent_bytes: IntCounter,
    received_bytes: IntCounter,
    sent_failures: IntCounter,
    received_failures: IntCounter,
    disconnected: IntCounter,
    active: IntGauge,
}

impl Meters {
    fn new(api: &PeerApi, id: MemberId) -> Self {
        let (network, local, id) = (&api.metrics().network, api.member().to_string(), id.to_string());
        let pair = [local.as_str(), id.as_str()];
        Self {
            sent_bytes: network.peer_sent_bytes.with_label_values(&pair[1..]),
            received_bytes: network.peer_received_bytes.with_label_values(&pair[1..]),
            sent_failures: network.peer_sent_failures.with_label_values(&pair[1..]),
            received_failures: network.peer_received_failures.with_label_values(&pair[1..]),
            disconnected: network.disconnected_peers.with_label_values(&pair),
            active: network.active_peers.with_label_values(&pair),
        }
    }
}

/// Where it is reached; the one that failed last is tried last.
struct Urls {
    all: Vec<String>,
    at: usize,
}

impl Remote {
    /// Returns the member and the receiving end of its pipeline.
    pub(crate) fn new(
        id: MemberId,
        urls: Vec<String>,
        api: Arc<PeerApi>,
        gone: CancellationToken,
    ) -> (Arc<Self>, mpsc::Receiver<Message>) {
        let (pipeline, posts) = mpsc::channel(limits::PIPELINE_MESSAGES);
        let remote = Self {
            id,
            urls: Mutex::new(Urls { all: urls, at: 0 }),
            append: Mutex::new(None),
            message: Mutex::new(None),
            pipeline,
            active: Mutex::new(None),
            introduction: Notify::new(),
            complaints: Mutex::default(),
            meters: Meters::new(&api, id),
            api,
            gone,
        };
        (Arc::new(remote), posts)
    }

    /// Queues a message on the best way there is, or drops it and tells raft.
    pub(crate) fn send(&self, message: Message) {
        // A snapshot is posted with its state; no stream can carry that.
        if message.r#type == MessageType::MsgSnap as i32 {
            if self.pipeline.try_send(message).is_err() {
                self.api.snapshot_sent(self.id, SnapshotOutcome::Failed);
            }
            return;
        }
        let append = message.r#type == MessageType::MsgApp as i32;
        let slots = [append.then_some(&self.append), Some(&self.message)];
        let mut message = message;
        for slot in slots.into_iter().flatten() {
            let sender = slot.lock().clone();
            let Some(sender) = sender else { continue };
            match sender.try_send(message) {
                Ok(()) => return,
                Err(TrySendError::Full(_)) => return self.dropped("the stream's queue is full"),
                Err(TrySendError::Closed(back)) => message = back,
            }
        }
        if self.pipeline.try_send(message).is_err() {
            self.dropped("the pipeline's queue is full");
        }
    }

    fn dropped(&self, why: &'static str) {
        self.not_sent();
        tracing::debug!("remote-peer-id" = %self.id, why, "dropped a raft message");
        self.api.unreachable(self.id);
    }

    /// It opened a stream: what is sent goes there from now on.
    pub(crate) fn attach(&self, kind: StreamKind, sender: mpsc::Sender<Message>) {
        *self.slot(kind).lock() = Some(sender);
        self.introduction.notify_waiters();
        self.activate();
        info!("remote-peer-id" = %self.id, "stream-writer-type" = kind.name(), "established TCP streaming connection with remote peer");
    }

    /// A stream ended, maybe with messages that were never sent.
    pub(crate) fn lost_stream(&self, kind: StreamKind, unsent: bool) {
        let mut slot = self.slot(kind).lock();
        if slot.as_ref().is_some_and(mpsc::Sender::is_closed) {
            *slot = None;
            drop(slot);
            self.not_sent();
            warn!("remote-peer-id" = %self.id, "stream-writer-type" = kind.name(), "lost TCP streaming connection with remote peer");
        }
        if unsent {
            self.api.unreachable(self.id);
        }
    }

    fn slot(&self, kind: StreamKind) -> &Mutex<Option<mpsc::Sender<Message>>> {
        match kind {
            StreamKind::Append => &self.append,
            StreamKind::Message => &self.message,
        }
    }

    /// Something went through.
    pub(crate) fn activate(&self) {
        let mut active = self.active.lock();
        if active.is_none() {
            *active = Some(Instant::now());
            drop(active);
            self.complaints.lock().clear();
            info!("peer-id" = %self.id, "peer became active");
            self.meters.active.set(1);
        }
    }

    /// Something did not go through. Each reason is said once until the member is reached again.
    pub(crate) fn deactivate(&self, why: &str) {
        let was = self.active.lock().take();
        let mut complaints = self.complaints.lock();
        let news = complaints.len() < limits::COMPLAINTS && complaints.insert(why.to_owned());
        drop(complaints);
        if was.is_some() {
            warn!("peer-id" = %self.id, error = why, "peer became inactive (message send to peer failed)");
            self.meters.active.set(0);
            self.meters.disconnected.inc();
        } else if news {
            warn!("peer-id" = %self.id, error = why, "peer cannot be reached");
        }
    }

    /// The next time that it opens a stream.
    pub(crate) async fn introduced(&self) {
        self.introduction.notified().await;
    }

    /// Since when messages go through.
    pub(crate) fn active_since(&self) -> Option<Instant> {
        *self.active.lock()
    }

    /// Where to reach it.
    pub(crate) fn url(&self) -> String {
        let urls = self.urls.lock();
        urls.all.get(urls.at).cloned().unwrap_or_default()
    }

    /// That URL did not work: the next one is tried.
    pub(crate) fn url_failed(&self, url: &str) {
        let mut urls = self.urls.lock();
        if urls.all.get(urls.at).is_some_and(|now| now == url) {
            urls.at = (urls.at + 1) % urls.all.len().max(1);
        }
    }

    /// Its URLs changed.
    pub(crate) fn set_urls(&self, all: Vec<String>) {
        let mut urls = self.urls.lock();
        if urls.all != all {
            *urls = Urls { all, at: 0 };
        }
    }

    /// Bytes were sent.
    pub(crate) fn sent(&self, bytes: u64) {
        self.meters.sent_bytes.inc_by(bytes);
    }

    /// Something could not be sent.
    pub(crate) fn not_sent(&self) {
        self.meters.sent_failures.inc();
    }

    /// Bytes were received.
    pub(crate) fn received(&self, bytes: u64) {
        self.meters.received_bytes.inc_by(bytes);
    }

    /// Hands a received message to raft; drops it when raft has too many, as raft will ask again.
    pub(crate) fn deliver(&self, message: Message) {
        if self.api.receive(message).is_err() {
            self.meters.received_failures.inc();
        }
    }

    /// The core that messages come from and go to.
    pub(crate) fn api(&self) -> &Arc<PeerApi> {
        &self.api
    }
}
