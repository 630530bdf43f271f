//! Every bound of the operator, each with its reason. Nothing here is a tuning knob: a bound that users should set is a
//! flag in [`crate::cli`].

use std::time::Duration;

/// Threads of the runtime. The work is waiting: two are enough that one slow TLS handshake holds up nobody.
pub const WORKER_THREADS: usize = 2;
/// How long a stopping process waits for tasks that do not end by themselves.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// How long passes under way may take to end after a stop request; well below the 30 s Kubernetes gives a pod.
pub const DRAIN_GRACE: Duration = Duration::from_secs(15);

/// A member that answers within a second is what users want; one that needs longer than this is reported unreachable.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// Part of [`PROBE_DEADLINE`] that a TCP and TLS handshake may use.
pub const CONNECT_DEADLINE: Duration = Duration::from_millis(1500);
/// A membership change waits for raft; etcd itself gives it `election timeout + 5 s`.
pub const CHANGE_DEADLINE: Duration = Duration::from_secs(8);
/// Defragmenting a member; etcd needs seconds per gigabyte, kvnode far less.
pub const DEFRAGMENT_DEADLINE: Duration = Duration::from_secs(45);
/// Idle connections are forgotten after this; members are probed more often than that while they are watched.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(300);
/// Connections kept at once: a thousand clusters of five members, with room. Beyond it the idlest goes first.
pub const CONNECTIONS_MAX: usize = 8192;
/// Members probed at once per cluster; the API allows fewer members than this.
pub const PROBES_AT_ONCE: usize = 16;

/// Passes at once per kind. A pass mostly waits, so this bounds sockets and memory, not work.
pub const CONCURRENT_PASSES: u16 = 32;
/// Events of the same object that arrive within this time become one pass.
pub const DEBOUNCE: Duration = Duration::from_millis(100);
/// First wait after a failed pass; doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest wait after failed passes: a fixed cause is noticed within a minute even without an event.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Deadline of one whole pass; a stuck API server must not hold a slot for ever.
pub const PASS_DEADLINE: Duration = Duration::from_secs(60);
/// Objects waiting for a pass in a trigger channel before watches are slowed down.
pub const TRIGGER_QUEUE: usize = 1024;

/// Objects remembered that the server normalises; forgetting them costs one write each that changes nothing.
pub const ACCEPTED_MAX: usize = 16 * 1024;

/// Bytes per part of an upload. S3 allows 10 000 parts of at least 5 MiB: this reaches 160 GiB, twenty times the
/// largest database etcd recommends.
pub const UPLOAD_PART_BYTES: usize = 16 * 1024 * 1024;
/// Parts in flight: two hide the store's latency and keep a backup pod below 64 MiB.
pub const UPLOAD_PARTS_IN_FLIGHT: usize = 2;
/// Largest message of the snapshot stream. etcd sends 32 KiB blobs; anything near this is not a snapshot.
pub const SNAPSHOT_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// How long the stream of a snapshot may pause before the member counts as lost.
pub const SNAPSHOT_STALL: Duration = Duration::from_secs(30);
/// Retries of one request to the object store; the Job as a whole is retried too.
pub const STORE_RETRIES: usize = 4;
/// Time after which a request to the object store is not retried any more.
pub const STORE_RETRY_TIMEOUT: Duration = Duration::from_secs(20);
/// Connection set-up to the object store.
pub const STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A transfer that moves no byte for this long is broken.
pub const STORE_READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Seconds between two progress lines in a Job's log.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// Kubernetes keeps 4096 bytes of a termination message; a longer one would be cut in the middle of the JSON.
pub const TERMINATION_MESSAGE_BYTES: usize = 4096;
