//! A data directory moves between etcd and kvnode, whoever wrote it and however it was stopped.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use kvnode_proto::authpb::{Permission, UserAddOptions};
use kvnode_proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest,
    AuthUserAddRequest, AuthUserGrantRoleRequest, AuthenticateRequest, CompactionRequest, DefragmentRequest,
    DeleteRangeRequest, LeaseGrantRequest, PutRequest, RequestOp, TxnRequest, alarm_request::AlarmAction,
    auth_client::AuthClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, request_op::Request,
};
use tonic::transport::Channel;

use crate::support::{
    Etcdctl, KVNODE, Member, Options, block_on,
    cluster::{Cluster, keys, put, status},
    etcdctl::find,
    facts::Facts,
    writer::{Writer, assert_holds, run},
};

fn kvnode() -> PathBuf {
    KVNODE.into()
}

fn put_request(key: &str, lease: i64) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: vec![b'v'; 100].into(), lease, ..PutRequest::default() }
}

/// Puts, overwrites, deletes, transactions, leases and a compaction; revisions depend on `round` alone.
async fn write_some(channel: &Channel, round: i64) {
    let mut kv = KvClient::new(channel.clone());
    let lease = 1000 + round;
    let grant = LeaseGrantRequest { ttl: 3000, id: lease };
    LeaseClient::new(channel.clone()).lease_grant(grant).await.unwrap();
    for n in 0..40 {
        let lease = if n % 10 == 0 { lease } else { 0 };
        kv.put(put_request(&format!("k{:02}", (n * 7 + round) % 23), lease)).await.unwrap();
    }
    let op = |key: &str| RequestOp { request: Some(Request::RequestPut(put_request(key, 0))) };
    let success = vec![op("t1"), op("t2"), op(&format!("t{round}-3"))];
    kv.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap();
    let gone = DeleteRangeRequest { key: "k05".into(), range_end: "k08".into(), prev_kv: false };
    let deleted = kv.delete_range(gone).await.unwrap().into_inner();
    let revision = deleted.header.unwrap().revision;
    // At a deletion: etcd has treated this differently over time.
    kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    for n in 0..5 {
        kv.put(put_request(&format!("after-{round}-{n}"), 0)).await.unwrap();
    }
}

/// A user whose password is `pw`, with a new role.
async fn add_user(channel: &Channel, name: &str, role: &str) {
    let mut auth = AuthClient::new(channel.clone());
    auth.role_add(AuthRoleAddRequest { name: role.into() }).await.unwrap();
    let perm = Permission { perm_type: 0, key: "k".into(), range_end: "l".into() };
    let grant = AuthRoleGrantPermissionRequest { name: role.into(), perm: Some(perm) };
    auth.role_grant_permission(grant).await.unwrap();
    let user = AuthUserAddRequest {
        name: name.into(),
        password: "pw".into(),
        options: Some(UserAddOptions { no_password: false }),
        ..AuthUserAddRequest::default()
    };
    auth.user_add(user).await.unwrap();
    auth.user_grant_role(AuthUserGrantRoleRequest { user: name.into(), role: role.into() }).await.unwrap();
}

async fn alarm(channel: &Channel, action: AlarmAction, member_id: u64) {
    let request = AlarmRequest { action: action as i32, member_id, alarm: AlarmType::Nospace as i32 };
    MaintenanceClient::new(channel.clone()).alarm(request).await.unwrap();
}

/// The ended member goes on as another program and holds what it held.
async fn hand_to(member: &mut Member, program: &Path, before: &Facts) {
    member.restart_as(program);
    assert_eq!(&Facts::of(member).await, before, "taken over by {}", program.display());
}

fn tool(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_single_member_goes_from_etcd_to_kvnode_and_back_with_everything() {
    let (Some(etcd), Some(etcdutl)) = (find("etcd"), find("etcdutl")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::launch_as(&etcd, &dir.path().join("data"), Options::default());
    member.wait_for_log("ready to serve client requests");
    block_on(async {
        let channel = member.channel();
        write_some(&channel, 1).await;
        add_user(&channel, "ann", "reader").await;
        let id = Facts::of(&member).await.ids.1;
        alarm(&channel, AlarmAction::Activate, id).await;
        let facts = Facts::of(&member).await;
        assert!(!facts.alarms.is_empty() && !facts.leases.is_empty() && facts.hash_kv.1 > 0, "{facts:?}");
        member.terminate();
        hand_to(&mut member, &kvnode(), &facts).await;

        // Without a checkpoint of kvnode's yet, etcd reads what kvnode appended to its log.
        alarm(&channel, AlarmAction::Deactivate, id).await;
        write_some(&channel, 2).await;
        let facts = Facts::of(&member).await;
        member.kill();
        hand_to(&mut member, &etcd, &facts).await;
        write_some(&channel, 3).await;
        let facts = Facts::of(&member).await;
        member.kill();
        hand_to(&mut member, &kvnode(), &facts).await;

        // With one, and entries behind it.
        write_some(&channel, 4).await;
        MaintenanceClient::new(channel.clone()).defragment(DefragmentRequest {}).await.unwrap();
        write_some(&channel, 5).await;
        let facts = Facts::of(&member).await;
        member.terminate();
        // What etcd's offline tools find in kvnode's checkpoint, and leave there.
        let data = member.data_dir().display().to_string();
        let db = format!("{data}/member/snap/db");
        tool(&etcdutl, &["hashkv", &db]);
        tool(&etcdutl, &["snapshot", "status", &db]);
        tool(&etcdutl, &["defrag", "--data-dir", &data]);
        hand_to(&mut member, &kvnode(), &facts).await;
        member.kill();
        hand_to(&mut member, &etcd, &facts).await;
        write_some(&channel, 6).await;
        let facts = Facts::of(&member).await;
        member.terminate();
        hand_to(&mut member, &kvnode(), &facts).await;

        // Whoever knew a password does so under the other program.
        add_user(&channel, "root", "root").await;
        AuthClient::new(channel.clone()).auth_enable(AuthEnableRequest {}).await.unwrap();
        for program in [&etcd, &kvnode()] {
            member.terminate();
            member.restart_as(program);
            let channel = member.channel();
            let refused = put(&channel, "k", "v").await.unwrap_err();
            assert_eq!(refused.message(), "etcdserver: user name is empty");
            let known = AuthenticateRequest { name: "ann".into(), password: "pw".into() };
            AuthClient::new(channel.clone()).authenticate(known).await.unwrap();
            let unknown = AuthenticateRequest { name: "ann".into(), password: "wrong".into() };
            assert!(AuthClient::new(channel.clone()).authenticate(unknown).await.is_err());
        }
    });
}

#[test]
fn a_member_of_the_version_before_is_taken_over_with_everything() {
    let (Some(etcd), Some(older)) = (find("etcd"), find("etcd-3.6")) else { return };
    let dir = tempfile::tempdir().unwrap();
    // Snapshots of its own, so that its log does not begin with the first entry.
    let options = Options::with(&["--snapshot-count=20", "--snapshot-catchup-entries=5"]);
    let mut member = Member::launch_as(&older, &dir.path().join("data"), options);
    member.wait_for_log("ready to serve client requests");
    block_on(async {
        let channel = member.channel();
        for round in 1..4 {
            write_some(&channel, round).await;
        }
        add_user(&channel, "ann", "reader").await;
        let before = Facts::of(&member).await;
        assert_eq!(before.storage_version, "3.6.0");
        member.terminate();
        member.restart_as(&kvnode());
        // The cluster's version rises by itself.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut facts = Facts::of(&member).await;
        while facts.storage_version != "3.7.0" {
            assert!(std::time::Instant::now() < deadline, "{facts:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            facts = Facts::of(&member).await;
        }
        // Of all hashes only the one that includes the version differs.
        let expected = Facts { hash: facts.hash, storage_version: "3.7.0".into(), ..before };
        assert_eq!(facts, expected);
        write_some(&channel, 4).await;
        let facts = Facts::of(&member).await;
        member.kill();
        hand_to(&mut member, &etcd, &facts).await;
    });
}

#[test]
fn three_members_go_from_etcd_to_kvnode_and_back() {
    let Some(etcd) = find("etcd") else { return };
    let flags = ["--snapshot-count=50", "--snapshot-catchup-entries=10"];
    let mut cluster = Cluster::start_mixed([&etcd; 3], "http", &flags);
    run(async {
        let mut round = 0;
        for program in [kvnode(), etcd, kvnode()] {
            let channel = cluster.members[0].channel();
            for _ in 0..2 {
                round += 1;
                write_some(&channel, round).await;
            }
            let mut facts = Vec::new();
            for member in &cluster.members {
                facts.push(Facts::of(member).await);
            }
            for member in &mut cluster.members {
                if round % 4 == 0 { member.kill() } else { member.terminate() }
            }
            for member in &mut cluster.members {
                member.launch_again_as(&program);
            }
            for (member, before) in cluster.members.iter().zip(&facts) {
                member.wait_for_log("ready to serve client requests");
                assert_eq!(&Facts::of(member).await, before);
            }
        }
    });
}

/// Nothing acknowledged is lost when a member is killed while it writes and goes on as the other program.
#[test]
fn a_member_killed_under_load_goes_on_as_the_other_program() {
    let Some(etcd) = find("etcd") else { return };
    let dir = tempfile::tempdir().unwrap();
    let options = Options::with(&["--snapshot-count=100", "--snapshot-catchup-entries=10"]);
    let mut member = Member::launch_as(&etcd, &dir.path().join("data"), options);
    member.wait_for_log("ready to serve client requests");
    run(async {
        let mut all = BTreeMap::new();
        for program in [kvnode(), etcd.clone(), kvnode(), etcd] {
            let writer = Writer::start(&[member.channel()]);
            writer.wait_for_more(300).await;
            member.kill();
            all.extend(writer.end().await);
            member.restart_as(&program);
            assert_holds(&keys(&member, false).await.unwrap(), &all);
        }
    });
}

/// Saves a snapshot of the member, restores it with `restorer`, and returns the new data directory.
fn restored(member: &Member, restorer: &[&str], flags: &[&str], dir: &Path, name: &str) -> PathBuf {
    let (file, data) = (dir.join(format!("{name}.snap")), dir.join(name));
    let (file, data_dir) = (file.display().to_string(), data.display().to_string());
    Etcdctl::new(member).unwrap().ok(&format!("snapshot save {file}"));
    let mut arguments = restorer[1..].to_vec();
    arguments.extend(["restore", &file, "--data-dir", &data_dir, "--name", "core-9"]);
    arguments.extend(["--initial-cluster", "core-9=http://127.0.0.1:1"]);
    arguments.extend(["--initial-advertise-peer-urls", "http://127.0.0.1:1"]);
    arguments.extend(["--initial-cluster-token", "restored"]);
    arguments.extend(flags);
    tool(Path::new(restorer[0]), &arguments);
    data
}

#[test]
fn what_a_snapshot_is_restored_to_runs_under_both_programs_in_turn() {
    let (Some(etcd), Some(etcdutl), Some(_)) = (find("etcd"), find("etcdutl"), find("etcdctl")) else {
        return;
    };
    let etcdutl = etcdutl.display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let bumped = ["--bump-revision", "1000", "--mark-compacted"];
    let cases: [(&Path, &[&str], &[&str]); 5] = [
        (Path::new(KVNODE), &[&etcdutl, "snapshot"], &[]),
        (&etcd, &[&etcdutl, "snapshot"], &bumped),
        (Path::new(KVNODE), &[&etcdutl, "snapshot"], &bumped),
        (&etcd, &[KVNODE, "snapshot"], &[]),
        (Path::new(KVNODE), &[KVNODE, "snapshot"], &[]),
    ];
    for (n, (source, restorer, flags)) in cases.into_iter().enumerate() {
        let mut member =
            Member::launch_as(source, &dir.path().join(format!("source-{n}")), Options::default());
        member.wait_for_log("ready to serve client requests");
        block_on(async {
            write_some(&member.channel(), 1).await;
            let before = Facts::of(&member).await;
            let data = restored(&member, restorer, flags, dir.path(), &format!("restored-{n}"));
            member.kill();
            // The first to run it is another program than the second.
            let (first, second) =
                if n % 2 == 0 { (kvnode(), etcd.clone()) } else { (etcd.clone(), kvnode()) };
            let mut member = Member::launch_as(&first, &data, Options::with(&["--name=core-9"]));
            member.wait_for_log("ready to serve client requests");
            let after = Facts::of(&member).await;
            assert_eq!((&after.keys, &after.leases), (&before.keys, &before.leases));
            let bump = if flags.is_empty() { 0 } else { 1000 };
            assert_eq!(after.revision, before.revision + bump);
            assert_ne!(after.ids.0, before.ids.0);
            assert_eq!(after.members.len(), 1);
            put(&member.channel(), "more", "v").await.unwrap();
            let facts = Facts::of(&member).await;
            member.terminate();
            member.restart_as(&second);
            // The file names the former cluster's voters until kvnode writes one: only the hash of everything tells.
            let Facts { hash, .. } = Facts::of(&member).await;
            assert_eq!(Facts::of(&member).await, Facts { hash, ..facts });
            put(&member.channel(), "and more", "v").await.unwrap();
            let facts = Facts::of(&member).await;
            member.kill();
            member.restart_as(&first);
            let Facts { hash, .. } = Facts::of(&member).await;
            assert_eq!(Facts::of(&member).await, Facts { hash, ..facts });
        });
    }
}

#[test]
fn a_member_goes_on_alone_with_what_it_has() {
    let mut cluster = Cluster::start();
    run(async {
        put(&cluster.members[0].channel(), "k", "v").await.unwrap();
        let before = status(&cluster.members[0]).await.unwrap().header.unwrap();
        cluster.members.iter_mut().for_each(Member::kill);
        let options = Options::with(&["--force-new-cluster"]);
        let mut alone = Member::launch_in(cluster.members[0].data_dir(), options);
        alone.wait_for_log("ready to serve client requests");
        let facts = Facts::of(&alone).await;
        assert_eq!((facts.ids, facts.members.len()), ((before.cluster_id, before.member_id), 1));
        assert_eq!(facts.keys["k"], "v");
        put(&alone.channel(), "more", "v").await.unwrap();
        // The decision is in its log: etcd finds it there.
        let facts = Facts::of(&alone).await;
        alone.kill();
        if let Some(etcd) = find("etcd") {
            alone.restart_as(&etcd);
            let again = Facts::of(&alone).await;
            assert_eq!(
                (again.members, again.keys, again.hash_kv),
                (facts.members, facts.keys, facts.hash_kv)
            );
        }
    });
}
