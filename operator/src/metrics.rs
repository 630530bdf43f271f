//! What the operator counts. Names and labels are listed in `docs/metrics.md`, which a test compares with this code.
//!
//! Labels never carry keys, messages or anything else without a bound; series of a cluster go when it goes.

use std::collections::HashSet;
use std::fmt::Error;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

type FloatGauge = Gauge<f64, AtomicU64>;

/// One kind of our API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    kind: &'static str,
}

/// A finished pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PassLabels {
    kind: &'static str,
    result: &'static str,
}

/// A failed pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    kind: &'static str,
    reason: &'static str,
}

/// A write to the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabels {
    method: String,
    resource: String,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClusterLabels {
    namespace: String,
    cluster: String,
}

/// A condition of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConditionLabels {
    namespace: String,
    cluster: String,
    r#type: String,
    status: &'static str,
}

/// A group of members, certificates or work of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RoleLabels {
    namespace: String,
    cluster: String,
    role: &'static str,
}

/// Work under way on one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabels {
    namespace: String,
    cluster: String,
    r#type: &'static str,
}

/// Everything counted, and the text that shows it.
pub struct Metrics {
    registry: Registry,
    passes: Family<PassLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    durations: Family<Kind, Histogram, fn() -> Histogram>,
    active: Family<Kind, Gauge>,
    leader: Gauge,
    writes: Family<WriteLabels, Counter>,
    conditions: Family<ConditionLabels, Gauge>,
    members: Family<RoleLabels, Gauge>,
    operations: Family<OperationLabels, Gauge>,
    backup_at: Family<ClusterLabels, FloatGauge>,
    backup_bytes: Family<ClusterLabels, Gauge>,
    backup_seconds: Family<ClusterLabels, FloatGauge>,
    certificate: Family<ClusterLabels, FloatGauge>,
}

/// A member count by role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// Voters that answer.
    pub healthy_voters: i64,
    /// Voters that do not.
    pub unhealthy_voters: i64,
    /// Learners.
    pub learners: i64,
}

/// Figures of a finished backup.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackupFigures {
    /// When it ended, in seconds since 1970.
    pub finished_at_seconds: f64,
    /// Size of the stored object in bytes.
    pub size_bytes: i64,
    /// How long it took.
    pub duration_seconds: f64,
}

fn pass_histogram() -> Histogram {
    // From a pass that reads caches only (1 ms) to one that met every deadline (65 s).
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All families, registered, empty.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("kvnode_operator"),
            passes: Family::default(),
            errors: Family::default(),
            durations: Family::new_with_constructor(pass_histogram as fn() -> Histogram),
            active: Family::default(),
            leader: Gauge::default(),
            writes: Family::default(),
            conditions: Family::default(),
            members: Family::default(),
            operations: Family::default(),
            backup_at: Family::default(),
            backup_bytes: Family::default(),
            backup_seconds: Family::default(),
            certificate: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "build",
            "Version of this operator, always 1",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        r.register("reconcile", "Passes over an object, by result", self.passes.clone());
        r.register("reconcile_errors", "Failed passes, by reason", self.errors.clone());
        r.register("reconcile_duration_seconds", "Duration of passes", self.durations.clone());
        r.register("reconcile_active", "Passes under way", self.active.clone());
        r.register("leader", "1 while this replica holds the lease", self.leader.clone());
        r.register("api_writes", "Writes sent to the Kubernetes API", self.writes.clone());
        r.register(
            "cluster_condition",
            "1 for the status each condition of a cluster has now",
            self.conditions.clone(),
        );
        r.register("cluster_members", "Members of a cluster, by role", self.members.clone());
        r.register("operation_active", "1 while work of this type is under way", self.operations.clone());
        r.register(
            "backup_last_success_timestamp_seconds",
            "End of the last good backup",
            self.backup_at.clone(),
        );
        r.register("backup_size_bytes", "Size of the last good backup", self.backup_bytes.clone());
        r.register(
            "backup_duration_seconds",
            "Duration of the last good backup",
            self.backup_seconds.clone(),
        );
        r.register(
            "certificate_expiry_timestamp_seconds",
            "Earliest expiry of a cluster's certificates",
            self.certificate.clone(),
        );
    }

    /// The exposition in OpenMetrics text.
    pub fn text(&self) -> Result<String, Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// A pass over an object of `kind` ended well.
    pub fn pass_done(&self, kind: &'static str, took: Duration) {
        self.passes.get_or_create(&PassLabels { kind, result: "success" }).inc();
        self.durations.get_or_create(&Kind { kind }).observe(took.as_secs_f64());
    }

    /// A pass over an object of `kind` failed for `reason`, a name from a closed set.
    pub fn pass_failed(&self, kind: &'static str, reason: &'static str, took: Duration) {
        self.passes.get_or_create(&PassLabels { kind, result: "error" }).inc();
        self.errors.get_or_create(&ErrorLabels { kind, reason }).inc();
        self.durations.get_or_create(&Kind { kind }).observe(took.as_secs_f64());
    }

    /// A pass over an object of `kind` begins.
    pub fn pass_began(&self, kind: &'static str) {
        self.active.get_or_create(&Kind { kind }).inc();
    }

    /// A pass over an object of `kind` ended, well or not.
    pub fn pass_ended(&self, kind: &'static str) {
        self.active.get_or_create(&Kind { kind }).dec();
    }

    /// This replica holds the lease from now on, until the process ends.
    pub fn leading(&self) {
        self.leader.set(1);
    }

    /// A request that may change something goes to the Kubernetes API.
    pub fn api_write(&self, method: &str, resource: &str) {
        let labels = WriteLabels { method: method.to_owned(), resource: resource.to_owned() };
        self.writes.get_or_create(&labels).inc();
    }

    /// Writes so far to one resource with one method; what tests of "at rest nothing is written" compare.
    pub fn api_writes(&self, method: &str, resource: &str) -> u64 {
        let labels = WriteLabels { method: method.to_owned(), resource: resource.to_owned() };
        self.writes.get_or_create(&labels).get()
    }

    /// The conditions of a cluster, as (type, status).
    pub fn conditions<'a>(
        &self,
        namespace: &str,
        cluster: &str,
        conditions: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        for (type_, now) in conditions {
            for status in ["True", "False", "Unknown"] {
                let labels = ConditionLabels {
                    namespace: namespace.to_owned(),
                    cluster: cluster.to_owned(),
                    r#type: type_.to_owned(),
                    status,
                };
                self.conditions.get_or_create(&labels).set(i64::from(status == now));
            }
        }
    }

    /// The members of a cluster.
    pub fn members(&self, namespace: &str, cluster: &str, counts: MemberCounts) {
        let roles = [
            ("healthy_voter", counts.healthy_voters),
            ("unhealthy_voter", counts.unhealthy_voters),
            ("learner", counts.learners),
        ];
        for (role, count) in roles {
            let labels = RoleLabels { namespace: namespace.to_owned(), cluster: cluster.to_owned(), role };
            self.members.get_or_create(&labels).set(count);
        }
    }

    /// The work under way on a cluster, out of all types there are.
    pub fn operation(&self, namespace: &str, cluster: &str, all: &[&'static str], now: Option<&str>) {
        for r#type in all.iter().copied() {
            let labels =
                OperationLabels { namespace: namespace.to_owned(), cluster: cluster.to_owned(), r#type };
            self.operations.get_or_create(&labels).set(i64::from(now == Some(r#type)));
        }
    }

    /// The last good backup of a cluster.
    pub fn backup(&self, namespace: &str, cluster: &str, figures: BackupFigures) {
        let labels = ClusterLabels { namespace: namespace.to_owned(), cluster: cluster.to_owned() };
        self.backup_at.get_or_create(&labels).set(figures.finished_at_seconds);
        self.backup_bytes.get_or_create(&labels).set(figures.size_bytes);
        self.backup_seconds.get_or_create(&labels).set(figures.duration_seconds);
    }

    /// The moment the first certificate of a cluster expires, in seconds since 1970.
    pub fn certificate_expiry(&self, namespace: &str, cluster: &str, at_seconds: f64) {
        let labels = ClusterLabels { namespace: namespace.to_owned(), cluster: cluster.to_owned() };
        self.certificate.get_or_create(&labels).set(at_seconds);
    }

    /// Drops every series of a cluster that is gone.
    pub fn forget(
        &self,
        namespace: &str,
        cluster: &str,
        condition_types: &[&str],
        operations: &[&'static str],
    ) {
        let (namespace, cluster) = (namespace.to_owned(), cluster.to_owned());
        for type_ in condition_types.iter().collect::<HashSet<_>>() {
            for status in ["True", "False", "Unknown"] {
                let (namespace, cluster) = (namespace.clone(), cluster.clone());
                self.conditions.remove(&ConditionLabels {
                    namespace,
                    cluster,
                    r#type: (*type_).to_owned(),
                    status,
                });
            }
        }
        for role in ["healthy_voter", "unhealthy_voter", "learner"] {
            self.members.remove(&RoleLabels { namespace: namespace.clone(), cluster: cluster.clone(), role });
        }
        for r#type in operations.iter().copied() {
            self.operations.remove(&OperationLabels {
                namespace: namespace.clone(),
                cluster: cluster.clone(),
                r#type,
            });
        }
        let labels = ClusterLabels { namespace, cluster };
        self.backup_at.remove(&labels);
        self.backup_bytes.remove(&labels);
        self.backup_seconds.remove(&labels);
        self.certificate.remove(&labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_is_gone_leaves_no_series() {
        let metrics = Metrics::new();
        let at_rest = metrics.text().unwrap();
        metrics.conditions("db", "core", [("Ready", "True")].into_iter());
        metrics.members("db", "core", MemberCounts { healthy_voters: 3, ..MemberCounts::default() });
        metrics.operation("db", "core", &["Roll"], Some("Roll"));
        metrics.backup(
            "db",
            "core",
            BackupFigures { finished_at_seconds: 1.0, size_bytes: 2, duration_seconds: 3.0 },
        );
        metrics.certificate_expiry("db", "core", 4.0);
        assert!(metrics.text().unwrap().contains("cluster=\"core\""));
        metrics.forget("db", "core", &["Ready"], &["Roll"]);
        assert_eq!(metrics.text().unwrap(), at_rest);
    }

    #[test]
    fn a_condition_has_exactly_one_status() {
        let metrics = Metrics::new();
        metrics.conditions("db", "core", [("Ready", "False")].into_iter());
        metrics.conditions("db", "core", [("Ready", "True")].into_iter());
        let text = metrics.text().unwrap();
        let set: Vec<_> =
            text.lines().filter(|l| l.contains("cluster_condition{") && l.ends_with(" 1")).collect();
        assert_eq!(set.len(), 1, "{text}");
        assert!(set[0].contains("status=\"True\""));
    }
}
