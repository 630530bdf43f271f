//! Metrics under etcd's names, so that its dashboards and alerts work unchanged.
//!
//! One [`Metrics`] lives as long as the process and is handed to every part; parts count what they do, and what can be
//! read at any time (leader, sizes, revisions) is read when somebody scrapes (see [`Metrics::render`]). The families
//! stand in [`families`], what `/proc` knows in [`process`] and [`go`], what kvnode lacks in [`absent`]. Names, labels and buckets are etcd's
//! (`server/**/metrics.go`).

mod absent;
mod applied;
pub mod families;
mod go;
mod process;

use std::sync::Arc;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};

use crate::flags::config::MetricsLevel;
use families::{Disk, Grpc, Lease, Mvcc, Network, Server};

/// Every family. Cheap to share; all methods take `&self`.
pub struct Metrics {
    registry: Registry,
    pub server: Server,
    pub disk: Disk,
    pub network: Network,
    pub mvcc: Mvcc,
    pub lease: Lease,
    pub grpc: Grpc,
    process: process::Process,
}

/// Media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

impl Metrics {
    pub fn new(level: MetricsLevel) -> Arc<Self> {
        let registry = Registry::new();
        let register = Register(&registry);
        absent::register(&register);
        Arc::new(Self {
            server: Server::new(&register),
            disk: Disk::new(&register),
            network: Network::new(&register),
            mvcc: Mvcc::new(&register),
            lease: Lease::new(&register),
            grpc: Grpc::new(&register, level),
            process: process::Process::new(&register),
            registry,
        })
    }

    /// All families in the classic text format.
    pub fn render(&self) -> Vec<u8> {
        self.process.read();
        let mut text = Vec::new();
        // Writing to memory fails only for a family without metrics, which the registry does not hand out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text.extend_from_slice(go::PAUSES.as_bytes());
        text
    }
}

/// Makes metrics and registers them.
pub(crate) struct Register<'a>(&'a Registry);

impl Register<'_> {
    fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let registered = made.and_then(|collector| {
            self.0.register(Box::new(collector.clone()))?;
            Ok(collector)
        });
        match registered {
            Ok(collector) => collector,
            Err(error) => unreachable!("families have fixed, distinct, valid names: {error}"),
        }
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    fn histogram(&self, name: &str, help: &str, buckets: Buckets) -> Histogram {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.bounds())))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// With the library's buckets, which are those of Go's.
    fn usual_histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.add(HistogramVec::new(HistogramOpts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: Buckets) -> HistogramVec {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.bounds()), labels))
    }
}

/// Upper bounds of a histogram, each twice the one before.
#[derive(Clone, Copy)]
struct Buckets {
    first: f64,
    count: usize,
}

impl Buckets {
    fn bounds(self) -> Vec<f64> {
        std::iter::successors(Some(self.first), |bound| Some(bound * 2.0)).take(self.count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_classic_and_names_are_etcds() {
        let metrics = Metrics::new(MetricsLevel::Basic);
        metrics.mvcc.put_total.inc_by(2);
        metrics.disk.wal_fsync.observe(0.0015);
        metrics.network.peer_sent_bytes.with_label_values(&["a1"]).inc_by(5);
        let text = String::from_utf8(metrics.render()).unwrap();
        for line in [
            "# TYPE etcd_mvcc_put_total counter",
            "etcd_mvcc_put_total 2",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 1",
            "etcd_network_peer_sent_bytes_total{To=\"a1\"} 5",
            "# TYPE etcd_server_proposals_applied_total gauge",
            "etcd_server_has_leader 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }

    /// What etcd's end-to-end test wants of any member, and what its alerts and dashboard ask for.
    #[test]
    fn no_family_of_etcds_is_missing() {
        let metrics = Metrics::new(MetricsLevel::Extensive);
        // Those with labels appear with the first traffic.
        let call = metrics.grpc.method("unary", "etcdserverpb.KV", "Range");
        metrics.grpc.handled(&call, "OK", 0.01);
        metrics.server.scrapes.with_label_values(&["200"]).inc();
        metrics.server.apply_seconds.with_label_values(&["v3", "Put", "true"]).observe(0.0);
        metrics.server.request_seconds.with_label_values(&["Put", "true"]).observe(0.0);
        metrics.server.range_seconds.with_label_values(&["true"]).observe(0.0);
        metrics.server.client_requests.with_label_values(&["unary", "unknown"]).inc();
        for gauges in [&metrics.server.cluster_version, &metrics.server.version, &metrics.server.id] {
            gauges.with_label_values(&["a1"]).set(1);
        }
        metrics.server.go_version.with_label_values(&["none"]).set(1);
        metrics.server.feature_enabled.with_label_values(&["AllAlpha", "ALPHA"]).set(0);
        let network = &metrics.network;
        for gauges in [&network.known_peers, &network.active_peers] {
            gauges.with_label_values(&["a1", "a2"]).set(1);
        }
        for peer in [&network.peer_sent_bytes, &network.peer_sent_failures, &network.peer_received_bytes] {
            peer.with_label_values(&["a1"]).inc();
        }
        network.peer_round_trip.with_label_values(&["a1"]).observe(0.001);
        let text = String::from_utf8(metrics.render()).unwrap();
        let wanted = include_str!("../../tests/testdata/metrics.txt");
        let missing: Vec<&str> = wanted
            .lines()
            .filter(|line| !line.starts_with('#') && !text.contains(&format!("# TYPE {line}\n")))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
