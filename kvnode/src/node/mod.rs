//! The server's core: one member of a raft cluster, its threads, and the handle by which the rest of the process asks it.
//!
//! ```text
//!            propose, linearize                    committed entries
//!  Node ────────────────────────► raft_loop ─────────────────────────► apply_loop ──► readers, watchers, answers
//!            messages of peers ──►    │  ▲                                  │
//!                                     ▼  │ durable                         ▼
//!                                  wal_loop ──► messages that promise    checkpoints
//! ```
//!
//! Three threads, each the only owner of what it works on: the raft core, the log, the state machine. They never wait
//! for each other, except the apply thread at a membership change. Rare work (leases, membership, checkpoints, start and
//! stop) has a module of its own.
//!
//! **Persist before promise.** Messages that promise leave from `wal_loop`, after the sync. An entry is applied, and its
//! caller answered, only when a quorum including this member has it on disk.
//!
//! This module decides neither what a request means (the state machine does) nor who may make it (the services do). Read
//! next: [`Node`], then `raft_loop`.

mod apply_loop;
pub mod checkpoint;
pub(crate) mod corruption;
mod downgrade;
mod error;
mod handle;
mod hashes;
mod id_gen;
mod identity;
mod inbox;
mod leases;
pub mod limits;
mod membership;
pub(crate) mod no_space;
pub(crate) mod peer_api;
mod publish;
mod queue;
mod raft_loop;
mod reads;
mod shared;
pub mod start;
mod stop;
pub(crate) mod v2_store;
mod waiters;
mod wal_loop;

pub use checkpoint::ViewSource;
pub use downgrade::DowngradeError;
pub use error::NodeError;
pub use handle::{Applied, Node, NodeStatus};
pub use leases::LeaseTtl;
pub use membership::MemberKind;
pub(crate) use shared::Transport;
pub use shared::{Identity, Leadership};
pub use start::{Boot, StartError, start};
pub use stop::StopReason;
#[cfg(test)]
pub(crate) use wal_loop::mark_of;

/// Starts a named thread. The process ends if the system has none to give: without its threads a member is nothing.
fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(e) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
        tracing::error!(error = %e, thread = name, "failed to start a thread; raise the limit on threads");
        std::process::exit(1);
    }
}
