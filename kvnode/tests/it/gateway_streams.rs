//! Streams through the JSON gateway: prompt in both directions, and over when the client has left.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Member, Options, block_on, cluster::put};

const CREATE: &str = r#"{"create_request":{"key":"Zm9v"}}"#;

async fn wait_for_watchers(member: &Member, count: f64) {
    while member.metric("etcd_debugging_mvcc_watcher_total") != Some(count) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A watch: its request, which the test sends piece by piece, and its answers. Dropping it leaves the server.
struct Watch {
    requests: mpsc::Sender<Bytes>,
    answers: hyper::body::Incoming,
    _connection: AbortOnDropHandle<hyper::Result<()>>,
}

async fn open(member: &Member) -> Watch {
    let (pieces, body) = mpsc::channel::<Bytes>(4);
    let body =
        StreamBody::new(ReceiverStream::new(body).map(|piece| Ok::<_, std::io::Error>(Frame::data(piece))));
    let stream = TcpStream::connect(("127.0.0.1", member.client_port)).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    pieces.send(Bytes::from_static(CREATE.as_bytes())).await.unwrap();
    let request = Request::post("/v3/watch").header("host", "localhost").body(body).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    Watch { requests: pieces, answers: answer.into_body(), _connection: connection }
}

impl Watch {
    async fn next(&mut self) -> Value {
        let data = self.answers.frame().await.unwrap().unwrap().into_data().unwrap();
        serde_json::from_slice(&data).unwrap()
    }
}

#[test]
fn answers_come_while_the_request_goes_on() {
    let member = Member::start();
    block_on(async {
        let mut watch = open(&member).await;
        assert_eq!(watch.next().await["result"]["created"], true);
        put(&member.channel(), "foo", "bar").await.unwrap();
        assert_eq!(watch.next().await["result"]["events"][0]["kv"]["value"], "YmFy");
        // In two pieces that do not end where the object does.
        watch.requests.send(Bytes::from_static(b" {\"cancel_request\":{\"watc")).await.unwrap();
        watch.requests.send(Bytes::from_static(b"h_id\":\"0\"}}")).await.unwrap();
        assert_eq!(watch.next().await["result"]["canceled"], true);
    });
}

#[test]
fn a_client_that_leaves_ends_its_watch() {
    let member = Member::start();
    block_on(async {
        let mut watch = open(&member).await;
        watch.next().await;
        wait_for_watchers(&member, 1.0).await;
        drop(watch);
        wait_for_watchers(&member, 0.0).await;
    });
}

#[test]
fn more_calls_than_streams_wait_for_their_turn() {
    let member = Member::start_with(Options::with(&["--max-concurrent-streams=1"]));
    block_on(async {
        let mut first = open(&member).await;
        first.next().await;
        let mut second = pin!(open(&member));
        let early = tokio::time::timeout(Duration::from_millis(100), second.as_mut()).await;
        assert!(early.is_err(), "a second call was let in");
        drop(first);
        assert_eq!(second.await.next().await["result"]["created"], true);
    });
}

#[test]
fn a_websocket_watches() {
    let member = Member::start();
    block_on(async {
        let stream = TcpStream::connect(("127.0.0.1", member.client_port)).await.unwrap();
        let (mut socket, _) =
            tokio_tungstenite::client_async("ws://localhost/v3/watch", stream).await.unwrap();
        socket.send(Message::text(CREATE)).await.unwrap();
        let mut next = async || -> Value {
            serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap()
        };
        assert_eq!(next().await["result"]["created"], true);
        put(&member.channel(), "foo", "bar").await.unwrap();
        assert_eq!(next().await["result"]["events"][0]["kv"]["key"], "Zm9v");
        drop(socket);
        wait_for_watchers(&member, 0.0).await;
    });
}
