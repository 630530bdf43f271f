//! Connections: from the accept loop to a worker thread, through TLS, to HTTP/1.1 or HTTP/2, until it is time to stop.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, warn};

use super::{
    dispatch::{Dispatch, Remote},
    listen::{Acceptance, Accepted, Expects, Listener, Stream, begins_tls},
};
use crate::{flags::Config, limits, open_files, tls::Acceptor};

/// What HTTP/2 connections are told.
#[derive(Clone, Copy, Debug)]
pub struct Http2 {
    pub max_concurrent_streams: u32,
    /// `None` never pings.
    pub keepalive_interval: Option<Duration>,
    pub keepalive_timeout: Duration,
}

impl Http2 {
    pub fn of(config: &Config) -> Self {
        let interval = config.grpc_keepalive_interval;
        Self {
            max_concurrent_streams: config.max_concurrent_streams,
            keepalive_interval: (!interval.is_zero()).then_some(interval),
            keepalive_timeout: config.grpc_keepalive_timeout,
        }
    }
}

/// What a connection needs to be served.
#[derive(Clone)]
pub struct Port {
    pub dispatch: Dispatch,
    pub tls: Option<Acceptor>,
    pub http2: Http2,
    pub stop: CancellationToken,
}

struct Job {
    accepted: Accepted,
    slot: OwnedSemaphorePermit,
    expects: Expects,
    port: Arc<Port>,
}

/// Threads that serve connections, each with a runtime of its own.
pub struct Workers {
    queues: Vec<mpsc::Sender<Job>>,
    next: AtomicUsize,
    threads: Vec<JoinHandle<()>>,
    /// One for each connection that may be open.
    slots: Arc<Semaphore>,
}

impl Workers {
    /// Starts `count` threads; 0 is one per core that this process may use.
    ///
    /// # Errors
    /// The system has no thread or no epoll to give.
    pub fn start(count: usize, stop: &CancellationToken) -> io::Result<Self> {
        let count = match count {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let mut queues = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (queue, jobs) = mpsc::channel(limits::ACCEPTED_CONNECTIONS);
            let stop = stop.clone();
            let thread = thread::Builder::new()
                .name(format!("client-{number}"))
                .spawn(move || runtime.block_on(work(jobs, stop)))?;
            queues.push(queue);
            threads.push(thread);
        }
        let slots = Arc::new(Semaphore::new(open_files::most_clients().min(Semaphore::MAX_PERMITS)));
        Ok(Self { queues, next: AtomicUsize::new(0), threads, slots })
    }

    /// Room for one more connection. Whoever finds none waits in the kernel's backlog.
    async fn slot(&self, address: &str) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        warn!(address, "no more clients are let in until one leaves; raise the limit on open files");
        // It is never closed.
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// Accepts until told to stop. Runs on the caller's runtime.
    pub async fn accept(&self, listener: Listener, port: Port) {
        let (expects, address) = (listener.expects, listener.address.clone());
        let port = Arc::new(port);
        let acceptance = match listener.accept() {
            Ok(acceptance) => acceptance,
            Err(error) => return error!(address, %error, "cannot accept connections"),
        };
        loop {
            let slot = tokio::select! {
                slot = self.slot(&address) => slot,
                () = port.stop.cancelled() => None,
            };
            let Some(slot) = slot else { return };
            let Some(accepted) = next(&acceptance, &port.stop, &address).await else { return };
            let worker = self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len();
            let job = Job { accepted, slot, expects, port: Arc::clone(&port) };
            if self.queues[worker].send(job).await.is_err() {
                return;
            }
        }
    }

    /// Waits until every thread is done; they end once told to stop. Blocks.
    pub fn join(self) {
        drop(self.queues);
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a thread that served clients panicked");
            }
        }
    }
}

/// The next connection; `None` when it is time to stop.
pub async fn next(acceptance: &Acceptance, stop: &CancellationToken, address: &str) -> Option<Accepted> {
    loop {
        let accepted = tokio::select! {
            accepted = acceptance.next() => accepted,
            () = stop.cancelled() => return None,
        };
        match accepted {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only burn the core.
                warn!(address, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn work(mut jobs: mpsc::Receiver<Job>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let job = tokio::select! {
            job = jobs.recv() => job,
            () = stop.cancelled() => None,
        };
        let Some(job) = job else { break };
        connections.spawn(serve(job.accepted, Some(job.slot), job.expects, job.port));
    }
    connections.close();
    let grace = Duration::from_secs(limits::STOP_GRACE_SECONDS);
    if tokio::time::timeout(grace, connections.wait()).await.is_err() {
        warn!(connections = connections.len(), "connections did not end in time and are cut");
    }
}

/// Serves one connection to its end. `slot`: its place among as many as there may be.
pub async fn serve(
    accepted: Accepted,
    slot: Option<OwnedSemaphorePermit>,
    expects: Expects,
    port: Arc<Port>,
) {
    let slot = slot.map(Arc::new);
    let (stream, remote) = match accepted.attach() {
        Ok(attached) => attached,
        Err(error) => return debug!(%error, "a connection was gone before it was served"),
    };
    match (speaks_tls(&stream, expects).await, &port.tls) {
        (Ok(false), _) => speak(stream, Remote { slot, ..Remote::plain(remote) }, &port).await,
        (Ok(true), Some(tls)) => {
            if let Some(stream) = tls.accept(stream, &remote).await {
                let chain = stream.get_ref().1.peer_certificates();
                let remote = Remote { slot, ..Remote::tls(remote, chain.and_then(<[_]>::first)) };
                speak(stream, remote, &port).await;
            }
        }
        (Ok(true), None) => error!(remote, "no TLS is set up for this listener; connection dropped"),
        (Err(error), _) => debug!(remote, %error, "a connection said nothing"),
    }
}

async fn speaks_tls(stream: &Stream, expects: Expects) -> io::Result<bool> {
    match expects {
        Expects::Plain => Ok(false),
        Expects::Tls => Ok(true),
        Expects::Either => {
            let patience = Duration::from_secs(limits::TLS_HANDSHAKE_SECONDS);
            tokio::time::timeout(patience, begins_tls(stream)).await?
        }
    }
}

async fn speak<IO>(io: IO, remote: Remote, port: &Port)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let patience = Duration::from_secs(limits::HTTP1_IDLE_SECONDS);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(port.http2.max_concurrent_streams)
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
        .max_header_list_size(limits::HTTP2_HEADER_BYTES)
        .max_pending_accept_reset_streams(limits::HTTP2_RESET_STREAMS)
        .keep_alive_interval(port.http2.keepalive_interval)
        .keep_alive_timeout(port.http2.keepalive_timeout);
    let service = port.dispatch.for_connection(remote);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = port.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(error, "a connection ended with an error");
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
