//! How much may pile up inside the server's core. One constant each, with the reason for its size.

use std::time::Duration;

/// Requests that may wait for the raft thread. It takes all of them several thousand times a second; more waiting than
/// this means that it is stuck, and callers should hear "too many requests" instead of waiting behind.
pub const PROPOSALS: usize = 16 * 1024;

/// Bytes of requests that may wait for the raft thread, whatever their number.
pub const PROPOSAL_BYTES: usize = 64 << 20;

/// Requests held while nobody leads, or while leadership moves. They time out by themselves after some seconds.
pub const HELD_PROPOSALS: usize = PROPOSALS;

/// Messages from peers that may wait for the raft thread. Raft sends again what is dropped.
pub const PEER_MESSAGES: usize = 4096;

/// Bytes of entries in messages from peers that may wait: what all peers may have in flight to one member.
pub const PEER_MESSAGE_BYTES: usize = 128 << 20;

/// Linearizable reads that may wait for one round. They cost a pointer each.
pub const READS: usize = 64 * 1024;

/// Entries that may be committed and not applied before new requests are refused (etcd's `maxGapBetweenApplyAndCommitIndex`).
pub const APPLY_GAP: u64 = 5000;

/// Committed entries a follower may have that are not applied before it lets the leader wait by dropping appends. Far above
/// [`APPLY_GAP`], so that it only bites when the apply thread is much slower than the network. What is not committed is
/// no longer than the leader's own, which [`UNCOMMITTED_BYTES`] bounds.
pub const UNAPPLIED_ENTRIES: u64 = 100_000;

/// Largest append message, in bytes of entries (etcd's `maxSizePerMsg`).
pub const APPEND_BYTES: u64 = 1 << 20;

/// Append messages in flight to one member (etcd: 512). With [`APPEND_BYTES`] it also bounds what waits for the log on a
/// follower: it acknowledges only what is durable.
pub const APPENDS_IN_FLIGHT: usize = 128;

/// Bytes of entries a leader takes before they commit: what waits for its own log, and for a slow quorum.
pub const UNCOMMITTED_BYTES: u64 = 256 << 20;

/// Bytes of committed entries handed to the apply thread at a time.
pub const COMMITTED_BYTES: u64 = 8 << 20;

/// Bytes of log entries kept in memory for members that lag, whatever `--snapshot-catchup-entries` says: 5000 entries of
/// 1.5 MiB would be 7 GB. A member that needs more gets a snapshot.
pub const LOG_BYTES: usize = 512 << 20;

/// Other members' read confirmations that a new leader keeps until it has committed something: one member has one round
/// under way, and asks again twice a second.
pub const EARLY_READS: usize = 1024;

/// Messages with proposals that a leader keeps while it hands leadership over or changes members: milliseconds.
pub const EARLY_PROPOSALS: usize = 1024;

/// How long a read waits for its confirmation before it asks again (etcd's `readIndexRetryTime`): the request, or the
/// answer, may have been lost.
pub const READ_RETRY: Duration = Duration::from_millis(500);

/// Confirmations of one round of reads that may be outstanding: more than fit into the longest request timeout.
pub const READ_ATTEMPTS: usize = 256;

/// Keys looked at between two batches of entries when compacted revisions are forgotten: about a millisecond.
pub const SCRUB_KEYS: usize = 1000;

/// How long an orderly end may take to save the database file: a third of the 30 s that Kubernetes gives a pod by default,
/// as handing leadership over and letting clients go come before it.
pub const LAST_CHECKPOINT: Duration = Duration::from_secs(10);

/// How long a renewal or a promotion waits for an index to be applied (etcd's `applyTimeout`).
pub const WAIT_APPLIED: Duration = Duration::from_secs(1);

/// Wait between attempts to ask the leader (etcd's 50 ms): it may just be changing.
pub const FORWARD_RETRY: Duration = Duration::from_millis(50);
