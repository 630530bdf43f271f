//! The peer port: etcd's protocol between members, both ends of it.
//!
//! Each member dials each other one and keeps two streams open, on which the *other* sends ([`stream`], read by
//! [`reader`]); messages for which no stream is up are posted ([`pipeline`]); whole states are posted with a file
//! ([`snapshot`]). A kvnode and an etcd can therefore be members of one cluster. [`server`] is the listening side.
//!
//! Nothing here blocks raft: every queue is bounded, what does not fit is dropped and raft is told, as raft sends again.

mod body;
mod codec;
mod dial;
mod handlers;
mod headers;
pub mod limits;
pub(crate) mod members;
mod pipeline;
mod probe;
mod reader;
mod remote;
mod server;
mod snapshot;
mod stream;

use std::{collections::HashMap, sync::Arc, time::Instant};

use kvnode_mvcc::{MemberId, membership::Member};
use kvnode_proto::raftpb::{Message, MessageType};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub(crate) use dial::{Dialer, connect};
pub(crate) use headers::{Local, major_minor as version};
pub(crate) use server::listen;

use crate::node::{Transport, peer_api::PeerApi};
use codec::StreamKind;
use remote::Remote;

/// What every task of the peer port needs.
pub(crate) struct Context {
    pub(crate) local: Local,
    pub(crate) dialer: Dialer,
    pub(crate) api: Arc<PeerApi>,
}

/// All other members.
pub(crate) struct Peers {
    context: Arc<Context>,
    runtime: Handle,
    remotes: RwLock<HashMap<MemberId, Arc<Remote>>>,
    stop: CancellationToken,
}

impl Peers {
    /// Its tasks run on `runtime` until `stop`.
    pub(crate) fn new(context: Context, runtime: Handle, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { context: Arc::new(context), runtime, remotes: RwLock::default(), stop })
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    fn get(&self, id: MemberId) -> Option<Arc<Remote>> {
        self.remotes.read().get(&id).cloned()
    }

    /// Learns of a member, or of its new URLs.
    fn add(&self, id: MemberId, urls: &[String]) {
        if id == self.context.local.member {
            return;
        }
        let mut remotes = self.remotes.write();
        if let Some(remote) = remotes.get(&id) {
            remote.set_urls(urls.to_vec());
            return;
        }
        info!("remote-peer-id" = %id, "remote-peer-urls" = ?urls, "added remote peer");
        let api = Arc::clone(&self.context.api);
        let (remote, posts) = Remote::new(id, urls.to_vec(), api, self.stop.child_token());
        for kind in [StreamKind::Append, StreamKind::Message] {
            self.runtime.spawn(reader::run(Arc::clone(&self.context), Arc::clone(&remote), kind));
        }
        self.runtime.spawn(pipeline::run(Arc::clone(&self.context), Arc::clone(&remote), posts));
        self.runtime.spawn(probe::run(Arc::clone(&self.context), Arc::clone(&remote)));
        let (local, known) = (self.context.local.member.to_string(), id.to_string());
        let gauge = &self.context.api.metrics().network.known_peers;
        gauge.with_label_values(&[local.as_str(), known.as_str()]).set(1);
        remotes.insert(id, remote);
    }

    /// Meets a member that introduced itself before this one's log told about it: how a joining member answers at all.
    pub(crate) fn introduce(&self, id: MemberId, urls: &[String]) {
        let known = self.remotes.read().contains_key(&id);
        if !known && !self.context.api.is_removed(id) && self.remotes.read().len() < limits::REMOTES {
            self.add(id, urls);
        }
    }

    fn remove(&self, id: MemberId) {
        if let Some(remote) = self.remotes.write().remove(&id) {
            info!("remote-peer-id" = %id, "removed remote peer");
            remote.gone.cancel();
            let (local, known) = (self.context.local.member.to_string(), id.to_string());
            let network = &self.context.api.metrics().network;
            let labels = [local.as_str(), known.as_str()];
            network.known_peers.with_label_values(&labels).set(0);
            network.active_peers.with_label_values(&labels).set(0);
        }
    }

    /// How many members can be reached.
    pub(crate) fn active(&self) -> usize {
        self.remotes.read().values().filter(|r| r.active_since().is_some()).count()
    }
}

impl Transport for Peers {
    fn send(&self, messages: Vec<Message>) {
        let remotes = self.remotes.read();
        for message in messages {
            let to = MemberId(message.to);
            if let Some(remote) = remotes.get(&to) {
                remote.send(message);
            } else if message.r#type == MessageType::MsgSnap as i32 {
                // Or raft would wait for the outcome for ever.
                self.context.api.snapshot_sent(to, kvnode_raft::SnapshotOutcome::Failed);
            }
        }
    }

    fn members_changed(&self, members: &[Member], removed: &[MemberId]) {
        for member in members {
            self.add(member.id, &member.peer_urls);
        }
        for id in removed {
            self.remove(*id);
        }
    }

    fn active_since(&self, id: MemberId) -> Option<Instant> {
        self.get(id)?.active_since()
    }
}
