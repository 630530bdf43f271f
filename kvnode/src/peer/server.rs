//! The listening side: accepts connections of peers, over TLS where the URL says so, and serves them on one thread.

use std::{convert::Infallible, pin::pin, sync::Arc};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};
use tokio_util::{either::Either, sync::CancellationToken};
use tracing::{debug, warn};

use super::{Peers, dial, handlers, limits};
use crate::{
    client::listen::{Accepted, Expects, Listener},
    tls::Acceptor,
};

/// Serves `listener` until `stop`. Runs on the peer runtime.
pub(crate) async fn listen(
    peers: Arc<Peers>,
    listener: Listener,
    tls: Option<Acceptor>,
    stop: CancellationToken,
) {
    let expects = listener.expects;
    let acceptance = match listener.accept() {
        Ok(acceptance) => acceptance,
        Err(e) => return warn!(error = %e, "failed to listen for peers"),
    };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = acceptance.next() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                let (peers, tls, stop) = (Arc::clone(&peers), tls.clone(), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = handle(peers, accepted, expects, tls) => {}
                    }
                });
            }
            Err(e) => {
                // Out of file descriptors, most likely: others must go before another can come.
                warn!(error = %e, "failed to accept a peer's connection");
                tokio::time::sleep(limits::REDIAL).await;
            }
        }
    }
}

async fn handle(peers: Arc<Peers>, accepted: Accepted, expects: Expects, tls: Option<Acceptor>) {
    let (stream, remote) = match accepted.attach() {
        Ok(attached) => attached,
        Err(e) => return debug!(error = %e, "a peer's connection was gone at once"),
    };
    if let Either::Left(tcp) = &stream
        && let Err(e) = dial::tune(tcp)
    {
        return debug!(error = %e, "a peer's connection was gone at once");
    }
    match (expects, tls) {
        (Expects::Plain, _) => serve(peers, stream, remote).await,
        (_, Some(tls)) => {
            if let Some(stream) = tls.accept(stream, &remote).await {
                serve(peers, stream, remote).await;
            }
        }
        (_, None) => warn!(remote_addr = remote, "no TLS is set up for the peer port"),
    }
}

async fn serve<IO>(peers: Arc<Peers>, stream: IO, remote: String)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let spoken = Arc::new(Notify::new());
    let heard = Arc::clone(&spoken);
    let service = service_fn(move |request| {
        heard.notify_one();
        let peers = Arc::clone(&peers);
        async move { Ok::<_, Infallible>(handlers::answer(&peers, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits::READ_TIMEOUT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let first = tokio::time::timeout(limits::READ_TIMEOUT, spoken.notified());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        first = first => match first {
            Ok(()) => connection.await,
            Err(_) => return debug!(remote_addr = remote, "a peer's connection said nothing"),
        }
    };
    if let Err(e) = ended {
        debug!(remote_addr = remote, error = %e, "a peer's connection ended");
    }
}
