//! Promises about connections, kept without a socket and a clock.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn;
use tokio::io::DuplexStream;

use super::*;

/// The client's end of a connection to a port that knows no path.
fn connect() -> TokioIo<DuplexStream> {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let port = Port {
        dispatch: Dispatch { grpc: None, http: None },
        tls: None,
        http2: Http2::of(&Config::default()),
        stop: CancellationToken::new(),
    };
    tokio::spawn(async move { speak(server, Remote::plain("pipe".to_owned()), &port).await });
    TokioIo::new(client)
}

fn request() -> Request<Empty<Bytes>> {
    Request::builder().uri("/").header("host", "localhost").body(Empty::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_the_next_request() {
    let (mut sender, connection) = conn::http1::handshake(connect()).await.unwrap();
    tokio::spawn(connection);
    for minutes in [1, 10, 0] {
        let answer = sender.send_request(request()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        answer.into_body().collect().await.unwrap();
        tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
    }
}

#[tokio::test]
async fn large_metadata_is_taken() {
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), connect()).await.unwrap();
    tokio::spawn(connection);
    let mut request = request();
    request.headers_mut().insert("token", "x".repeat(200 * 1024).parse().unwrap());
    assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::NOT_FOUND);
}
