//! Mutual TLS on the client port, and files that change under a running member.

use std::process::Command;

use crate::support::{
    Etcdctl, Member, Options,
    certificates::{Authority, Files, trusting},
};

fn start(files: &Files) -> Member {
    Member::start_with(Options { arguments: files.client_flags(), scheme_tls: true })
}

#[test]
fn only_holders_of_a_certificate_get_in() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().install(dir.path(), "client");
    let member = start(&files);
    let Some(etcdctl) = Etcdctl::new(&member) else { return };
    let stranger = Authority::new().install(&dir.path().join("stranger"), "client");
    let stranger = Files { ca: files.ca.clone(), ..stranger };
    let etcdctl_of = |flags: Vec<String>| Etcdctl::new(&member).map(|etcdctl| etcdctl.with(&flags)).unwrap();
    assert_eq!(etcdctl.with(&files.etcdctl_flags()).ok("put k v"), "OK");
    etcdctl_of(vec![format!("--cacert={}", files.ca.display()), "--command-timeout=1s".into()])
        .fails("get k");
    let mut flags = stranger.etcdctl_flags();
    flags.push("--command-timeout=1s".into());
    etcdctl_of(flags).fails("get k");
    member.wait_for_log("rejected connection on client endpoint");
}

/// As etcd, which leaves the pool of authorities to Go.
#[test]
fn a_certificate_is_demanded_without_a_ca_file_and_held_against_what_the_system_trusts() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().install(dir.path(), "client");
    let mut flags = files.client_flags();
    flags.retain(|flag| !flag.starts_with("--trusted-ca-file"));
    let system = trusting(dir.path(), "kvnode", &files.ca);
    let options = Options { arguments: flags, scheme_tls: true };
    let member = Member::launch_as(&system, &dir.path().join("data"), options);
    member.wait_for_log("ready to serve client requests");
    let stranger = Authority::new().install(&dir.path().join("stranger"), "client");
    let stranger = Files { ca: files.ca.clone(), ..stranger };
    let Some(etcdctl) = Etcdctl::new(&member) else { return };
    assert_eq!(etcdctl.with(&files.etcdctl_flags()).ok("put k v"), "OK");
    for mut flags in [vec![format!("--cacert={}", files.ca.display())], stranger.etcdctl_flags()] {
        flags.push("--command-timeout=1s".into());
        Etcdctl::new(&member).map(|etcdctl| etcdctl.with(&flags)).unwrap().fails("get k");
    }
}

#[test]
fn certificates_and_the_ca_rotate_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().install(dir.path(), "one");
    let member = start(&files);
    let Some(etcdctl) = Etcdctl::new(&member) else { return };
    let etcdctl = etcdctl.with(&files.etcdctl_flags());
    etcdctl.ok("put k v");
    // A new CA and a new leaf: only a member that reads both again can be spoken to with them.
    Authority::new().install(dir.path(), "two");
    assert_eq!(etcdctl.ok("get k --print-value-only"), "v");
    member.wait_for_log("reloaded client TLS files");

    let position = member.log_position();
    std::fs::write(&files.cert, "no certificate").unwrap();
    let leaf = Authority::new().install(&dir.path().join("other"), "other");
    let get = etcdctl.fails("get k --command-timeout=1s");
    assert!(!get.is_empty());
    drop(leaf);
    // The client cannot read the broken file either; one that can is still served.
    let curl = Command::new("curl")
        .args(["-sk", "--max-time", "5", &format!("{}/health", member.endpoint())])
        .output();
    if curl.is_ok() {
        let line = member.wait_for_log_after(position, "cannot reload client TLS files");
        assert!(line.contains("--cert-file") && line.contains("stay in use"), "{line}");
    }
}

#[test]
fn curl_speaks_both_http_versions_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().install(dir.path(), "curl");
    let member = start(&files);
    for version in ["--http1.1", "--http2"] {
        let output = Command::new("curl")
            .args(["-s", version, "--cacert"])
            .arg(&files.ca)
            .arg("--cert")
            .arg(&files.cert)
            .arg("--key")
            .arg(&files.key)
            .arg(format!("https://localhost:{}/health", member.client_port))
            .output();
        let Ok(output) = output else { return eprintln!("skipped: curl is not installed") };
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "{\"health\":\"true\",\"reason\":\"\"}",
            "{version}"
        );
    }
}

#[test]
fn a_named_certificate_is_not_taken_for_a_user_by_the_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().install(dir.path(), "root");
    let member = start(&files);
    let post = |path: &str, body: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-w", "%{http_code}", "-d", body, "--cacert"]).arg(&files.ca);
        curl.arg("--cert").arg(&files.cert).arg("--key").arg(&files.key);
        let output = curl.arg(format!("https://localhost:{}{path}", member.client_port)).output().ok()?;
        Some(String::from_utf8(output.stdout).unwrap())
    };
    for (path, body) in [
        ("/v3/auth/user/add", r#"{"name": "root", "password": "root"}"#),
        ("/v3/auth/user/grant", r#"{"user": "root", "role": "root"}"#),
        ("/v3/auth/enable", "{}"),
    ] {
        let Some(answer) = post(path, body) else { return eprintln!("skipped: curl is not installed") };
        assert!(answer.ends_with("200"), "{path}: {answer}");
    }
    for path in ["/v3/kv/range", "/v3beta/kv/range"] {
        let answer = post(path, r#"{"key": "aw=="}"#).unwrap();
        assert!(answer.starts_with("CommonName of client") && answer.ends_with("400"), "{path}: {answer}");
    }
}

#[test]
fn mismatched_files_stop_the_start_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Authority::new().install(dir.path(), "one");
    files.key = Authority::new().install(&dir.path().join("other"), "other").key;
    let mut member = Member::launch(Options { arguments: files.client_flags(), scheme_tls: true });
    assert_eq!(member.wait().code(), Some(1));
    let line = member.wait_for_log("failed to start");
    assert!(
        line.contains("--cert-file")
            && line.contains("--key-file")
            && line.contains("do not belong together"),
        "{line}"
    );
    assert!(!member.data_dir().exists());
}
