//! Files that must agree with the code or with each other: the chart's copy of the definitions, the metrics reference,
//! the alerts and their runbooks. Each failure names the command that mends it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::metrics::{BackupFigures, MemberCounts, Metrics};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("reading {path}: {error}"))
}

/// The exposition with every family present.
fn exposition() -> String {
    let metrics = Metrics::new();
    metrics.pass_began("EtcdCluster");
    metrics.pass_done("EtcdCluster", Duration::ZERO);
    metrics.pass_failed("EtcdCluster", "Member", Duration::ZERO);
    metrics.leading();
    metrics.api_write("PATCH", "pods");
    metrics.conditions("db", "core", [("Ready", "True")].into_iter());
    metrics.members("db", "core", MemberCounts::default());
    metrics.operation("db", "core", &["Roll"], None);
    metrics.backup(
        "db",
        "core",
        BackupFigures { finished_at_seconds: 0.0, size_bytes: 0, duration_seconds: 0.0 },
    );
    metrics.certificate_expiry("db", "core", 0.0);
    metrics.text().unwrap()
}

/// Name, type, labels and help of every family, as a table.
fn reference(exposition: &str) -> String {
    let mut table = String::from(
        "# Metrics of the operator\n\nGenerated: `UPDATE_DOCS=1 cargo test -p operator artifacts`. Served as OpenMetrics on `/metrics` \
         (chart value `metrics.port`).\nMembers serve etcd's own metrics on port 2381.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for line in exposition.lines() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let type_prefix = format!("# TYPE {name} ");
        let type_ = exposition.lines().find_map(|l| l.strip_prefix(&type_prefix)).unwrap();
        let sample = exposition.lines().find(|l| l.starts_with(name)).unwrap();
        let shown = match type_ {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        };
        let labels: BTreeSet<_> = sample
            .split_once('{')
            .map(|(_, rest)| rest.split_once('}').unwrap().0)
            .unwrap_or_default()
            .split(',')
            .filter_map(|pair| pair.split_once('=').map(|(label, _)| label))
            .filter(|label| *label != "le")
            .collect();
        let labels = labels.into_iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ");
        writeln!(table, "| `{shown}` | {type_} | {labels} | {} |", help.trim_end_matches('.')).unwrap();
    }
    table
}

#[test]
fn the_metrics_reference_is_what_is_served() {
    let wanted = reference(&exposition());
    let path = repository().join("operator/docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "operator/docs/metrics.md is stale: UPDATE_DOCS=1 cargo test -p operator artifacts"
    );
}

/// Every reason, as the types document it.
fn reasons() -> String {
    let mut table = String::from(
        "# Reasons\n\nGenerated: `UPDATE_DOCS=1 cargo test -p operator artifacts`. What conditions and events may say, what it means, and what to do.\nThe set is closed and stable: scripts may match on it.\n\n\
         | reason | meaning | next step |\n|---|---|---|\n",
    );
    for reason in crds::Reason::ALL {
        writeln!(table, "| `{}` | {} | {} |", reason.as_str(), reason.meaning(), reason.next_step()).unwrap();
    }
    table
}

#[test]
fn the_reference_of_reasons_is_what_the_operator_may_say() {
    let path = repository().join("operator/docs/reasons.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, reasons()).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == reasons(),
        "operator/docs/reasons.md is stale: UPDATE_DOCS=1 cargo test -p operator artifacts"
    );
}

#[test]
fn the_charts_definitions_are_those_of_the_api() {
    let source = repository().join("crds/yaml");
    let copy = repository().join("charts/kvnode-operator/files/crds");
    let names =
        |dir: &Path| -> BTreeSet<_> { fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect() };
    let hint = "cargo run -p crds --bin crdgen";
    assert_eq!(names(&source), names(&copy), "mend with: {hint}");
    for name in names(&source) {
        let same = fs::read(source.join(&name)).unwrap() == fs::read(copy.join(&name)).unwrap();
        assert!(same, "{} differs, mend with: {hint}", name.display());
    }
}

#[test]
fn every_alert_has_severity_texts_and_a_runbook_and_asks_for_metrics_that_exist() {
    let (rules, runbooks) =
        (read("charts/kvnode-operator/rules/kvnode.yaml"), read("operator/docs/runbooks.md"));
    let exposition = exposition();
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for field in ["expr:", "for:", "severity:", "summary:", "description:", "runbook_url: RUNBOOK_URL#"] {
            assert!(alert.contains(field), "{name} lacks {field}");
        }
        let anchor = name.to_lowercase();
        assert!(alert.contains(&format!("RUNBOOK_URL#{anchor}")), "{name} names another runbook");
        let section = runbooks.split("\n## ").find(|s| s.lines().next() == Some(name));
        let section = section.unwrap_or_else(|| panic!("operator/docs/runbooks.md has no section {name}"));
        for part in ["**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Mitigation.**"] {
            assert!(section.contains(part), "{name}'s runbook lacks {part}");
        }
        for metric in alert.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if let Some(own) = metric.strip_prefix("kvnode_operator_") {
                let family = own.trim_end_matches("_total");
                assert!(
                    exposition.contains(&format!("# HELP kvnode_operator_{family} ")),
                    "{name} asks for {metric}"
                );
            }
        }
    }
}

#[test]
fn alerts_name_the_namespace_of_the_cluster_and_not_of_the_operator() {
    assert!(exposition().contains(r#"namespace="db""#), "the operator's own series name a namespace");
    let monitors = read("charts/kvnode-operator/templates/monitors.yaml");
    let service_monitor = monitors.split("\n---\n").find(|m| m.contains("kind: ServiceMonitor")).unwrap();
    assert!(service_monitor.contains("    honorLabels: true\n"), "Prometheus would put its own in its place");
}

#[test]
fn a_backups_finalizer_can_be_taken_off_without_the_role_in_its_namespace() {
    let rules = read("charts/kvnode-operator/templates/_rules.tpl");
    let (_, cluster_wide) = rules.split_once("define \"kvnode-operator.clusterRules\"").unwrap();
    for right in [
        "resources: [etcdbackups]\n  verbs: [get, list, watch, patch]",
        "resources: [namespaces]\n  verbs: [get]",
    ] {
        assert!(cluster_wide.contains(right), "the ClusterRole lacks {right}");
    }
}

#[test]
fn every_value_of_the_chart_is_documented_by_its_name() {
    let values = read("charts/kvnode-operator/values.yaml");
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut comment = "";
    for line in values.lines().filter(|line| !line.trim().is_empty()) {
        let text = line.trim_start();
        if let Some(said) = text.strip_prefix("# ") {
            comment = if comment.is_empty() { said } else { comment };
            continue;
        }
        let indent = line.len() - text.len();
        path.retain(|(outer, _)| *outer < indent);
        let (key, value) = text.split_once(':').unwrap_or((text, ""));
        let name = path.iter().map(|(_, k)| *k).chain([key]).collect::<Vec<_>>().join(".");
        // What is inside a security context or resources is Kubernetes's to explain.
        let foreign = ["podSecurityContext.", "containerSecurityContext.", "resources."]
            .iter()
            .any(|p| name.starts_with(p));
        let group = value.trim().is_empty() && comment.is_empty();
        assert!(foreign || group || comment.starts_with(&name), "{name} is documented by {comment:?}");
        path.push((indent, key));
        comment = "";
    }
}
