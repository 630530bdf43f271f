//! What a member does towards another, told by one that a test plays.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use kvnode_proto::raftpb;
use prost::Message as _;

use crate::support::{
    free_ports,
    member::{Member, Options, PATIENCE},
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

/// A member whose only other one is played by the test, and that one's first request for a stream of messages.
struct Pair {
    member: Member,
    other: TcpListener,
    asked: Asked,
    _unanswered: Vec<Asked>,
}

impl Pair {
    fn start() -> Self {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let other_url = format!("http://{}", other.local_addr().unwrap());
        let own_url = format!("http://127.0.0.1:{}", free_ports::<1>()[0]);
        let member = Member::launch(Options::with(&[
            &format!("--listen-peer-urls={own_url}"),
            &format!("--initial-advertise-peer-urls={own_url}"),
            &format!("--initial-cluster=default={own_url},other={other_url}"),
        ]));
        let mut unanswered = Vec::new();
        let asked = loop {
            let asked = Asked::accept(&other);
            if asked.head[0].starts_with("GET /raft/stream/message/") {
                break asked;
            }
            unanswered.push(asked);
        };
        Self { member, other, asked, _unanswered: unanswered }
    }

    fn dial(&self) -> TcpStream {
        // What it told the other is where it listens.
        let url = self.asked.header("x-peerurls");
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The headers of a request in the other member's name.
    fn signature(&self) -> String {
        format!(
            "Host: member\r\nX-Server-From: {}\r\nX-Server-Version: 3.7.0\r\nX-Min-Cluster-Version: 3.0.0\r\n\
             X-Etcd-Cluster-Id: {}\r\nX-Raft-To: {}\r\n",
            self.asked.header("x-raft-to"),
            self.asked.header("x-etcd-cluster-id"),
            self.asked.header("x-server-from"),
        )
    }
}

#[test]
fn a_stream_that_was_asked_for_is_not_given_up_when_the_other_member_asks_too() {
    let mut pair = Pair::start();
    let id = pair.asked.header("x-raft-to");
    let mut dialled = pair.dial();
    write!(dialled, "GET /raft/stream/message/{id} HTTP/1.1\r\n{}\r\n", pair.signature()).unwrap();
    pair.member.wait_for_log("\"stream-writer-type\":\"stream Message\"");
    pair.asked.connection.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    pair.member.wait_for_log("\"stream-reader-type\":\"stream Message\"");
}

#[test]
fn connections_that_stand_still_are_closed() {
    let pair = Pair::start();
    let head = format!("POST /raft HTTP/1.1\r\n{}Content-Length: 100\r\n\r\n", pair.signature());
    let stalled = ["", "GET /version HTTP/1.1\r\nHost:", &head].map(|beginning| {
        let mut stream = pair.dial();
        stream.write_all(beginning.as_bytes()).unwrap();
        stream
    });
    for mut stream in stalled {
        // Reset or ended, with an answer or without.
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(!ended.is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "it is still open");
    }
}

#[test]
fn a_snapshot_that_breaks_off_leaves_nothing() {
    let pair = Pair::start();
    let id = |name| u64::from_str_radix(pair.asked.header(name), 16).unwrap();
    let metadata = raftpb::SnapshotMetadata { index: 100, term: 2, conf_state: None };
    let message = raftpb::Message {
        r#type: raftpb::MessageType::MsgSnap as i32,
        to: id("x-server-from"),
        from: id("x-raft-to"),
        snapshot: Some(raftpb::Snapshot { data: Vec::new().into(), metadata: Some(metadata) }),
        ..raftpb::Message::default()
    };
    let envelope = message.encode_to_vec();
    let mut stream = pair.dial();
    write!(stream, "POST /raft/snapshot HTTP/1.1\r\n{}Content-Length: 100000\r\n\r\n", pair.signature())
        .unwrap();
    stream.write_all(&(envelope.len() as u64).to_be_bytes()).unwrap();
    stream.write_all(&envelope).unwrap();
    stream.write_all(&[7; 10_000]).unwrap();
    pair.member.wait_for_log("receiving database snapshot");
    drop(stream);
    pair.member.wait_for_log("failed to save incoming database snapshot");
    let names = fs::read_dir(pair.member.data_dir().join("member/snap")).unwrap();
    let names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.contains(".snap.db")), "{names:?}");
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let pair = Pair::start();
    let series =
        format!("etcd_network_peer_sent_failures_total{{To=\"{}\"}}", pair.asked.header("x-raft-to"));
    let Pair { member, other, asked, .. } = pair;
    drop((other, asked));
    // Votes are asked for again and again.
    let deadline = Instant::now() + PATIENCE;
    while member.metric(&series).is_none_or(|failures| failures < 3.0) {
        assert!(Instant::now() < deadline, "{series} does not rise");
        std::thread::yield_now();
    }
}
