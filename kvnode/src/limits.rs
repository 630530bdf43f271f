//! How much of anything may pile up. One constant each, with the reason for its size; a queue without an entry here
//! does not exist.

/// Connections that may wait between the listener and the thread that will serve them. A full queue only stops
/// accepting, and the kernel's backlog takes over; a thread that is 128 handshakes behind will not catch up sooner by
/// holding more.
pub const ACCEPTED_CONNECTIONS: usize = 128;

/// Database snapshots that are sent to clients at a time. Each has a thread of its own, for as long as its client takes to
/// read, and keeps the state of its beginning in memory.
pub const SNAPSHOTS_AT_ONCE: usize = 32;

/// Snapshot blobs that may wait for one stream's transport: 32 KiB each, so 512 KiB, enough to read ahead of a
/// connection without holding the database twice.
pub const SNAPSHOT_BLOBS: usize = 16;

/// Bytes of one message of a snapshot stream (etcd's size).
pub const SNAPSHOT_BLOB_BYTES: usize = 32 * 1024;

/// Bytes a request may exceed `--max-request-bytes` by on the wire: room for what is not the proposal itself
/// (etcd's `grpcOverheadBytes`).
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// Bytes an HTTP/2 stream and a connection may have in flight. The defaults of 64 KiB stall large values once a
/// round-trip.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// See [`HTTP2_STREAM_WINDOW_BYTES`].
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Bytes of a request's metadata. Tokens that identity providers sign, and what proxies add, pass the library's 16 KiB;
/// etcd takes this much over TLS.
pub const HTTP2_HEADER_BYTES: u32 = 1024 * 1024;

/// Bytes of a body that nobody reads which are taken in all the same before the answer (Go's `maxPostHandlerReadBytes`).
pub const UNREAD_BODY_BYTES: usize = 256 * 1024;

/// Streams of one connection that the client has reset and the server has not yet looked at, before the connection is
/// taken for an attack. Clients of etcd cancel watches and timed-out requests by the hundred.
pub const HTTP2_RESET_STREAMS: usize = 4096;

/// Passwords that are hashed or compared at a time, each by a core for a tenth of a second. More would be no faster, and
/// whoever guesses passwords must not take all cores from everybody else.
pub const PASSWORDS_AT_ONCE: usize = 2;

/// Seconds a TLS handshake may take. Longer than any honest client needs, shorter than a port scanner would like.
pub const TLS_HANDSHAKE_SECONDS: u64 = 10;

/// Seconds between two requests on an HTTP/1.1 connection, and for the head of one: there is a single clock for both.
/// etcd gives a head five minutes and an idle connection for ever, so this must outlast clients that ask now and then,
/// which take a connection that is gone for a failure.
pub const HTTP1_IDLE_SECONDS: u64 = 3600;

/// Seconds that open requests get to finish when a member stops; streams that do not end by themselves are cut then.
pub const STOP_GRACE_SECONDS: u64 = 5;
