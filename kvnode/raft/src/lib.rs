//! One member's raft core: a typed, sans-IO adapter over the `raft` crate.
//!
//! Messages, ticks and proposals go in; a [`Ready`] says what to write, send and apply. The same inputs give the same
//! outputs: no IO, no clock, and the election jitter comes from a seed in [`Config`] (the raft crate rolls dice of its
//! own, which [`RaftNode`] overrides before they matter).
//!
//! Nothing above this crate sees a type of the raft crate. Messages are [`kvnode_proto::raftpb`]; membership changes are
//! decoded and judged here ([`conf_change`]) before the raft crate parses anything; what is known to be wrong with its
//! newest release is kept out here ([`RaftNode::new`], [`RaftNode::step`]).
//!
//! **The caller's duties**, in the order of the fields of [`Ready`]:
//! 1. send [`Ready::messages`] at any time;
//! 2. write hard state, snapshot mark and entries to the durable log, in the order of the Ready numbers, several in flight
//!    if it likes, and sync when [`Ready::must_sync`];
//! 3. when Ready *n* and all before it are durable, call [`RaftNode::persisted`]`(n)`, then send its
//!    [`Ready::persisted_messages`]: an answer must not be stepped before the core knows;
//! 4. apply [`Ready::committed`] in order, calling [`RaftNode::apply_conf_change`] at each membership change, and report
//!    progress with [`RaftNode::applied`].
//!
//! Read [`node`] next, then `tests/testdata/*.txt`, which show whole clusters step by step.

pub mod conf_change;
mod convert;
mod error;
mod id;
mod log;
mod logger;
mod node;
mod ready;
mod status;

pub use error::{ConfChangeError, ProposeError, StartError, StepError};
pub use id::MemberId;
pub use log::LogStart;
pub use logger::{LogLevel, LogSink};
pub use node::{Config, DurableState, PreVote, RaftNode, ReadIndex, SnapshotOutcome};
pub use ready::{ReadState, Ready};
pub use status::{PeerProgress, ReplicationState, Role, Status};
