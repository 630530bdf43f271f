//! Looking after a member: status, members, hashes, alarms, defragmentation, snapshots.

use kvnode_proto::etcdserverpb::{
    AlarmRequest, AlarmType, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseLeasesRequest,
    MemberListRequest, MoveLeaderRequest, PutRequest, RangeRequest, RequestOp, SnapshotRequest,
    StatusRequest, TxnRequest, alarm_request::AlarmAction, cluster_client::ClusterClient,
    kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient,
    request_op::Request,
};
use sha2::{Digest, Sha256};
use tonic::Code;

use crate::support::{Etcdctl, Member, Options, block_on, etcdctl::find};

#[test]
fn status_and_member_list_read_as_a_healthy_etcd() {
    let member = Member::start_with(Options::with(&["--name=core-0", "--initial-cluster-token=t"]));
    let Some(etcdctl) = Etcdctl::new(&member) else { return };
    let members = etcdctl.ok("member list");
    assert!(members.contains(", started, core-0, http://127.0.0.1:"), "{members}");
    let status = etcdctl.ok("endpoint status --write-out=json");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let status = &status[0]["Status"];
    assert_eq!(status["version"], "3.7.3");
    assert_eq!(status["leader"], status["header"]["member_id"]);
    assert!(status.get("errors").is_none(), "{status}");
    assert_eq!(status["dbSizeQuota"], 2_147_483_648u64);
    assert!(etcdctl.ok("endpoint status -w table").contains(" 3.7.3 "));
    assert!(etcdctl.ok("endpoint health --write-out=json").contains("\"health\":true"));
}

#[test]
fn headers_say_what_etcds_say() {
    let member = Member::start();
    block_on(async {
        let mut kv = KvClient::new(member.channel());
        let put = kv.put(PutRequest { key: "k".into(), ..PutRequest::default() }).await.unwrap().into_inner();
        let put = put.header.unwrap();
        assert_eq!(put.revision, 2);
        assert!(put.raft_term > 0 && put.member_id != 0 && put.cluster_id != 0);
        let mut cluster = ClusterClient::new(member.channel());
        let list = cluster.member_list(MemberListRequest { linearizable: true }).await.unwrap().into_inner();
        assert_eq!(list.header.unwrap().revision, 0);
        assert_eq!(list.members[0].id, put.member_id);
        let mut maintenance = MaintenanceClient::new(member.channel());
        assert_eq!(
            maintenance
                .defragment(kvnode_proto::etcdserverpb::DefragmentRequest {})
                .await
                .unwrap()
                .into_inner()
                .header,
            None
        );
        let error = maintenance.move_leader(MoveLeaderRequest { target_id: 5 }).await.unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::FailedPrecondition, "etcdserver: bad leader transferee")
        );
        let hash = maintenance.hash_kv(HashKvRequest { revision: 99 }).await.unwrap_err();
        assert_eq!(hash.code(), Code::OutOfRange);
        let hash = maintenance.hash_kv(HashKvRequest { revision: 0 }).await.unwrap().into_inner();
        assert_eq!((hash.compact_revision, hash.hash_revision), (-1, 2));
    });
}

#[test]
fn an_alarm_stops_writes_and_shows_everywhere_until_disarmed() {
    let member = Member::start();
    block_on(async {
        let mut maintenance = MaintenanceClient::new(member.channel());
        let mut kv = KvClient::new(member.channel());
        let own = maintenance.status(StatusRequest {}).await.unwrap().into_inner().leader;
        let alarm = |action: AlarmAction| AlarmRequest {
            action: action as i32,
            member_id: own,
            alarm: AlarmType::Nospace as i32,
        };
        maintenance.alarm(alarm(AlarmAction::Activate)).await.unwrap();
        let put = PutRequest { key: "k".into(), ..PutRequest::default() };
        let error = kv.put(put.clone()).await.unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded")
        );
        let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.errors, [format!("memberID:{own} alarm:NOSPACE")]);
        assert_eq!(
            member.get("/health"),
            (503, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n".to_owned())
        );
        assert_eq!(member.get("/health?exclude=NOSPACE").0, 200);

        maintenance.alarm(alarm(AlarmAction::Deactivate)).await.unwrap();
        kv.put(put).await.unwrap();
        assert_eq!(member.get("/health"), (200, "{\"health\":\"true\",\"reason\":\"\"}".to_owned()));
    });
}

#[test]
fn listed_alarms_are_those_that_the_cluster_agreed_on() {
    let member = Member::start();
    block_on(async {
        let mut maintenance = MaintenanceClient::new(member.channel());
        let before = maintenance.status(StatusRequest {}).await.unwrap().into_inner().raft_applied_index;
        maintenance.alarm(AlarmRequest::default()).await.unwrap();
        let after = maintenance.status(StatusRequest {}).await.unwrap().into_inner().raft_applied_index;
        assert!(after > before, "asked for without an entry: applied {after}, {before} before");
    });
}

#[test]
fn a_quota_that_is_passed_raises_the_alarm() {
    let member = Member::start_with(Options::with(&["--quota-backend-bytes=100000"]));
    block_on(async {
        let mut maintenance = MaintenanceClient::new(member.channel());
        let mut kv = KvClient::new(member.channel());
        let mut refused = None;
        for n in 0..100 {
            let key = format!("k{n}").into();
            let put = PutRequest { key, value: vec![0; 10_000].into(), ..PutRequest::default() };
            if let Err(error) = kv.put(put).await {
                refused = Some((n, error));
                break;
            }
        }
        let (puts, error) = refused.expect("the quota is kept");
        assert!((2..=10).contains(&puts), "{puts} puts of 10 kB into 100 kB");
        assert_eq!(
            (error.code(), error.message()),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded")
        );
        let raised = maintenance.alarm(AlarmRequest::default()).await.unwrap().into_inner().alarms;
        assert_eq!(raised[0].alarm, AlarmType::Nospace as i32);
        let request = RangeRequest { key: format!("k{puts}").into(), ..RangeRequest::default() };
        assert_eq!(kv.range(request).await.unwrap().into_inner().count, 0, "what was refused is not there");
    });
}

#[test]
fn what_passes_the_quota_is_refused_before_anything_else_and_changes_nothing() {
    let member = Member::start_with(Options::with(&["--quota-backend-bytes=1"]));
    block_on(async {
        let mut kv = KvClient::new(member.channel());
        let mut lease = LeaseClient::new(member.channel());
        let mut maintenance = MaintenanceClient::new(member.channel());
        let put = PutRequest { key: "k".into(), ..PutRequest::default() };
        let txn = |op| TxnRequest { success: vec![RequestOp { request: Some(op) }], ..TxnRequest::default() };
        for refused in [
            kv.put(put.clone()).await.map(drop),
            kv.put(PutRequest::default()).await.map(drop),
            kv.txn(txn(Request::RequestPut(put))).await.map(drop),
            lease.lease_grant(LeaseGrantRequest { id: 7, ttl: 60 }).await.map(drop),
        ] {
            assert_eq!(refused.unwrap_err().message(), "etcdserver: mvcc: database space exceeded");
        }
        let delete = DeleteRangeRequest { key: "k".into(), ..DeleteRangeRequest::default() };
        let nothing = kv.txn(txn(Request::RequestDeleteRange(delete))).await.unwrap().into_inner();
        assert_eq!(nothing.header.unwrap().revision, 1);
        assert_eq!(lease.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases, []);
        let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.errors, [format!("memberID:{} alarm:NOSPACE", status.leader)]);
    });
}

#[test]
fn a_quota_that_is_switched_off_is_told_as_it_was_written() {
    let member = Member::start_with(Options::with(&["--quota-backend-bytes=-1"]));
    block_on(async {
        let mut maintenance = MaintenanceClient::new(member.channel());
        assert_eq!(maintenance.status(StatusRequest {}).await.unwrap().into_inner().db_size_quota, -1);
    });
    assert_eq!(member.metric("etcd_server_quota_backend_bytes"), Some(-1.0));
}

#[test]
fn a_snapshot_ends_with_its_hash_and_counts_down() {
    let member = Member::start();
    block_on(async {
        let mut kv = KvClient::new(member.channel());
        for n in 0..50 {
            let put = PutRequest {
                key: format!("k{n}").into(),
                value: vec![7; 5000].into(),
                ..PutRequest::default()
            };
            kv.put(put).await.unwrap();
        }
        let mut maintenance = MaintenanceClient::new(member.channel());
        let mut stream = maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
        let (mut bytes, mut remaining) = (Vec::new(), None);
        while let Some(message) = stream.message().await.unwrap() {
            assert!(message.blob.len() <= 32 * 1024);
            assert!(!message.version.is_empty());
            if let Some(before) = remaining.replace(message.remaining_bytes) {
                assert!(message.remaining_bytes < before || before == 0);
            }
            bytes.extend_from_slice(&message.blob);
        }
        assert_eq!((remaining, bytes.len() % 512), (Some(0), 32));
        let (image, hash) = bytes.split_at(bytes.len() - 32);
        assert_eq!(Sha256::digest(image).as_slice(), hash);
    });
}

#[test]
fn etcdutl_reads_our_snapshot_and_so_do_we() {
    let member = Member::start();
    let (Some(etcdctl), Some(etcdutl)) = (Etcdctl::new(&member), find("etcdutl")) else { return };
    for n in 0..20 {
        etcdctl.ok(&format!("put key-{n} value"));
    }
    etcdctl.ok("del key-0");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.db");
    etcdctl.ok(&format!("snapshot save {}", file.display()));
    let run = |program: &std::path::Path, output: &str| {
        let output = std::process::Command::new(program)
            .args(["snapshot", "status", file.to_str().unwrap(), "-w", output])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let ours = std::path::Path::new(env!("CARGO_BIN_EXE_kvnode"));
    for output in ["simple", "json", "table"] {
        let (theirs, ours) = (run(&etcdutl, output), run(ours, output));
        assert_eq!(ours, theirs, "{output}");
    }
}

/// Whoever opens snapshots and reads none takes room from other snapshots, until he leaves, and from nothing else.
#[test]
fn snapshots_that_nobody_reads_are_bounded() {
    let member = Member::start();
    block_on(async {
        let mut kv = KvClient::new(member.channel());
        // More than the connection takes unread.
        for n in 0..32 {
            let (key, value) = (format!("k{n}").into(), vec![b'v'; 64 << 10].into());
            kv.put(PutRequest { key, value, ..PutRequest::default() }).await.unwrap();
        }
        let mut idle = MaintenanceClient::new(member.channel());
        let mut unread = Vec::new();
        let refused = loop {
            match idle.snapshot(SnapshotRequest {}).await {
                Ok(stream) => unread.push(stream),
                Err(status) => break status,
            }
            assert!(unread.len() < 100, "as many as it likes");
        };
        assert_eq!((refused.code(), refused.message()), (Code::Unknown, "etcdserver: too many requests"));
        let all = RangeRequest { key: "k".into(), range_end: "l".into(), ..RangeRequest::default() };
        assert_eq!(kv.range(all).await.unwrap().into_inner().kvs.len(), 32);
        drop((unread, idle));
        let mut reader = MaintenanceClient::new(member.channel());
        let mut whole = loop {
            match reader.snapshot(SnapshotRequest {}).await {
                Ok(stream) => break stream.into_inner(),
                Err(status) => assert_eq!(status.message(), refused.message()),
            }
        };
        while whole.message().await.unwrap().is_some() {}
    });
}
