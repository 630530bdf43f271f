//! What a pass over one cluster yields.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::action::Action;
use crate::observed::ClaimRef;
use crate::pki::IssueRequest;
use crate::report::Report;
use crate::waiting::Waiting;

/// Everything to do about one cluster now.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What should exist. `None`: touch nothing (paused, being deleted, or the spec is invalid).
    pub objects: Option<Objects>,
    /// At most one change besides.
    pub action: Option<Action>,
    /// Why there is no (other) action, if something is waited for.
    pub waiting: Option<Waiting>,
    /// What to tell.
    pub report: Report,
    /// Look again after this long even if nothing is heard.
    pub recheck: Duration,
}

/// The full desired set, in the order it is applied. Apply destructures it without `..`.
///
/// All but claims are applied server-side with field manager `kvnode-operator` and forced ownership,
/// after checking that an existing object of the name is controlled by this cluster's UID
/// (`resources::may_apply`).
#[derive(Clone, Debug)]
pub struct Objects {
    /// Claims whose owners are not as `deletionPolicy` says.
    pub claim_owners: Vec<ClaimOwner>,
    /// Certificates to issue, in order: make key pairs, then `pki::issue`, then apply the Secret. When the
    /// cluster's authority is among them it is the only one: the rest follows in the next pass.
    pub certificates: Vec<IssueRequest>,
    /// Headless Service of the members.
    pub peer_service: Service,
    /// Service of the clients.
    pub client_service: Service,
    /// Disruption budget; `None`: delete it if it is controlled by this cluster's UID.
    pub pod_disruption_budget: Option<PodDisruptionBudget>,
    /// Claim of the first member for a restore; created if absent, never changed or deleted.
    pub seed_claim: Option<PersistentVolumeClaim>,
    /// Restore Job; created if absent, never changed.
    pub restore_job: Option<Job>,
    /// The members; `None`: not yet. Never deleted by the operator.
    pub stateful_set: Option<StatefulSet>,
}

/// A claim that is to go with its cluster, or not to go with it any more.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimOwner {
    /// The claim.
    pub claim: ClaimRef,
    /// The cluster. Other owners are left as they are.
    pub owner: OwnerReference,
    /// Whether the claim is to have this owner.
    pub owned: bool,
}
