//! Every bound of this crate, with the reason for its value.

/// Size at which a log segment is closed and the next begins, in bytes. etcd's own value: its tools and its
/// preallocation expect segments of this size.
pub const SEGMENT_BYTES: u64 = 64_000_000;

/// The most un-synced bytes the log hands to the operating system before it syncs, in bytes. A tear can therefore
/// never be followed by more than this many bytes plus one record; anything longer is damage to synced data. Large
/// enough that a group is rarely split (a split costs one more `fdatasync` per 4 MiB), small enough to tell apart.
pub const UNSYNCED_BYTES_MAX: u64 = 4 << 20;

/// Capacity that the log's write buffer keeps between groups, in bytes. A burst may need more; keeping all of it for
/// ever would cost that memory once and for all.
pub const WRITE_BUFFER_KEEP_BYTES: usize = 8 << 20;

/// The unit that a disk writes whole or not at all, in bytes. etcd's log relies on the same number.
pub const SECTOR_BYTES: usize = 512;

/// How much of a recycled segment is zeroed between two syncs, in bytes: small enough that the log's own sync never
/// waits behind a long flush.
pub const ZERO_STEP_BYTES: usize = 1 << 20;

/// Read-ahead when a bolt file is walked in order, in bytes. One read per 256 pages hides the system call; more would
/// only hold memory.
pub const READ_AHEAD_BYTES: usize = 1 << 20;

/// The deepest bolt tree the reader follows, in pages from root to leaf. Sixteen levels of even two children each
/// over 4 KiB pages are more than any disk holds in keys of normal size; deeper is a damaged file.
pub const TREE_DEPTH_MAX: usize = 64;

/// The longest run of pages that one leaf grows to in order to avoid waste, in pages. Values slightly above a page
/// would otherwise leave half of every second page empty.
pub const LEAF_RUN_PAGES: u64 = 16;

/// How much of a checkpoint is written between two syncs, in bytes. Without them the last sync would flush gigabytes at
/// once, and every sync of the log would wait behind it.
pub const CHECKPOINT_SYNC_BYTES: u64 = 8 << 20;

/// How much of a file is read at once to check its SHA-256, in bytes.
pub const HASH_STEP_BYTES: usize = 1 << 20;

/// The largest identity file that is read, in bytes: a real one has a few hundred.
pub const IDENTITY_BYTES_MAX: u64 = 64 << 10;
