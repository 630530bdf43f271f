//! `Maintenance.Snapshot`: a consistent database file, streamed, with its SHA-256 in the last message.
//!
//! The file is laid out and written by `kvnode-storage` from one view of the state, on a thread of its own; what the
//! client has not taken yet holds that thread back, and nobody else.

use std::{
    io::{self, Write},
    sync::Arc,
    thread,
    time::Instant,
};

use bytes::Bytes;
use futures::Stream;
use kvnode_mvcc::View;
use kvnode_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use kvnode_storage::{
    bolt::{BoltError, Layout},
    snapshot_file::write_snapshot,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::{info, warn};

use super::call::Call;
use crate::{
    client::error,
    limits,
    node::{NodeError, ViewSource},
};

type Sender = mpsc::Sender<Result<SnapshotResponse, Status>>;

/// Streams the database file of this member as it is now. As in etcd, the messages have no header.
///
/// # Errors
/// Not the administrator; "too many requests" where as many as there is room for are being sent, which etcd never says.
pub async fn snapshot(
    call: Call,
    _: SnapshotRequest,
) -> Result<impl Stream<Item = Result<SnapshotResponse, Status>>, Status> {
    call.admin().await?;
    let room = Arc::clone(&call.services.snapshots).try_acquire_owned();
    let room = room.map_err(|_| error::status(NodeError::TooManyRequests))?;
    let view = call.services.node.reader().view();
    let (sender, receiver) = mpsc::channel(limits::SNAPSHOT_BLOBS);
    let work = move || {
        send(&call, &view, sender);
        drop(room);
    };
    let thread = thread::Builder::new().name("snapshot".to_owned()).spawn(work);
    thread.map_err(|error| Status::unknown(format!("starting a thread for the snapshot: {error}")))?;
    Ok(ReceiverStream::new(receiver))
}

fn send(call: &Call, view: &View, sender: Sender) {
    let started = Instant::now();
    let mut blobs = Blobs {
        sender,
        version: view.storage_version().unwrap_or_default(),
        remaining: 0,
        buffer: Vec::new(),
    };
    match write(view, &mut blobs) {
        Ok(total_bytes) => {
            call.services.metrics.disk.backend_snapshot.observe(started.elapsed().as_secs_f64());
            info!("total-bytes" = total_bytes, took = ?started.elapsed(), "sent database snapshot to client");
        }
        Err(error) => {
            warn!(%error, remote = call.remote.address, "failed to send database snapshot to client");
            // If the client left, nobody listens.
            let _ = blobs.sender.blocking_send(Err(Status::unknown(error.to_string())));
        }
    }
}

fn write(view: &View, blobs: &mut Blobs) -> Result<u64, BoltError> {
    let source = ViewSource(view);
    let layout = Layout::measure(&source)?;
    blobs.remaining = layout.image_bytes();
    info!("total-bytes" = blobs.remaining, "sending database snapshot to client");
    write_snapshot(&source, &layout, blobs)?;
    Ok(layout.image_bytes())
}

/// Cuts what is written into messages. The hash behind the image gets one of its own.
struct Blobs {
    sender: Sender,
    version: String,
    /// Bytes of the image that were not sent yet.
    remaining: u64,
    buffer: Vec<u8>,
}

impl Blobs {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let blob =
            Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(limits::SNAPSHOT_BLOB_BYTES)));
        self.remaining = self.remaining.saturating_sub(blob.len() as u64);
        let message = SnapshotResponse {
            header: None,
            remaining_bytes: self.remaining,
            blob,
            version: self.version.clone(),
        };
        self.sender
            .blocking_send(Ok(message))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client left"))
    }
}

impl Write for Blobs {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = limits::SNAPSHOT_BLOB_BYTES - self.buffer.len();
        // The image must end a message.
        let image_left = self.remaining.saturating_sub(self.buffer.len() as u64);
        let image_left = usize::try_from(image_left).unwrap_or(usize::MAX);
        let limit = if image_left == 0 { room } else { room.min(image_left) };
        let taken = &data[..data.len().min(limit)];
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() == limits::SNAPSHOT_BLOB_BYTES || taken.len() == image_left {
            self.send()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
