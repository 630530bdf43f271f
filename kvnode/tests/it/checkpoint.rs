//! The database file: what etcd's offline tools find in it, and that nothing depends on it.

use std::{path::PathBuf, process::Command};

use kvnode_proto::etcdserverpb::{CompactionRequest, kv_client::KvClient};
use rustix::process::Signal;
use tonic::transport::Channel;

use crate::support::{
    Member, Options, block_on,
    cluster::{Cluster, keys, put},
    etcdctl::find,
    facts::Facts,
};

const SAVED: &str = "saved the database file";

fn database(member: &Member) -> PathBuf {
    member.data_dir().join("member/snap/db")
}

/// Runs one of etcd's tools and reads what it printed as JSON.
fn json(program: &std::path::Path, arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(program).args(arguments).args(["-w", "json"]).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn write_some(channel: &Channel, count: usize) {
    for n in 0..count {
        put(channel, &format!("key-{}", n % 7), &format!("value-{n}")).await.unwrap();
    }
}

/// Index of the last committed and of the last applied entry, as a start found them.
fn found(member: &Member) -> (u64, u64) {
    let line = member.wait_for_log("restarting local member");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    (line["commit-index"].as_u64().unwrap(), line["applied-index"].as_u64().unwrap())
}

#[test]
fn a_stopped_member_leaves_its_whole_state_in_the_file() {
    let Some(etcdutl) = find("etcdutl") else { return };
    let mut member = Member::start();
    for round in 0..3 {
        let before = block_on(async {
            let channel = member.channel();
            write_some(&channel, 20).await;
            let revision = 10 * (round + 1);
            let compaction = CompactionRequest { revision, physical: true };
            KvClient::new(channel.clone()).compact(compaction).await.unwrap();
            Facts::of(&member).await
        });
        member.terminate();
        let file = database(&member).display().to_string();
        let hash = json(&etcdutl, &["hashkv", &file]);
        let hash = ["hash", "compactRevision", "hashRevision"].map(|field| hash[field].as_i64().unwrap());
        let (found_hash, compacted, revision) = before.hash_kv;
        assert_eq!(hash, [i64::from(found_hash), compacted, revision]);
        assert_eq!(json(&etcdutl, &["snapshot", "status", &file])["revision"], before.revision);

        member.restart();
        let (commit, applied) = found(&member);
        assert_eq!(applied, commit, "nothing is left to apply");
        assert_eq!(block_on(Facts::of(&member)), before);
    }
}

#[test]
fn a_young_member_that_is_killed_leaves_a_file_too() {
    let Some(etcdutl) = find("etcdutl") else { return };
    let mut member = Member::start();
    member.wait_for_log(SAVED);
    block_on(async { write_some(&member.channel(), 20).await });
    let before = block_on(Facts::of(&member));
    member.kill();
    json(&etcdutl, &["snapshot", "status", &database(&member).display().to_string()]);
    member.restart();
    let (commit, applied) = found(&member);
    assert!(applied < commit, "what was written later is in the log");
    assert_eq!(block_on(Facts::of(&member)), before);
}

/// Whether the file was not begun, half written, or put in place.
#[test]
fn a_member_killed_while_it_stops_loses_nothing() {
    let mut member = Member::start();
    for _ in 0..8 {
        let value = "v".repeat(300_000);
        let before = block_on(async {
            let channel = member.channel();
            for n in 0..10 {
                put(&channel, &format!("key-{n}"), &value).await.unwrap();
            }
            Facts::of(&member).await
        });
        let position = member.log_position();
        member.signal(Signal::TERM);
        member.wait_for_log_after(position, "shutting down");
        member.kill();
        member.restart();
        assert_eq!(block_on(Facts::of(&member)), before);
    }
}

/// However short its lives are, a member's log does not grow for ever.
#[test]
fn what_short_lives_log_adds_up_to_a_mark() {
    let mut member = Member::start_with(Options::with(&["--snapshot-count=40"]));
    for _ in 0..4 {
        block_on(async { write_some(&member.channel(), 12).await });
        member.terminate();
        member.restart();
    }
    let line = member.wait_for_log("restarting local member");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(line["snapshot-index"].as_u64().unwrap() > 40, "{line}");
}

#[test]
fn members_that_were_stopped_still_have_entries_for_one_that_lags() {
    let mut cluster = Cluster::start();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        write_some(&cluster.members[0].channel(), 20).await;
        cluster.members[2].kill();
        cluster.leader().await;
        write_some(&cluster.members[0].channel(), 20).await;
        for member in &mut cluster.members[..2] {
            member.terminate();
        }
        for member in &mut cluster.members {
            member.launch_again();
        }
        for member in &cluster.members {
            member.wait_for_log("ready to serve client requests");
        }
        let all = keys(&cluster.members[0], false).await.unwrap();
        cluster.wait_for_keys(2, &all).await;
        let log = cluster.members[2].log_text();
        assert!(!log.contains("applying snapshot"), "{log}");
    });
}
