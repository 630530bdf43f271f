//! HTTP as curl speaks it: HTTP/1.1 on a fresh connection, the answer as text.

use std::time::Duration;

use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

/// Longer than anything takes on a busy machine; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, or as much of it as was asked for.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

/// How much of an answer to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    End,
    /// That many lines; then the client leaves.
    Lines(usize),
}

/// Sends one request over plain HTTP.
pub async fn send(
    port: u16,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &str,
    until: Until,
) -> Answer {
    let exchange = exchange(port, method, path, headers, body, until);
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .unwrap_or_else(|_| panic!("{method} {path}: no whole answer"))
}

async fn exchange(
    port: u16,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &str,
    until: Until,
) -> Answer {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<bytes::Bytes>>(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
    request.headers_mut().unwrap().extend(headers.clone());
    let answer = sender.send_request(request.body(Full::from(body.to_owned())).unwrap()).await.unwrap();
    let (head, mut body) = answer.into_parts();
    let mut text = Vec::new();
    let enough = |text: &[u8]| match until {
        Until::End => false,
        Until::Lines(lines) => text.iter().filter(|byte| **byte == b'\n').count() >= lines,
    };
    while !enough(&text) {
        let Some(frame) = body.frame().await else { break };
        text.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
    }
    connection.abort();
    Answer { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8(text).unwrap() }
}
