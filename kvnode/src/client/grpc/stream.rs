//! Streams of answers: cut off when the member stops or, for clients that asked, when the cluster lost its leader; and
//! counted to their end, whichever way that comes.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::Stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{Services, call::LeaderWish, rpc::Rpc};
use crate::{
    client::error::{code_name, no_leader, stopped},
    node::Node,
};

/// Resolves when a stream must end before its time.
pub type Cut = Pin<Box<dyn Future<Output = Status> + Send>>;

/// Election timeouts without a leader after which streams that asked for one are cut. Connecting again costs more than
/// waiting, so it is not done at once (etcd's `maxNoLeaderCnt`).
const TIMEOUTS_WITHOUT_LEADER: u32 = 3;

/// Tells streams when there was no leader for too long.
pub struct LeaderWatch {
    node: Node,
    election_timeout: Duration,
    /// Counts losses.
    losses: watch::Sender<u64>,
}

impl LeaderWatch {
    pub fn new(node: Node, election_timeout: Duration) -> Self {
        Self { node, election_timeout, losses: watch::Sender::new(0) }
    }

    /// Looks once every election timeout, for ever.
    pub async fn run(&self) {
        let mut without = 0;
        loop {
            tokio::time::sleep(self.election_timeout).await;
            without = if self.node.status().leader.0 == 0 { without + 1 } else { 0 };
            // Again and again: a stream may have begun with a leader that was gone before anybody looked.
            if without >= TIMEOUTS_WITHOUT_LEADER {
                self.losses.send_modify(|losses| *losses += 1);
            }
        }
    }

    /// What ends a stream of a client with this wish.
    pub fn cut(&self, leader: LeaderWish, stop: CancellationToken) -> Cut {
        let mut losses = self.losses.subscribe();
        Box::pin(async move {
            if leader == LeaderWish::Indifferent {
                stop.cancelled().await;
                return stopped();
            }
            tokio::select! {
                () = stop.cancelled() => stopped(),
                changed = losses.changed() => if changed.is_ok() { no_leader() } else { stopped() },
            }
        })
    }
}

/// A stream of answers, guarded and counted.
pub struct Guarded<S> {
    inner: Option<Pin<Box<S>>>,
    cut: Cut,
    services: Arc<Services>,
    rpc: Rpc,
    started: Instant,
    /// How it ended; unless it did, the client left.
    ended: Option<Code>,
}

impl<S> Guarded<S> {
    pub fn new(inner: S, cut: Cut, services: Arc<Services>, rpc: Rpc) -> Self {
        Self { inner: Some(Box::pin(inner)), cut, services, rpc, started: Instant::now(), ended: None }
    }
}

impl<S, T> Stream for Guarded<S>
where
    S: Stream<Item = Result<T, Status>>,
{
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(status) = this.cut.as_mut().poll(context) {
            this.ended = Some(status.code());
            this.inner = None;
            return Poll::Ready(Some(Err(status)));
        }
        let next = inner.as_mut().poll_next(context);
        match &next {
            Poll::Ready(Some(Ok(_))) => this.services.methods.metrics(this.rpc).sent.inc(),
            Poll::Ready(Some(Err(status))) => {
                this.ended = Some(status.code());
                this.inner = None;
            }
            Poll::Ready(None) => {
                this.ended = Some(Code::Ok);
                this.inner = None;
            }
            Poll::Pending => {}
        }
        next
    }
}

impl<S> Drop for Guarded<S> {
    fn drop(&mut self) {
        let code = self.ended.unwrap_or(Code::Cancelled);
        let method = self.services.methods.metrics(self.rpc);
        let seconds = self.started.elapsed().as_secs_f64();
        self.services.metrics.grpc.handled(method, code_name(code), seconds);
        if !matches!(code, Code::Ok | Code::Cancelled) {
            let failures = &self.services.metrics.server.stream_failures;
            failures.with_label_values(&["send", self.rpc.name()]).inc();
        }
    }
}
