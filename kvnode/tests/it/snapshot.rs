//! `kvnode snapshot`: what it makes of good files, and what it says about bad ones.

use std::{fs, path::Path, process::Command};

use crate::support::{Etcdctl, Member, Options};

fn snapshot(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kvnode")).arg("snapshot").args(arguments).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn saved(dir: &Path) -> Option<String> {
    let member = Member::start();
    let etcdctl = Etcdctl::new(&member)?;
    for n in 0..10 {
        etcdctl.ok(&format!("put key-{n} value-{n}"));
    }
    let file = dir.join("a.db").display().to_string();
    etcdctl.ok(&format!("snapshot save {file}"));
    Some(file)
}

#[test]
fn a_restored_member_serves_what_was_saved_as_a_new_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = saved(dir.path()) else { return };
    let data_dir = dir.path().join("restored");
    let (code, text) = snapshot(&[
        "restore",
        &file,
        "--name=core-0",
        "--initial-cluster-token=uid-2",
        "--initial-advertise-peer-urls=http://127.0.0.1:1",
        &format!("--data-dir={}", data_dir.display()),
    ]);
    assert_eq!(code, Some(0), "{text}");
    let identity = fs::read_to_string(data_dir.join("member/identity.json")).unwrap();
    assert!(identity.contains("uid-2") && identity.contains("core-0"), "{identity}");

    let options = Options::with(&["--name=core-0", "--initial-cluster-token=uid-2"]);
    let member = Member::launch_in(&data_dir, options);
    member.wait_for_log("ready to serve client requests");
    let etcdctl = Etcdctl::new(&member).unwrap();
    assert_eq!(etcdctl.ok("get key-7 --print-value-only"), "value-7");
    assert_eq!(
        etcdctl.ok("get key --prefix --count-only --write-out=fields").lines().last(),
        Some("\"Count\" : 10")
    );
    assert_eq!(etcdctl.ok("put key-7 again"), "OK");
    assert_eq!(etcdctl.ok("member list").lines().count(), 1);
}

#[test]
fn a_restore_that_is_repeated_leaves_what_it_made_and_no_other_member_is_taken_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = saved(dir.path()) else { return };
    let data_dir = dir.path().join("restored");
    let restore = |file: &str, token: &str, more: &[&str]| {
        let (token, to) =
            (format!("--initial-cluster-token={token}"), format!("--data-dir={}", data_dir.display()));
        snapshot(&[&["restore", file, "--name=core-0", &token, &to], more].concat())
    };
    let (code, text) = restore(&file, "uid-2", &["--unless-restored"]);
    assert_eq!(code, Some(0), "{text}");
    // Where it is made by a Job, the download is spared the second time.
    let (code, text) = restore("/nowhere.db", "uid-2", &["--unless-restored"]);
    assert!(code == Some(0) && text.contains("was restored before"), "{text}");
    for (token, more) in [("uid-2", &[][..]), ("uid-3", &["--unless-restored"])] {
        let (code, text) = restore(&file, token, more);
        assert!(code == Some(1) && text.contains("is not empty"), "{token} {more:?}: {text}");
    }
}

#[test]
fn bad_files_and_places_are_refused_in_one_line_that_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = saved(dir.path()) else { return };
    let whole = fs::read(&file).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let truncated = write("truncated.db", &whole[..whole.len() / 2]);
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let tampered = write("tampered.db", &bytes);
    let no_trailer = write("no-trailer.db", &whole[..whole.len() - 32]);
    let occupied = dir.path().join("occupied");
    fs::create_dir_all(occupied.join("member")).unwrap();
    let occupied = occupied.display().to_string();
    let fresh = dir.path().join("fresh").display().to_string();
    for (arguments, part) in [
        (vec!["restore", &truncated, "--data-dir", &fresh], truncated.as_str()),
        (vec!["restore", &tampered, "--data-dir", &fresh], tampered.as_str()),
        (vec!["restore", &no_trailer, "--data-dir", &fresh], "no SHA-256"),
        (vec!["restore", "/nowhere.db", "--data-dir", &fresh], "/nowhere.db"),
        (vec!["restore", &file, "--data-dir", &occupied], occupied.as_str()),
        (vec!["status", &tampered], tampered.as_str()),
        (vec!["status", "/nowhere.db"], "/nowhere.db"),
    ] {
        let (code, text) = snapshot(&arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {text}");
        assert!(text.contains(part) && text.lines().count() == 1, "{arguments:?}: {text}");
    }
    assert!(!Path::new(&fresh).join("member").exists());
    let (code, _) = snapshot(&["restore", &no_trailer, "--skip-hash-check", "--data-dir", &fresh]);
    assert_eq!(code, Some(0));
    let (code, text) = snapshot(&["restore"]);
    assert!(code == Some(2) && text.contains("Usage:"), "{text}");
}
