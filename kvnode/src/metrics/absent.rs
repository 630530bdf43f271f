//! Families of etcd about things that kvnode does not have. They are there, at zero, so that what asks for them finds them;
//! zero is also what is true.

use super::{Buckets, Register, families::doubling};

const GAUGES: &[(&str, &str)] = &[
    ("etcd_debugging_mvcc_pending_events_total", "Events waiting for watchers; each stream fetches its own."),
    (
        "etcd_debugging_mvcc_slow_watcher_total",
        "Watchers behind in a group of their own, of which there is none.",
    ),
    ("etcd_debugging_store_watchers", "Watchers of the v2 store."),
    ("etcd_grpc_proxy_cache_hits_total", "Hits of the proxy's cache."),
    ("etcd_grpc_proxy_cache_keys_total", "Keys in the proxy's cache."),
    ("etcd_grpc_proxy_cache_misses_total", "Misses of the proxy's cache."),
    ("etcd_grpc_proxy_watchers_coalescing_total", "Watchers that share one of the proxy's."),
    ("etcd_mvcc_db_open_read_transactions", "Transactions open on the database file, which is written only."),
];

const COUNTERS: &[(&str, &str)] = &[
    ("etcd_debugging_store_expires_total", "Keys of the v2 store that expired."),
    ("etcd_debugging_store_watch_requests_total", "Watches of the v2 store."),
    ("etcd_grpc_proxy_events_coalescing_total", "Events that the proxy sent to several watchers."),
];

const SECONDS: &[(&str, &str)] = &[
    (
        "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
        "Commits beside the log, of which there are none.",
    ),
    (
        "etcd_debugging_disk_backend_commit_spill_duration_seconds",
        "Commits beside the log, of which there are none.",
    ),
    (
        "etcd_debugging_disk_backend_commit_write_duration_seconds",
        "Commits beside the log, of which there are none.",
    ),
    ("etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", "Streams have no send loop."),
    ("etcd_debugging_server_watch_send_loop_progress_duration_seconds", "Streams have no send loop."),
    (
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
        "Streams have no send loop.",
    ),
    ("etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", "Streams have no send loop."),
    (
        "etcd_debugging_snap_save_marshalling_duration_seconds",
        "Snapshots in the v2 format, of which there are none.",
    ),
    (
        "etcd_debugging_snap_save_total_duration_seconds",
        "Snapshots in the v2 format, of which there are none.",
    ),
    ("etcd_snap_fsync_duration_seconds", "Snapshots in the v2 format, of which there are none."),
];

const MILLISECONDS: &[(&str, &str, Buckets)] = &[
    (
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "Pauses of compaction, which goes in steps that nobody waits for.",
        doubling(1.0, 13),
    ),
    (
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "Time spent on compaction, which goes in steps that nobody waits for.",
        doubling(100.0, 14),
    ),
    (
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "Pauses of compaction, which goes in steps that nobody waits for.",
        doubling(0.5, 14),
    ),
];

/// Makes them appear.
pub(super) fn register(register: &Register<'_>) {
    for (name, help) in GAUGES {
        register.gauge(name, help);
    }
    for (name, help) in COUNTERS {
        register.counter(name, help);
    }
    for (name, help) in SECONDS {
        register.histogram(name, help, doubling(0.001, 14));
    }
    for (name, help, buckets) in MILLISECONDS {
        register.histogram(name, help, *buckets);
    }
}
