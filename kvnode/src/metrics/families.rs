//! The families themselves: what is counted, under which of etcd's names.
//!
//! A field is a handle that its owner updates; [`Server`]'s and [`Mvcc`]'s gauges that mirror the member's state are set
//! at each scrape by `client::http`.

use std::collections::HashMap;

use parking_lot::RwLock;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Buckets, Register};
use crate::flags::config::MetricsLevel;

/// The member as a server of requests, and as a raft peer.
pub struct Server {
    pub has_leader: IntGauge,
    pub is_leader: IntGauge,
    pub is_learner: IntGauge,
    pub leader_changes: IntCounter,
    pub heartbeat_send_failures: IntCounter,
    pub slow_apply: IntCounter,
    pub slow_read_indexes: IntCounter,
    pub read_indexes_failed: IntCounter,
    pub proposals_committed: IntGauge,
    pub proposals_applied: IntGauge,
    pub proposals_pending: IntGauge,
    pub proposals_failed: IntCounter,
    pub quota_bytes: IntGauge,
    pub health_success: IntCounter,
    pub health_failures: IntCounter,
    pub healthcheck: IntGaugeVec,
    pub healthchecks: IntCounterVec,
    pub client_requests: IntCounterVec,
    pub apply_seconds: HistogramVec,
    pub request_seconds: HistogramVec,
    pub range_seconds: HistogramVec,
    pub snapshot_apply_in_progress: IntGauge,
    pub learner_promote_successes: IntCounter,
    pub learner_promote_failures: IntCounterVec,
    pub lease_expired: IntCounter,
    pub alarms: IntGaugeVec,
    pub version: IntGaugeVec,
    pub go_version: IntGaugeVec,
    pub id: IntGaugeVec,
    pub cluster_version: IntGaugeVec,
    pub feature_enabled: IntGaugeVec,
    pub stream_failures: IntCounterVec,
}

impl Server {
    pub(super) fn new(register: &Register<'_>) -> Self {
        Self {
            has_leader: register
                .gauge("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not."),
            is_leader: register.gauge(
                "etcd_server_is_leader",
                "Whether or not this member is a leader. 1 if is, 0 otherwise.",
            ),
            is_learner: register.gauge(
                "etcd_server_is_learner",
                "Whether or not this member is a learner. 1 if is, 0 otherwise.",
            ),
            leader_changes: register
                .counter("etcd_server_leader_changes_seen_total", "The number of leader changes seen."),
            heartbeat_send_failures: register.counter(
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats that could not be sent in time.",
            ),
            slow_apply: register.counter(
                "etcd_server_slow_apply_total",
                "Applies that took longer than --warning-apply-duration.",
            ),
            slow_read_indexes: register
                .counter("etcd_server_slow_read_indexes_total", "Read indexes that were late."),
            read_indexes_failed: register
                .counter("etcd_server_read_indexes_failed_total", "Read indexes that failed."),
            proposals_committed: register
                .gauge("etcd_server_proposals_committed_total", "The log index known to be committed."),
            proposals_applied: register
                .gauge("etcd_server_proposals_applied_total", "The log index applied."),
            proposals_pending: register
                .gauge("etcd_server_proposals_pending", "Proposals waiting to be committed."),
            proposals_failed: register
                .counter("etcd_server_proposals_failed_total", "Proposals that failed."),
            quota_bytes: register.gauge("etcd_server_quota_backend_bytes", "The storage quota in bytes."),
            health_success: register.counter("etcd_server_health_success", "Health checks that succeeded."),
            health_failures: register.counter("etcd_server_health_failures", "Health checks that failed."),
            healthcheck: register.gauges(
                "etcd_server_healthcheck",
                "The result of each kind of check.",
                &["type", "name"],
            ),
            healthchecks: register.counters(
                "etcd_server_healthchecks_total",
                "Checks by kind and result.",
                &["type", "name", "status"],
            ),
            client_requests: register.counters(
                "etcd_server_client_requests_total",
                "Client requests by API version.",
                &["type", "client_api_version"],
            ),
            apply_seconds: register.histograms(
                "etcd_server_apply_duration_seconds",
                "Time spent applying.",
                &["version", "op", "success"],
                Buckets { first: 0.0001, count: 20 },
            ),
            request_seconds: register.histograms(
                "etcd_server_request_duration_seconds",
                "Time spent on requests that went through raft.",
                &["type", "success"],
                Buckets { first: 0.001, count: 14 },
            ),
            range_seconds: register.histograms(
                "etcd_server_range_duration_seconds",
                "Time spent on ranges.",
                &["success"],
                Buckets { first: 0.0001, count: 20 },
            ),
            snapshot_apply_in_progress: register.gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "1 while a received snapshot is taken over.",
            ),
            learner_promote_successes: register
                .counter("etcd_server_learner_promote_successes", "Learners promoted while this member led."),
            learner_promote_failures: register.counters(
                "etcd_server_learner_promote_failures",
                "Learner promotions refused while this member led.",
                &["Reason"],
            ),
            lease_expired: register
                .counter("etcd_debugging_server_lease_expired_total", "Leases that expired."),
            alarms: register.gauges(
                "etcd_debugging_server_alarms",
                "Alarms raised.",
                &["server_id", "alarm_type"],
            ),
            version: register.gauges(
                "etcd_server_version",
                "Which version is running. 1 for 'server_version' label with current version.",
                &["server_version"],
            ),
            go_version: register.gauges(
                "etcd_server_go_version",
                "Which Go version the server is built with.",
                &["server_go_version"],
            ),
            id: register.gauges(
                "etcd_server_id",
                "Server or member ID in hexadecimal format.",
                &["server_id"],
            ),
            cluster_version: register.gauges(
                "etcd_cluster_version",
                "Which version the cluster runs.",
                &["cluster_version"],
            ),
            feature_enabled: register.gauges(
                "etcd_server_feature_enabled",
                "Whether a feature gate is enabled.",
                &["name", "stage"],
            ),
            stream_failures: register.counters(
                "etcd_network_server_stream_failures_total",
                "Streams that ended with an error.",
                &["Type", "API"],
            ),
        }
    }
}

/// The files of a member.
pub struct Disk {
    pub wal_fsync: Histogram,
    pub wal_write: Histogram,
    pub wal_write_bytes: IntGauge,
    pub backend_commit: Histogram,
    pub backend_defrag: Histogram,
    pub backend_snapshot: Histogram,
    pub defrag_inflight: IntGauge,
    pub snap_db_save: Histogram,
    pub snap_db_fsync: Histogram,
    pub snap_fsync: Histogram,
}

impl Disk {
    pub(super) fn new(register: &Register<'_>) -> Self {
        Self {
            wal_fsync: register.histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "Time of fdatasync of the log.",
                Buckets { first: 0.001, count: 14 },
            ),
            wal_write: register.histogram(
                "etcd_disk_wal_write_duration_seconds",
                "Time of writes to the log.",
                Buckets { first: 0.001, count: 14 },
            ),
            wal_write_bytes: register.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log."),
            backend_commit: register.histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "Time of writing a checkpoint of the state.",
                Buckets { first: 0.001, count: 14 },
            ),
            backend_defrag: register.histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "Time of defragmentation.",
                Buckets { first: 0.1, count: 13 },
            ),
            backend_snapshot: register.histogram(
                "etcd_disk_backend_snapshot_duration_seconds",
                "Time of sending a snapshot.",
                Buckets { first: 0.01, count: 17 },
            ),
            defrag_inflight: register.gauge("etcd_disk_defrag_inflight", "1 while defragmenting."),
            snap_db_save: register.histogram(
                "etcd_snap_db_save_total_duration_seconds",
                "Time of saving a received snapshot.",
                Buckets { first: 0.1, count: 10 },
            ),
            snap_db_fsync: register.histogram(
                "etcd_snap_db_fsync_duration_seconds",
                "Time of fsync of a received snapshot.",
                Buckets { first: 0.001, count: 14 },
            ),
            snap_fsync: register.histogram(
                "etcd_snap_fsync_duration_seconds",
                "Time of fsync of a snapshot mark.",
                Buckets { first: 0.001, count: 14 },
            ),
        }
    }
}

/// Traffic with peers and clients.
pub struct Network {
    pub active_peers: IntGaugeVec,
    pub disconnected_peers: IntCounterVec,
    pub known_peers: IntGaugeVec,
    pub peer_sent_bytes: IntCounterVec,
    pub peer_received_bytes: IntCounterVec,
    pub peer_sent_failures: IntCounterVec,
    pub peer_received_failures: IntCounterVec,
    pub peer_round_trip: HistogramVec,
    pub snapshot_send_success: IntCounterVec,
    pub snapshot_send_inflights: IntGaugeVec,
    pub snapshot_send_failures: IntCounterVec,
    pub snapshot_send_seconds: HistogramVec,
    pub snapshot_receive_success: IntCounterVec,
    pub snapshot_receive_inflights: IntGaugeVec,
    pub snapshot_receive_failures: IntCounterVec,
    pub snapshot_receive_seconds: HistogramVec,
    pub client_sent_bytes: IntCounter,
    pub client_received_bytes: IntCounter,
}

impl Network {
    pub(super) fn new(register: &Register<'_>) -> Self {
        Self {
            active_peers: register.gauges(
                "etcd_network_active_peers",
                "Peers connected.",
                &["Local", "Remote"],
            ),
            disconnected_peers: register.counters(
                "etcd_network_disconnected_peers_total",
                "Times a peer was lost.",
                &["Local", "Remote"],
            ),
            known_peers: register.gauges("etcd_network_known_peers", "Peers known.", &["Local", "Remote"]),
            peer_sent_bytes: register.counters(
                "etcd_network_peer_sent_bytes_total",
                "Bytes sent to peers.",
                &["To"],
            ),
            peer_received_bytes: register.counters(
                "etcd_network_peer_received_bytes_total",
                "Bytes received from peers.",
                &["From"],
            ),
            peer_sent_failures: register.counters(
                "etcd_network_peer_sent_failures_total",
                "Messages that could not be sent to peers.",
                &["To"],
            ),
            peer_received_failures: register.counters(
                "etcd_network_peer_received_failures_total",
                "Messages that could not be received from peers.",
                &["From"],
            ),
            peer_round_trip: register.histograms(
                "etcd_network_peer_round_trip_time_seconds",
                "Round-trip time to peers.",
                &["To"],
                Buckets { first: 0.0001, count: 16 },
            ),
            snapshot_send_success: register.counters(
                "etcd_network_snapshot_send_success",
                "Snapshots sent.",
                &["To"],
            ),
            snapshot_send_inflights: register.gauges(
                "etcd_network_snapshot_send_inflights_total",
                "Snapshots being sent.",
                &["To"],
            ),
            snapshot_send_failures: register.counters(
                "etcd_network_snapshot_send_failures",
                "Snapshots that could not be sent.",
                &["To"],
            ),
            snapshot_send_seconds: register.histograms(
                "etcd_network_snapshot_send_total_duration_seconds",
                "Time of sending snapshots.",
                &["To"],
                Buckets { first: 0.1, count: 10 },
            ),
            snapshot_receive_success: register.counters(
                "etcd_network_snapshot_receive_success",
                "Snapshots received.",
                &["From"],
            ),
            snapshot_receive_inflights: register.gauges(
                "etcd_network_snapshot_receive_inflights_total",
                "Snapshots being received.",
                &["From"],
            ),
            snapshot_receive_failures: register.counters(
                "etcd_network_snapshot_receive_failures",
                "Snapshots that could not be received.",
                &["From"],
            ),
            snapshot_receive_seconds: register.histograms(
                "etcd_network_snapshot_receive_total_duration_seconds",
                "Time of receiving snapshots.",
                &["From"],
                Buckets { first: 0.1, count: 10 },
            ),
            client_sent_bytes: register.counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes sent to clients in gRPC answers.",
            ),
            client_received_bytes: register.counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes received from clients in gRPC requests.",
            ),
        }
    }
}

/// Keys and watches.
pub struct Mvcc {
    pub range_total: IntCounter,
    pub put_total: IntCounter,
    pub delete_total: IntCounter,
    pub txn_total: IntCounter,
    pub db_total_size: IntGauge,
    pub db_in_use: IntGauge,
    pub open_reads: IntGauge,
    pub hash_seconds: Histogram,
    pub hash_rev_seconds: Histogram,
    pub keys: IntGauge,
    pub watch_streams: IntGauge,
    pub watchers: IntGauge,
    pub slow_watchers: IntGauge,
    pub events: IntCounter,
    pub pending_events: IntGauge,
    pub current_revision: IntGauge,
    pub compact_revision: IntGauge,
    pub put_size: IntGauge,
    pub compaction_keys: IntCounter,
    pub compaction_last: IntGauge,
    pub compaction_pause_ms: Histogram,
    pub compaction_total_ms: Histogram,
}

impl Mvcc {
    pub(super) fn new(register: &Register<'_>) -> Self {
        Self {
            range_total: register.counter("etcd_mvcc_range_total", "Ranges seen by this member."),
            put_total: register.counter("etcd_mvcc_put_total", "Puts seen by this member."),
            delete_total: register.counter("etcd_mvcc_delete_total", "Deletes seen by this member."),
            txn_total: register.counter("etcd_mvcc_txn_total", "Transactions seen by this member."),
            db_total_size: register.gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes the data takes."),
            db_in_use: register.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the data in use."),
            open_reads: register.gauge("etcd_mvcc_db_open_read_transactions", "Reads going on."),
            hash_seconds: register.histogram(
                "etcd_mvcc_hash_duration_seconds",
                "Time of hashing everything.",
                Buckets { first: 0.01, count: 15 },
            ),
            hash_rev_seconds: register.histogram(
                "etcd_mvcc_hash_rev_duration_seconds",
                "Time of hashing at a revision.",
                Buckets { first: 0.01, count: 15 },
            ),
            keys: register.gauge("etcd_debugging_mvcc_keys_total", "Keys."),
            watch_streams: register.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams."),
            watchers: register.gauge("etcd_debugging_mvcc_watcher_total", "Watchers."),
            slow_watchers: register
                .gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind."),
            events: register.counter("etcd_debugging_mvcc_events_total", "Events sent."),
            pending_events: register
                .gauge("etcd_debugging_mvcc_pending_events_total", "Events waiting to be sent."),
            current_revision: register.gauge("etcd_debugging_mvcc_current_revision", "The current revision."),
            compact_revision: register
                .gauge("etcd_debugging_mvcc_compact_revision", "The compacted revision."),
            put_size: register
                .gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values put."),
            compaction_keys: register
                .counter("etcd_debugging_mvcc_db_compaction_keys_total", "Revisions dropped by compaction."),
            compaction_last: register
                .gauge("etcd_debugging_mvcc_db_compaction_last", "Unix time of the last compaction."),
            compaction_pause_ms: register.histogram(
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "Longest pause of a compaction.",
                Buckets { first: 1.0, count: 13 },
            ),
            compaction_total_ms: register.histogram(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "Whole time of a compaction.",
                Buckets { first: 100.0, count: 14 },
            ),
        }
    }
}

/// Leases.
pub struct Lease {
    pub granted: IntCounter,
    pub revoked: IntCounter,
    pub renewed: IntCounter,
    pub ttl: Histogram,
}

impl Lease {
    pub(super) fn new(register: &Register<'_>) -> Self {
        Self {
            granted: register.counter("etcd_debugging_lease_granted_total", "Leases granted."),
            revoked: register.counter("etcd_debugging_lease_revoked_total", "Leases revoked."),
            renewed: register
                .counter("etcd_debugging_lease_renewed_total", "Renewals of leases seen by the leader."),
            ttl: register.histogram(
                "etcd_debugging_lease_ttl_total",
                "Granted times to live in seconds.",
                Buckets { first: 1.0, count: 24 },
            ),
        }
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
                register.histograms(
                    "grpc_server_handling_seconds",
                    "Time until an RPC was handled by the server.",
                    METHOD,
                    Buckets { first: 0.005, count: 12 },
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
