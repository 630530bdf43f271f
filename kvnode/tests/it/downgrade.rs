//! Going back to the minor version before.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::support::{Etcdctl, Member, etcdctl, free_ports, member::get};

/// The cluster takes a step down, on disk too, and a step up again when it is told to stay.
#[test]
fn a_cluster_steps_down_one_version_and_up_again() {
    let member = Member::start();
    let Some(etcdctl) = Etcdctl::new(&member) else { return };
    assert!(etcdctl.fails("downgrade validate 3.5").contains("invalid downgrade target version"));
    assert!(etcdctl.ok("downgrade validate 3.6").contains("cluster version 3.7"));
    assert!(etcdctl.fails("downgrade enable older").contains("wrong downgrade target version format"));
    etcdctl.ok("downgrade enable 3.6.0");
    member.wait_for_log("The server is ready to downgrade");
    let versions = "\"etcdcluster\":\"3.6.0\",\"storage\":\"3.6.0\"";
    assert!(get(member.client_port, "/version").1.contains(versions));
    assert!(etcdctl.fails("downgrade enable 3.6.0").contains("invalid downgrade target version"));
    assert!(etcdctl.ok("endpoint status -w json").contains("\"targetVersion\":\"3.6.0\""));
    let position = member.log_position();
    etcdctl.ok("downgrade cancel");
    member.wait_for_log_after(position, "updating cluster version");
}

/// The older etcd itself goes on with the files.
#[test]
fn etcd_of_the_version_before_goes_on_with_the_data() {
    let mut member = Member::start();
    let (Some(etcdctl), Some(older)) = (Etcdctl::new(&member), etcdctl::find("etcd-3.6")) else { return };
    etcdctl.ok("put kept yes");
    etcdctl.ok("downgrade enable 3.6.0");
    member.wait_for_log("The server is ready to downgrade");
    etcdctl.ok("put later too");
    member.signal(Signal::TERM);
    member.wait();

    let [peer] = free_ports();
    let client = member.endpoint();
    let mut older = Command::new(older)
        .arg(format!("--data-dir={}", member.data_dir().display()))
        .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
        .args([format!("--listen-peer-urls=http://127.0.0.1:{peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(("127.0.0.1", member.client_port)).is_err() {
        assert!(Instant::now() < deadline && older.try_wait().unwrap().is_none(), "etcd 3.6 does not start");
    }
    let found = (etcdctl.ok("get kept"), etcdctl.ok("get later"), get(member.client_port, "/version").1);
    let _ = older.kill();
    let _ = older.wait();
    assert_eq!((found.0.as_str(), found.1.as_str()), ("kept\nyes", "later\ntoo"));
    assert!(found.2.contains("\"etcdserver\":\"3.6."), "{}", found.2);
}
