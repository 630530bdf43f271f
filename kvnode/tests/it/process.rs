//! The process: its command line, its signals, its exit codes, and what survives them.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::{net::UnixDatagram, process::ExitStatusExt},
    process::Command,
};

use rustix::process::Signal;

use crate::support::{
    Etcdctl, Member, Options, free_ports,
    member::{PATIENCE, wrapper},
};

fn kvnode(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kvnode")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_unknown_flag_exits_2_with_usage_and_a_bad_setting_exits_1() {
    let (code, _, stderr) = kvnode(&["--nonsense"]);
    assert_eq!(code, Some(2));
    assert!(stderr.starts_with("flag provided but not defined: -nonsense\nUsage:"), "{stderr}");
    let (code, _, stderr) = kvnode(&["--listen-client-urls=http://127.0.0.1:1"]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    let (code, stdout, _) = kvnode(&["--version"]);
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("etcd Version: 3.7.3\n"), "{stdout}");
    assert_eq!(kvnode(&["--help"]).0, Some(0));
}

#[test]
fn a_signal_ends_the_process_as_that_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut member = Member::start();
        member.signal(signal);
        assert_eq!(member.wait().signal(), Some(signal.as_raw()));
    }
}

#[test]
fn a_key_of_the_configuration_file_that_nothing_knows_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let [client, peer] = free_ports();
    let (file, data_dir) = (dir.path().join("kv.yaml"), dir.path().join("data"));
    let text = format!(
        "data-dir: {}\nlisten-client-urls: http://127.0.0.1:{client}\nlisten-peer-urls: http://127.0.0.1:{peer}\n\
         max-walls: 5\n",
        data_dir.display()
    );
    fs::write(&file, text).unwrap();
    let member = Member::launch_in(&data_dir, Options::with(&[&format!("--config-file={}", file.display())]));
    let line = member.wait_for_log("max-walls");
    assert!(line.contains("\"level\":\"warn\"") && line.contains(&*file.to_string_lossy()), "{line}");
    member.wait_for_log("ready to serve client requests");
}

#[test]
fn a_member_that_listens_on_all_addresses_advertises_that_of_the_machine() {
    let [port] = free_ports();
    let member = Member::start_with(Options::with(&[
        &format!("--listen-client-urls=http://0.0.0.0:{port}"),
        "--advertise-client-urls=http://localhost:2379",
    ]));
    let line = member.wait_for_log("default host");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    // A machine without a network has no address.
    let Some(host) = line["host"].as_str() else {
        return assert_eq!(line["msg"], "failed to detect default host");
    };
    let start = member.wait_for_log("starting an etcd server");
    assert!(start.contains(&format!("\"advertise-client-urls\":\"http://{host}:{port}\"")), "{start}");
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_written() {
    let first = Member::start();
    for (flag, port) in [("--listen-client-urls", first.client_port), ("--listen-peer-urls", first.peer_port)]
    {
        let url = format!("http://127.0.0.1:{port}");
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let mut second = Member::launch_in(&data_dir, Options::with(&[&format!("{flag}={url}")]));
        assert_eq!(second.wait().code(), Some(1));
        let line = second.wait_for_log("failed to start");
        assert!(line.contains(flag) && line.contains(&url), "{line}");
        assert!(!data_dir.exists());
    }
}

#[test]
fn a_service_manager_is_told_when_the_member_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let change = format!("export NOTIFY_SOCKET='{}'", dir.path().join("notify").display());
    let program = wrapper(dir.path(), "kvnode", &change);
    let member = Member::launch_as(&program, &dir.path().join("data"), Options::default());
    let mut text = [0; 64];
    let length = socket.recv(&mut text).unwrap();
    assert_eq!(&text[..length], b"READY=1\n");
    assert_eq!(member.get("/health").0, 200);
}

#[test]
fn as_many_clients_are_let_in_as_leave_files_for_the_member_itself() {
    let dir = tempfile::tempdir().unwrap();
    let program = wrapper(dir.path(), "kvnode", "ulimit -S -n 64; ulimit -H -n 160");
    // Threads take files, too.
    let member =
        Member::launch_as(&program, &dir.path().join("data"), Options::with(&["--client-threads=2"]));
    member.wait_for_log("ready to serve client requests");
    let send = |request: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", member.client_port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {request}\r\nHost: localhost\r\n\r\n").unwrap();
        stream
    };
    let ask = || send("/version HTTP/1.1");
    let answered = |stream: &mut TcpStream| stream.read(&mut [0; 64]).unwrap() > 0;
    // What becomes a WebSocket still is a connection.
    let mut clients = vec![send(
        "/v3/watch HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )];
    // The hard limit less what is kept.
    clients.extend((1..10).map(|_| ask()));
    assert!(clients.iter_mut().all(answered));
    member.wait_for_log("no more clients are let in until one leaves");
    let mut waiting = ask();
    clients.pop();
    assert!(answered(&mut waiting));
}

#[test]
fn acknowledged_writes_survive_a_kill() {
    let mut member = Member::start();
    let Some(etcdctl) = Etcdctl::new(&member) else { return };
    for round in 0..3 {
        for n in 0..10 {
            etcdctl.ok(&format!("put r{round}-{n} v"));
        }
        member.kill_and_restart();
        let count = etcdctl.ok("get r --prefix --keys-only").lines().filter(|line| !line.is_empty()).count();
        assert_eq!(count, (round + 1) * 10);
    }
}

#[test]
fn log_lines_are_json_objects() {
    let member = Member::start();
    for line in member.log_text().lines() {
        let object: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        for key in ["level", "ts", "caller", "msg"] {
            assert!(object[key].is_string(), "{line}");
        }
        assert_ne!(object["level"], "error", "{line}");
    }
}

#[test]
fn old_revisions_are_compacted_as_configured() {
    let member = Member::start_with(Options::with(&["--auto-compaction-retention=500ms"]));
    let Some(etcdctl) = Etcdctl::new(&member) else { return };
    for n in 0..5 {
        etcdctl.ok(&format!("put k {n}"));
    }
    member.wait_for_log("completed auto compaction");
    etcdctl.ok("put k last");
    let position = member.log_position();
    member.wait_for_log_after(position, "completed auto compaction");
    assert!(etcdctl.fails("get k --rev=2").contains("required revision has been compacted"));
    assert_eq!(etcdctl.ok("get k --print-value-only"), "last");
}
