//! The process: its command line, its signals, its exit codes, and what survives them.

use std::{os::unix::process::ExitStatusExt, process::Command};

use rustix::process::Signal;

use crate::support::{Etcdctl, Member, Options, free_ports};

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
    std::fs::write(&file, text).unwrap();
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
    let url = format!("http://127.0.0.1:{}", first.client_port);
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let flag = format!("--listen-client-urls={url}");
    let mut second = Member::launch_in(&data_dir, Options::with(&[&flag]));
    assert_eq!(second.wait().code(), Some(1));
    let line = second.wait_for_log("failed to start");
    assert!(line.contains("--listen-client-urls") && line.contains(&url), "{line}");
    assert!(!data_dir.exists());
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
