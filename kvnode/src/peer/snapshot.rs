//! Whole states between members: a raft message followed by a bbolt file, as etcd posts them.
//!
//! The sender streams a consistent view while the store goes on. The receiver writes to a file, checks it and makes it
//! durable before raft hears of it.

use std::{
    io::{self, Write},
    pin::pin,
    sync::Arc,
    time::Instant,
};

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt as _;
use http::{Request, header};
use http_body_util::{StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use kvnode_mvcc::{MemberId, View};
use kvnode_proto::raftpb::{Message, MessageType, Snapshot, SnapshotMetadata};
use kvnode_raft::SnapshotOutcome;
use kvnode_storage::{
    bolt::{Layout, write_image},
    snapshot_file::{Receiver, SnapshotError, Trailer},
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{info, warn};

use super::{
    Context,
    body::{BodyError, next_piece},
    codec::{self, CodecError},
    dial::{Body, CallError},
    limits, pipeline,
    remote::Remote,
};
use crate::node::{ViewSource, peer_api::Refused, v2_store};

/// Sends the newest state in place of the one that raft asked for, which is not older, and tells raft how it went.
pub(super) async fn send(context: &Arc<Context>, remote: &Remote, message: Message) {
    let in_flight = context.api.sending_snapshot();
    let view = context.api.view();
    let (index, to, start) = (view.applied().0, remote.id.to_string(), Instant::now());
    let network = &context.api.metrics().network;
    network.snapshot_send_inflights.with_label_values(&[to.as_str()]).inc();
    let url = remote.url();
    let outcome = post(context, &url, message, view).await;
    network.snapshot_send_inflights.with_label_values(&[to.as_str()]).dec();
    match outcome {
        Ok(bytes) => {
            info!("snapshot-index" = index.0, "remote-peer-id" = to, bytes, "sent database snapshot");
            remote.activate();
            remote.sent(bytes);
            network.snapshot_send_success.with_label_values(&[to.as_str()]).inc();
            network
                .snapshot_send_seconds
                .with_label_values(&[to.as_str()])
                .observe(start.elapsed().as_secs_f64());
            context.api.snapshot_sent(remote.id, SnapshotOutcome::Delivered);
            // Without what follows, the receiver would need the next snapshot, and the next.
            let gone = remote.gone.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(limits::SNAPSHOT_CATCH_UP, gone.cancelled()).await;
                drop(in_flight);
            });
        }
        Err(e) => {
            warn!("snapshot-index" = index.0, "remote-peer-id" = to, error = %e, "failed to send database snapshot");
            network.snapshot_send_failures.with_label_values(&[to.as_str()]).inc();
            pipeline::failed(context, remote, &url, &e);
            pipeline::snapshot_failed(context, remote);
        }
    }
}

async fn post(context: &Context, url: &str, mut message: Message, view: View) -> Result<u64, CallError> {
    let malformed = |why: String| CallError::Answer { url: url.to_owned(), why };
    let (index, term) = view.applied();
    message.snapshot = Some(Snapshot {
        // Members of etcd before 3.7 read who is a member from it.
        data: v2_store::encode(&view).into(),
        metadata: Some(SnapshotMetadata { conf_state: view.conf_state(), index: index.0, term: term.0 }),
    });
    let mut head = BytesMut::new();
    codec::put_message(&message, &mut head);
    let (pieces, queue) = mpsc::channel(limits::SNAPSHOT_PIECES);
    // Reading the state takes a core's time: it gets a thread. The first time comes before the request, as the other side
    // gives up on one that stands still.
    let measured = view.clone();
    let layout = tokio::task::spawn_blocking(move || Layout::measure(&ViewSource(&measured)))
        .await
        .map_err(|e| malformed(e.to_string()))?
        .map_err(|e| malformed(e.to_string()))?;
    let mut image = tokio::task::spawn_blocking(move || write(&view, &layout, head.freeze(), pieces));
    let stream = ReceiverStream::new(queue).map(|piece| piece.map(Frame::data));
    let body: Body = BoxBody::new(StreamBody::new(stream));
    let request = context
        .local
        .sign(Request::post("/raft/snapshot"))
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(body)
        .map_err(|e| malformed(e.to_string()))?;
    let mut answer = pin!(context.dialer.ask(url, request));
    let written = tokio::select! {
        early = &mut answer => {
            early?;
            image.await
        }
        written = &mut image => {
            let late = |_| CallError::Timeout { url: url.to_owned() };
            tokio::time::timeout(limits::SNAPSHOT_ANSWER, answer).await.map_err(late)??;
            written
        }
    };
    written.map_err(|e| malformed(e.to_string()))?.map_err(|e| malformed(e.to_string()))
}

type Piece = Result<Bytes, io::Error>;

fn write(view: &View, layout: &Layout, head: Bytes, pieces: mpsc::Sender<Piece>) -> io::Result<u64> {
    let mut out = Pieces { pieces, buffer: BytesMut::new() };
    let bytes = head.len() as u64 + layout.image_bytes();
    out.pass(head)?;
    if let Err(e) = write_image(&ViewSource(view), layout, &mut out) {
        // Ends the request instead of completing it: the receiver must not take half a state for a whole one.
        let _ = out.pieces.blocking_send(Err(io::Error::other(e.to_string())));
        return Err(io::Error::other(e));
    }
    out.flush()?;
    Ok(bytes)
}

/// Collects small writes and hands them to the connection as it takes them.
struct Pieces {
    pieces: mpsc::Sender<Piece>,
    buffer: BytesMut,
}

impl Pieces {
    fn pass(&mut self, piece: Bytes) -> io::Result<()> {
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= limits::SNAPSHOT_PIECE_BYTES {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = self.buffer.split().freeze();
        if piece.is_empty() { Ok(()) } else { self.pass(piece) }
    }
}

/// Why a received state was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error("failed to decode raft message ({0})")]
    Envelope(String),
    #[error("wrong raft message type")]
    NotASnapshot,
    #[error("it is for another member, or from one that was removed")]
    Refused(Refused),
    #[error("failed to save KV snapshot ({0})")]
    Save(#[from] SnapshotError),
    #[error("failed to read the snapshot ({0})")]
    Read(#[from] BodyError),
    #[error("failed to save KV snapshot (the writing thread ended)")]
    Thread,
}

impl From<CodecError> for ReceiveError {
    fn from(e: CodecError) -> Self {
        Self::Envelope(e.to_string())
    }
}

/// Receives a state into a file and returns its message, for raft, and the bytes of both.
pub(super) async fn receive(context: &Context, mut body: Incoming) -> Result<(Message, u64), ReceiveError> {
    let start = Instant::now();
    let mut buffer = BytesMut::new();
    let message = envelope(&mut body, &mut buffer).await?;
    let from = MemberId(message.from);
    let is_snapshot = message.r#type == MessageType::MsgSnap as i32;
    let meta = message.snapshot.as_ref().and_then(|s| s.metadata.clone()).filter(|_| is_snapshot);
    let meta = meta.ok_or(ReceiveError::NotASnapshot)?;
    context.api.check(&message).map_err(ReceiveError::Refused)?;
    info!("remote-snapshot-sender-id" = %from, "incoming-snapshot-index" = meta.index, "receiving database snapshot");
    let (vfs, path) = context.api.received_snapshot(meta.index);
    let (pieces, mut queue) = mpsc::channel::<Bytes>(limits::SNAPSHOT_PIECES);
    let file = tokio::task::spawn_blocking(move || {
        let mut receiver = Receiver::create(vfs, &path)?;
        while let Some(piece) = queue.blocking_recv() {
            if piece.is_empty() {
                // The end was announced: what came is whole.
                let bytes = receiver.received_bytes();
                receiver.finish(None, Trailer::IfPresent)?;
                return Ok(Some(bytes));
            }
            receiver.write(&piece)?;
        }
        Ok::<_, SnapshotError>(None)
    });
    let copied = copy(&mut body, buffer.freeze(), &pieces).await;
    drop(pieces);
    let saved = file.await.map_err(|_| ReceiveError::Thread)??;
    copied?;
    let bytes = saved.ok_or(ReceiveError::Thread)?;
    context.api.metrics().disk.snap_db_save.observe(start.elapsed().as_secs_f64());
    info!(
        "remote-snapshot-sender-id" = %from,
        "incoming-snapshot-index" = meta.index,
        "incoming-snapshot-size-bytes" = bytes,
        "download-took" = ?start.elapsed(),
        "received and saved database snapshot"
    );
    let envelope_bytes = message.encoded_len() as u64;
    Ok((message, envelope_bytes + bytes))
}

async fn copy(body: &mut Incoming, first: Bytes, pieces: &mpsc::Sender<Bytes>) -> Result<(), ReceiveError> {
    let pass = async |piece: Bytes| pieces.send(piece).await.is_ok();
    if !first.is_empty() && !pass(first).await {
        return Ok(());
    }
    while let Some(piece) = next_piece(body).await? {
        // If the writing thread is gone its error says why.
        if !pass(piece).await {
            return Ok(());
        }
    }
    pass(Bytes::new()).await;
    Ok(())
}

/// Reads the message in front; what was read beyond it stays in `buffer`.
async fn envelope(body: &mut Incoming, buffer: &mut BytesMut) -> Result<Message, ReceiveError> {
    let mut wanted = 8;
    loop {
        if buffer.len() >= 8 {
            let length = (&buffer[..8]).get_u64();
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > limits::SNAPSHOT_ENVELOPE_BYTES {
                return Err(ReceiveError::Envelope("error limit exceeded".to_owned()));
            }
            wanted = 8 + length;
        }
        if buffer.len() >= 8 && buffer.len() >= wanted {
            let frame = buffer.split_to(wanted).freeze();
            return Ok(codec::decode(frame.slice(8..))?);
        }
        let Some(piece) = next_piece(body).await? else {
            return Err(ReceiveError::Envelope("unexpected EOF".to_owned()));
        };
        buffer.extend_from_slice(&piece);
    }
}
