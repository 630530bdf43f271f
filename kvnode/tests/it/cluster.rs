//! Three members: elections, crashes under writes, catching up, membership, leases and leadership.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use kvnode_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, MemberAddRequest, MemberListRequest,
    MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest, PutRequest,
    RangeRequest, cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient,
};
use rustix::process::Signal;

use crate::support::{
    Member, Options,
    certificates::{Authority, trusting},
    cluster::{Cluster, keys, membership, put, status},
    free_ports,
    writer::{Writer, assert_holds, channels, retry, run},
};

#[test]
fn every_member_takes_writes_and_all_read_the_same() {
    let cluster = Cluster::start();
    run(async {
        let mut expected = BTreeMap::new();
        for (n, channel) in channels(&cluster).iter().enumerate() {
            put(channel, &format!("k{n}"), "v").await.unwrap();
            expected.insert(format!("k{n}"), "v".to_owned());
            for member in &cluster.members {
                assert_eq!(
                    keys(member, false).await.unwrap(),
                    expected,
                    "a linearizable read sees the write"
                );
            }
        }
        let leaders: Vec<_> = [0, 1, 2].map(|n| status(&cluster.members[n])).into_iter().collect();
        let leaders = futures::future::join_all(leaders).await;
        assert!(leaders.iter().all(|s| s.as_ref().unwrap().leader == leaders[0].as_ref().unwrap().leader));
    });
}

#[test]
fn a_killed_leader_loses_no_acknowledged_write() {
    let mut cluster = Cluster::start();
    run(async {
        let writer = Writer::start(&channels(&cluster));
        for _ in 0..2 {
            writer.wait_for_more(100).await;
            let leader = cluster.leader().await;
            cluster.members[leader].kill();
            writer.wait_for_more(100).await;
            cluster.members[leader].restart();
        }
        writer.wait_for_more(50).await;
        eprintln!("longest time without a write: {:?}", writer.longest_gap());
        let acknowledged = writer.end().await;
        for member in &cluster.members {
            assert_holds(&keys(member, false).await.unwrap(), &acknowledged);
        }
    });
}

#[test]
fn a_killed_sole_member_loses_no_acknowledged_write() {
    let mut member = Member::start();
    run(async {
        let mut all = BTreeMap::new();
        for _ in 0..3 {
            let writer = Writer::start(&[member.channel()]);
            writer.wait_for_more(300).await;
            member.kill();
            all.extend(writer.end().await);
            member.restart();
            assert_holds(&keys(&member, false).await.unwrap(), &all);
        }
    });
}

#[test]
fn killing_all_members_at_once_loses_no_acknowledged_write() {
    let mut cluster = Cluster::start();
    run(async {
        let before = status(&cluster.members[0]).await.unwrap().header.unwrap();
        let writer = Writer::start(&channels(&cluster));
        writer.wait_for_more(300).await;
        cluster.members.iter_mut().for_each(Member::kill);
        let acknowledged = writer.end().await;
        for member in &mut cluster.members {
            member.launch_again();
        }
        cluster.leader().await;
        for member in &cluster.members {
            assert_holds(&keys(member, false).await.unwrap(), &acknowledged);
        }
        let after = status(&cluster.members[0]).await.unwrap().header.unwrap();
        assert_eq!((before.cluster_id, before.member_id), (after.cluster_id, after.member_id));
    });
}

/// A follower that was away while keys were written, and these keys.
async fn write_past_a_follower(cluster: &mut Cluster) -> (usize, BTreeMap<String, String>) {
    let away = cluster.other_than(cluster.leader().await);
    cluster.members[away].kill();
    let mut expected = BTreeMap::new();
    let channel = cluster.members[cluster.other_than(away)].channel();
    for n in 0..200 {
        put(&channel, &format!("k{n:03}"), "v").await.unwrap();
        expected.insert(format!("k{n:03}"), "v".to_owned());
    }
    cluster.members[away].restart();
    (away, expected)
}

#[test]
fn a_member_that_was_down_catches_up_from_the_log() {
    let mut cluster = Cluster::start();
    run(async {
        let (away, expected) = write_past_a_follower(&mut cluster).await;
        cluster.wait_for_keys(away, &expected).await;
        let (_, metrics) = cluster.members[away].get_metrics_port("/metrics");
        let received = "etcd_network_snapshot_receive_success{";
        assert!(
            !metrics.lines().any(|l| l.starts_with(received) && !l.ends_with(" 0")),
            "the log was enough"
        );
    });
}

#[test]
fn a_member_that_was_down_for_long_catches_up_from_a_snapshot() {
    let mut cluster = Cluster::start_with(&["--snapshot-count=20", "--snapshot-catchup-entries=5"]);
    run(async {
        let (away, mut expected) = write_past_a_follower(&mut cluster).await;
        cluster.members[away].wait_for_log("applied snapshot");
        cluster.wait_for_keys(away, &expected).await;
        // What it received is its own now: it starts from it, and goes on.
        cluster.members[away].kill_and_restart();
        cluster.wait_for_keys(away, &expected).await;
        put(&cluster.members[away].channel(), "after", "v").await.unwrap();
        expected.insert("after".to_owned(), "v".to_owned());
        for n in 0..3 {
            cluster.wait_for_keys(n, &expected).await;
        }
    });
}

#[test]
fn checkpoints_shorten_a_restart_and_lose_nothing() {
    let mut member = Member::start_with(Options::with(&["--snapshot-count=50"]));
    run(async {
        let mut expected = BTreeMap::new();
        for n in 0..300 {
            put(&member.channel(), &format!("k{n:03}"), "v").await.unwrap();
            expected.insert(format!("k{n:03}"), "v".to_owned());
        }
        member.wait_for_log("saved snapshot");
        member.kill_and_restart();
        let line = member.wait_for_log("restarting local member");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(line["snapshot-index"].as_u64().unwrap() > 0, "{line}");
        assert!(line["entries"].as_u64().unwrap() < 300, "{line}");
        assert_eq!(keys(&member, false).await.unwrap(), expected);
    });
}

#[test]
fn a_learner_joins_catches_up_and_is_promoted_through_a_follower() {
    let mut cluster = Cluster::start();
    run(async {
        let leader = cluster.leader().await;
        let follower = cluster.other_than(leader);
        put(&cluster.members[leader].channel(), "before", "v").await.unwrap();
        let url = cluster.new_peer_url();
        let client = membership(&cluster.members[follower]);
        let request = MemberAddRequest { peer_ur_ls: vec![url], is_learner: true };
        let added =
            retry("unhealthy cluster", async || client.clone().member_add(request.clone()).await).await;
        let added = added.member.unwrap();
        assert!(added.is_learner && added.name.is_empty());
        cluster.join();
        let request = MemberPromoteRequest { id: added.id };
        let promoted =
            retry("in sync with leader", async || client.clone().member_promote(request).await).await;
        assert!(promoted.members.iter().all(|m| !m.is_learner) && promoted.members.len() == 4);
        let again = client.clone().member_promote(request).await.unwrap_err();
        assert!(again.message().contains("can only promote a learner member"), "{again}");
        let series =
            "etcd_server_learner_promote_failures{Reason=\"etcdserver: can only promote a learner member\"}";
        assert!(cluster.members.iter().any(|member| member.metric(series) >= Some(1.0)));
        let channel = cluster.members[3].channel();
        // It learns of its promotion a moment after the leader.
        retry("not supported for learner", async || {
            put(&channel, "after", "v").await.map(tonic::Response::new)
        })
        .await;
        assert_eq!(keys(&cluster.members[3], false).await.unwrap().len(), 2);
    });
}

/// Raft takes one change at a time, and etcd drops what comes meanwhile: whoever asked for it runs into a timeout.
#[test]
fn membership_changes_asked_for_at_the_same_time_wait_for_each_other() {
    let cluster = Cluster::start();
    run(async {
        let channels = channels(&cluster);
        let members = membership(&cluster.members[0])
            .member_list(MemberListRequest::default())
            .await
            .unwrap()
            .into_inner();
        let updates = channels.iter().flat_map(|channel| {
            members.members.iter().map(async |member| {
                let same = MemberUpdateRequest { id: member.id, peer_ur_ls: member.peer_ur_ls.clone() };
                ClusterClient::new(channel.clone()).member_update(same).await
            })
        });
        for outcome in futures::future::join_all(updates).await {
            assert_eq!(outcome.unwrap().into_inner().members.len(), 3);
        }
    });
}

#[test]
fn a_removed_member_stops_by_itself_and_the_others_go_on() {
    let mut cluster = Cluster::start();
    run(async {
        let leader = cluster.leader().await;
        let id = status(&cluster.members[leader]).await.unwrap().header.unwrap().member_id;
        let other = cluster.other_than(leader);
        let client = membership(&cluster.members[other]);
        let request = MemberRemoveRequest { id };
        retry("unhealthy cluster", async || client.clone().member_remove(request).await).await;
        cluster.members[leader].wait_for_log("the member has been permanently removed from the cluster");
        cluster.members[leader].wait();
        cluster.members.remove(leader);
        cluster.leader().await;
        put(&cluster.members[0].channel(), "after", "v").await.unwrap();
        let list = membership(&cluster.members[0])
            .member_list(MemberListRequest { linearizable: true })
            .await
            .unwrap();
        assert_eq!(list.into_inner().members.len(), 2);
        let error =
            membership(&cluster.members[0]).member_remove(MemberRemoveRequest { id }).await.unwrap_err();
        assert!(error.message().contains("member not found"), "{error}");
    });
}

#[test]
fn leadership_moves_on_request_and_before_an_orderly_end() {
    let mut cluster = Cluster::start();
    run(async {
        let leader = cluster.leader().await;
        let to = cluster.other_than(leader);
        let target_id = status(&cluster.members[to]).await.unwrap().header.unwrap().member_id;
        let mut wrong = MaintenanceClient::new(cluster.members[to].channel());
        let error = wrong.move_leader(MoveLeaderRequest { target_id }).await.unwrap_err();
        assert!(error.message().contains("not leader"), "{error}");
        let mut right = MaintenanceClient::new(cluster.members[leader].channel());
        let start = Instant::now();
        right.move_leader(MoveLeaderRequest { target_id }).await.unwrap();
        eprintln!("leadership moved in {:?}", start.elapsed());
        assert_eq!(cluster.leader().await, to);

        let writer = Writer::start(&channels(&cluster));
        writer.wait_for_more(50).await;
        cluster.members[to].signal(Signal::TERM);
        cluster.members[to].wait();
        writer.wait_for_more(100).await;
        eprintln!("longest time without a write: {:?}", writer.longest_gap());
        let acknowledged = writer.end().await;
        let rest = cluster.other_than(to);
        assert!(cluster.members[to].log_text().contains("leadership transfer finished"));
        assert_holds(&keys(&cluster.members[rest], false).await.unwrap(), &acknowledged);
    });
}

#[test]
fn a_lease_lives_by_keepalives_through_a_follower_and_dies_without_them_after_a_new_election() {
    let mut cluster = Cluster::start();
    run(async {
        let leader = cluster.leader().await;
        let follower = cluster.other_than(leader);
        let mut leases = LeaseClient::new(cluster.members[follower].channel());
        let granted = leases.lease_grant(LeaseGrantRequest { ttl: 2, id: 77 }).await.unwrap().into_inner();
        assert_eq!((granted.id, granted.ttl), (77, 2));
        let request = PutRequest { key: "k".into(), value: "v".into(), lease: 77, ..PutRequest::default() };
        KvClient::new(cluster.members[follower].channel()).put(request).await.unwrap();
        for _ in 0..3 {
            let stream = futures::stream::iter([LeaseKeepAliveRequest { id: 77 }]);
            let answer =
                leases.lease_keep_alive(stream).await.unwrap().into_inner().message().await.unwrap().unwrap();
            assert_eq!(answer.ttl, 2, "renewed at the leader");
        }
        let ask = LeaseTimeToLiveRequest { id: 77, keys: true };
        let ttl = leases.lease_time_to_live(ask).await.unwrap().into_inner();
        assert_eq!((ttl.granted_ttl, ttl.keys), (2, vec!["k".into()]));
        cluster.members[leader].kill();
        cluster.members.remove(leader);
        let survivor = follower - usize::from(leader < follower);
        let mut leases = LeaseClient::new(cluster.members[survivor].channel());
        cluster.wait_for_keys(survivor, &BTreeMap::new()).await;
        let ttl = leases.lease_time_to_live(ask).await.unwrap().into_inner();
        assert_eq!(ttl.ttl, -1);
        let stream = futures::stream::iter([LeaseKeepAliveRequest { id: 77 }]);
        let answer =
            leases.lease_keep_alive(stream).await.unwrap().into_inner().message().await.unwrap().unwrap();
        assert_eq!(answer.ttl, 0);
    });
}

#[test]
fn a_leader_that_slept_through_an_election_answers_nothing_old() {
    let cluster = Cluster::start();
    run(async {
        let sleeper = cluster.leader().await;
        let awake = cluster.other_than(sleeper);
        put(&cluster.members[awake].channel(), "k", "old").await.unwrap();
        // Connected before it sleeps, so that the read is in its hands the moment it wakes.
        let mut client = KvClient::new(cluster.members[sleeper].channel());
        let read = RangeRequest { key: "k".into(), ..RangeRequest::default() };
        client.range(read.clone()).await.unwrap();
        cluster.members[sleeper].signal(Signal::STOP);
        let channel = cluster.members[awake].channel();
        let deadline = Instant::now() + Duration::from_secs(60);
        while put(&channel, "k", "new").await.is_err() {
            assert!(Instant::now() < deadline, "nobody else was elected");
        }
        let waiting = tokio::spawn(async move { client.range(read).await });
        cluster.members[sleeper].signal(Signal::CONT);
        match waiting.await.unwrap() {
            Ok(answer) => assert_eq!(answer.into_inner().kvs[0].value, "new"),
            Err(e) => assert!(e.message().contains("leader changed"), "{e}"),
        }
        cluster.wait_for_keys(sleeper, &[("k".to_owned(), "new".to_owned())].into()).await;
    });
}

#[test]
fn peers_meet_over_mutual_tls_and_take_new_certificates_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().install(dir.path(), "peer");
    let mut cluster = Cluster::start_secure(&files);
    run(async {
        put(&cluster.members[0].channel(), "k", "v").await.unwrap();
        // Another authority, another leaf: only members that read both again can speak with the one that starts now.
        Authority::new().install(dir.path(), "peer");
        let follower = cluster.other_than(cluster.leader().await);
        cluster.members[follower].kill_and_restart();
        put(&cluster.members[follower].channel(), "l", "v").await.unwrap();
        let expected = ["k", "l"].map(|key| (key.to_owned(), "v".to_owned())).into();
        for n in 0..3 {
            cluster.wait_for_keys(n, &expected).await;
        }
        // A stranger with a certificate of its own authority is turned away.
        let port = cluster.peer_port(0);
        let stranger = Authority::new().install(&dir.path().join("stranger"), "stranger");
        let position = cluster.members[0].log_position();
        let curl = std::process::Command::new("curl")
            .args(["-sk", "--max-time", "5", "--cert"])
            .arg(&stranger.cert)
            .arg("--key")
            .arg(&stranger.key)
            .arg(format!("https://127.0.0.1:{port}/members"))
            .output();
        if let Ok(output) = curl {
            assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
            cluster.members[0].wait_for_log_after(position, "rejected connection on peer endpoint");
        }
    });
}

/// etcd's peers need no authority of their own where the system trusts the one that signed their certificates.
#[test]
fn peers_whose_authority_no_flag_names_are_trusted_as_the_system_trusts_them() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().install(dir.path(), "peer");
    let flags = [("cert", &files.cert), ("key", &files.key)];
    let flags = flags.map(|(name, path)| format!("--peer-{name}-file={}", path.display()));
    let flags = flags.each_ref().map(String::as_str);

    let system = trusting(dir.path(), "kvnode", &files.ca);
    let mut cluster = Cluster::start_mixed([&system; 3], "https", &flags);
    run(async {
        put(&cluster.members[0].channel(), "k", "v").await.unwrap();
        // One that runs on a system with other authorities believes nobody.
        let other = Authority::new().install(&dir.path().join("other"), "other").ca;
        let follower = cluster.other_than(cluster.leader().await);
        cluster.members[follower].kill();
        cluster.members[follower].launch_again_as(&trusting(dir.path(), "stranger", &other));
        cluster.members[follower].wait_for_log("invalid peer certificate");
    });
}

/// A member that waits for its ticket.
struct Ticketed {
    member: Member,
    file: std::path::PathBuf,
    peer_url: String,
    _dir: tempfile::TempDir,
}

fn ticketed(name: &str) -> Ticketed {
    let dir = tempfile::tempdir().unwrap();
    let [port] = free_ports();
    let (file, peer_url) = (dir.path().join("ticket"), format!("http://127.0.0.1:{port}"));
    let arguments = [
        format!("--name={name}"),
        format!("--ticket-file={}", file.display()),
        format!("--ticket-holder=holder-{name}"),
        "--initial-cluster-token=uid-1".to_owned(),
        format!("--listen-peer-urls={peer_url}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
    ];
    let options = Options { arguments: arguments.to_vec(), scheme_tls: false };
    let member = Member::launch_in(&dir.path().join("data"), options);
    Ticketed { file, member, peer_url, _dir: dir }
}

#[test]
fn a_member_with_a_ticket_file_begins_only_when_its_ticket_admits_it() {
    let mut seed = ticketed("seed");
    seed.member.wait_for_log("waiting for an admission ticket");
    let (code, text) = seed.member.get_metrics_port("/readyz");
    assert_eq!(code, 503, "{text}");
    assert!(text.contains("waiting for a ticket"), "{text}");
    assert_eq!(seed.member.get_metrics_port("/livez").0, 200);

    let id = kvnode_mvcc::membership::id::bootstrap_member_id(&[seed.peer_url.clone()], "uid-1");
    let create = |holder: &str| {
        format!(
            r#"{{"version":1,"kind":"create","clusterUID":"uid-1","podUID":"{holder}","memberID":"{:016x}"}}"#,
            id.0
        )
    };
    fs::write(&seed.file, create("somebody-else")).unwrap();
    seed.member.wait_for_log("refused an admission ticket");
    fs::write(&seed.file, create("holder-seed")).unwrap();
    seed.member.wait_for_log("ready to serve client requests");

    let mut joiner = ticketed("joiner");
    run(async {
        put(&seed.member.channel(), "k", "v").await.unwrap();
        let request = MemberAddRequest { peer_ur_ls: vec![joiner.peer_url.clone()], is_learner: true };
        let answer = membership(&seed.member).member_add(request).await.unwrap().into_inner();
        let members: Vec<_> = answer
            .members
            .iter()
            .map(|m| {
                serde_json::json!({"id": format!("{:016x}", m.id), "name": m.name, "peerURLs": m.peer_ur_ls, "isLearner": m.is_learner})
            })
            .collect();
        let added = answer.member.unwrap();
        let ticket = serde_json::json!({
            "version": 1, "kind": "join", "clusterUID": "uid-1", "podUID": "holder-joiner",
            "memberID": format!("{:016x}", added.id),
            "clusterID": format!("{:016x}", answer.header.unwrap().cluster_id), "members": members,
        });
        fs::write(&joiner.file, ticket.to_string()).unwrap();
        joiner.member.wait_for_log("ready to serve client requests");
        let request = MemberPromoteRequest { id: added.id };
        let client = membership(&seed.member);
        retry("in sync with leader", async || client.clone().member_promote(request).await).await;
        let channel = joiner.member.channel();
        // It learns of its promotion a moment after the leader.
        retry("not supported for learner", async || put(&channel, "l", "v").await.map(tonic::Response::new))
            .await;
        assert_eq!(keys(&joiner.member, false).await.unwrap().len(), 2);
    });

    // With data of its cluster no ticket is needed any more, and another cluster's data is refused by name.
    fs::remove_file(&seed.file).unwrap();
    fs::remove_file(&joiner.file).unwrap();
    seed.member.kill_and_restart();
    joiner.member.kill_and_restart();
    seed.member.kill();
    let options = Options::with(&["--initial-cluster-token=uid-2"]);
    let mut stranger = Member::launch_in(seed.member.data_dir(), options);
    stranger.wait_for_log("identity.json says that this volume belongs to cluster uid-1, not uid-2");
    assert_eq!(stranger.wait().code(), Some(1));
}
