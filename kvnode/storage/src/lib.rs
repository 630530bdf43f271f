//! What a kvnode keeps on disk: etcd's write-ahead log, checkpoints as bbolt files, and who the volume belongs to.
//!
//! Every byte goes through [`vfs::Vfs`], so the same code runs on a real disk and on one that loses what was not
//! synced. The formats are written down in `FORMAT.md`; a data directory moves between etcd and kvnode.
//!
//! This crate knows no raft state machine, no keys' meaning, no clock and no async runtime: its calls block, and the
//! node gives them a thread. Start reading at [`wal`] (the write path), then [`bolt`] (the file format), then
//! [`checkpoint`] and [`snapshot_file`] (what is done with it).

pub mod bolt;
pub mod checkpoint;
pub mod identity;
pub mod layout;
pub mod limits;
pub mod raft_snapshot;
pub mod restore;
pub mod snapshot_file;
pub mod status;
pub mod vfs;
pub mod wal;

mod pb;
