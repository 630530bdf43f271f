//! Makes the planned objects so, in a fixed order, and sweeps away what is ours and no longer planned.
//!
//! The order has reasons: what the claims go with first, because nothing may keep it from being so, certificates before
//! pods that mount them, Services before members that must find each other, the disruption budget before anything that
//! could be evicted, the StatefulSet last. Volumes, Secrets and the StatefulSet are never swept.

use crds::names::ClusterNames;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use operator_plan::observed::owner_uid;
use operator_plan::pki::{IssueError, IssueRequest, Role, issue};
use operator_plan::plan::Objects;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use thiserror::Error;

use super::observe::Look;
use crate::controller::apply::{ApplyError, Object};
use crate::controller::caches::Caches;
use crate::controller::context::Context;

/// Why the objects are not as planned.
#[derive(Debug, Error)]
pub enum ObjectsError {
    /// An object.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A certificate.
    #[error("issuing the certificate of Secret {secret} failed: {source}")]
    Issue {
        /// Secret it was for.
        secret: String,
        /// What is wrong.
        source: IssueError,
    },
    /// A key pair.
    #[error("making a key pair for Secret {secret} failed: {source}; it is tried again")]
    Key {
        /// Secret it was for.
        secret: String,
        /// What is wrong.
        source: rcgen::Error,
    },
}

/// Applies everything. The first error ends the pass: what follows may depend on what failed.
pub async fn apply(ctx: &Context, look: &Look, owner: &str, objects: Objects) -> Result<(), ObjectsError> {
    let Objects {
        claim_owners,
        certificates,
        peer_service,
        client_service,
        pod_disruption_budget,
        seed_claim,
        restore_job,
        stateful_set,
    } = objects;
    let (names, children) = (&look.names, &look.children);
    let namespace = names.namespace();
    for change in &claim_owners {
        ctx.applier.own(namespace, change).await?;
    }
    for request in &certificates {
        certificate(ctx, look, owner, request).await?;
    }
    let kept = [peer_service.name_any(), client_service.name_any()];
    for service in [&peer_service, &client_service] {
        let live = Caches::get(&ctx.caches.services, namespace, &service.name_any());
        ctx.applier.apply(namespace, owner, service, live.as_deref()).await?;
    }
    if let Some(budget) = &pod_disruption_budget {
        let live = Caches::get(&ctx.caches.budgets, namespace, &budget.name_any());
        ctx.applier.apply(namespace, owner, budget, live.as_deref()).await?;
    }
    if let Some(claim) = &seed_claim {
        let live = children.claims.iter().find(|live| live.name_any() == claim.name_any());
        ctx.applier.create(namespace, claim, live.map(AsRef::as_ref)).await?;
    }
    if let Some(job) = &restore_job {
        ctx.applier.create(namespace, job, children.restore_job.as_deref()).await?;
    }
    if let Some(set) = &stateful_set {
        ctx.applier.apply(namespace, owner, set, children.stateful_set.as_deref()).await?;
    }
    let budgets: Vec<_> = pod_disruption_budget.iter().map(ResourceExt::name_any).collect();
    sweep::<Service>(ctx, &ctx.caches.services, names, owner, &kept).await?;
    sweep::<PodDisruptionBudget>(ctx, &ctx.caches.budgets, names, owner, &budgets).await?;
    Ok(())
}

async fn certificate(
    ctx: &Context,
    look: &Look,
    owner: &str,
    request: &IssueRequest,
) -> Result<(), ObjectsError> {
    let secret = request.metadata.name.clone().unwrap_or_default();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|source| ObjectsError::Key { secret: secret.clone(), source })?;
    let authority = match request.role {
        Role::Authority => None,
        Role::Server | Role::Peer | Role::Client | Role::Operator => {
            look.children.secrets.get(&look.names.ca_secret())
        }
    };
    let issued = issue(request, &key, authority)
        .map_err(|source| ObjectsError::Issue { secret: secret.clone(), source })?;
    let live: Option<&Secret> = look.children.secrets.get(&secret);
    ctx.applier.apply(look.names.namespace(), owner, &issued, live).await?;
    tracing::info!(secret, why = request.why, "issued a certificate");
    Ok(())
}

/// Deletes objects that this cluster controls and that are not planned any more. The label only finds candidates; the
/// owner's UID decides.
async fn sweep<K: Object>(
    ctx: &Context,
    store: &kube::runtime::reflector::Store<K>,
    names: &ClusterNames,
    owner: &str,
    kept: &[String],
) -> Result<(), ApplyError> {
    for orphan in Caches::of_cluster(store, names.namespace(), names.cluster()) {
        let ours = owner_uid(orphan.meta()) == Some(owner);
        if ours && !kept.contains(&orphan.name_any()) && orphan.meta().deletion_timestamp.is_none() {
            ctx.applier.delete(names.namespace(), orphan.as_ref()).await?;
        }
    }
    Ok(())
}
