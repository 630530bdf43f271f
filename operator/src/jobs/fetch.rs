//! `operator fetch-backup`: downloads a stored snapshot, checks it, and only then gives it its name.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use object_store::ObjectStoreExt;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::progress::Progress;
use super::snapshot::{TrailerCheck, hex};
use super::{JobError, USE_ANOTHER};
use crate::cli::FetchArgs;
use crate::store::{self, Doing, Target};

/// First bytes of a Zstandard frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a fetch leaves in the termination message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchResult {
    /// URL of the object.
    pub location: String,
    /// Bytes written, after decompression.
    pub total_size_bytes: u64,
    /// Bytes stored.
    #[serde(skip)]
    pub size_bytes: u64,
    /// SHA-256 of the stored object.
    pub sha256: String,
}

/// What the stored object must be, where that was recorded.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Bytes stored.
    pub size_bytes: Option<u64>,
    /// SHA-256 of the stored object.
    pub sha256: Option<String>,
}

/// Runs the command. There is no result if there was no need.
pub async fn run(args: FetchArgs) -> Result<Option<FetchResult>, JobError> {
    if let Some(made) = &args.unless_exists
        && tokio::fs::try_exists(made).await.map_err(|e| file_error("looking for", made, e))?
    {
        tracing::info!(exists = %made.display(), "nothing to fetch");
        return Ok(None);
    }
    let target = store::open(&args.store)?;
    let partial = args.output.with_extension("part");
    if let Some(dir) = args.output.parent() {
        tokio::fs::create_dir_all(dir).await.map_err(|e| file_error("creating", dir, e))?;
    }
    let expected = Expected { size_bytes: args.size, sha256: args.sha256 };
    let fetched = download(&target, &expected, &partial).await;
    if fetched.is_err() {
        // A partial file would take the space that the next attempt needs.
        let _best_effort = tokio::fs::remove_file(&partial).await;
    }
    let result = fetched?;
    tokio::fs::rename(&partial, &args.output).await.map_err(|e| file_error("renaming", &partial, e))?;
    tracing::info!(location = target.location, file = %args.output.display(), "fetched and verified");
    Ok(Some(result))
}

/// Writes the snapshot in the stored object to `partial`, decompressed, and checks it against its own checksum and what
/// is expected of it.
pub async fn download(target: &Target, expected: &Expected, partial: &Path) -> Result<FetchResult, JobError> {
    let damaged = |why: String| JobError::Damaged { what: target.location.clone(), why, next: USE_ANOTHER };
    let answer = target.store.get(&target.path).await.map_err(|e| target.explain(Doing::Reading, e))?;
    if let Some(size) = expected.size_bytes.filter(|size| *size != answer.meta.size) {
        return Err(damaged(format!("it has {} bytes, the backup had {size}", answer.meta.size)));
    }
    let size_bytes = answer.meta.size;
    let mut progress = Progress::new("download", Some(size_bytes));
    let mut file = File::create(partial).await.map_err(|e| file_error("creating", partial, e))?;
    let (mut hash, mut check, mut decoder) =
        (Sha256::new(), TrailerCheck::default(), Decoder::Undecided(Vec::new()));
    let mut parts = answer.into_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|e| target.explain(Doing::Reading, e))?;
        hash.update(&part);
        progress.add(part.len() as u64);
        let plain = decoder.feed(part).map_err(|e| damaged(format!("it does not decompress: {e}")))?;
        check.update(&plain);
        file.write_all(&plain).await.map_err(|e| file_error("writing", partial, e))?;
    }
    let rest = decoder.finish();
    check.update(&rest);
    file.write_all(&rest).await.map_err(|e| file_error("writing", partial, e))?;
    file.sync_all().await.map_err(|e| file_error("syncing", partial, e))?;
    progress.done();
    let sha256 = hex(&hash.finalize());
    let recorded = expected.sha256.as_deref();
    if let Some(expected) = recorded.filter(|recorded| !recorded.eq_ignore_ascii_case(&sha256)) {
        return Err(damaged(format!("its SHA-256 is {sha256}, the backup had {expected}")));
    }
    let checked = check.finish().map_err(|error| damaged(error.to_string()))?;
    let (location, total_size_bytes) = (target.location.clone(), checked.total_bytes);
    Ok(FetchResult { location, total_size_bytes, size_bytes, sha256 })
}

/// Decompresses if the first bytes say that there is something to decompress.
enum Decoder {
    Undecided(Vec<u8>),
    Plain,
    Zstd(Box<zstd::stream::write::Decoder<'static, Vec<u8>>>),
}

impl Decoder {
    fn feed(&mut self, part: Bytes) -> std::io::Result<Bytes> {
        match self {
            Self::Plain => Ok(part),
            Self::Zstd(decoder) => {
                decoder.write_all(&part)?;
                decoder.flush()?;
                Ok(Bytes::from(std::mem::take(decoder.get_mut())))
            }
            Self::Undecided(held) => {
                held.extend_from_slice(&part);
                if held.len() < ZSTD_MAGIC.len() {
                    return Ok(Bytes::new());
                }
                let held = Bytes::from(std::mem::take(held));
                *self = if held.starts_with(&ZSTD_MAGIC) {
                    Self::Zstd(Box::new(zstd::stream::write::Decoder::new(Vec::new())?))
                } else {
                    Self::Plain
                };
                self.feed(held)
            }
        }
    }

    /// What is left of an object too short to decide about.
    fn finish(self) -> Bytes {
        match self {
            Self::Undecided(held) => Bytes::from(held),
            Self::Plain | Self::Zstd(_) => Bytes::new(),
        }
    }
}

fn file_error(doing: &'static str, file: &Path, source: std::io::Error) -> JobError {
    JobError::File { doing, file: file.display().to_string(), source }
}
