//! How long requests take, in handles that are looked up once: a label costs more to find than a key.

use std::time::Instant;

use kvnode_proto::etcdserverpb::InternalRaftRequest;
use prometheus::{Histogram, HistogramVec};

use crate::metrics::Metrics;

/// Durations by what was asked.
pub struct Durations {
    pub range: ByOutcome,
    put: ByOutcome,
    txn: ByOutcome,
    delete_range: ByOutcome,
    compaction: ByOutcome,
    lease_grant: ByOutcome,
    lease_revoke: ByOutcome,
    alarm: ByOutcome,
    other: ByOutcome,
}

/// Durations of one kind.
pub struct ByOutcome {
    succeeded: Histogram,
    failed: Histogram,
}

impl ByOutcome {
    fn new(seconds: &HistogramVec, kind: Option<&str>) -> Self {
        let labelled = |success| match kind {
            Some(kind) => seconds.with_label_values(&[kind, success]),
            None => seconds.with_label_values(&[success]),
        };
        Self { succeeded: labelled("true"), failed: labelled("false") }
    }

    /// Notes a request that ends now.
    pub fn observe<T, E>(&self, started: Instant, outcome: &Result<T, E>) {
        let histogram = if outcome.is_ok() { &self.succeeded } else { &self.failed };
        histogram.observe(started.elapsed().as_secs_f64());
    }
}

impl Durations {
    pub fn new(metrics: &Metrics) -> Self {
        let through_raft = |kind| ByOutcome::new(&metrics.server.request_seconds, Some(kind));
        Self {
            range: ByOutcome::new(&metrics.server.range_seconds, None),
            put: through_raft("Put"),
            txn: through_raft("Txn"),
            delete_range: through_raft("DeleteRange"),
            compaction: through_raft("Compaction"),
            lease_grant: through_raft("LeaseGrant"),
            lease_revoke: through_raft("LeaseRevoke"),
            alarm: through_raft("Alarm"),
            other: through_raft("unknown"),
        }
    }

    /// Where a request that goes through raft is noted.
    pub fn of(&self, body: &InternalRaftRequest) -> &ByOutcome {
        match body {
            InternalRaftRequest { put: Some(_), .. } => &self.put,
            InternalRaftRequest { txn: Some(_), .. } => &self.txn,
            InternalRaftRequest { delete_range: Some(_), .. } => &self.delete_range,
            InternalRaftRequest { compaction: Some(_), .. } => &self.compaction,
            InternalRaftRequest { lease_grant: Some(_), .. } => &self.lease_grant,
            InternalRaftRequest { lease_revoke: Some(_), .. } => &self.lease_revoke,
            InternalRaftRequest { alarm: Some(_), .. } => &self.alarm,
            _ => &self.other,
        }
    }
}
