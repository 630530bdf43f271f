//! The Jobs against a scripted member and a directory as store: what arrives, and what is refused.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use futures::stream::BoxStream;
use kvnode_proto::etcdserverpb as pb;
use kvnode_proto::etcdserverpb::maintenance_server::{Maintenance, MaintenanceServer};
use kvnode_proto::mvccpb::KeyValue;
use kvnode_storage::bolt::{BucketSource, Layout, write_image};
use prost::Message;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use operator_plan::backup::BackupResult;

use super::{Compression, backup, delete, fetch};
use crate::cli::{BackupArgs, DeleteArgs, FetchArgs, StoreArgs};

mod stores;

/// A database with three revisions of two keys, one of them deleted.
struct Db(Vec<(Bytes, Bytes)>);

impl Db {
    fn new() -> Self {
        let record = |revision: i64, suffix: &[u8], key: &'static str, value: Vec<u8>| {
            let mut name = revision.to_be_bytes().to_vec();
            name.push(b'_');
            name.extend_from_slice(&0i64.to_be_bytes());
            name.extend_from_slice(suffix);
            let record = KeyValue {
                key: Bytes::from(key),
                value: Bytes::from(value),
                mod_revision: revision,
                ..KeyValue::default()
            };
            (Bytes::from(name), Bytes::from(record.encode_to_vec()))
        };
        let many = (4..2000).map(|revision| record(revision, b"", "c", vec![7; 100]));
        Self(
            [record(2, b"", "a", vec![1; 300_000]), record(3, b"", "b", vec![2])]
                .into_iter()
                .chain(many)
                .chain([record(2000, b"t", "a", vec![])])
                .collect(),
        )
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut image = Vec::new();
        write_image(self, &Layout::measure(self).unwrap(), &mut image).unwrap();
        let trailer = Sha256::digest(&image);
        image.extend_from_slice(&trailer);
        image
    }
}

impl BucketSource for Db {
    fn buckets(&self) -> Vec<&str> {
        vec!["key", "meta"]
    }

    fn items(&self, bucket: &str) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + '_> {
        match bucket {
            "key" => Box::new(self.0.iter().cloned()),
            _ => Box::new(std::iter::once((Bytes::from("storageVersion"), Bytes::from("3.7.0")))),
        }
    }
}

/// A member that serves one snapshot.
struct Member {
    snapshot: Vec<u8>,
}

#[tonic::async_trait]
impl Maintenance for Member {
    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let total = self.snapshot.len();
        let parts: Vec<_> = self.snapshot.chunks(32 * 1024).map(Bytes::copy_from_slice).collect();
        let mut sent = 0;
        let stream = futures::stream::iter(parts.into_iter().map(move |blob| {
            sent += blob.len();
            Ok(pb::SnapshotResponse {
                remaining_bytes: (total - sent) as u64,
                blob,
                version: "3.7.0".to_owned(),
                ..pb::SnapshotResponse::default()
            })
        }));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let header = pb::ResponseHeader { member_id: 7, cluster_id: 9, ..pb::ResponseHeader::default() };
        Ok(Response::new(pb::StatusResponse {
            header: Some(header),
            leader: 1,
            ..pb::StatusResponse::default()
        }))
    }

    async fn alarm(&self, _: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
    async fn defragment(
        &self,
        _: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
    async fn hash(&self, _: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
    async fn hash_kv(&self, _: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
    async fn move_leader(
        &self,
        _: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
    async fn downgrade(
        &self,
        _: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

async fn serve(snapshot: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = MaintenanceServer::new(Member { snapshot });
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    address
}

fn store(root: &Path, object: &str) -> StoreArgs {
    StoreArgs {
        store: serde_json::from_str(r#"{"local":{"claimName":"backups"}}"#).unwrap(),
        object: object.to_owned(),
        credentials_dir: None,
        store_ca_file: None,
        local_root: Some(root.to_owned()),
    }
}

fn backup_args(dir: &TempDir, address: SocketAddr, object: &str, compression: Compression) -> BackupArgs {
    BackupArgs {
        store: store(&dir.path().join("store"), object),
        endpoints: vec![format!("http://{address}")],
        ca_file: None,
        cert_file: None,
        key_file: None,
        compression,
        scratch_dir: dir.path().join("scratch"),
        termination_log: dir.path().join("log"),
    }
}

fn fetch_args(dir: &TempDir, object: &str) -> FetchArgs {
    FetchArgs {
        store: store(&dir.path().join("store"), object),
        output: dir.path().join("restore/snapshot.db"),
        sha256: None,
        size: None,
        unless_exists: None,
        termination_log: dir.path().join("log"),
    }
}

fn dirs() -> TempDir {
    let dir = TempDir::new().unwrap();
    for name in ["store", "scratch"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    dir
}

#[tokio::test]
async fn a_backup_arrives_whole_and_comes_back_whole_compressed_or_not() {
    let snapshot = Db::new().snapshot();
    let address = serve(snapshot.clone()).await;
    for (object, compression) in
        [("db/core/1.db", Compression::None), ("db/core/1.db.zst", Compression::Zstd)]
    {
        let dir = dirs();
        let made = backup::run(backup_args(&dir, address, object, compression)).await.unwrap();
        assert_eq!((made.revision, made.total_keys, made.version.as_str()), (2000, 2, "3.7.0"), "{object}");
        assert_eq!(made.total_size_bytes, snapshot.len() as u64 - 32);
        assert_eq!(made.location, format!("pvc://backups/{object}"));
        let stored = std::fs::read(dir.path().join("store").join(object)).unwrap();
        assert_eq!(made.size_bytes, stored.len() as u64);
        assert_eq!(made.sha256, super::snapshot::hex(&Sha256::digest(&stored)));

        let mut args = fetch_args(&dir, object);
        (args.sha256, args.size) = (Some(made.sha256.clone()), Some(made.size_bytes));
        fetch::run(args.clone()).await.unwrap();
        assert!(std::fs::read(&args.output).unwrap() == snapshot, "{object}");
    }
}

#[tokio::test]
async fn nothing_is_fetched_for_a_volume_that_has_been_restored() {
    let dir = dirs();
    std::fs::write(dir.path().join("store/1.db"), Db::new().snapshot()).unwrap();
    let member = dir.path().join("data/member");
    let args = FetchArgs { unless_exists: Some(member.clone()), ..fetch_args(&dir, "1.db") };
    std::fs::create_dir_all(&member).unwrap();
    assert_eq!(fetch::run(args.clone()).await.unwrap(), None);
    assert!(!args.output.exists());
    std::fs::remove_dir(&member).unwrap();
    assert!(fetch::run(args.clone()).await.unwrap().is_some() && args.output.exists());
}

#[tokio::test]
async fn a_damaged_snapshot_is_never_stored() {
    let mut snapshot = Db::new().snapshot();
    snapshot[100_000] ^= 1;
    let dir = dirs();
    let error =
        backup::run(backup_args(&dir, serve(snapshot).await, "1.db", Compression::None)).await.unwrap_err();
    assert!(error.to_string().contains("is damaged: its checksum does not fit"), "{error}");
    assert!(!dir.path().join("store/1.db").exists());
}

#[tokio::test]
async fn a_backup_never_overwrites_another() {
    let dir = dirs();
    std::fs::write(dir.path().join("store/1.db"), b"precious").unwrap();
    let address = serve(Db::new().snapshot()).await;
    let error = backup::run(backup_args(&dir, address, "1.db", Compression::None)).await.unwrap_err();
    assert!(error.to_string().contains("never overwritten"), "{error}");
    assert_eq!(std::fs::read(dir.path().join("store/1.db")).unwrap(), b"precious");
}

#[tokio::test]
async fn what_an_attempt_stored_before_it_was_stopped_is_told_by_the_next() {
    let dir = dirs();
    let snapshot = Db::new().snapshot();
    let address = serve(snapshot).await;
    let args = backup_args(&dir, address, "1.db.zst", Compression::Zstd);
    let first = backup::run(args.clone()).await.unwrap();
    let second = backup::run(args).await.unwrap();
    assert_eq!(second.member_name, None);
    let BackupResult { member_name, duration_seconds, .. } = first.clone();
    assert!(member_name.is_some());
    assert_eq!(BackupResult { member_name, duration_seconds, ..second }, first);
    assert!(std::fs::read_dir(dir.path().join("scratch")).unwrap().next().is_none());
}

#[tokio::test]
async fn no_reachable_member_is_named_with_its_reason() {
    let dir = dirs();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let error =
        backup::run(backup_args(&dir, closed, "1.db", Compression::None)).await.unwrap_err().to_string();
    assert!(error.starts_with("no member can give a snapshot: "), "{error}");
    assert!(error.contains(&closed.to_string()), "{error}");
}

#[tokio::test]
async fn a_truncated_or_tampered_object_is_refused_and_leaves_no_file() {
    let snapshot = Db::new().snapshot();
    let mut tampered = snapshot.clone();
    tampered[5000] ^= 1;
    let zstd = zstd::encode_all(&snapshot[..], 3).unwrap();
    let cases: [(&str, &[u8], &str); 5] = [
        ("truncated", &snapshot[..snapshot.len() / 2], "is damaged"),
        ("page cut", &snapshot[..snapshot.len() - 4096], "is damaged: its checksum does not fit"),
        ("tampered", &tampered, "is damaged: its checksum does not fit"),
        ("empty", b"", "is damaged: it has only 0 bytes"),
        ("compressed and truncated", &zstd[..zstd.len() / 2], "is damaged"),
    ];
    for (what, bytes, expected) in cases {
        let dir = dirs();
        std::fs::write(dir.path().join("store/1.db"), bytes).unwrap();
        let args = fetch_args(&dir, "1.db");
        let error = fetch::run(args.clone()).await.unwrap_err().to_string();
        assert!(error.starts_with("pvc://backups/1.db "), "{what}: {error}");
        assert!(error.contains(expected) && error.ends_with("use another backup"), "{what}: {error}");
        assert!(!args.output.exists() && !args.output.with_extension("part").exists(), "{what}");
    }
}

#[tokio::test]
async fn an_object_other_than_the_one_recorded_is_refused() {
    let dir = dirs();
    std::fs::write(dir.path().join("store/1.db"), Db::new().snapshot()).unwrap();
    let mut args = fetch_args(&dir, "1.db");
    args.sha256 = Some("00".repeat(32));
    assert!(fetch::run(args.clone()).await.unwrap_err().to_string().contains("its SHA-256 is"));
    (args.sha256, args.size) = (None, Some(1));
    assert!(fetch::run(args).await.unwrap_err().to_string().contains("the backup had 1"));
}

#[tokio::test]
async fn deleting_twice_is_a_success_and_fetching_what_is_gone_says_so() {
    let dir = dirs();
    std::fs::write(dir.path().join("store/1.db"), b"x").unwrap();
    for _ in 0..2 {
        let args = DeleteArgs {
            store: store(&dir.path().join("store"), "1.db"),
            termination_log: dir.path().join("log"),
        };
        assert_eq!(delete::run(args).await.unwrap().deleted, "pvc://backups/1.db");
    }
    let error = fetch::run(fetch_args(&dir, "1.db")).await.unwrap_err().to_string();
    assert!(error.starts_with("pvc://backups/1.db does not exist"), "{error}");
}

#[tokio::test]
async fn an_unreachable_store_and_an_empty_secret_name_the_next_step() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = dirs();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let mut args = fetch_args(&dir, "1.db");
    let spec = format!(r#"{{"s3":{{"bucket":"backups","endpoint":"http://{closed}"}}}}"#);
    args.store.store = serde_json::from_str(&spec).unwrap();
    args.store.credentials_dir = Some(dir.path().to_owned());
    let error = fetch::run(args.clone()).await.unwrap_err().to_string();
    assert!(error.starts_with("reading AWS_ACCESS_KEY_ID of the credentials Secret failed"), "{error}");
    for key in crds::store::S3_CREDENTIAL_KEYS {
        std::fs::write(dir.path().join(key), "x\n").unwrap();
    }
    let error = fetch::run(args).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!(
            "cannot reach the object store at http://{closed} while reading s3://backups/1.db"
        )),
        "{error}"
    );
}

#[test]
fn the_result_is_what_the_planner_reads() {
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("log");
    super::finish(&log, Ok::<_, super::JobError>(delete::DeleteResult { deleted: "s3://b/k".to_owned() }));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), r#"{"deleted":"s3://b/k"}"#);
    let error = super::JobError::NoSource("line\nbreak".to_owned());
    super::finish(&log, Err::<(), _>(error));
    assert!(!std::fs::read_to_string(&log).unwrap().contains('\n'));
}
