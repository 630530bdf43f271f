//! The StatefulSet that runs the members.
//!
//! All pods run the same command line; nothing about membership is in it. Pods start in parallel and wait for
//! their ticket, and a changed template restarts nothing by itself (`OnDelete`): the planner picks the pod.

use std::collections::BTreeMap;

use crds::names::{
    CLIENT_PORT, METRICS_PORT, PEER_PORT, RESTARTED_AT_ANNOTATION, TEMPLATE_HASH_ANNOTATION,
    TICKET_ANNOTATION,
};
use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EnvVar, EnvVarSource,
    HTTPGetAction, ObjectFieldSelector, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodAffinityTerm,
    PodAntiAffinity, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SecretVolumeSource,
    TopologySpreadConstraint, Volume, VolumeMount, VolumeResourceRequirements, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sha2::{Digest, Sha256};

use super::{Component, container_security, labels, member_selector, metadata, pod_security, pull_secrets};
use crate::validate::ValidatedCluster;

/// Seconds a member has to hand leadership over, drain watches and sync before it is killed.
const TERMINATION_GRACE_SECONDS: i64 = 60;

/// What the set depends on besides the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatefulSetInput {
    /// Pods to run.
    pub replicas: u32,
    /// Size in the volume claim template of the set that exists: Kubernetes never lets it change.
    pub existing_template_storage: Option<String>,
}

/// The StatefulSet.
pub fn stateful_set(cluster: &ValidatedCluster, input: &StatefulSetInput) -> StatefulSet {
    let size = input.existing_template_storage.clone().unwrap_or_else(|| cluster.spec.storage.size.clone());
    StatefulSet {
        metadata: metadata(cluster, cluster.names.stateful_set(), Component::Member),
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::try_from(input.replicas).unwrap_or(i32::MAX)),
            service_name: Some(cluster.names.peer_service()),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            // Whoever deletes the set does not delete the cluster: see `volumes::owners`.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            selector: LabelSelector {
                match_labels: Some(member_selector(&cluster.names)),
                match_expressions: None,
            },
            template: pod_template(cluster),
            volume_claim_templates: Some(vec![claim_template(cluster, &size)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// The claim every member gets; the seed of a restore is made from it too.
pub(super) fn claim_spec(cluster: &ValidatedCluster, size: &str) -> PersistentVolumeClaimSpec {
    PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
        storage_class_name: cluster.spec.storage.storage_class_name.clone(),
        resources: Some(VolumeResourceRequirements {
            requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(size.to_owned()))])),
            limits: None,
        }),
        volume_mode: Some("Filesystem".to_owned()),
        ..PersistentVolumeClaimSpec::default()
    }
}

fn claim_template(cluster: &ValidatedCluster, size: &str) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            labels: Some(labels(cluster.names.cluster(), Component::Member)),
            ..ObjectMeta::default()
        },
        spec: Some(claim_spec(cluster, size)),
        status: None,
    }
}

/// The pod template with the hash of everything in it, by which an outdated pod is told.
fn pod_template(cluster: &ValidatedCluster) -> PodTemplateSpec {
    let extra = cluster.spec.pod_metadata.clone().unwrap_or_default();
    let mut pod_labels = extra.labels;
    pod_labels.extend(labels(cluster.names.cluster(), Component::Member));
    let mut annotations = extra.annotations;
    annotations.remove(TICKET_ANNOTATION);
    if let Some(at) = &cluster.restarted_at {
        annotations.insert(RESTARTED_AT_ANNOTATION.to_owned(), at.clone());
    }
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(cluster)),
    };
    let hash = template_hash(&template);
    if let Some(annotations) = template.metadata.as_mut().and_then(|m| m.annotations.as_mut()) {
        annotations.insert(TEMPLATE_HASH_ANNOTATION.to_owned(), hash);
    }
    template
}

fn template_hash(template: &PodTemplateSpec) -> String {
    let text = serde_json::to_vec(template).unwrap_or_default();
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn pod_spec(cluster: &ValidatedCluster) -> PodSpec {
    let scheduling = cluster.spec.scheduling.clone().unwrap_or_default();
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
        security_context: Some(pod_security()),
        affinity: Some(scheduling.affinity.unwrap_or_else(|| apart(cluster))),
        topology_spread_constraints: Some(
            scheduling.topology_spread_constraints.unwrap_or_else(|| vec![over_zones(cluster)]),
        ),
        tolerations: (!scheduling.tolerations.is_empty()).then_some(scheduling.tolerations),
        node_selector: (!scheduling.node_selector.is_empty()).then_some(scheduling.node_selector),
        priority_class_name: scheduling.priority_class_name,
        image_pull_secrets: pull_secrets(&cluster.spec.image_pull_secrets),
        containers: vec![container(cluster)],
        volumes: Some(volumes(cluster)),
        ..PodSpec::default()
    }
}

/// Members avoid each other's nodes where they can: a soft rule, so that a small cluster still starts.
fn apart(cluster: &ValidatedCluster) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(member_selector(&cluster.names)),
            match_expressions: None,
        }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: term,
            }]),
            required_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}

fn over_zones(cluster: &ValidatedCluster) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "topology.kubernetes.io/zone".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(member_selector(&cluster.names)),
            match_expressions: None,
        }),
        ..TopologySpreadConstraint::default()
    }
}

fn container(cluster: &ValidatedCluster) -> Container {
    Container {
        name: "kvnode".to_owned(),
        image: Some(cluster.image.clone()),
        image_pull_policy: cluster.image_pull_policy.clone(),
        args: Some(arguments(cluster)),
        env: Some(vec![
            from_field("POD_NAME", "metadata.name"),
            from_field("POD_NAMESPACE", "metadata.namespace"),
            from_field("POD_UID", "metadata.uid"),
        ]),
        ports: Some(vec![
            container_port("client", CLIENT_PORT),
            container_port("peer", PEER_PORT),
            container_port("metrics", METRICS_PORT),
        ]),
        resources: Some(cluster.spec.resources.clone().unwrap_or_else(default_resources)),
        security_context: Some(container_security()),
        // A start may have to read a large checkpoint: five minutes before it counts as failed.
        startup_probe: Some(Probe { failure_threshold: Some(150), ..probe("/livez", 2, 5) }),
        liveness_probe: Some(Probe { failure_threshold: Some(6), ..probe("/livez", 10, 5) }),
        readiness_probe: Some(Probe { failure_threshold: Some(3), ..probe("/readyz", 2, 5) }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![
            mount("data", "/var/lib/kvnode", Access::ReadWrite),
            mount("pod", "/etc/kvnode/pod", Access::ReadOnly),
            mount("server-tls", "/etc/kvnode/tls/server", Access::ReadOnly),
            mount("peer-tls", "/etc/kvnode/tls/peer", Access::ReadOnly),
        ]),
        ..Container::default()
    }
}

/// The command line, the same for every member.
fn arguments(cluster: &ValidatedCluster) -> Vec<String> {
    let host = format!("$(POD_NAME).{}.$(POD_NAMESPACE).svc", cluster.names.peer_service());
    let mut arguments = vec![
        "--name=$(POD_NAME)".to_owned(),
        "--data-dir=/var/lib/kvnode/data".to_owned(),
        format!("--listen-client-urls=https://0.0.0.0:{CLIENT_PORT}"),
        format!("--advertise-client-urls=https://{host}:{CLIENT_PORT}"),
        format!("--listen-peer-urls=https://0.0.0.0:{PEER_PORT}"),
        format!("--initial-advertise-peer-urls=https://{host}:{PEER_PORT}"),
        format!("--listen-metrics-urls=http://0.0.0.0:{METRICS_PORT}"),
        format!("--initial-cluster-token={}", cluster.uid),
        "--client-cert-auth".to_owned(),
        "--trusted-ca-file=/etc/kvnode/tls/server/ca.crt".to_owned(),
        "--cert-file=/etc/kvnode/tls/server/tls.crt".to_owned(),
        "--key-file=/etc/kvnode/tls/server/tls.key".to_owned(),
        "--peer-client-cert-auth".to_owned(),
        "--peer-trusted-ca-file=/etc/kvnode/tls/peer/ca.crt".to_owned(),
        "--peer-cert-file=/etc/kvnode/tls/peer/tls.crt".to_owned(),
        "--peer-key-file=/etc/kvnode/tls/peer/tls.key".to_owned(),
        "--ticket-file=/etc/kvnode/pod/ticket".to_owned(),
        "--ticket-holder=$(POD_UID)".to_owned(),
    ];
    arguments.extend(options(cluster));
    arguments
}

fn options(cluster: &ValidatedCluster) -> Vec<String> {
    use crds::cluster::AutoCompactionMode;
    let Some(options) = &cluster.spec.options else { return Vec::new() };
    let mode = options.auto_compaction_mode.map(|mode| match mode {
        AutoCompactionMode::Periodic => "periodic",
        AutoCompactionMode::Revision => "revision",
    });
    [
        options.quota_backend_bytes.map(|n| format!("--quota-backend-bytes={n}")),
        mode.map(|mode| format!("--auto-compaction-mode={mode}")),
        options.auto_compaction_retention.as_ref().map(|r| format!("--auto-compaction-retention={r}")),
        options.max_request_bytes.map(|n| format!("--max-request-bytes={n}")),
        options.max_txn_ops.map(|n| format!("--max-txn-ops={n}")),
        options.heartbeat_interval_milliseconds.map(|n| format!("--heartbeat-interval={n}")),
        options.election_timeout_milliseconds.map(|n| format!("--election-timeout={n}")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn default_resources() -> ResourceRequirements {
    let quantity = |name: &str, value: &str| (name.to_owned(), Quantity(value.to_owned()));
    ResourceRequirements {
        requests: Some(BTreeMap::from([quantity("cpu", "100m"), quantity("memory", "256Mi")])),
        ..ResourceRequirements::default()
    }
}

fn volumes(cluster: &ValidatedCluster) -> Vec<Volume> {
    let ticket = DownwardAPIVolumeFile {
        path: "ticket".to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{TICKET_ANNOTATION}']"),
            api_version: Some("v1".to_owned()),
        }),
        ..DownwardAPIVolumeFile::default()
    };
    vec![
        Volume {
            name: "pod".to_owned(),
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![ticket]),
                default_mode: Some(0o444),
            }),
            ..Volume::default()
        },
        secret_volume("server-tls", cluster.server_secret()),
        secret_volume("peer-tls", cluster.peer_secret()),
    ]
}

/// A Secret as files that the non-root group may read.
pub(super) fn secret_volume(name: &str, secret: String) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// How a volume is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// To read.
    ReadOnly,
    /// To read and write.
    ReadWrite,
}

pub(super) fn mount(name: &str, path: &str, access: Access) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: (access == Access::ReadOnly).then_some(true),
        ..VolumeMount::default()
    }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                api_version: Some("v1".to_owned()),
            }),
            ..EnvVarSource::default()
        }),
        value: None,
    }
}

fn container_port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_seconds: i32, timeout_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(METRICS_PORT)),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(timeout_seconds),
        ..Probe::default()
    }
}
