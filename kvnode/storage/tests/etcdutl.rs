//! Both ways between kvnode's files and etcd's own tool. Runs when `etcdutl` is on PATH or named by `ETCDUTL`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use bytes::Bytes;
use kvnode_proto::{
    mvccpb::KeyValue,
    raftpb::{ConfChange, ConfState, Entry, EntryType},
};
use kvnode_storage::{
    bolt::{BucketSource, Layout, Reader},
    checkpoint,
    identity::{HexId, IDENTITY_VERSION, Identity, Origin},
    layout::DataDir,
    restore::{RestoreError, RestorePlan, is_done, restore},
    snapshot_file::{Trailer, check_pages, verify, write_snapshot},
    status::{Status, status},
    vfs::{FileWriter, OpenMode, RealDisk, Vfs},
    wal::{Wal, WalOptions},
};
use prost::Message;

fn etcdutl() -> Option<PathBuf> {
    let named = std::env::var_os("ETCDUTL").map(PathBuf::from);
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join("etcdutl")).find(|file| file.is_file())
    };
    let found = named.or_else(on_path);
    if found.is_none() {
        eprintln!("skipped: etcdutl is not on PATH and ETCDUTL is not set");
    }
    found
}

fn run(tool: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(tool).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "etcdutl {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[derive(Default)]
struct Buckets(BTreeMap<&'static str, BTreeMap<Bytes, Bytes>>);

impl BucketSource for Buckets {
    fn buckets(&self) -> Vec<&str> {
        self.0.keys().copied().collect()
    }

    fn items(&self, bucket: &str) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + '_> {
        Box::new(self.0[bucket].iter().map(|(key, value)| (key.clone(), value.clone())))
    }
}

fn revision(main: i64, sub: i64, suffix: &str) -> Bytes {
    let mut key = main.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend_from_slice(&sub.to_be_bytes());
    key.extend_from_slice(suffix.as_bytes());
    key.into()
}

/// A store as etcd would have it: many keys, versions, a tombstone, a large value.
fn store(keys: i64) -> Buckets {
    let mut revisions = BTreeMap::new();
    let mut put = |main: i64, key: String, value: Vec<u8>| {
        let record = KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: main,
            mod_revision: main,
            version: 1,
            lease: 0,
        };
        revisions.insert(revision(main, 0, ""), Bytes::from(record.encode_to_vec()));
    };
    for main in 2..2 + keys {
        let length = if main % 97 == 0 { 5000 } else { 50 + (main as usize % 300) };
        put(main, format!("/registry/pods/{:05}", main % (keys - 10)), vec![main as u8; length]);
    }
    put(2 + keys, "/large".into(), vec![9; 700_000]);
    let gone = KeyValue { key: "/registry/pods/00005".into(), ..Default::default() };
    revisions.insert(revision(3 + keys, 0, "t"), gone.encode_to_vec().into());

    let meta = BTreeMap::from([
        ("consistent_index".into(), Bytes::copy_from_slice(&(keys as u64 + 5).to_be_bytes())),
        ("term".into(), Bytes::copy_from_slice(&2_u64.to_be_bytes())),
        ("confState".into(), r#"{"voters":[7],"auto_leave":false}"#.into()),
        ("storageVersion".into(), "3.7.0".into()),
    ]);
    let mut all = Buckets::default();
    for empty in ["alarm", "auth", "authRoles", "authUsers", "lease", "members_removed"] {
        all.0.insert(empty, BTreeMap::new());
    }
    all.0.insert("key", revisions);
    all.0.insert("meta", meta);
    all.0.insert("cluster", BTreeMap::from([("clusterVersion".into(), "3.7.0".into())]));
    let member = r#"{"id":7,"peerURLs":["http://old:2380"],"name":"old","clientURLs":["http://old:2379"]}"#;
    all.0.insert("members", BTreeMap::from([("7".into(), member.into())]));
    all
}

fn save(source: &dyn BucketSource, path: &Path) {
    let layout = Layout::measure(source).unwrap();
    let file = RealDisk.open(path, OpenMode::CreateNew).unwrap();
    write_snapshot(source, &layout, &mut FileWriter::new(&*file)).unwrap();
}

fn status_of_etcd(tool: &Path, snapshot: &Path) -> Status {
    let output = run(tool, &["snapshot", "status", "-w", "json", snapshot.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    Status {
        hash: u32::try_from(json["hash"].as_u64().unwrap()).unwrap(),
        revision: json["revision"].as_i64().unwrap(),
        total_keys: json["totalKey"].as_u64().unwrap(),
        total_bytes: json["totalSize"].as_u64().unwrap(),
        version: json["version"].as_str().unwrap().to_owned(),
    }
}

#[test]
fn etcdutl_finds_our_snapshot_sound_and_counts_the_same() {
    let Some(tool) = etcdutl() else { return };
    let dir = tempfile::tempdir().unwrap();
    for keys in [20, 500, 20_000] {
        let path = dir.path().join(format!("{keys}.db"));
        save(&store(keys), &path);
        let ours = status(&RealDisk, &path).unwrap();
        assert_eq!(status_of_etcd(&tool, &path), ours);
        assert_eq!(ours.revision, keys + 3);
        assert_eq!(ours.total_keys, keys as u64 - 10, "every key once, one more, one deleted");
        run(&tool, &["hashkv", path.to_str().unwrap()]);
    }
}

/// etcd writes the data directory, kvnode reads it.
#[test]
fn what_etcdutl_restores_from_our_snapshot_is_read_here() {
    let Some(tool) = etcdutl() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (snapshot, data) = (dir.path().join("s.db"), dir.path().join("data"));
    let source = store(2000);
    save(&source, &snapshot);
    run(
        &tool,
        &[
            "snapshot",
            "restore",
            snapshot.to_str().unwrap(),
            "--data-dir",
            data.to_str().unwrap(),
            "--name",
            "m1",
            "--initial-cluster",
            "m1=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls",
            "http://127.0.0.1:2380",
        ],
    );
    let data = DataDir::new(data);
    let found = checkpoint::open(&RealDisk, &data).unwrap().unwrap();
    check_pages(&found.reader).unwrap();
    assert_eq!((found.index, found.term), (1, 1));
    let keys: BTreeMap<_, _> = found.reader.items("key").map(Result::unwrap).collect();
    assert!(keys == source.0["key"]);

    let disk: Arc<dyn Vfs> = Arc::new(RealDisk);
    let mark = Wal::snapshot_marks(&*disk, &data.wal()).unwrap().pop().unwrap();
    assert_eq!((mark.index, mark.term), (1, 1));
    let (_, replay) = Wal::open(disk, &data.wal(), &Default::default(), WalOptions::default()).unwrap();
    assert_eq!(replay.hard_state.commit, 1);
    assert_eq!(replay.entries.len(), 1);
    let change = ConfChange::decode(&replay.entries[0].data[..]).unwrap();
    assert_eq!(change.node_id, replay.metadata.node_id);
}

fn plan(snapshot: &Path, data_dir: &Path) -> RestorePlan {
    let member = r#"{"id":9,"peerURLs":["http://127.0.0.1:2380"],"name":"m1"}"#;
    let change = ConfChange { id: 0, r#type: 0, node_id: 9, context: member.into() };
    RestorePlan {
        snapshot: snapshot.to_owned(),
        trailer: Trailer::Required,
        data_dir: DataDir::new(data_dir),
        identity: Identity {
            version: IDENTITY_VERSION,
            cluster_uid: "uid".into(),
            cluster_id: HexId(0xC),
            member_id: HexId(9),
            name: "m1".into(),
            origin: Origin::Restored,
        },
        members: vec![("9".into(), member.into())],
        entries: vec![Entry {
            r#type: EntryType::EntryConfChange.into(),
            term: 1,
            index: 1,
            data: change.encode_to_vec().into(),
        }],
        conf_state: ConfState { voters: vec![9], ..Default::default() },
    }
}

#[test]
fn our_restore_replaces_the_members_and_keeps_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (snapshot, data) = (dir.path().join("s.db"), dir.path().join("data"));
    let source = store(300);
    save(&source, &snapshot);
    let disk: Arc<dyn Vfs> = Arc::new(RealDisk);
    let plan = plan(&snapshot, &data);
    assert!(!is_done(&*disk, &plan).unwrap());
    restore(&disk, &plan).unwrap();
    assert!(is_done(&*disk, &plan).unwrap());

    let found = checkpoint::open(&RealDisk, &plan.data_dir).unwrap().unwrap();
    assert_eq!((found.index, found.term), (1, 1));
    let meta = found.reader.items("meta").map(Result::unwrap).collect::<BTreeMap<_, _>>();
    assert_eq!(meta["confState".as_bytes()], r#"{"voters":[9],"auto_leave":false}"#);
    let bucket = |name: &str| found.reader.items(name).map(Result::unwrap).collect::<BTreeMap<_, _>>();
    assert!(bucket("key") == source.0["key"]);
    assert_eq!(bucket("cluster"), source.0["cluster"]);
    assert_eq!(bucket("members"), plan.members.iter().cloned().collect());
    let (_, replay) =
        Wal::open(disk.clone(), &plan.data_dir.wal(), &Default::default(), WalOptions::default()).unwrap();
    assert_eq!(replay.entries, plan.entries);
    assert_eq!(replay.metadata.cluster_id, 0xC);
    assert_eq!(Identity::load(&RealDisk, &plan.data_dir).unwrap(), Some(plan.identity.clone()));
    assert!(matches!(restore(&disk, &plan), Err(RestoreError::Occupied { .. })));
    let made = Identity { origin: Origin::Created, ..plan.identity.clone() };
    let other = Identity { cluster_id: HexId(0xD), ..plan.identity.clone() };
    for identity in [made, other] {
        assert!(!is_done(&*disk, &RestorePlan { identity, ..plan.clone() }).unwrap(), "of another member");
    }
    if let Some(tool) = etcdutl() {
        let db = plan.data_dir.checkpoint();
        assert_eq!(status_of_etcd(&tool, &db), status(&RealDisk, &db).unwrap());
    }
}

#[test]
fn a_damaged_snapshot_restores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (snapshot, data) = (dir.path().join("s.db"), dir.path().join("data"));
    save(&store(300), &snapshot);
    let mut bytes = std::fs::read(&snapshot).unwrap();
    bytes[40_000] ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();
    let disk: Arc<dyn Vfs> = Arc::new(RealDisk);
    assert!(matches!(restore(&disk, &plan(&snapshot, &data)), Err(RestoreError::Snapshot(_))));
    assert!(!data.exists());
}

/// etcd changes our checkpoint in place: the trailer no longer counts, the pages are still sound.
#[test]
fn a_checkpoint_that_etcd_went_on_with_is_read() {
    let Some(tool) = etcdutl() else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::new(dir.path().join("data"));
    checkpoint::write(&RealDisk, &data, &store(500)).unwrap();
    verify(&RealDisk, &data.checkpoint(), Trailer::Required).unwrap();
    let (root, file) = (data.root().to_str().unwrap(), data.checkpoint());
    // The first changes a meta page and no more, the second everything.
    for arguments in [["hashkv", file.to_str().unwrap()].as_slice(), &["defrag", "--data-dir", root]] {
        run(&tool, arguments);
        let found = checkpoint::open(&RealDisk, &data).unwrap().unwrap();
        check_pages(&found.reader).unwrap();
    }
    assert!(Reader::open(&RealDisk, &data.checkpoint()).unwrap().items("key").all(|item| item.is_ok()));
    assert_eq!(status(&RealDisk, &data.checkpoint()).unwrap().revision, 503);
}
