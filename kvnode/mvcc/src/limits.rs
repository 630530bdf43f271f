//! Bounds of the state machine, each with its argument.

/// Records of one log segment. Sixty-four let one `u64` say which of them are still there, and keep the copy that a
/// writer makes of the open segment after a view was published below half a microsecond.
pub const SEGMENT_RECORDS: usize = 64;

/// Bytes after which an open segment is closed even with few records, so that closing copies little at a time.
pub const SEGMENT_BYTES: usize = 64 * 1024;

/// A record of at least this size gets a segment and an allocation of its own and is never copied again.
pub const LONE_RECORD_BYTES: usize = 16 * 1024;

/// Keys of one leaf and children of one inner node of the key index: wide enough for a shallow tree (three levels at a
/// million keys), narrow enough that copying a node for a new version costs well below a microsecond.
pub const NODE_FANOUT: usize = 64;

/// Key bytes after which a leaf splits early, so that long keys do not make node copies expensive.
pub const NODE_KEY_BYTES: usize = 16 * 1024;

/// Highest number of operations of one transaction, per branch and nesting level, unless configured (`--max-txn-ops`).
pub const TXN_OPS_DEFAULT: usize = 128;

/// Distinct revisions in one batch of a watcher that catches up: what etcd sends, and a bound on the memory of a batch.
pub const WATCH_BATCH_REVISIONS: usize = 1000;

/// Longest time to live of a lease in seconds; etcd's bound, chosen so that nanoseconds fit 64 bits.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// What a put is taken to cost beside its key and value, for the quota. etcd's figure.
pub const QUOTA_PUT_OVERHEAD_BYTES: u64 = 256;

/// What a lease is taken to cost for the quota. etcd's figure.
pub const QUOTA_LEASE_BYTES: u64 = 64;

/// Leases a leader revokes in a second. etcd's figure.
pub const LEASE_REVOKES_PER_SECOND: usize = 1000;

/// Bytes of records after which a batch for a watcher ends at the next revision: well below the 4 MiB that clients
/// other than Go's take by default.
pub const WATCH_BATCH_BYTES: usize = 512 * 1024;

/// Log entries looked at in one step of catching up, so that a watcher of rare keys does not keep a thread for long.
pub const WATCH_SCAN_ENTRIES: usize = 10_000;

/// Changes that wait in the inbox of a stream before its watchers are sent to the log. They share their records with
/// the store, so this bounds bookkeeping: some 100 KiB for each stream whose client does not read.
pub const WATCH_INBOX_CHANGES: usize = 4096;

/// Changes of a single batch that a stream's watchers may be given together. More than a batch has for one watcher of
/// everything, and some megabytes for thousands of watchers of the same keys, who are better off with the log.
pub const WATCH_INBOX_BATCH_CHANGES: usize = 65_536;

/// Watchers of one stream that read the log together. With the entries of a step this bounds the time it takes.
pub const WATCH_BATCH_WATCHERS: usize = 256;

/// Size above which a watch answer is sent in fragments, with etcd's default request size of 1.5 MiB.
pub const WATCH_FRAGMENT_BYTES_DEFAULT: usize = 2 * 1024 * 1024;

/// Compactions whose hashes are remembered for comparing members. etcd's figure.
pub const COMPACTION_HASHES: usize = 10;
