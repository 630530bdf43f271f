//! Members find out when one of them holds other data.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use kvnode_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, HashKvRequest, kv_client::KvClient,
    maintenance_client::MaintenanceClient,
};
use rustix::process::Signal;

use crate::support::{
    KVNODE, Member,
    cluster::{Cluster, put, status},
    etcdctl::find,
    writer::run,
};

/// Writes `value` into the file of an ended member wherever `key`'s value stands, without a trace in any checksum that a
/// program would look at: etcd's pages have none, and a file of another length has lost kvnode's trailer.
fn corrupt(member: &Member, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let path = member.data_dir().join("member/snap/db");
    let mut bytes = fs::read(&path).unwrap();
    let found: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, part)| *part == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!found.is_empty(), "{from} is not in {}", path.display());
    for at in found {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    if bytes.len() % 512 == 32 {
        bytes.truncate(bytes.len() - 32);
    }
    fs::write(&path, bytes).unwrap();
}

async fn corrupt_alarms(member: &Member) -> Vec<u64> {
    let request = AlarmRequest { alarm: AlarmType::Corrupt as i32, ..AlarmRequest::default() };
    let alarms = MaintenanceClient::new(member.channel()).alarm(request).await.unwrap().into_inner().alarms;
    alarms.iter().filter(|a| a.alarm == AlarmType::Corrupt as i32).map(|a| a.member_id).collect()
}

async fn wait_for_corrupt_alarm(member: &Member) -> Vec<u64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = corrupt_alarms(member).await;
        if !found.is_empty() {
            return found;
        }
        assert!(Instant::now() < deadline, "no alarm");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the member has the hash of the compaction to `revision` that came after the one to `compacted`.
async fn wait_for_hash(member: &Member, revision: i64, compacted: i64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut client = MaintenanceClient::new(member.channel());
    loop {
        let found = client.hash_kv(HashKvRequest { revision }).await.map(tonic::Response::into_inner);
        if found.as_ref().is_ok_and(|hash| hash.compact_revision == compacted) {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A cluster in which one follower, which is ended, has other data than its log says. Returns its position.
async fn with_a_corrupt_follower(cluster: &mut Cluster) -> usize {
    let leader = cluster.leader().await;
    let follower = cluster.other_than(leader);
    for n in 0..30 {
        put(&cluster.members[leader].channel(), &format!("key-{n:02}"), "good value").await.unwrap();
    }
    let revision = status(&cluster.members[leader]).await.unwrap().header.unwrap().revision;
    let mut client = MaintenanceClient::new(cluster.members[follower].channel());
    while status(&cluster.members[follower]).await.unwrap().header.unwrap().revision < revision {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // So that the values are in the file and not read from the log again.
    client.defragment(kvnode_proto::etcdserverpb::DefragmentRequest {}).await.unwrap();
    cluster.members[follower].signal(Signal::TERM);
    cluster.members[follower].wait();
    corrupt(&cluster.members[follower], "good value", "evil value");
    follower
}

#[test]
fn a_member_with_other_data_than_its_peers_refuses_to_start() {
    let flags = ["--feature-gates=InitialCorruptCheck=true"];
    let mut cluster = Cluster::start_with(&flags);
    run(async {
        let bad = with_a_corrupt_follower(&mut cluster).await;
        cluster.members[bad].launch_again();
        let line = cluster.members[bad].wait_for_log("found data inconsistency with peers");
        cluster.members[bad].wait_for_log("found different hash values from remote peer");
        assert_eq!(cluster.members[bad].wait().code(), Some(1), "{line}");
    });
}

#[test]
fn a_healthy_member_passes_the_check_among_members_of_both_kinds() {
    let Some(etcd) = find("etcd") else { return };
    let flags = ["--feature-gates=InitialCorruptCheck=true"];
    let mut cluster = Cluster::start_mixed([Path::new(KVNODE), &etcd, Path::new(KVNODE)], "http", &flags);
    run(async {
        put(&cluster.members[0].channel(), "k", "v").await.unwrap();
        for n in 0..3 {
            cluster.members[n].kill_and_restart();
            cluster.members[n].wait_for_log("initial corruption checking passed; no corruption");
            assert!(!cluster.members[n].log_text().contains("failed hash kv request"));
        }
    });
}

#[test]
fn the_leader_compares_members_and_raises_an_alarm() {
    for etcd in [None, find("etcd")] {
        let flags = ["--corrupt-check-time=1s"];
        let other = etcd.as_deref().unwrap_or(Path::new(KVNODE));
        let mut cluster = Cluster::start_mixed([Path::new(KVNODE), Path::new(KVNODE), other], "http", &flags);
        run(async {
            cluster.lead(0).await;
            cluster.members[0].wait_for_log("finished peer corruption check");
            assert!(corrupt_alarms(&cluster.members[0]).await.is_empty());
            let bad = with_a_corrupt_follower(&mut cluster).await;
            cluster.members[bad].restart();
            let id = status(&cluster.members[bad]).await.unwrap().header.unwrap().member_id;
            assert_eq!(wait_for_corrupt_alarm(&cluster.members[0]).await, [id]);
            let error = put(&cluster.members[0].channel(), "k", "v").await.unwrap_err();
            assert!(error.message().contains("etcdserver: corrupt cluster"), "{error}");
            assert!(cluster.members[0].get("/health").1.contains("ALARM CORRUPT"));
        });
    }
}

#[test]
fn compactions_are_hashed_as_etcd_does_and_compared() {
    let Some(etcd) = find("etcd") else { return };
    let flags = ["--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=1s"];
    let mut cluster = Cluster::start_mixed([Path::new(KVNODE), &etcd, Path::new(KVNODE)], "http", &flags);
    run(async {
        cluster.lead(0).await;
        for n in 0..24 {
            put(&cluster.members[0].channel(), &format!("key-{:02}", n % 5), "v").await.unwrap();
            if n % 2 == 1 {
                let compaction = CompactionRequest { revision: n + 1, physical: true };
                KvClient::new(cluster.members[0].channel()).compact(compaction).await.unwrap();
            }
        }
        cluster.members[0].wait_for_log("successfully checked hash on whole cluster");
        cluster.members[0].wait_for_log("finished compaction hash check");
        // A follower compacts in its own time; with the newest hash remembered the eleventh is gone.
        for member in &cluster.members {
            wait_for_hash(member, 24, 22).await;
        }
        // The last ten, with the compaction before them; older ones are gone.
        for revision in (4..=24).step_by(2) {
            let mut found = Vec::new();
            for member in &cluster.members {
                let mut client = MaintenanceClient::new(member.channel());
                let answer = client.hash_kv(HashKvRequest { revision }).await;
                found.push(answer.map(|a| {
                    let a = a.into_inner();
                    (a.hash, a.compact_revision, a.hash_revision)
                }));
            }
            let told: Vec<_> = found.iter().map(|f| f.as_ref().map_err(|e| e.message())).collect();
            assert!(told.iter().all(|t| *t == told[0]), "at revision {revision}: {told:?}");
            match &told[0] {
                Ok((_, compacted, at)) => {
                    assert!(revision > 4 && *at == revision && *compacted == revision - 2);
                }
                Err(e) => assert!(revision == 4 && e.contains("compacted"), "at revision {revision}: {e}"),
            }
        }
        assert!(corrupt_alarms(&cluster.members[0]).await.is_empty());

        let bad = with_a_corrupt_follower(&mut cluster).await;
        cluster.members[bad].restart();
        cluster.lead(0).await;
        let id = status(&cluster.members[bad]).await.unwrap().header.unwrap().member_id;
        let revision = status(&cluster.members[0]).await.unwrap().header.unwrap().revision;
        let compaction = CompactionRequest { revision, physical: true };
        KvClient::new(cluster.members[0].channel()).compact(compaction).await.unwrap();
        assert_eq!(wait_for_corrupt_alarm(&cluster.members[0]).await, [id]);
        cluster.members[0].wait_for_log("Detected compaction hash mismatch");
    });
}
