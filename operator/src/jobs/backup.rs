//! `operator backup`: streams one snapshot from a healthy follower into the store and reads it back.
//!
//! The bytes go to the store and to a scratch file at once. The scratch file is there because the figures that etcdutl
//! prints need the records in key order, which a stream does not promise. The upload is completed only after checksum
//! and records were found sound, so nothing damaged ever becomes visible in the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use object_store::{ObjectStoreExt, WriteMultipart};
use operator_plan::backup::BackupResult;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::figures::{self, Figures};
use super::progress::Progress;
use super::snapshot::{Checked, TrailerCheck, hex};
use super::source::{self, Source};
use super::{JobError, TRY_AGAIN, USE_ANOTHER, fetch};
use crate::cli::BackupArgs;
use crate::etcd::{Pool, TlsMaterial};
use crate::limits;
use crate::store::{self, Doing, StoreError, Target};

/// Runs the command.
pub async fn run(args: BackupArgs) -> Result<BackupResult, JobError> {
    let began = Instant::now();
    let target = store::open(&args.store)?;
    // Before a member is bothered: a wrong bucket, endpoint or credential shows here.
    if is_taken(&target).await? {
        return earlier_attempt(&target, &args.scratch_dir, began).await;
    }
    let tls = read_tls(&args).await?;
    let pool = Arc::new(Pool::default());
    let source = source::choose(&pool, &args.endpoints, tls.as_ref()).await?;
    tracing::info!(member = source.client.endpoint(), location = target.location, "taking a snapshot");

    let scratch = args.scratch_dir.join("snapshot.db");
    let mut upload = Upload::begin(&target, args.compression).await?;
    let received = receive(&source, &scratch, &mut upload, &target).await;
    let (checked, figures, server_version) = match received {
        Ok(received) => received,
        Err(error) => {
            upload.abandon().await;
            return Err(error);
        }
    };
    let stored = upload.complete(&target).await?;
    read_back(&target, &stored).await?;
    remove(&scratch).await;
    tracing::info!(checksum = checked.sha256, location = target.location, "stored and verified");
    let version =
        server_version.or_else(|| figures.version.clone()).unwrap_or_else(|| source.status.version.clone());
    let taken = Taken { version, member_name: Some(source.member_name()) };
    Ok(result(&target, &stored, &figures, taken, began))
}

/// A stored object.
struct Stored {
    bytes: u64,
    sha256: String,
}

async fn is_taken(target: &Target) -> Result<bool, JobError> {
    match target.store.head(&target.path).await {
        Ok(_) => Ok(true),
        Err(error) => match target.explain(Doing::Looking, error) {
            StoreError::NoObject { .. } => Ok(false),
            other => Err(other.into()),
        },
    }
}

/// The object's name holds the UID of its backup, so a whole snapshot under it is the work of an earlier attempt that
/// was stopped before it could tell: it is checked and told of now. Anything else is somebody else's and left alone.
async fn earlier_attempt(target: &Target, scratch: &Path, began: Instant) -> Result<BackupResult, JobError> {
    let scratch = scratch.join("snapshot.db");
    let stored = match fetch::download(target, &fetch::Expected::default(), &scratch).await {
        Ok(stored) => stored,
        Err(JobError::Damaged { .. }) => {
            return Err(StoreError::Exists { location: target.location.clone() }.into());
        }
        Err(error) => return Err(error),
    };
    let path = scratch.clone();
    let damaged = |why| JobError::Damaged { what: target.location.clone(), why, next: USE_ANOTHER };
    let figures = tokio::task::spawn_blocking(move || figures::of_file(&path))
        .await
        .map_err(|error| damaged(format!("reading it did not end: {error}")))?
        .map_err(damaged)?;
    remove(&scratch).await;
    tracing::info!(location = target.location, "an earlier attempt stored it; verified");
    let stored = Stored { bytes: stored.size_bytes, sha256: stored.sha256 };
    let version = figures.version.clone().unwrap_or_default();
    Ok(result(target, &stored, &figures, Taken { version, member_name: None }, began))
}

/// The scratch file goes with the pod at the latest.
async fn remove(scratch: &Path) {
    if let Err(error) = tokio::fs::remove_file(scratch).await {
        tracing::warn!(%error, file = %scratch.display(), "removing the scratch file failed; it goes with the pod");
    }
}

/// Where a snapshot is from.
struct Taken {
    /// etcd version of the member, or else of the format.
    version: String,
    /// `None` if only an earlier attempt knew.
    member_name: Option<String>,
}

fn result(target: &Target, stored: &Stored, figures: &Figures, taken: Taken, began: Instant) -> BackupResult {
    BackupResult {
        object: target.path.to_string(),
        size_bytes: stored.bytes,
        sha256: stored.sha256.clone(),
        hash: format!("{:x}", figures.hash),
        revision: figures.revision,
        total_keys: i64::try_from(figures.total_keys).unwrap_or(i64::MAX),
        total_size_bytes: figures.total_size_bytes,
        version: taken.version,
        member_name: taken.member_name,
        duration_seconds: began.elapsed().as_secs(),
        location: target.location.clone(),
    }
}

async fn read_tls(args: &BackupArgs) -> Result<Option<TlsMaterial>, JobError> {
    let (Some(ca), Some(certificate), Some(key)) = (&args.ca_file, &args.cert_file, &args.key_file) else {
        return Ok(None);
    };
    let read = |file: PathBuf| async move {
        tokio::fs::read(&file).await.map_err(|source| file_error("reading", &file, source))
    };
    Ok(Some(TlsMaterial::new(
        read(ca.clone()).await?,
        read(certificate.clone()).await?,
        read(key.clone()).await?,
    )))
}

async fn receive(
    source: &Source,
    scratch: &Path,
    upload: &mut Upload,
    target: &Target,
) -> Result<(Checked, Figures, Option<String>), JobError> {
    let mut file = File::create(scratch).await.map_err(|e| file_error("creating", scratch, e))?;
    let mut stream = source.client.snapshot().await?;
    let mut check = TrailerCheck::default();
    let mut progress = Progress::new("snapshot", None);
    let mut version = None;
    while let Some(part) = source.client.next_blob(&mut stream).await? {
        if progress.bytes() == 0 {
            progress.total(part.remaining_bytes.saturating_add(part.blob.len() as u64));
        }
        if !part.version.is_empty() {
            version = Some(part.version);
        }
        check.update(&part.blob);
        file.write_all(&part.blob).await.map_err(|e| file_error("writing", scratch, e))?;
        progress.add(part.blob.len() as u64);
        upload.write(part.blob, target).await?;
    }
    file.flush().await.map_err(|e| file_error("writing", scratch, e))?;
    progress.done();
    let what = format!("the snapshot from {}", source.client.endpoint());
    let damaged = |why: String| JobError::Damaged { what: what.clone(), why, next: TRY_AGAIN };
    let checked = check.finish().map_err(|error| damaged(error.to_string()))?;
    let path = scratch.to_owned();
    let figures = tokio::task::spawn_blocking(move || figures::of_file(&path))
        .await
        .map_err(|error| damaged(format!("reading it did not end: {error}")))?
        .map_err(damaged)?;
    Ok((checked, figures, version))
}

/// A multipart upload that hashes what it sends.
struct Upload {
    writer: WriteMultipart,
    encoder: Option<zstd::stream::write::Encoder<'static, Vec<u8>>>,
    hash: Sha256,
    bytes: u64,
}

impl Upload {
    async fn begin(target: &Target, compression: super::Compression) -> Result<Self, JobError> {
        let upload =
            target.store.put_multipart(&target.path).await.map_err(|e| target.explain(Doing::Writing, e))?;
        let writer = WriteMultipart::new_with_chunk_size(upload, limits::UPLOAD_PART_BYTES);
        let encoder = match compression {
            super::Compression::None => None,
            super::Compression::Zstd => Some(
                zstd::stream::write::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)
                    .map_err(|e| file_error("compressing", Path::new(target.path.as_ref()), e))?,
            ),
        };
        Ok(Self { writer, encoder, hash: Sha256::new(), bytes: 0 })
    }

    async fn write(&mut self, part: Bytes, target: &Target) -> Result<(), JobError> {
        let out = match &mut self.encoder {
            None => part,
            Some(encoder) => {
                std::io::Write::write_all(encoder, &part)
                    .map_err(|e| file_error("compressing", Path::new(target.path.as_ref()), e))?;
                Bytes::from(std::mem::take(encoder.get_mut()))
            }
        };
        self.send(out, target).await
    }

    async fn send(&mut self, out: Bytes, target: &Target) -> Result<(), JobError> {
        if out.is_empty() {
            return Ok(());
        }
        let wait = self.writer.wait_for_capacity(limits::UPLOAD_PARTS_IN_FLIGHT).await;
        wait.map_err(|e| target.explain(Doing::Writing, e))?;
        self.hash.update(&out);
        self.bytes = self.bytes.saturating_add(out.len() as u64);
        self.writer.put(out);
        Ok(())
    }

    async fn complete(mut self, target: &Target) -> Result<Stored, JobError> {
        if let Some(encoder) = self.encoder.take() {
            let rest = encoder
                .finish()
                .map_err(|e| file_error("compressing", Path::new(target.path.as_ref()), e))?;
            self.send(Bytes::from(rest), target).await?;
        }
        self.writer.finish().await.map_err(|e| target.explain(Doing::Writing, e))?;
        Ok(Stored { bytes: self.bytes, sha256: hex(&self.hash.finalize()) })
    }

    /// Parts of an upload that will not be completed cost space until they are thrown away.
    async fn abandon(self) {
        if let Err(error) = self.writer.abort().await {
            tracing::warn!(%error, "aborting the upload failed; the store's own clean-up of unfinished uploads removes it");
        }
    }
}

async fn read_back(target: &Target, stored: &Stored) -> Result<(), JobError> {
    let answer = target.store.get(&target.path).await.map_err(|e| target.explain(Doing::Reading, e))?;
    let mut parts = answer.into_stream();
    let mut hash = Sha256::new();
    let mut progress = Progress::new("read-back", Some(stored.bytes));
    while let Some(part) = parts.next().await {
        let part = part.map_err(|e| target.explain(Doing::Reading, e))?;
        hash.update(&part);
        progress.add(part.len() as u64);
    }
    progress.done();
    if progress.bytes() == stored.bytes && hex(&hash.finalize()) == stored.sha256 {
        return Ok(());
    }
    // Ours, written a moment ago and proven bad: left in place it would pass for a backup and block the next attempt.
    if let Err(error) = target.store.delete(&target.path).await {
        tracing::warn!(%error, location = target.location, "deleting the damaged object failed");
    }
    Err(JobError::Damaged {
        what: format!("what {} gave back for {}", target.endpoint, target.location),
        why: format!(
            "{} of {} bytes came back, or other bytes than were sent",
            progress.bytes(),
            stored.bytes
        ),
        next: "the object was deleted and the backup is tried again",
    })
}

fn file_error(doing: &'static str, file: &Path, source: std::io::Error) -> JobError {
    JobError::File { doing, file: file.display().to_string(), source }
}
