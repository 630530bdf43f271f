//! Members that were not told of each other find each other at an etcd, be it etcd's or kvnode's.

use std::path::{Path, PathBuf};

use crate::support::{Etcdctl, KVNODE, Member, Options, etcdctl::find};

const TOKEN: &str = "8A591FAB";

/// A member of either program that is sent to the service; more flags after its own.
fn launch(program: &Path, dir: &Path, name: &str, service: &Member, flags: &[&str]) -> Member {
    let mut arguments = vec![
        format!("--name={name}"),
        format!("--discovery-token={TOKEN}"),
        format!("--discovery-endpoints={}", service.endpoint()),
    ];
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    Member::launch_as(program, &dir.join(name), Options { arguments, scheme_tls: false })
}

/// Says how many members there are to be.
fn announce(etcdctl: &Etcdctl, size: usize) {
    etcdctl.ok(&format!("put /_etcd/registry/{TOKEN}/_config/size {size}"));
}

#[test]
fn members_of_both_programs_find_each_other() {
    let Some(etcd) = find("etcd") else { return };
    let kvnode = PathBuf::from(KVNODE);
    for service_program in [&kvnode, &etcd] {
        let dir = tempfile::tempdir().unwrap();
        let mut service = Member::launch_as(service_program, &dir.path().join("service"), Options::default());
        service.wait_for_log("ready to serve client requests");
        let Some(etcdctl) = Etcdctl::new(&service) else { return };
        announce(&etcdctl, 3);
        for line in ["user add root:pw", "user grant-role root root", "auth enable"] {
            etcdctl.ok(line);
        }
        let known = ["--discovery-user=root", "--discovery-password=pw"];

        let mut first = launch(&kvnode, dir.path(), "m0", &service, &known);
        first.wait_for_log("waiting for peers from discovery service");
        let others = [
            launch(&etcd, dir.path(), "m1", &service, &known),
            launch(&kvnode, dir.path(), "m2", &service, &known),
        ];
        for member in others.iter().chain([&first]) {
            member.wait_for_log("ready to serve client requests");
        }
        for member in others.iter().chain([&first]) {
            let names = Etcdctl::new(member).unwrap().ok("member list");
            assert!(["m0", "m1", "m2"].iter().all(|name| names.contains(name)), "{names}");
        }

        let mut late = launch(&kvnode, dir.path(), "late", &service, &known);
        late.wait_for_log("discovery: cluster is full");
        assert_eq!(late.wait().code(), Some(1));

        // Who has data asks nobody.
        service.kill();
        first.kill_and_restart();
        first.wait_for_log("discovery token is ignored");
    }
}

#[test]
fn a_member_waits_for_the_service() {
    let mut service = Member::start();
    let Some(etcdctl) = Etcdctl::new(&service) else { return };
    announce(&etcdctl, 1);
    service.kill();
    let dir = tempfile::tempdir().unwrap();
    let member = launch(Path::new(KVNODE), dir.path(), "m0", &service, &[]);
    member.wait_for_log("retry connecting to discovery service");
    let (status, health) = member.get_metrics_port("/readyz");
    assert!(status != 200 && health.contains("discovery"), "{status} {health}");
    service.restart();
    member.wait_for_log("ready to serve client requests");
}

#[test]
fn what_waiting_cannot_mend_ends_the_member() {
    let service = Member::start();
    let Some(etcdctl) = Etcdctl::new(&service) else { return };
    let dir = tempfile::tempdir().unwrap();
    let refused = |flags: &[&str], why: &str| {
        let mut member = launch(Path::new(KVNODE), dir.path(), "m0", &service, flags);
        member.wait_for_log(why);
        assert_eq!(member.wait().code(), Some(1));
    };
    refused(&[], "discovery: size key not found");
    announce(&etcdctl, 0);
    refused(&[], "discovery: size key is bad");
    refused(&["--initial-cluster-state=existing"], "discovery URL should not be set");
    for line in ["user add root:pw", "user grant-role root root", "auth enable"] {
        etcdctl.ok(line);
    }
    refused(&["--discovery-user=root", "--discovery-password=guess"], "check --discovery-user");
}
