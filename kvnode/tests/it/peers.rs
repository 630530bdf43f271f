//! What a member does towards another, told by one that a test plays.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    free_ports,
    member::{Member, Options},
};

/// A request for a stream, and the connection on which it waits for an answer.
struct Asked {
    head: Vec<String>,
    connection: TcpStream,
}

impl Asked {
    fn accept(listener: &TcpListener) -> Self {
        let connection = listener.accept().unwrap().0;
        let lines = BufReader::new(connection.try_clone().unwrap()).lines().map(Result::unwrap);
        Self { head: lines.take_while(|line| !line.is_empty()).collect(), connection }
    }

    fn header(&self, name: &str) -> &str {
        let mut fields = self.head.iter().filter_map(|line| line.split_once(": "));
        fields.find(|(other, _)| other.eq_ignore_ascii_case(name)).unwrap().1
    }
}

#[test]
fn a_stream_that_was_asked_for_is_not_given_up_when_the_other_member_asks_too() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (own_url, other_url) = (
        format!("http://127.0.0.1:{}", free_ports::<1>()[0]),
        format!("http://{}", other.local_addr().unwrap()),
    );
    let member = Member::launch(Options::with(&[
        &format!("--listen-peer-urls={own_url}"),
        &format!("--initial-advertise-peer-urls={own_url}"),
        &format!("--initial-cluster=default={own_url},other={other_url}"),
    ]));
    let mut unanswered = Vec::new();
    let mut asked = loop {
        let asked = Asked::accept(&other);
        if asked.head[0].starts_with("GET /raft/stream/message/") {
            break asked;
        }
        unanswered.push(asked);
    };
    let own_id = asked.header("x-raft-to");
    let mut dialled = TcpStream::connect(own_url.strip_prefix("http://").unwrap()).unwrap();
    write!(
        dialled,
        "GET /raft/stream/message/{own_id} HTTP/1.1\r\nHost: member\r\nX-Server-From: {own_id}\r\n\
         X-Server-Version: 3.7.0\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-Id: {}\r\nX-Raft-To: {}\r\n\r\n",
        asked.header("x-etcd-cluster-id"),
        asked.header("x-server-from"),
    )
    .unwrap();
    member.wait_for_log("\"stream-writer-type\":\"stream Message\"");
    asked.connection.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    member.wait_for_log("\"stream-reader-type\":\"stream Message\"");
}
