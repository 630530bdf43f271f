//! How much may pile up between this member and each other one.

use std::time::Duration;

/// Messages that may wait for one stream to one member (etcd's `streamBufSize`). Raft bounds appends much earlier; the rest
/// is small.
pub const STREAM_MESSAGES: usize = 4096;

/// Messages that may wait to be posted one by one, while no stream is up (etcd's `pipelineBufSize`).
pub const PIPELINE_MESSAGES: usize = 64;

/// Posts that may be under way to one member at a time (etcd's `connPerPipeline`).
pub const PIPELINE_POSTS: usize = 4;

/// Messages encoded into one chunk of a stream. They were waiting anyway, and one write for many costs less than many.
pub const BATCH_MESSAGES: usize = 256;

/// Bytes after which a chunk of a stream is sent, whatever still waits.
pub const BATCH_BYTES: usize = 1 << 20;

/// Largest message that may be posted: an append of the largest size with a large entry, and room to spare.
pub const POST_BYTES: usize = 512 << 20;

/// Largest envelope of a snapshot (etcd's `snapshotLimitByte`); the state behind it has no bound here.
pub const SNAPSHOT_ENVELOPE_BYTES: usize = 64 << 20;

/// Largest answer that is read from a member: lists of members and leases.
pub const ANSWER_BYTES: usize = 16 << 20;

/// Pieces of a snapshot that may wait between network and disk.
pub const SNAPSHOT_PIECES: usize = 8;

/// Bytes of one piece of a snapshot that is sent.
pub const SNAPSHOT_PIECE_BYTES: usize = 64 << 10;

/// Members that are not in the membership but introduced themselves: a joining member meets the others like this before
/// its log tells it about them.
pub const REMOTES: usize = 64;

/// A stream that brings nothing for this long is dead (etcd's `ConnReadTimeout`); the other side sends something three
/// times as often.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A socket whose bytes are not acknowledged for this long is dead (etcd's `ConnWriteTimeout`).
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a stream says "still here".
pub const LINK_HEARTBEAT: Duration = Duration::from_millis(1666);

/// Wait between attempts to reach a member (etcd's `DialRetryFrequency`).
pub const REDIAL: Duration = Duration::from_millis(100);

/// How long a post may take.
pub const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the answer to a whole snapshot may take to come after its last byte.
pub const SNAPSHOT_ANSWER: Duration = Duration::from_secs(300);

/// How long the log keeps what follows a snapshot after the receiver has it, for the receiver to fetch (etcd's
/// `releaseDelayAfterSnapshot`).
pub const SNAPSHOT_CATCH_UP: Duration = Duration::from_secs(30);

/// How often the way to a member is measured (etcd's `proberInterval`).
pub const PROBE_INTERVAL: Duration = Duration::from_secs(4);

/// Reasons that are said of one member while it cannot be reached: its URLs times what may be wrong with each, and no flood.
pub const COMPLAINTS: usize = 8;
