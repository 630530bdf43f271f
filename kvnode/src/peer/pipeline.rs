//! Posts messages one by one: the way to a member that has not opened its streams (yet).

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, header};
use kvnode_proto::raftpb::{Message, MessageType};
use kvnode_raft::SnapshotOutcome;
use prost::Message as _;
use tokio::sync::{Mutex, mpsc};
use tracing::debug;

use super::{
    Context,
    dial::{self, CallError, Line},
    limits, reader,
    remote::Remote,
    snapshot,
};

/// Posts what is queued until the member is gone; a few posts at a time, each on a connection of its own.
pub(super) async fn run(context: Arc<Context>, remote: Arc<Remote>, queue: mpsc::Receiver<Message>) {
    let queue = Arc::new(Mutex::new(queue));
    let posters = (0..limits::PIPELINE_POSTS)
        .map(|_| tokio::spawn(post_all(Arc::clone(&context), Arc::clone(&remote), Arc::clone(&queue))));
    for poster in posters.collect::<Vec<_>>() {
        // A panic in one has been reported.
        let _ = poster.await;
    }
}

async fn post_all(context: Arc<Context>, remote: Arc<Remote>, queue: Arc<Mutex<mpsc::Receiver<Message>>>) {
    let mut line = Line::default();
    loop {
        let message = tokio::select! {
            () = remote.gone.cancelled() => return,
            message = async { queue.lock().await.recv().await } => message,
        };
        let Some(message) = message else { return };
        if message.r#type == MessageType::MsgSnap as i32 {
            // Raft has one snapshot on its way to a member at a time, and what comes after does not wait for it.
            let (context, remote) = (Arc::clone(&context), Arc::clone(&remote));
            tokio::spawn(async move { snapshot::send(&context, &remote, message).await });
            continue;
        }
        post(&context, &remote, &mut line, &message).await;
    }
}

async fn post(context: &Context, remote: &Remote, line: &mut Line, message: &Message) {
    let data = Bytes::from(message.encode_to_vec());
    let (url, size) = (remote.url(), data.len() as u64);
    match post_to(context, line, &url, data).await {
        Ok(()) => {
            remote.activate();
            remote.sent(size);
        }
        Err(e) => {
            remote.not_sent();
            failed(context, remote, &url, &e);
        }
    }
}

async fn post_to(context: &Context, line: &mut Line, url: &str, data: Bytes) -> Result<(), CallError> {
    let request = context
        .local
        .sign(Request::post("/raft"))
        .header(header::CONTENT_TYPE, "application/protobuf")
        .body(dial::full(data))
        .map_err(|e| CallError::Url { url: url.to_owned(), why: e.to_string() })?;
    line.call(&context.dialer, url, request, limits::POST_TIMEOUT).await.map(drop)
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
