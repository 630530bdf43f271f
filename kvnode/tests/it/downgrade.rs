//! Going back to etcd 3.6.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::support::{Etcdctl, Member, etcdctl, free_ports, member::get};

/// A downgrade makes files that the older etcd itself goes on with.
#[test]
fn etcd_of_the_version_before_goes_on_with_the_data() {
    let mut member = Member::start();
    let Some(etcdctl) = Etcdctl::new(&member) else { return };
    etcdctl.ok("put kept yes");
    assert!(etcdctl.fails("downgrade validate 3.5").contains("invalid downgrade target version"));
    assert!(etcdctl.ok("downgrade validate 3.6").contains("cluster version 3.7"));
    assert!(etcdctl.fails("downgrade enable older").contains("wrong downgrade target version format"));
    etcdctl.ok("downgrade enable 3.6.0");
    member.wait_for_log("The server is ready to downgrade");
    assert!(
        get(member.client_port, "/version").1.contains("\"etcdcluster\":\"3.6.0\",\"storage\":\"3.6.0\"")
    );
    assert!(etcdctl.fails("downgrade enable 3.6.0").contains("invalid downgrade target version"));
    assert!(etcdctl.ok("endpoint status -w json").contains("\"targetVersion\":\"3.6.0\""));
    member.signal(Signal::TERM);
    member.wait();

    let Some(older) = etcdctl::find("etcd-3.6") else { return };
    let [port, peer] = free_ports();
    let mut older = Command::new(older)
        .arg(format!("--data-dir={}", member.data_dir().display()))
        .args([format!("--listen-client-urls=http://127.0.0.1:{port}")])
        .args([format!("--advertise-client-urls=http://127.0.0.1:{port}")])
        .args([format!("--listen-peer-urls=http://127.0.0.1:{peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline && older.try_wait().unwrap().is_none(), "etcd 3.6 does not start");
    }
    let etcdctl = etcdctl.at(port);
    let found = etcdctl.ok("get kept");
    let _ = older.kill();
    let _ = older.wait();
    assert_eq!(found, "kept\nyes");
}
