//! The sending end of a stream: a response body that lasts as long as the connection and carries what is queued.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use kvnode_proto::raftpb::Message;
use tokio::{
    sync::mpsc,
    time::{self, Interval, MissedTickBehavior},
};

use super::{
    codec::{Encoder, StreamKind},
    limits,
    remote::Remote,
};

/// Ends when its queue is replaced (the peer dialled again) or the connection is dropped.
pub(crate) struct StreamBody {
    remote: Arc<Remote>,
    kind: StreamKind,
    queue: mpsc::Receiver<Message>,
    encoder: Encoder,
    heartbeat: Interval,
    batch: Vec<Message>,
}

impl StreamBody {
    /// Takes the place of the stream of this kind to that member.
    pub(crate) fn attach(remote: &Arc<Remote>, kind: StreamKind) -> Self {
        let (sender, queue) = mpsc::channel(limits::STREAM_MESSAGES);
        remote.attach(kind, sender);
        let mut heartbeat = time::interval(limits::LINK_HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            remote: Arc::clone(remote),
            kind,
            queue,
            encoder: Encoder::new(kind),
            heartbeat,
            batch: Vec::new(),
        }
    }

    fn encode_batch(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        for message in self.batch.drain(..) {
            self.encoder.put(&message, &mut out);
        }
        // More that waits goes along, up to a size that a connection swallows at once.
        while out.len() < limits::BATCH_BYTES
            && let Ok(message) = self.queue.try_recv()
        {
            self.encoder.put(&message, &mut out);
        }
        out.freeze()
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        match this.queue.poll_recv_many(cx, &mut this.batch, limits::BATCH_MESSAGES) {
            Poll::Ready(0) => return Poll::Ready(None),
            Poll::Ready(_) => {
                let data = this.encode_batch();
                this.remote.sent(data.len() as u64);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            Poll::Pending => {}
        }
        ready!(this.heartbeat.poll_tick(cx));
        let mut out = BytesMut::new();
        this.encoder.put_heartbeat(&mut out);
        Poll::Ready(Some(Ok(Frame::data(out.freeze()))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.remote.lost_stream(self.kind, !self.queue.is_empty());
    }
}
