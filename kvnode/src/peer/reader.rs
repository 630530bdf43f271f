//! The receiving end of the streams: this member dials the other one and reads what it sends.

use std::sync::Arc;

use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time;
use tracing::{info, warn};

use super::{
    Context,
    body::{BodyError, next_piece},
    codec::{CodecError, Decoder, StreamKind},
    dial::{self, CallError},
    headers, limits,
    remote::Remote,
};

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the remote closed it")]
    Closed,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Keeps one stream from `remote` open until the member is gone.
pub(super) async fn run(context: Arc<Context>, remote: Arc<Remote>, kind: StreamKind) {
    while !remote.gone.is_cancelled() {
        let url = remote.url();
        let dialled = tokio::select! {
            () = remote.gone.cancelled() => return,
            dialled = dial(&context, &remote, kind, &url) => dialled,
        };
        let end = match dialled {
            Ok(None) => continue,
            Ok(Some(body)) => {
                remote.activate();
                info!("remote-peer-id" = %remote.id, "stream-reader-type" = kind.name(), "established TCP streaming connection with remote peer");
                tokio::select! {
                    () = remote.gone.cancelled() => return,
                    end = read(&remote, kind, body) => end,
                }
            }
            Err(end) => end,
        };
        if let StreamEnd::Call(e) = &end
            && is_removed(e)
        {
            context.api.removed();
            return;
        }
        if !matches!(end, StreamEnd::Closed) {
            remote.deactivate(&end.to_string());
            remote.url_failed(&url);
        }
        tokio::select! {
            () = remote.introduced() => {}
            () = time::sleep(limits::REDIAL) => {}
        }
    }
}

/// The others say that this member is no longer one of them.
pub(super) fn is_removed(error: &CallError) -> bool {
    match error.refusal() {
        Some((StatusCode::GONE, _)) => true,
        Some((StatusCode::FORBIDDEN, text)) => text.contains("removed member"),
        Some((StatusCode::PRECONDITION_FAILED, text)) => {
            if text == headers::CLUSTER_MISMATCH || text == headers::INCOMPATIBLE_VERSION {
                warn!(error = %error, "request sent was ignored by peer");
            }
            false
        }
        _ => false,
    }
}

/// Asks for the stream. `None`: the remote dialled this member before it was connected to, so it may no longer be where it
/// was being looked for. Once it is connected to, the request is not given up for that: the remote would lose what it had
/// already put on the stream.
async fn dial(
    context: &Context,
    remote: &Remote,
    kind: StreamKind,
    url: &str,
) -> Result<Option<Incoming>, StreamEnd> {
    let mut connection = tokio::select! {
        opened = context.dialer.open(url) => opened?,
        () = remote.introduced() => return Ok(None),
    };
    let path = format!("/raft/stream/{}/{}", kind.path(), context.local.member);
    let request = context
        .local
        .sign(Request::get(path))
        .header(headers::RAFT_TO, remote.id.to_string())
        .body(dial::full(""))
        .map_err(|e| CallError::Url { url: url.to_owned(), why: e.to_string() })?;
    let answer = time::timeout(limits::READ_TIMEOUT, connection.send(request))
        .await
        .map_err(|_| CallError::Timeout { url: url.to_owned() })??;
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(Some(answer.into_body()));
    }
    let text = match time::timeout(limits::READ_TIMEOUT, answer.into_body().collect()).await {
        Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        _ => String::new(),
    };
    Err(CallError::Status { url: url.to_owned(), status, text }.into())
}

async fn read(remote: &Remote, kind: StreamKind, mut body: Incoming) -> StreamEnd {
    let mut decoder = Decoder::new(kind, remote.api().member().0, remote.id.0);
    loop {
        let data = match next_piece(&mut body).await {
            Ok(Some(data)) => data,
            Ok(None) => return StreamEnd::Closed,
            Err(e) => return e.into(),
        };
        remote.received(data.len() as u64);
        decoder.feed(&data);
        loop {
            match decoder.next() {
                Ok(Some(message)) => remote.deliver(message),
                Ok(None) => break,
                Err(e) => return e.into(),
            }
        }
    }
}
