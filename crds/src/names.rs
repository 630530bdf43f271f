//! Names of the objects that belong to a cluster, and the labels and annotations they carry.
//!
//! Every name is a pure function of the cluster's name, so anything can be found without asking the operator.

/// Label with the cluster's name, on every object of the cluster.
pub const CLUSTER_LABEL: &str = "kvnode.io/cluster";
/// Label with the backup's name, on the Job that makes it.
pub const BACKUP_LABEL: &str = "kvnode.io/backup";
/// Label with the schedule's name, on the backups it made.
pub const SCHEDULE_LABEL: &str = "kvnode.io/schedule";
/// Pod annotation that carries the join ticket; the pod sees it as a file.
pub const TICKET_ANNOTATION: &str = "kvnode.io/ticket";
/// Pod template annotation with the hash of what was rendered, compared to find pods that need a restart.
pub const TEMPLATE_HASH_ANNOTATION: &str = "kvnode.io/template-hash";
/// Annotation on an `EtcdCluster`: a new value restarts every member, one at a time, leader last.
pub const RESTARTED_AT_ANNOTATION: &str = "kvnode.io/restartedAt";
/// Annotation on an `EtcdCluster`: `"true"` stops reconciling, as `spec.paused` does.
pub const PAUSED_ANNOTATION: &str = "kvnode.io/paused";
/// Label on a volume that was taken out of a cluster, with the value `true`: names may be longer than a label.
pub const QUARANTINED_LABEL: &str = "kvnode.io/quarantined";
/// Annotation on such a volume: namespace and name of the claim it served.
pub const QUARANTINED_CLAIM_ANNOTATION: &str = "kvnode.io/quarantined-claim";
/// Finalizer of a backup whose stored object is to be deleted with it.
pub const STORED_OBJECT_FINALIZER: &str = "kvnode.io/stored-object";
/// Field manager of every write the operator makes.
pub const FIELD_MANAGER: &str = "kvnode-operator";
/// Value of `app.kubernetes.io/name` on cluster objects.
pub const APP_NAME: &str = "kvnode";

/// Client port of every member.
pub const CLIENT_PORT: u16 = 2379;
/// Peer port of every member.
pub const PEER_PORT: u16 = 2380;
/// Plain HTTP port for health and metrics.
pub const METRICS_PORT: u16 = 2381;

/// The names of one cluster's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNames {
    cluster: String,
    namespace: String,
}

impl ClusterNames {
    /// Names for the cluster `cluster` in `namespace`.
    pub fn new(namespace: &str, cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), namespace: namespace.to_owned() }
    }

    /// The cluster's own name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The namespace everything lives in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// StatefulSet that runs the members.
    pub fn stateful_set(&self) -> String {
        self.cluster.clone()
    }

    /// PodDisruptionBudget over the members.
    pub fn pod_disruption_budget(&self) -> String {
        self.cluster.clone()
    }

    /// Headless Service that gives each member its DNS name.
    pub fn peer_service(&self) -> String {
        format!("{}-peers", self.cluster)
    }

    /// Service that clients use.
    pub fn client_service(&self) -> String {
        format!("{}-client", self.cluster)
    }

    /// ConfigMap that remembers the cluster's identity for as long as its volumes live.
    pub fn identity(&self) -> String {
        format!("{}-identity", self.cluster)
    }

    /// Secret with the cluster's own certificate authority.
    pub fn ca_secret(&self) -> String {
        format!("{}-ca", self.cluster)
    }

    /// Secret with the certificate members show to clients.
    pub fn server_secret(&self) -> String {
        format!("{}-server-tls", self.cluster)
    }

    /// Secret with the certificate members show to each other.
    pub fn peer_secret(&self) -> String {
        format!("{}-peer-tls", self.cluster)
    }

    /// Secret for applications: `ca.crt`, `tls.crt`, `tls.key`.
    pub fn client_secret(&self) -> String {
        format!("{}-client-tls", self.cluster)
    }

    /// Secret the operator and backup Jobs use to reach the members.
    pub fn operator_secret(&self) -> String {
        format!("{}-operator-tls", self.cluster)
    }

    /// Job that fills the first member's volume from a backup.
    pub fn restore_job(&self) -> String {
        format!("{}-restore", self.cluster)
    }

    /// Pod (and member) of an ordinal.
    pub fn pod(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.cluster)
    }

    /// Volume claim of an ordinal, as the StatefulSet's template names it.
    pub fn claim(&self, ordinal: u32) -> String {
        format!("data-{}-{ordinal}", self.cluster)
    }

    /// The ordinal in a pod's name, if it is a pod of this cluster. Numeric, so `core-10` follows `core-9`.
    pub fn ordinal_of_pod(&self, pod: &str) -> Option<u32> {
        parse_ordinal(pod.strip_prefix(&self.cluster)?.strip_prefix('-')?)
    }

    /// The ordinal in a claim's name, if it is a data claim of this cluster.
    pub fn ordinal_of_claim(&self, claim: &str) -> Option<u32> {
        self.ordinal_of_pod(claim.strip_prefix("data-")?)
    }

    /// DNS name of a member, without the cluster's DNS suffix.
    pub fn pod_host(&self, ordinal: u32) -> String {
        format!("{}.{}.{}.svc", self.pod(ordinal), self.peer_service(), self.namespace)
    }

    /// URL a member advertises to its peers.
    pub fn peer_url(&self, ordinal: u32) -> String {
        format!("https://{}:{PEER_PORT}", self.pod_host(ordinal))
    }

    /// URL a member advertises to clients, and the operator asks.
    pub fn client_url(&self, ordinal: u32) -> String {
        format!("https://{}:{CLIENT_PORT}", self.pod_host(ordinal))
    }

    /// URL of the client Service.
    pub fn service_url(&self) -> String {
        format!("https://{}.{}.svc:{CLIENT_PORT}", self.client_service(), self.namespace)
    }

    /// The ordinal whose peer URL this is, if any. A member that has not started has no name yet, only a URL.
    pub fn ordinal_of_peer_url(&self, url: &str) -> Option<u32> {
        let host = url.strip_prefix("https://")?;
        let pod = host.split('.').next()?;
        let ordinal = self.ordinal_of_pod(pod)?;
        (self.peer_url(ordinal) == url).then_some(ordinal)
    }
}

/// Job of one backup.
pub fn backup_job(backup: &str) -> String {
    format!("{backup}-backup")
}

/// Job that reads back what the Job of one backup stored, if that one's result is lost.
pub fn backup_verify_job(backup: &str) -> String {
    format!("{backup}-verify")
}

/// Job that deletes the stored object of one backup.
pub fn backup_delete_job(backup: &str) -> String {
    format!("{backup}-delete")
}

fn parse_ordinal(digits: &str) -> Option<u32> {
    let canonical = digits == "0" || !digits.starts_with('0');
    (canonical && !digits.starts_with('+')).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_through_ordinals() {
        let names = ClusterNames::new("db", "core");
        for ordinal in 0..20 {
            assert_eq!(names.ordinal_of_pod(&names.pod(ordinal)), Some(ordinal));
            assert_eq!(names.ordinal_of_claim(&names.claim(ordinal)), Some(ordinal));
            assert_eq!(names.ordinal_of_peer_url(&names.peer_url(ordinal)), Some(ordinal));
        }
    }

    #[test]
    fn a_neighbours_objects_are_not_ours() {
        let names = ClusterNames::new("db", "core");
        for other in ["core", "core-", "core-x", "core-01", "core-+1", "core-a-0", "scores-0", "core--1"] {
            assert_eq!(names.ordinal_of_pod(other), None, "{other}");
        }
        let url = ClusterNames::new("other", "core").peer_url(0);
        assert_eq!(names.ordinal_of_peer_url(&url), None);
    }
}
