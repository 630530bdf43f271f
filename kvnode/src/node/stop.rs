//! How a member ends: because it was asked to, because it was removed, or because it must not go on.

use std::{
    sync::{Arc, OnceLock},
    thread::JoinHandle,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{NodeError, shared::Shared};

/// Why a member stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// It was asked to.
    #[error("the member was asked to stop")]
    Asked,
    /// The cluster removed it. Its data directory is of no more use.
    #[error("the member has been permanently removed from the cluster; its data directory must be removed")]
    Removed,
    /// Going on could lose or corrupt data.
    #[error("{0}")]
    Fatal(String),
}

/// Ends a node once; the first reason counts.
#[derive(Debug, Default)]
pub(crate) struct Stopper {
    reason: OnceLock<StopReason>,
    token: CancellationToken,
}

impl Stopper {
    /// Begins the end.
    pub(crate) fn stop(&self, reason: StopReason) {
        // The first reason is the true one.
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// Whether the end has begun.
    pub(crate) fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Cancelled when the end begins: for tasks.
    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Why it ends.
    pub(crate) fn reason(&self) -> StopReason {
        self.reason.get().cloned().unwrap_or(StopReason::Asked)
    }
}

/// The core's threads, for an orderly end.
#[derive(Clone, Default)]
pub(crate) struct Threads {
    handles: Arc<Mutex<Named>>,
}

type Named = Vec<(&'static str, JoinHandle<()>)>;

impl Threads {
    /// Starts one. If it panics the member ends: the others would wait for it for ever.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        shared: &Arc<Shared>,
        work: impl FnOnce() + Send + 'static,
    ) {
        let guard = PanicGuard { name, shared: Arc::clone(shared) };
        let run = move || {
            work();
            std::mem::forget(guard);
        };
        match std::thread::Builder::new().name(name.to_owned()).spawn(run) {
            Ok(handle) => self.handles.lock().push((name, handle)),
            Err(e) => shared.stopper.stop(StopReason::Fatal(format!(
                "starting the {name} thread: {e}; raise the limit on threads"
            ))),
        }
    }

    /// Ends them in order: first who makes work, then who writes it down, then who applies it. Waits for all of them, and
    /// does so only once.
    pub(crate) fn end(&self, shared: &Shared) {
        let mut handles = self.handles.lock();
        shared.inbox.stop();
        join(&mut handles, "raft");
        shared.wal.close();
        join(&mut handles, "wal");
        shared.apply.close();
        join(&mut handles, "apply");
        shared.hashes.jobs.close();
        join(&mut handles, "hash");
        shared.waiters.fail_all(&NodeError::Stopped);
        shared.applied_waiters.fail_all(&NodeError::Stopped);
    }
}

fn join(handles: &mut Named, name: &str) {
    if let Some(at) = handles.iter().position(|(found, _)| *found == name) {
        // Its panic was reported by its guard.
        let _ = handles.swap_remove(at).1.join();
    }
}

struct PanicGuard {
    name: &'static str,
    shared: Arc<Shared>,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        error!(thread = self.name, "a thread of the core panicked");
        self.shared.stopper.stop(StopReason::Fatal(format!(
            "the {} thread panicked; restart the member and report the lines above",
            self.name
        )));
    }
}
