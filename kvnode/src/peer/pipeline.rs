//! Posts messages one by one: the way to a member that has not opened its streams (yet).

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, header};
use kvnode_proto::raftpb::{Message, MessageType};
use kvnode_raft::SnapshotOutcome;
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc};
use tracing::debug;

use super::{
    Context,
    dial::{self, CallError},
    limits, reader,
    remote::Remote,
    snapshot,
};

/// Posts what is queued until the member is gone; a few posts at a time.
pub(super) async fn run(context: Arc<Context>, remote: Arc<Remote>, mut queue: mpsc::Receiver<Message>) {
    let permits = Arc::new(Semaphore::new(limits::PIPELINE_POSTS));
    loop {
        let message = tokio::select! {
            () = remote.gone.cancelled() => return,
            message = queue.recv() => message,
        };
        let Some(message) = message else { return };
        let (context, remote) = (Arc::clone(&context), Arc::clone(&remote));
        if message.r#type == MessageType::MsgSnap as i32 {
            // Raft has one snapshot on its way to a member at a time.
            tokio::spawn(async move { snapshot::send(&context, &remote, message).await });
            continue;
        }
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        tokio::spawn(async move {
            post(&context, &remote, &message).await;
            drop(permit);
        });
    }
}

async fn post(context: &Context, remote: &Remote, message: &Message) {
    let data = Bytes::from(message.encode_to_vec());
    let (url, size) = (remote.url(), data.len());
    match post_to(context, &url, data).await {
        Ok(()) => {
            remote.activate();
            remote.sent(size);
        }
        Err(e) => failed(context, remote, &url, &e),
    }
}

async fn post_to(context: &Context, url: &str, data: Bytes) -> Result<(), CallError> {
    let request = context
        .local
        .sign(Request::post("/raft"))
        .header(header::CONTENT_TYPE, "application/protobuf")
        .body(dial::full(data))
        .map_err(|e| CallError::Url { url: url.to_owned(), why: e.to_string() })?;
    context.dialer.call(url, request, limits::POST_TIMEOUT).await.map(drop)
}

/// Something could not be delivered.
pub(super) fn failed(context: &Context, remote: &Remote, url: &str, error: &CallError) {
    if reader::is_removed(error) {
        context.api.removed();
    }
    debug!("remote-peer-id" = %remote.id, error = %error, "failed to post a raft message");
    remote.deactivate(&error.to_string());
    remote.url_failed(url);
    context.api.unreachable(remote.id);
}

/// A snapshot that was never sent.
pub(super) fn snapshot_failed(context: &Context, remote: &Remote) {
    context.api.snapshot_sent(remote.id, SnapshotOutcome::Failed);
}
