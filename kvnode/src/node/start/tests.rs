//! Members on a simulated disk: whatever was acknowledged when the power went is there afterwards, at any moment and for
//! anything the disk may have lost.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use kvnode_mvcc::{MemberId, RaftIndex, Store, Term, validate};
use kvnode_proto::{
    etcdserverpb::{
        InternalRaftRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
    },
    membershippb::ClusterVersionSetRequest,
    raftpb, walpb,
};
use kvnode_storage::{
    checkpoint,
    identity::{Identity as IdentityFile, Origin},
    layout::DataDir,
    vfs::{CrashPlan, SimDisk},
    wal::{Preparation, WalOptions},
};

use prost::Message;

use super::{Boot, Disk, Recovered, StartError, fresh, recover, start_on};
use crate::{
    auth::Tokens,
    flags::config::{ClusterState, Config, MetricsLevel},
    metrics::Metrics,
    node::{Node, NodeError, ViewSource},
};

fn config() -> Config {
    // Nobody dials it: any port that is free when it listens will do.
    let url: crate::flags::url::Url = "http://127.0.0.1:0".parse().expect("a URL");
    let mut config = Config::default();
    config.name = "m0".to_owned();
    config.initial_cluster_token = "token".to_owned();
    config.listen_peer_urls = vec![url.clone()];
    config.initial_advertise_peer_urls = vec![url.clone()];
    config.initial_cluster = [("m0".to_owned(), vec![url])].into();
    config.snapshot_count = 40;
    config.snapshot_catchup_entries = 5;
    config
}

/// Small segments, so that the log is cut now and then.
fn disk(sim: &SimDisk) -> Disk {
    let data_dir = DataDir::new("/data");
    let wal_options = WalOptions { segment_bytes: 8192, preparation: Preparation::Inline };
    Disk { vfs: Arc::new(sim.clone()), wal_dir: data_dir.wal(), data_dir, wal_options }
}

async fn start(sim: &SimDisk, config: &Config) -> Result<Node, StartError> {
    let tokens = Arc::new(Tokens::load(config).unwrap());
    start_on(&disk(sim), config, Metrics::new(MetricsLevel::Basic), tokens, &Boot::default()).await
}

/// A new sole member whose checkpoint holds `request`, applied at index 9 of term 2, and whose log does not.
fn create_ahead_of_log(sim: &SimDisk, config: &Config, request: &InternalRaftRequest) -> Recovered {
    let disk = disk(sim);
    let members = fresh::initial_members(config);
    let own = members[0].id;
    let mut recovered = fresh::create_with(config, &disk, members, own).expect("an empty disk");
    recovered.store.apply(RaftIndex(9), Term(2), request).expect("members may always agree");
    recovered.store.set_conf_state(raftpb::ConfState { voters: vec![own.0], ..Default::default() });
    let view = recovered.store.publish().view;
    checkpoint::write(sim, &disk.data_dir, &ViewSource(&view)).expect("power is on");
    recovered
}

/// etcd's default of `--max-txn-ops`.
const MAX_TXN_OPS: usize = 128;

fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().expect("a runtime").block_on(test);
}

fn put(key: &str) -> InternalRaftRequest {
    let put = PutRequest {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(vec![b'v'; 100]),
        ..PutRequest::default()
    };
    InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() }
}

fn keys(node: &Node) -> BTreeSet<String> {
    let all = RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..RangeRequest::default() };
    let found = node.reader().view().range(&all).expect("the newest revision");
    found.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.to_key_value().key).into_owned()).collect()
}

/// Writes through a member until its disk loses power; returns what was acknowledged.
async fn write_until_dark(node: &Node, prefix: &str) -> BTreeSet<String> {
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let writers = (0..4).map(|w| {
        let (node, acknowledged, prefix) = (node.clone(), Arc::clone(&acknowledged), prefix.to_owned());
        async move {
            for n in 0.. {
                let key = format!("{prefix}-{w}-{n}");
                if node.propose(put(&key)).await.is_err() {
                    return;
                }
                acknowledged.lock().expect("no panic").insert(key);
            }
        }
    });
    futures::future::join_all(writers).await;
    let acknowledged = acknowledged.lock().expect("no panic");
    acknowledged.clone()
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    run(async {
        let config = config();
        let mut sim = SimDisk::new();
        let mut acknowledged = BTreeSet::new();
        for life in 0..12u64 {
            // From within the first sync of all to behind the first checkpoints.
            sim.arm(CrashPlan::AtChange(life * life * 3));
            match start(&sim, &config).await {
                Ok(node) => {
                    node.linearize().await.ok();
                    let found = keys(&node);
                    let lost: Vec<_> = acknowledged.difference(&found).collect();
                    assert!(
                        lost.is_empty(),
                        "life {life} lost {} of {}: {lost:?}",
                        lost.len(),
                        acknowledged.len()
                    );
                    acknowledged.extend(write_until_dark(&node, &format!("life{life}")).await);
                    node.stop().await;
                }
                // The power went while it started.
                Err(e) => assert!(!sim.powered(), "life {life}: {e}"),
            }
            sim = sim.crash(life);
        }
        assert!(acknowledged.len() > 100, "only {} writes were tried", acknowledged.len());
    });
}

#[test]
fn a_received_snapshot_is_put_in_place_whenever_the_power_went() {
    run(async {
        let config = config();
        // A state to receive: that of another member of the same cluster.
        let other = SimDisk::new();
        let node = start(&other, &config).await.expect("a new cluster");
        for n in 0..100 {
            node.propose(put(&format!("k{n}"))).await.expect("a sole member takes writes");
        }
        let view = node.reader().view();
        let (index, term) = view.applied();
        let meta = raftpb::SnapshotMetadata { index: index.0, term: term.0, conf_state: view.conf_state() };
        node.stop().await;

        for power in 0.. {
            let sim = SimDisk::new();
            let disk = disk(&sim);
            let members = fresh::initial_members(&config);
            let own = members[0].id;
            let mut recovered = fresh::create_with(&config, &disk, members, own).expect("an empty disk");
            checkpoint::write(
                &sim,
                &disk.data_dir,
                &ViewSource(&Store::new(super::assemble::store_config(&config)).view()),
            )
            .expect("power is on");
            checkpoint::write_to(&sim, &disk.data_dir.received_snapshot(index.0), &ViewSource(&view))
                .expect("power is on");
            sim.arm(CrashPlan::AtChange(power));
            let mark = crate::node::mark_of(&meta);
            let hard_state = raftpb::HardState { term: term.0, vote: 0, commit: index.0 };
            let marked = recovered.wal.install_snapshot(&mark, Some(&hard_state)).is_ok();
            let installed = marked
                && checkpoint::install(&sim, &disk.data_dir, &disk.data_dir.received_snapshot(index.0))
                    .is_ok();
            drop(recovered);
            let after = sim.crash(power);
            let back =
                recover::recover(&config, &self::disk(&after), &Boot::default()).await.expect("a whole disk");
            let found = back.store.applied().0;
            assert!(
                found == index || (found.0 == 0 && !marked),
                "after change {power}: at {found}, marked: {marked}"
            );
            if installed {
                return;
            }
        }
    });
}

#[test]
fn who_joins_is_known_by_name_and_not_held_to_what_it_advertises() {
    run(async {
        let (mut config, sim) = (config(), SimDisk::new());
        config.initial_cluster_state = ClusterState::Existing;
        config.initial_advertise_peer_urls = vec!["http://127.0.0.2:1".parse().expect("a URL")];
        let error = start(&sim, &config).await.err().expect("there is nobody to join").to_string();
        assert!(error.starts_with("cannot fetch cluster info from peer urls"), "{error}");
        config.name = "m1".to_owned();
        let error = start(&sim, &config).await.err().expect("must be refused").to_string();
        assert!(error.starts_with("couldn't find local name \"m1\""), "{error}");
    });
}

#[test]
fn files_that_say_no_version_follow_the_cluster() {
    run(async {
        let (config, sim) = (config(), SimDisk::new());
        // As etcd leaves it when it stops between the cluster's step to a version and its own.
        let version = ClusterVersionSetRequest { ver: "3.7.0".to_owned() };
        let request =
            InternalRaftRequest { cluster_version_set: Some(version), ..InternalRaftRequest::default() };
        let mut recovered = create_ahead_of_log(&sim, &config, &request);
        let view = recovered.store.view();
        assert_eq!((view.storage_version(), view.schema_version()), (None, Some("3.5.0".to_owned())));
        let (index, term) = view.applied();
        let mark = walpb::Snapshot { index: index.0, term: term.0, conf_state: view.conf_state() };
        let hard_state = raftpb::HardState { term: term.0, vote: 0, commit: index.0 };
        recovered.wal.install_snapshot(&mark, Some(&hard_state)).expect("power is on");
        drop(recovered);

        let node = start(&sim, &config).await.expect("a whole disk");
        node.linearize().await.expect("a sole member leads");
        assert_eq!(node.reader().view().storage_version(), Some("3.7.0".to_owned()));
        node.stop().await;
    });
}

/// What a client may ask, every member can apply, in this life and the next.
#[test]
fn transactions_within_each_other_are_applied_however_deep_they_may_be() {
    run(async {
        let (config, sim) = (config(), SimDisk::new());
        let put = put("inside").put.map(Request::RequestPut);
        let mut txn = TxnRequest { success: vec![RequestOp { request: put }], ..TxnRequest::default() };
        for _ in 1..MAX_TXN_OPS {
            let request = Some(Request::RequestTxn(txn));
            txn = TxnRequest { success: vec![RequestOp { request }], ..TxnRequest::default() };
        }
        validate::txn(&txn, MAX_TXN_OPS).expect("as deep as a client may ask");
        let sent = TxnRequest::decode(&*txn.encode_to_vec()).expect("a client's request");
        let node = start(&sim, &config).await.expect("an empty disk");
        let request = InternalRaftRequest { txn: Some(sent), ..InternalRaftRequest::default() };
        node.propose(request).await.expect("applied");
        // Without power it leaves no checkpoint of what it applied.
        sim.arm(CrashPlan::AtChange(0));
        node.stop().await;
        let node = start(&sim.crash(1), &config).await.expect("the same entry in the log");
        node.linearize().await.expect("a sole member leads");
        assert_eq!(keys(&node), BTreeSet::from(["inside".to_owned()]));
        node.stop().await;
    });
}

/// As etcd leaves it when power fails while its log is still being written.
#[test]
fn a_state_that_is_ahead_of_its_log_takes_the_logs_place() {
    run(async {
        let (config, sim) = (config(), SimDisk::new());
        drop(create_ahead_of_log(&sim, &config, &put("ahead")));
        for life in 1..3 {
            let node = start(&sim, &config).await.expect("a whole disk");
            node.propose(put(&format!("life {life}"))).await.expect("a sole member takes writes");
            assert_eq!(keys(&node).len(), 1 + life, "{:?}", keys(&node));
            node.stop().await;
        }
    });
}

#[test]
fn a_volume_without_its_log_gets_no_second_life() {
    run(async {
        let (config, sim) = (config(), SimDisk::new());
        let identity = crate::node::Identity {
            cluster: kvnode_mvcc::ClusterId(1),
            member: MemberId(2),
            name: "m0".to_owned(),
        };
        fresh::store_identity(&config, &disk(&sim), &identity, Origin::Created).expect("power is on");
        assert!(IdentityFile::load(&sim, &DataDir::new("/data")).expect("just written").is_some());
        let error = start(&sim, &config).await.err().expect("must be refused").to_string();
        assert!(error.contains("identity.json") && error.contains("holds no log"), "{error}");
    });
}

#[test]
fn a_damaged_log_is_refused_by_name_and_left_alone() {
    run(async {
        let (config, sim) = (config(), SimDisk::new());
        let node = start(&sim, &config).await.expect("a new cluster");
        for n in 0..10 {
            node.propose(put(&format!("k{n}"))).await.expect("a sole member takes writes");
        }
        node.stop().await;
        assert_eq!(node.propose(put("late")).await, Err(NodeError::Stopped));
        let after = sim.crash(0);
        let segment = DataDir::new("/data").wal().join("0000000000000000-0000000000000000.wal");
        after.flip_bit(&segment, 900, 3).expect("the segment is longer");
        let error = start(&after, &config).await.err().expect("must be refused").to_string();
        assert!(
            error.contains(".wal is corrupt at byte") && error.contains("nothing was cut off"),
            "{error}"
        );
    });
}
