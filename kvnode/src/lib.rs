//! The IO shell of a kvnode member: flags, TLS, the client port, the peer port, and the threads that drive the pure
//! cores [`kvnode_raft`] and [`kvnode_mvcc`] over the files of [`kvnode_storage`].
//!
//! Nothing here decides what a request means: the cores do. Start reading at [`flags`] for what a member is told, at
//! [`node`] for what it does, at [`client`] for who may ask, and at [`run`] for the order of things.

pub mod auth;
pub mod client;
mod compactor;
pub mod default_host;
pub mod flags;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod node;
mod open_files;
pub mod peer;
pub mod run;
pub mod snapshot_cli;
pub mod tls;
pub mod watches;
