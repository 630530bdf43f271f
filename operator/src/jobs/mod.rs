//! The commands that run as Jobs: take a snapshot, fetch one, delete one.
//!
//! They talk to members and to a store, never to Kubernetes: the result or the reason of failure goes into the
//! container's termination message, where the operator reads it.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use thiserror::Error;

use crate::etcd::EtcdError;
use crate::limits;
use crate::store::StoreError;

pub mod backup;
pub mod delete;
pub mod fetch;
pub mod figures;
pub mod progress;
pub mod snapshot;
pub mod source;

/// How a stored object is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// As it is: `etcdutl` reads the object directly.
    None,
    /// Zstandard.
    Zstd,
}

/// Why a Job failed: one line that names the object, the store and the next step.
#[derive(Debug, Error)]
pub enum JobError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A member.
    #[error("taking the snapshot failed: {0}; it is tried again")]
    Etcd(#[from] EtcdError),
    /// No member can give a snapshot.
    #[error("no member can give a snapshot: {0}; bring a member back and it is tried again")]
    NoSource(String),
    /// A file.
    #[error("{doing} {file} failed: {source}; check the space and permissions of its volume")]
    File {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not what was sent.
    #[error("{what} is damaged: {why}; {next}")]
    Damaged {
        /// Which bytes.
        what: String,
        /// How it shows.
        why: String,
        /// What to do.
        next: &'static str,
    },
}

/// Next step when a stored object fails its checks.
pub(crate) const USE_ANOTHER: &str = "it was truncated or changed after it was stored; use another backup";
/// Next step when a fresh snapshot fails its checks.
pub(crate) const TRY_AGAIN: &str = "nothing was stored and it is tried again";

/// Writes the result where the operator finds it and turns it into an exit code.
pub fn finish<T: Serialize>(termination_log: &Path, result: Result<T, JobError>) -> ExitCode {
    let (message, code) = match result {
        Ok(done) => match serde_json::to_string(&done) {
            Ok(json) => (json, ExitCode::SUCCESS),
            Err(error) => (format!("writing the result as JSON failed: {error}"), ExitCode::FAILURE),
        },
        Err(error) => {
            let line = crds::units::bounded(
                &error.to_string().replace('\n', " "),
                limits::TERMINATION_MESSAGE_BYTES / 4,
            );
            tracing::error!("{line}");
            (line, ExitCode::FAILURE)
        }
    };
    println!("{message}");
    if let Err(error) = std::fs::write(termination_log, &message) {
        tracing::warn!(%error, file = %termination_log.display(), "the result is only on standard output");
    }
    code
}

#[cfg(test)]
mod tests;
