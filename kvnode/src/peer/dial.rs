//! Requests to other members over HTTP/1.1, and over TLS where the URL says so.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::{net::TcpStream, net::UnixStream, time};
use tokio_util::either::Either;

use super::limits;
use crate::{
    flags::url::{Address, Security, Url},
    tls::{Connector, words},
};

/// A request's body.
pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// A body that is there already.
pub(crate) fn full(data: impl Into<Bytes>) -> Body {
    Full::new(data.into()).map_err(|never| match never {}).boxed()
}

/// Why a member did not answer, or answered no.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{url} is not a peer URL: {why}")]
    Url { url: String, why: String },
    #[error("dialling {url}: {}", words(source))]
    Dial { url: String, source: io::Error },
    #[error("asking {url}: {}", words(source))]
    Http { url: String, source: hyper::Error },
    #[error("asking {url}: no answer in time")]
    Timeout { url: String },
    #[error("asking {url}: its answer is malformed: {why}")]
    Answer { url: String, why: String },
    #[error("{url} answered {status}: {text}")]
    Status { url: String, status: StatusCode, text: String },
}

impl CallError {
    /// The status and text of an answer that says no.
    pub(crate) fn refusal(&self) -> Option<(StatusCode, &str)> {
        match self {
            Self::Status { status, text, .. } => Some((*status, text.trim_end())),
            _ => None,
        }
    }
}

/// Dials members.
#[derive(Clone)]
pub(crate) struct Dialer {
    /// For `https` URLs; absent when no peer TLS is configured.
    pub(crate) tls: Option<Connector>,
    pub(crate) dial_timeout: Duration,
}

impl Dialer {
    /// Sends a request whose URI is the path, and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        url: &str,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, CallError> {
        self.open(url).await?.send(request).await
    }

    /// Sends a request and reads the whole answer, which must say yes.
    pub(crate) async fn call(
        &self,
        url: &str,
        request: Request<Body>,
        limit: Duration,
    ) -> Result<(http::response::Parts, Bytes), CallError> {
        let answer = self.ask(url, request);
        time::timeout(limit, answer).await.map_err(|_| CallError::Timeout { url: url.to_owned() })?
    }

    /// As [`Self::call`], for as long as it takes: a connection that stands still ends by itself.
    pub(super) async fn ask(
        &self,
        url: &str,
        request: Request<Body>,
    ) -> Result<(http::response::Parts, Bytes), CallError> {
        read_answer(url, self.send(url, request).await?).await
    }

    /// Opens a connection for requests to one member.
    pub(super) async fn open(&self, url: &str) -> Result<Connection, CallError> {
        let parsed: Url = url.parse().map_err(|e: crate::flags::url::UrlError| CallError::Url {
            url: url.to_owned(),
            why: e.to_string(),
        })?;
        let dial = |source| CallError::Dial { url: url.to_owned(), source };
        let stream = match time::timeout(self.dial_timeout, connect(&parsed)).await {
            Ok(outcome) => outcome.map_err(dial)?,
            Err(_) => return Err(CallError::Timeout { url: url.to_owned() }),
        };
        let sender = match (parsed.security(), &self.tls) {
            (Security::Plain, _) => handshake(TokioIo::new(stream)).await,
            (Security::Tls, Some(tls)) => {
                let secured = time::timeout(self.dial_timeout, tls.connect(parsed.host(), stream)).await;
                let stream = match secured {
                    Ok(outcome) => outcome.map_err(dial)?,
                    Err(_) => return Err(CallError::Timeout { url: url.to_owned() }),
                };
                handshake(TokioIo::new(stream)).await
            }
            (Security::Tls, None) => {
                return Err(CallError::Url {
                    url: url.to_owned(),
                    why: "it needs TLS, but no --peer-cert-file, no --peer-trusted-ca-file and no --peer-auto-tls is set"
                        .to_owned(),
                });
            }
        };
        let sender = sender.map_err(|source| CallError::Http { url: url.to_owned(), source })?;
        Ok(Connection { url: url.to_owned(), parsed, sender, used: Instant::now() })
    }
}

/// An open connection, for one request after the other.
pub(super) struct Connection {
    url: String,
    parsed: Url,
    sender: SendRequest<Body>,
    used: Instant,
}

impl Connection {
    /// Sends a request whose URI is the path, and waits for the head of the answer.
    pub(super) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, CallError> {
        let request = self.address(request);
        self.sender.send_request(request).await.map_err(|e| self.failed(e))
    }

    fn address(&self, request: Request<Body>) -> Request<Body> {
        with_host(request, &self.parsed)
    }

    fn failed(&self, source: hyper::Error) -> CallError {
        CallError::Http { url: self.url.clone(), source }
    }
}

/// A connection that is kept between calls to one member, as long as calls keep coming.
#[derive(Default)]
pub(super) struct Line(Option<Connection>);

impl Line {
    /// As [`Dialer::call`].
    pub(super) async fn call(
        &mut self,
        dialer: &Dialer,
        url: &str,
        request: Request<Body>,
        limit: Duration,
    ) -> Result<(http::response::Parts, Bytes), CallError> {
        // Gone unless the call ends well.
        let kept = self.0.take().filter(|kept| kept.url == url && kept.used.elapsed() < limits::READ_TIMEOUT);
        let whole = async {
            let (connection, answer) = exchange(dialer, url, kept, request).await?;
            Ok((connection, read_answer(url, answer).await?))
        };
        let (connection, answer) =
            time::timeout(limit, whole).await.map_err(|_| CallError::Timeout { url: url.to_owned() })??;
        self.0 = Some(Connection { used: Instant::now(), ..connection });
        Ok(answer)
    }
}

/// Sends on the kept connection, or on a new one if that was closed before anything went out.
async fn exchange(
    dialer: &Dialer,
    url: &str,
    kept: Option<Connection>,
    request: Request<Body>,
) -> Result<(Connection, Response<Incoming>), CallError> {
    let mut request = request;
    if let Some(mut kept) = kept
        && kept.sender.ready().await.is_ok()
    {
        match kept.sender.try_send_request(kept.address(request)).await {
            Ok(answer) => return Ok((kept, answer)),
            Err(mut e) => match e.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(kept.failed(e.into_error())),
            },
        }
    }
    let mut fresh = dialer.open(url).await?;
    let answer = fresh.send(request).await?;
    Ok((fresh, answer))
}

async fn read_answer(
    url: &str,
    answer: Response<Incoming>,
) -> Result<(http::response::Parts, Bytes), CallError> {
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, limits::ANSWER_BYTES)
        .collect()
        .await
        .map_err(|e| CallError::Answer { url: url.to_owned(), why: e.to_string() })?
        .to_bytes();
    if parts.status.is_success() {
        return Ok((parts, body));
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    Err(CallError::Status { url: url.to_owned(), status: parts.status, text })
}

/// Opens a connection, without TLS.
pub(crate) async fn connect(url: &Url) -> io::Result<Either<TcpStream, UnixStream>> {
    match url.address() {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            tune(&stream)?;
            Ok(Either::Left(stream))
        }
        Address::Unix(path) => UnixStream::connect(path).await.map(Either::Right),
    }
}

/// Messages are small and wanted at once; and a peer that acknowledges nothing for some seconds is gone, which must show
/// while bytes still wait in the socket.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(limits::WRITE_TIMEOUT))
}

async fn handshake<IO>(io: IO) -> hyper::Result<SendRequest<Body>>
where
    IO: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(async move {
        // Its errors show in the requests.
        let _ = connection.await;
    });
    Ok(sender)
}

fn with_host(mut request: Request<Body>, url: &Url) -> Request<Body> {
    let host = match url.address() {
        Address::Tcp { .. } => url.authority(),
        Address::Unix(_) => "localhost",
    };
    if let Ok(value) = host.parse() {
        request.headers_mut().insert(header::HOST, value);
    }
    request
}
