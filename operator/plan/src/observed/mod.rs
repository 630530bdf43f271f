//! Everything a decision about one cluster may depend on, as plain values.
//!
//! The shell fills an [`Observed`] from its watch caches and from the members; `plan_cluster` reads nothing
//! else. The `from_*` functions turn Kubernetes objects into the few facts that matter. Read next: `members`.

mod members;
mod objects;

use std::collections::BTreeMap;

use crds::{EtcdBackup, EtcdBackupSchedule, EtcdCluster};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

pub use members::{ClusterView, Member, MemberList, NodeView, ReadAnswer, ServingMember, quorum};
pub use objects::{
    ClaimRef, JobOutcome, JobView, PodPhase, PodRef, PodTrouble, PodView, StatefulSetView, VolumePhase,
    VolumeView, owner_uid,
};

use crate::failures::Failures;
use crate::identity::IdentityRecord;
use crate::ids::Ordinal;
use crate::reading::Reading;

/// What the operator was installed with; the same for all clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image of the members unless the cluster names another.
    pub node_image: String,
    /// Image of this operator, which backup and restore Jobs run.
    pub operator_image: String,
    /// `imagePullPolicy` of the members; `None` leaves it to Kubernetes.
    pub node_image_pull_policy: Option<String>,
    /// `imagePullPolicy` of the operator's image in Jobs; `None` leaves it to Kubernetes.
    pub operator_image_pull_policy: Option<String>,
    /// DNS suffix of the Kubernetes cluster, usually `cluster.local`.
    pub dns_domain: String,
}

/// The identity ConfigMap as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityView {
    /// There is none.
    Absent,
    /// It is there and reads well.
    Present {
        /// What it says.
        record: IdentityRecord,
        /// Its resourceVersion, for a compare-and-swap write.
        resource_version: String,
    },
    /// It is there and does not read: nothing may be decided on a guess.
    Malformed {
        /// What is wrong.
        error: String,
    },
}

/// Whether a storage class can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageClassView {
    /// The named class exists, or none was named and there is a default.
    Usable,
    /// The named class does not exist.
    Missing {
        /// Its name.
        name: String,
    },
    /// None was named and there is no default class.
    NoDefault,
    /// Not looked up, or not readable.
    Unknown,
}

/// All facts about one cluster at one moment.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The moment.
    pub now: Timestamp,
    /// How the operator was installed.
    pub settings: Settings,
    /// The object with its spec and last status. Status is only read to keep transition times and to notice
    /// transitions, never to decide.
    pub cluster: EtcdCluster,
    /// ConfigMap `<cluster>-identity`.
    pub identity: IdentityView,
    /// StatefulSet `<cluster>`.
    pub stateful_set: Option<StatefulSetView>,
    /// Pods with the cluster's label.
    pub pods: Vec<PodView>,
    /// Volume claims with the cluster's label or a name `data-<cluster>-<n>`.
    pub volumes: Vec<VolumeView>,
    /// Secrets the cluster may need, by name: its own five, and all that `wanted_secrets` lists. A name
    /// without an entry does not exist.
    pub secrets: BTreeMap<String, Secret>,
    /// The restore Job, if it exists.
    pub restore_job: Option<JobView>,
    /// Whether the storage class of the spec can be used.
    pub storage_class: StorageClassView,
    /// The member list, asked of voters in turn (linearizable).
    pub members: Reading<MemberList>,
    /// Each pod's own answer.
    pub nodes: BTreeMap<Ordinal, Reading<NodeView>>,
    /// A linearizable read through the cluster, begun in this pass.
    pub linearizable_read: Reading<ReadAnswer>,
    /// Backups of this namespace that name this cluster, and the one `bootstrap` names.
    pub backups: Vec<EtcdBackup>,
    /// Schedules of this namespace that name this cluster.
    pub schedules: Vec<EtcdBackupSchedule>,
    /// What failed lately.
    pub failures: Failures,
}
