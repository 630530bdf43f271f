//! kvnode and etcd as members of one cluster: who leads, who joins, who replaces whom does not matter.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kvnode_proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, MemberListRequest,
    kv_client::KvClient, lease_client::LeaseClient,
};

use crate::support::{
    KVNODE, Member,
    certificates::Authority,
    cluster::{Cluster, keys, membership, put, status},
    etcdctl::find,
    writer::{Writer, assert_holds, channels, run},
};

/// Waits until every member says that the cluster, and its own file, follow `version`.
async fn wait_for_version(cluster: &Cluster, version: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    for member in &cluster.members {
        loop {
            let (_, versions) = member.get("/version");
            let stored = status(member).await.unwrap().storage_version;
            if versions.contains(&format!("\"etcdcluster\":\"{version}\"")) && stored == version {
                break;
            }
            assert!(Instant::now() < deadline, "{versions} {stored}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What only a leader can do, asked of every member.
async fn lease_through(member: &Member, id: i64) {
    let mut client = LeaseClient::new(member.channel());
    client.lease_grant(LeaseGrantRequest { ttl: 100, id }).await.unwrap();
    let requests = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
    let mut answers = client.lease_keep_alive(requests).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 100);
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let answer = client.lease_time_to_live(request).await.unwrap().into_inner();
    assert!(answer.granted_ttl == 100 && answer.ttl >= 98, "{answer:?}");
}

/// Whoever leads, every member serves everything and holds the same.
async fn exercise(cluster: &Cluster, round: i64) {
    for leader in 0..3 {
        cluster.lead(leader).await;
        for (n, member) in (0i64..).zip(&cluster.members) {
            let id = 1 + round * 100 + i64::try_from(leader).unwrap() * 10 + n;
            put(&member.channel(), &format!("k{}", id % 7), &format!("v{id}")).await.unwrap();
            lease_through(member, id).await;
        }
        let expected = keys(&cluster.members[leader], false).await.unwrap();
        for member in &cluster.members {
            assert_eq!(keys(member, false).await.unwrap(), expected);
        }
        let revision = status(&cluster.members[leader]).await.unwrap().header.unwrap().revision - 2;
        let compaction = CompactionRequest { revision, physical: true };
        KvClient::new(cluster.members[leader].channel()).compact(compaction).await.unwrap();
        cluster.assert_equal_hashes().await;
    }
    let lists = cluster.members.iter().map(|member| {
        let mut client = membership(member);
        async move {
            let request = MemberListRequest { linearizable: true };
            client.member_list(request).await.unwrap().into_inner().members
        }
    });
    let lists = futures::future::join_all(lists).await;
    assert!(lists.iter().all(|list| *list == lists[0]), "{lists:?}");
    assert!(lists[0].iter().all(|member| !member.name.is_empty() && !member.client_ur_ls.is_empty()));
}

#[test]
fn members_of_three_programs_form_one_cluster_whoever_leads() {
    let (Some(etcd), Some(older)) = (find("etcd"), find("etcd-3.6")) else { return };
    let mut cluster = Cluster::start_mixed([Path::new(KVNODE), &etcd, &older], "http", &[]);
    run(async {
        wait_for_version(&cluster, "3.6.0").await;
        exercise(&cluster, 1).await;
        // When the oldest is gone, the others go on as what they are.
        cluster.members[2].terminate();
        cluster.members[2].restart_as(Path::new(KVNODE));
        wait_for_version(&cluster, "3.7.0").await;
        exercise(&cluster, 2).await;
        // One with newer data does not go back unasked.
        cluster.members[0].terminate();
        cluster.members[0].launch_again_as(&older);
        assert!(!cluster.members[0].wait().success());
    });
}

#[test]
fn peers_of_both_kinds_trust_each_other_by_certificate() {
    let Some(etcd) = find("etcd") else { return };
    let dir = tempfile::tempdir().unwrap();
    let flags = Authority::new().install(dir.path(), "member").peer_flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for programs in [[Path::new(KVNODE), &etcd, &etcd], [&etcd, Path::new(KVNODE), Path::new(KVNODE)]] {
        let cluster = Cluster::start_mixed(programs, "https", &flags);
        run(exercise(&cluster, 1));
    }
}

/// Replaces all members of one program by another, one by one, while a writer reads back what it wrote.
fn replace_all(from: &Path, to: &[PathBuf]) {
    // Every joiner needs a snapshot; membership changes need not wait until connections are old.
    let flags = ["--snapshot-count=50", "--snapshot-catchup-entries=5", "--strict-reconfig-check=false"];
    let mut cluster = Cluster::start_mixed([from; 3], "http", &flags);
    run(async {
        let writer = Writer::start_verifying(&channels(&cluster));
        writer.wait_for_more(200).await;
        for program in to {
            for n in 0..3 {
                cluster.replace(n, program).await;
                cluster.members[n].wait_for_log("applied snapshot");
                writer.use_channels(channels(&cluster));
                writer.wait_for_more(100).await;
                cluster.assert_equal_hashes().await;
            }
        }
        eprintln!("longest time without a write: {:?}", writer.longest_gap());
        let acknowledged = writer.end().await;
        for member in &cluster.members {
            assert_holds(&keys(member, false).await.unwrap(), &acknowledged);
        }
        cluster.assert_equal_hashes().await;
    });
}

#[test]
fn kvnode_replaces_etcd_member_by_member_under_writes_and_etcd_kvnode() {
    let Some(etcd) = find("etcd") else { return };
    replace_all(&etcd, &[KVNODE.into(), etcd.clone()]);
}

#[test]
fn kvnode_replaces_the_version_before_member_by_member_under_writes() {
    let Some(older) = find("etcd-3.6") else { return };
    replace_all(&older, &[KVNODE.into()]);
}

#[test]
fn a_member_of_the_version_before_catches_up_from_a_snapshot() {
    let Some(older) = find("etcd-3.6") else { return };
    let flags = ["--snapshot-count=10", "--snapshot-catchup-entries=5"];
    let programs = [Path::new(KVNODE), Path::new(KVNODE), &older];
    let mut cluster = Cluster::start_mixed(programs, "http", &flags);
    run(async {
        wait_for_version(&cluster, "3.6.0").await;
        cluster.members[2].terminate();
        for n in 0..30 {
            put(&cluster.members[0].channel(), &format!("k{n}"), "v").await.unwrap();
        }
        cluster.members[2].restart();
        cluster.members[2].wait_for_log("applied snapshot");
        cluster.assert_equal_hashes().await;
    });
}
