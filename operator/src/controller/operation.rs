//! One pass over an `EtcdOperation`: one step of one-shot work, and its report.
//!
//! Operations are rare, so the cluster is always read afresh here: a step is never decided on a cache.

use std::sync::Arc;
use std::time::Duration;

use crds::names::{FIELD_MANAGER, RESTARTED_AT_ANNOTATION};
use crds::operation::{EtcdOperationStatus, OperationPhase};
use crds::{EtcdCluster, EtcdOperation};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Preconditions;
use operator_plan::operation::{Expiry, ObservedOperation, OperationAction, plan_operation};
use serde_json::json;

use super::PassError;
use super::caches::Caches;
use super::cluster::act::{self, ActError};
use super::cluster::children::From;
use super::cluster::observe::{Look, look};
use super::context::{Context, Newest};
use super::report;
use crate::limits;

/// The controller's own state: what it wrote last.
#[derive(Default)]
pub struct State {
    newest: Newest<EtcdOperation>,
}

impl State {
    /// The object is gone.
    pub fn forget(&self, name: &(String, String)) {
        self.newest.forget(name);
    }
}

/// Makes one pass; says when to look again even if nothing is heard.
pub async fn pass(
    ctx: &Context,
    state: &State,
    operation: Arc<EtcdOperation>,
) -> Result<Duration, PassError> {
    let operation = state.newest.of(operation);
    let namespace = operation.namespace().unwrap_or_default();
    let seen = match Caches::get(&ctx.caches.clusters, &namespace, &operation.spec.cluster_ref.name) {
        Some(cluster) => look(ctx, cluster, From::Api).await?,
        None => None,
    };
    let cluster_plan = seen.as_ref().map(|seen| operator_plan::plan_cluster(&seen.observed));
    let plan = plan_operation(&ObservedOperation {
        operation: EtcdOperation::clone(&operation),
        cluster: seen.as_ref().map(|seen| &seen.observed).zip(cluster_plan.as_ref()),
        ahead: ahead(ctx, &operation, &namespace),
        now: Timestamp::now(),
    });
    if !ctx.leadership.held() {
        return Err(PassError::NotLeading);
    }
    if plan.delete == Expiry::Delete {
        let preconditions =
            Preconditions { uid: operation.uid(), resource_version: operation.resource_version() };
        act::delete::<EtcdOperation>(ctx, &namespace, &operation.name_any(), preconditions).await?;
        return Ok(plan.recheck);
    }
    let mut status = plan.status;
    let acted = match (&plan.action, &seen) {
        (Some(action), Some(seen)) => perform(ctx, seen, action, &mut status).await,
        (Some(_) | None, _) => Ok(()),
    };
    let written =
        report::status(&ctx.client, FIELD_MANAGER, operation.as_ref(), operation.status.as_ref(), &status)
            .await?;
    if let Some(written) = written {
        state.newest.wrote(written);
    }
    report::events(&ctx.recorder, operation.as_ref(), &plan.events).await;
    acted?;
    Ok(plan.recheck)
}

async fn perform(
    ctx: &Context,
    seen: &Look,
    action: &OperationAction,
    status: &mut EtcdOperationStatus,
) -> Result<(), ActError> {
    match action {
        OperationAction::Defragment { member } => {
            act::member(ctx, seen, member)?.defragment(limits::DEFRAGMENT_DEADLINE).await?;
            if !status.members_done.contains(&member.name) {
                status.members_done.push(member.name.clone());
            }
            Ok(())
        }
        OperationAction::MoveLeader { from, to } => {
            Ok(act::member(ctx, seen, from)?.move_leader(to.id.0).await?)
        }
        OperationAction::AnnotateRestart { value } => {
            let cluster = &seen.children.cluster;
            let patch =
                json!({"metadata": {"uid": cluster.uid(), "annotations": {RESTARTED_AT_ANNOTATION: value}}});
            act::patch_object::<EtcdCluster>(ctx, seen.names.namespace(), &cluster.name_any(), &patch).await
        }
    }
}

/// Unfinished operations on the same cluster that are older; of the same age, the name decides.
fn ahead(ctx: &Context, operation: &EtcdOperation, namespace: &str) -> Vec<String> {
    let age = |o: &EtcdOperation| (o.metadata.creation_timestamp.as_ref().map(|t| t.0), o.name_any());
    let own = age(operation);
    let older = ctx.caches.operations.state_filter(|other| {
        let finished = other
            .status
            .as_ref()
            .and_then(|status| status.phase)
            .is_some_and(|phase| matches!(phase, OperationPhase::Succeeded | OperationPhase::Failed));
        other.metadata.namespace.as_deref() == Some(namespace)
            && other.spec.cluster_ref == operation.spec.cluster_ref
            && !finished
            && age(other) < own
    });
    let mut names: Vec<_> = older.iter().map(|other| other.name_any()).collect();
    names.sort();
    names
}
