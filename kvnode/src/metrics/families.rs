//! The families themselves: what is counted, under which of etcd's names.
//!
//! A field is a handle that its owner updates; gauges that mirror the member's state are set at each scrape, by
//! `client::observe`.

use std::collections::HashMap;

use parking_lot::RwLock;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Buckets, Register};
use crate::flags::config::MetricsLevel;

/// The type of a handle, by the method of [`Register`] that makes it.
macro_rules! handle {
    (gauge) => {
        IntGauge
    };
    (gauges) => {
        IntGaugeVec
    };
    (counter) => {
        IntCounter
    };
    (counters) => {
        IntCounterVec
    };
    (histogram) => {
        Histogram
    };
    (histograms) => {
        HistogramVec
    };
}

/// A struct of handles from a table: field, kind, name, help, labels, buckets.
macro_rules! families {
    ($(#[$doc:meta])* $group:ident { $($field:ident: $kind:ident($($argument:expr),*);)* }) => {
        $(#[$doc])*
        pub struct $group { $(pub $field: handle!($kind)),* }

        impl $group {
            pub(super) fn new(register: &Register<'_>) -> Self {
                Self { $($field: register.$kind($($argument),*)),* }
            }
        }
    };
}

/// Buckets from `first` on, each twice the one before.
pub(super) const fn doubling(first: f64, count: usize) -> Buckets {
    Buckets { first, count }
}

families! {
    /// The member as a server of requests, and as a raft peer.
    Server {
        has_leader: gauge("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.");
        is_leader: gauge("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.");
        is_learner: gauge("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.");
        leader_changes: counter("etcd_server_leader_changes_seen_total", "The number of leader changes seen.");
        slow_apply: counter("etcd_server_slow_apply_total", "Applies that took longer than --warning-apply-duration.");
        slow_read_indexes: counter("etcd_server_slow_read_indexes_total", "Read indexes that were late.");
        read_indexes_failed: counter("etcd_server_read_indexes_failed_total", "Read indexes that failed.");
        proposals_committed: gauge("etcd_server_proposals_committed_total", "The log index known to be committed.");
        proposals_applied: gauge("etcd_server_proposals_applied_total", "The log index applied.");
        proposals_pending: gauge("etcd_server_proposals_pending", "Proposals waiting to be committed.");
        proposals_failed: counter("etcd_server_proposals_failed_total", "Proposals that failed.");
        quota_bytes: gauge("etcd_server_quota_backend_bytes", "The storage quota in bytes.");
        health_success: counter("etcd_server_health_success", "Health checks that succeeded.");
        health_failures: counter("etcd_server_health_failures", "Health checks that failed.");
        healthcheck: gauges("etcd_server_healthcheck", "The result of each kind of check.", &["type", "name"]);
        healthchecks: counters("etcd_server_healthchecks_total", "Checks by kind and result.", &["type", "name", "status"]);
        client_requests: counters("etcd_server_client_requests_total", "Client requests by API version.", &["type", "client_api_version"]);
        apply_seconds: histograms("etcd_server_apply_duration_seconds", "Time spent applying.", &["version", "op", "success"], doubling(0.0001, 20));
        snapshot_apply_in_progress: gauge("etcd_server_snapshot_apply_in_progress_total", "1 while a received snapshot is taken over.");
        heartbeat_send_failures: counter("etcd_server_heartbeat_send_failures_total", "Heartbeats that could not be sent in time.");
        request_seconds: histograms("etcd_server_request_duration_seconds", "Time spent on requests.", &["type", "success"], doubling(0.001, 14));
        range_seconds: histograms("etcd_server_range_duration_seconds", "Time spent on ranges.", &["success"], doubling(0.0001, 20));
        learner_promote_successes: counter("etcd_server_learner_promote_successes", "Learners promoted while this member led.");
        learner_promote_failures: counters("etcd_server_learner_promote_failures", "Learners that could not be promoted while this member led.", &["Reason"]);
        lease_expired: counter("etcd_debugging_server_lease_expired_total", "Leases that expired.");
        auth_revision: gauge("etcd_debugging_auth_revision", "The revision of users and roles.");
        alarms: gauges("etcd_debugging_server_alarms", "Alarms raised.", &["server_id", "alarm_type"]);
        version: gauges("etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.", &["server_version"]);
        id: gauges("etcd_server_id", "Server or member ID in hexadecimal format.", &["server_id"]);
        cluster_version: gauges("etcd_cluster_version", "Which version the cluster runs.", &["cluster_version"]);
        go_version: gauges("etcd_server_go_version", "kvnode is no Go program.", &["server_go_version"]);
        feature_enabled: gauges("etcd_server_feature_enabled", "Whether or not a feature is enabled. 1 is enabled, 0 is not.", &["name", "stage"]);
        scrapes_in_flight: gauge("promhttp_metric_handler_requests_in_flight", "Current number of scrapes being served.");
        scrapes: counters("promhttp_metric_handler_requests_total", "Total number of scrapes by HTTP status code.", &["code"]);
        stream_failures: counters("etcd_network_server_stream_failures_total", "Streams that ended with an error.", &["Type", "API"]);
    }
}

families! {
    /// The files of a member.
    Disk {
        wal_fsync: histogram("etcd_disk_wal_fsync_duration_seconds", "Time of fdatasync of the log.", doubling(0.001, 14));
        wal_write: histogram("etcd_disk_wal_write_duration_seconds", "Time of writes to the log that nobody waits for; those that are waited for count as fdatasync.", doubling(0.001, 14));
        snap_db_save: histogram("etcd_snap_db_save_total_duration_seconds", "Time of saving a snapshot received from the leader.", doubling(0.1, 10));
        snap_db_fsync: histogram("etcd_snap_db_fsync_duration_seconds", "Time of fsync of a snapshot received from the leader.", doubling(0.001, 14));
        wal_write_bytes: gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log.");
        backend_commit: histogram("etcd_disk_backend_commit_duration_seconds", "Time of commits beside the log, of which there are none.", doubling(0.001, 14));
        backend_defrag: histogram("etcd_disk_backend_defrag_duration_seconds", "Time of defragmentation.", doubling(0.1, 13));
        backend_snapshot: histogram("etcd_disk_backend_snapshot_duration_seconds", "Time of sending a snapshot.", doubling(0.01, 17));
        defrag_inflight: gauge("etcd_disk_defrag_inflight", "1 while defragmenting.");
    }
}

families! {
    /// Traffic with peers and clients.
    Network {
        active_peers: gauges("etcd_network_active_peers", "Peers connected.", &["Local", "Remote"]);
        disconnected_peers: counters("etcd_network_disconnected_peers_total", "Times a peer was lost.", &["Local", "Remote"]);
        known_peers: gauges("etcd_network_known_peers", "Peers known.", &["Local", "Remote"]);
        peer_sent_bytes: counters("etcd_network_peer_sent_bytes_total", "Bytes sent to peers.", &["To"]);
        peer_received_bytes: counters("etcd_network_peer_received_bytes_total", "Bytes received from peers.", &["From"]);
        peer_sent_failures: counters("etcd_network_peer_sent_failures_total", "Messages that could not be sent to peers.", &["To"]);
        peer_received_failures: counters("etcd_network_peer_received_failures_total", "Messages that could not be received from peers.", &["From"]);
        peer_round_trip: histograms("etcd_network_peer_round_trip_time_seconds", "Round-trip time to peers.", &["To"], doubling(0.0001, 16));
        snapshot_send_success: counters("etcd_network_snapshot_send_success", "Snapshots sent.", &["To"]);
        snapshot_send_inflights: gauges("etcd_network_snapshot_send_inflights_total", "Snapshots being sent.", &["To"]);
        snapshot_send_failures: counters("etcd_network_snapshot_send_failures", "Snapshots that could not be sent.", &["To"]);
        snapshot_send_seconds: histograms("etcd_network_snapshot_send_total_duration_seconds", "Time of sending snapshots.", &["To"], doubling(0.1, 10));
        snapshot_receive_success: counters("etcd_network_snapshot_receive_success", "Snapshots received.", &["From"]);
        snapshot_receive_inflights: gauges("etcd_network_snapshot_receive_inflights_total", "Snapshots being received.", &["From"]);
        snapshot_receive_failures: counters("etcd_network_snapshot_receive_failures", "Snapshots that could not be received.", &["From"]);
        snapshot_receive_seconds: histograms("etcd_network_snapshot_receive_total_duration_seconds", "Time of receiving snapshots.", &["From"], doubling(0.1, 10));
        client_sent_bytes: counter("etcd_network_client_grpc_sent_bytes_total", "Bytes sent to clients in gRPC answers.");
        client_received_bytes: counter("etcd_network_client_grpc_received_bytes_total", "Bytes received from clients in gRPC requests.");
    }
}

families! {
    /// Keys and watches.
    Mvcc {
        range_total: counter("etcd_mvcc_range_total", "Ranges seen by this member.");
        put_total: counter("etcd_mvcc_put_total", "Puts seen by this member.");
        delete_total: counter("etcd_mvcc_delete_total", "Deletes seen by this member.");
        txn_total: counter("etcd_mvcc_txn_total", "Transactions seen by this member.");
        db_total_size: gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes the data takes.");
        db_in_use: gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the data in use.");
        hash_seconds: histogram("etcd_mvcc_hash_duration_seconds", "Time of hashing everything.", doubling(0.01, 15));
        hash_rev_seconds: histogram("etcd_mvcc_hash_rev_duration_seconds", "Time of hashing at a revision.", doubling(0.01, 15));
        keys: gauge("etcd_debugging_mvcc_keys_total", "Keys.");
        compaction_last: gauge("etcd_debugging_mvcc_db_compaction_last", "The unix time of the last compaction.");
        compaction_keys: counter("etcd_debugging_mvcc_db_compaction_keys_total", "Revisions that compactions removed.");
        watch_streams: gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams.");
        watchers: gauge("etcd_debugging_mvcc_watcher_total", "Watchers.");
        events: counter("etcd_debugging_mvcc_events_total", "Events sent.");
        current_revision: gauge("etcd_debugging_mvcc_current_revision", "The current revision.");
        compact_revision: gauge("etcd_debugging_mvcc_compact_revision", "The compacted revision.");
        put_size: gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values put.");
    }
}

families! {
    /// Leases.
    Lease {
        granted: counter("etcd_debugging_lease_granted_total", "Leases granted.");
        revoked: counter("etcd_debugging_lease_revoked_total", "Leases revoked.");
        renewed: counter("etcd_debugging_lease_renewed_total", "Renewals of leases seen by the leader.");
        ttl: histogram("etcd_debugging_lease_ttl_total", "Granted times to live in seconds.", doubling(1.0, 24));
    }
}

/// Calls of the gRPC services, under the names of Go's gRPC middleware.
pub struct Grpc {
    started: IntCounterVec,
    handled: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    seconds: Option<HistogramVec>,
    /// Handles found so far by type, service, method and code: labels are looked up once, not at each call.
    handled_cache: RwLock<HashMap<(&'static str, &'static str, &'static str), IntCounter>>,
}

/// Handles of one method.
pub struct Method {
    kind: &'static str,
    service: &'static str,
    name: &'static str,
    pub started: IntCounter,
    pub received: IntCounter,
    pub sent: IntCounter,
    ok: IntCounter,
    seconds: Option<Histogram>,
}

impl Grpc {
    pub(super) fn new(register: &Register<'_>, level: MetricsLevel) -> Self {
        const METHOD: &[&str] = &["grpc_type", "grpc_service", "grpc_method"];
        Self {
            started: register.counters("grpc_server_started_total", "RPCs started on the server.", METHOD),
            handled: register.counters(
                "grpc_server_handled_total",
                "RPCs completed on the server, regardless of success or failure.",
                &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
            ),
            received: register.counters(
                "grpc_server_msg_received_total",
                "Messages received by the server.",
                METHOD,
            ),
            sent: register.counters("grpc_server_msg_sent_total", "Messages sent by the server.", METHOD),
            seconds: (level == MetricsLevel::Extensive).then(|| {
                register.usual_histograms(
                    "grpc_server_handling_seconds",
                    "Time until an RPC was handled by the server.",
                    METHOD,
                )
            }),
            handled_cache: RwLock::default(),
        }
    }

    /// The handles of a method; `kind` is `unary`, `server_stream` or `bidi_stream`. Makes its series appear, at zero.
    pub fn method(&self, kind: &'static str, service: &'static str, name: &'static str) -> Method {
        let labels = &[kind, service, name];
        Method {
            kind,
            service,
            name,
            started: self.started.with_label_values(labels),
            received: self.received.with_label_values(labels),
            sent: self.sent.with_label_values(labels),
            ok: self.handled.with_label_values(&[kind, service, name, "OK"]),
            seconds: self.seconds.as_ref().map(|seconds| seconds.with_label_values(labels)),
        }
    }

    /// Counts a finished call by the name of its status code.
    pub fn handled(&self, method: &Method, code: &'static str, seconds: f64) {
        if let Some(histogram) = &method.seconds {
            histogram.observe(seconds);
        }
        if code == "OK" {
            method.ok.inc();
            return;
        }
        let key = (method.service, method.name, code);
        if let Some(counter) = self.handled_cache.read().get(&key) {
            counter.inc();
            return;
        }
        let counter = self.handled.with_label_values(&[method.kind, method.service, method.name, code]);
        counter.inc();
        self.handled_cache.write().insert(key, counter);
    }
}
