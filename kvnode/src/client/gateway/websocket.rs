//! WebSocket: for clients that can stream no other way. Each message to us is a piece of the request's body, each line of
//! the answer a message to them (as etcd's `grpc-websocket-proxy` does it).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, handshake::derive_accept_key, protocol::Role},
};
use tonic::body::Body;
use tracing::debug;

use super::Gateway;
use crate::client::dispatch::Remote;

/// Whether the request wants to become a WebSocket.
pub fn wanted(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(word)))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// Agrees, and serves the call on the connection once it has changed.
pub fn upgrade(gateway: Arc<Gateway>, mut request: Request<Body>, remote: Arc<Remote>) -> Response<Body> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return refusal("websocket: the client did not send a Sec-WebSocket-Key");
    };
    let accept = derive_accept_key(key.as_bytes());
    let connection = hyper::upgrade::on(&mut request);
    let (head, _) = request.into_parts();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if bearer(&head.headers).is_some() {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("Bearer"));
    }
    tokio::spawn(async move {
        let socket = match connection.await {
            Ok(upgraded) => {
                WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await
            }
            Err(error) => return debug!(%error, "a connection did not become a WebSocket"),
        };
        let (sink, messages) = socket.split();
        let answer = gateway.answer(inner(&head, messages), &remote).await;
        if let Err(error) = copy(answer.into_body(), sink).await {
            debug!(%error, "a WebSocket ended with an error");
        }
    });
    response
}

fn refusal(why: &'static str) -> Response<Body> {
    let mut response =
        Response::new(Body::new(http_body_util::Full::new(Bytes::from_static(why.as_bytes()))));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// A token that came as `Sec-WebSocket-Protocol: Bearer, <token>`: scripts of a web page cannot set another header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (_, token) = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?.split_once("Bearer,")?;
    Some(token.trim())
}

/// A token that came as a cookie.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix("token="))
}

/// The request that the messages are the body of.
fn inner<S>(head: &Parts, messages: S) -> Request<Body>
where
    S: Stream<Item = Result<Message, Error>> + Send + Unpin + 'static,
{
    let mut request = Request::new(Body::new(StreamBody::new(pieces(messages))));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = head.uri.clone();
    for name in [header::ORIGIN, header::REFERER] {
        if let Some(value) = head.headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let token = cookie(&head.headers).or_else(|| bearer(&head.headers));
    if let Some(Ok(value)) = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}"))) {
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    request
}

fn pieces<S>(messages: S) -> impl Stream<Item = Result<Frame<Bytes>, Error>> + Send
where
    S: Stream<Item = Result<Message, Error>> + Send + Unpin + 'static,
{
    stream::unfold(messages, |mut messages| async move {
        loop {
            let piece = match messages.next().await? {
                Ok(Message::Text(text)) => Bytes::from(text),
                Ok(Message::Binary(bytes)) => bytes,
                // The client has left: so does the call.
                Ok(Message::Close(_)) => return Some((Err(Error::ConnectionClosed), messages)),
                Ok(_) => continue,
                Err(error) => return Some((Err(error), messages)),
            };
            return Some((Ok(Frame::data(piece)), messages));
        }
    })
}

/// Sends the lines of the answer.
async fn copy(mut body: Body, mut sink: impl Sink<Message, Error = Error> + Unpin) -> Result<(), Error> {
    let mut buffer = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            send(&mut sink, &buffer.split_to(end + 1)[..end]).await?;
        }
    }
    send(&mut sink, &buffer).await?;
    sink.close().await
}

async fn send(sink: &mut (impl Sink<Message, Error = Error> + Unpin), line: &[u8]) -> Result<(), Error> {
    if line.is_empty() {
        return Ok(());
    }
    sink.send(Message::text(String::from_utf8_lossy(line).into_owned())).await
}
