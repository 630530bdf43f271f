//! Performs the one action of a plan. The only place where members are changed and pods or volumes are deleted.
//!
//! Before anything happens the world is read again, past all caches, and planned again: only an action that is still
//! the next one is taken, and only while the lease is held. Writes and deletions name the UID and version that was
//! read, so an object that changed or was replaced in between is left alone.

use std::time::Duration;

use crds::names::{QUARANTINED_CLAIM_ANNOTATION, QUARANTINED_LABEL};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use operator_plan::action::{Action, Expect, MemberRef};
use operator_plan::identity::IdentityRecord;
use operator_plan::ids::MemberId;
use operator_plan::observed::{ClaimRef, PodRef};
use operator_plan::resources::identity_config_map;
use operator_plan::ticket::Ticket;
use serde_json::{Value, json};
use thiserror::Error;

use super::children::{From, read};
use super::observe::{Look, look};
use super::probe;
use crate::controller::apply::{ApplyError, Object, failed, is_not_found};
use crate::controller::context::Context;
use crate::controller::report;
use crate::etcd::{EtcdError, MemberClient};

/// Why an action was not performed.
#[derive(Debug, Error)]
pub enum ActError {
    /// Another replica may lead.
    #[error("this operator may not act: its lease is not fresh")]
    NotLeading,
    /// A Kubernetes object.
    #[error(transparent)]
    Kubernetes(#[from] ApplyError),
    /// A member.
    #[error(transparent)]
    Member(#[from] EtcdError),
    /// Nobody to ask.
    #[error("no voter answers")]
    NoVoter,
    /// The member is not reachable for a call only it can serve.
    #[error("{0} does not answer")]
    NotReachable(String),
    /// Another cluster answered.
    #[error(
        "the member that answered belongs to cluster {found}, expected was {expected}; nothing more was done"
    )]
    OtherCluster {
        /// ID in the answer.
        found: String,
        /// ID on record.
        expected: String,
    },
    /// MemberAdd named no member.
    #[error("MemberAdd did not say which member it added; the member is removed again")]
    NoMember,
}

/// Whether the action was performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// It was.
    Done,
    /// Looked at afresh, it is not the next step any more.
    Outdated {
        /// When to look again, by what was seen afresh.
        recheck: Duration,
    },
    /// The members ask to wait a moment.
    NotYet,
}

/// Looks again, and if `action` still is the next step, performs it and tells how it went.
pub async fn act(ctx: &Context, seen: &Look, action: &Action) -> Result<Acted, ActError> {
    if !ctx.leadership.held() {
        return Err(ActError::NotLeading);
    }
    let Some(fresh) = look(ctx, seen.children.cluster.clone(), From::Api).await? else {
        return Ok(Acted::Outdated { recheck: Duration::ZERO });
    };
    let plan = operator_plan::plan_cluster(&fresh.observed);
    let Some(action) = plan.action.filter(|fresh_action| fresh_action.same_as(action)) else {
        tracing::info!(%action, "not the next step any more, seen afresh");
        return Ok(Acted::Outdated { recheck: plan.recheck });
    };
    // Looking took time; the lease may have run out meanwhile.
    if !ctx.leadership.held() {
        return Err(ActError::NotLeading);
    }
    let cluster = &fresh.children.cluster;
    match perform(ctx, &fresh, &action).await {
        Ok(()) => {
            ctx.note_failures(cluster.as_ref(), |failures| failures.succeeded(&action));
            report::events(&ctx.recorder, cluster.as_ref(), &[action.event()]).await;
            Ok(Acted::Done)
        }
        Err(ActError::Member(refusal)) if refusal.is_not_yet() => {
            tracing::info!(%action, %refusal, "the members ask to wait");
            Ok(Acted::NotYet)
        }
        Err(error) => {
            let words = error.to_string();
            report::events(&ctx.recorder, cluster.as_ref(), &[action.failure(&words)]).await;
            ctx.note_failures(cluster.as_ref(), |failures| {
                failures.failed(&action, Timestamp::now(), &words);
            });
            Err(error)
        }
    }
}

async fn perform(ctx: &Context, fresh: &Look, action: &Action) -> Result<(), ActError> {
    let namespace = fresh.names.namespace();
    match action {
        Action::GrantCreate { record, expect, pod, ticket } => {
            record_identity(ctx, fresh, record, expect).await?;
            give_ticket(ctx, namespace, pod, ticket).await
        }
        Action::RecordIdentity { record, expect } => record_identity(ctx, fresh, record, expect).await,
        Action::AddLearner { pod, peer_url, cluster_uid, cluster_id, .. } => {
            let answer = voter(ctx, fresh)?.add_learner(vec![peer_url.clone()]).await?;
            let found = answer.header.as_ref().map(|header| header.cluster_id).unwrap_or_default();
            if found != cluster_id.0 {
                return Err(ActError::OtherCluster {
                    found: format!("{found:x}"),
                    expected: cluster_id.to_string(),
                });
            }
            let id = answer.member.as_ref().map(|member| MemberId(member.id)).ok_or(ActError::NoMember)?;
            let list = probe::member_list_from(found, &answer.members);
            let ticket = Ticket::join(cluster_uid, &pod.uid, id, &pod.name, &list).to_json();
            give_ticket(ctx, namespace, pod, &ticket).await
        }
        Action::Promote { member } => Ok(voter(ctx, fresh)?.promote(member.id.0).await?),
        Action::RemoveMember { member, .. } => Ok(voter(ctx, fresh)?.remove(member.id.0).await?),
        Action::MoveLeader { from, to } => Ok(member(ctx, fresh, from)?.move_leader(to.id.0).await?),
        Action::DeletePod { pod, .. } => delete_pod(ctx, namespace, pod).await,
        Action::QuarantineVolume { claim, pod, .. } => quarantine(ctx, namespace, claim, pod.as_ref()).await,
        Action::ExpandVolume { claim, size } => expand(ctx, namespace, claim, size).await,
        Action::DeleteRestoreJob { name, uid } => {
            let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
            delete::<Job>(ctx, namespace, name, preconditions).await
        }
    }
}

/// A voter to send a membership change to; the leader if it answers.
fn voter(ctx: &Context, fresh: &Look) -> Result<MemberClient, ActError> {
    let tls = fresh.tls.as_ref().ok_or(ActError::NoVoter)?;
    let voters = probe::voters(ctx, &fresh.targets, &fresh.observed.nodes, tls);
    voters.into_iter().next().ok_or(ActError::NoVoter)
}

/// One particular member.
pub fn member(ctx: &Context, fresh: &Look, member: &MemberRef) -> Result<MemberClient, ActError> {
    let unreachable = || ActError::NotReachable(member.name.clone());
    let tls = fresh.tls.as_ref().ok_or_else(unreachable)?;
    let target = fresh.targets.iter().find(|t| t.ordinal == member.ordinal).ok_or_else(unreachable)?;
    Ok(probe::client(ctx, target, tls)?)
}

/// Compare and swap: two operators, or one with an old view, cannot both record.
async fn record_identity(
    ctx: &Context,
    fresh: &Look,
    record: &IdentityRecord,
    expect: &Expect,
) -> Result<(), ActError> {
    let mut map = identity_config_map(&fresh.names, record);
    let name = map.name_any();
    let api: Api<ConfigMap> = Api::namespaced(ctx.client.clone(), fresh.names.namespace());
    let params =
        PostParams { field_manager: Some(crds::names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match expect {
        Expect::Absent => {
            api.create(&params, &map).await.map_err(|e| failed::<ConfigMap>("creating", &name, e))?;
        }
        Expect::Version(version) => {
            let live = fresh.children.identity.as_deref();
            if live.is_some_and(|live| live.data == map.data) {
                return Ok(());
            }
            map.metadata.resource_version = Some(version.clone());
            api.replace(&name, &params, &map)
                .await
                .map_err(|e| failed::<ConfigMap>("replacing", &name, e))?;
        }
    }
    Ok(())
}

async fn give_ticket(ctx: &Context, namespace: &str, pod: &PodRef, ticket: &str) -> Result<(), ActError> {
    let patch =
        json!({"metadata": {"uid": pod.uid, "annotations": {crds::names::TICKET_ANNOTATION: ticket}}});
    patch_object::<Pod>(ctx, namespace, &pod.name, &patch).await
}

async fn delete_pod(ctx: &Context, namespace: &str, pod: &PodRef) -> Result<(), ActError> {
    let preconditions =
        Preconditions { uid: Some(pod.uid.clone()), resource_version: Some(pod.resource_version.clone()) };
    delete::<Pod>(ctx, namespace, &pod.name, preconditions).await
}

/// The data outlives the claim: first the volume is told to stay, then the claim goes, then the pod that holds it.
pub async fn quarantine(
    ctx: &Context,
    namespace: &str,
    claim: &ClaimRef,
    pod: Option<&PodRef>,
) -> Result<(), ActError> {
    let live = read::<PersistentVolumeClaim>(ctx, namespace, &claim.name).await?;
    let volume =
        live.as_deref().and_then(|live| live.spec.as_ref()).and_then(|spec| spec.volume_name.clone());
    if let Some(volume) = volume.filter(|name| !name.is_empty()) {
        keep(ctx, &volume, namespace, claim).await?;
    }
    let preconditions = Preconditions {
        uid: Some(claim.uid.clone()),
        resource_version: Some(claim.resource_version.clone()),
    };
    delete::<PersistentVolumeClaim>(ctx, namespace, &claim.name, preconditions).await?;
    match pod {
        Some(pod) => {
            let preconditions = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
            delete::<Pod>(ctx, namespace, &pod.name, preconditions).await
        }
        None => Ok(()),
    }
}

/// Tells the volume of a claim to stay. One that is gone is why the claim is set aside, and one that was bound to
/// another claim is not this one's to change.
async fn keep(ctx: &Context, volume: &str, namespace: &str, claim: &ClaimRef) -> Result<(), ActError> {
    let api: Api<PersistentVolume> = Api::all(ctx.client.clone());
    let live = api.get_opt(volume).await.map_err(|e| failed::<PersistentVolume>("reading", volume, e))?;
    let Some(live) = live.filter(|live| is_volume_of(live, claim)) else { return Ok(()) };
    let patch = kept_volume(live.uid().as_deref(), namespace, &claim.name);
    match api.patch(volume, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(failed::<PersistentVolume>("keeping", volume, error).into()),
    }
}

/// Only the volume itself says which claim has it: any claim may name any volume.
fn is_volume_of(volume: &PersistentVolume, claim: &ClaimRef) -> bool {
    let bound_to = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    bound_to.and_then(|bound| bound.uid.as_ref()) == Some(&claim.uid)
}

/// What makes a volume outlive its claim, and findable.
fn kept_volume(uid: Option<&str>, namespace: &str, claim: &str) -> Value {
    json!({
        "metadata": {
            "uid": uid,
            "labels": {QUARANTINED_LABEL: "true"},
            "annotations": {QUARANTINED_CLAIM_ANNOTATION: format!("{namespace}/{claim}")},
        },
        "spec": {"persistentVolumeReclaimPolicy": "Retain"},
    })
}

async fn expand(ctx: &Context, namespace: &str, claim: &ClaimRef, size: &str) -> Result<(), ActError> {
    let patch = json!({
        "metadata": {"uid": claim.uid},
        "spec": {"resources": {"requests": {"storage": size}}},
    });
    patch_object::<PersistentVolumeClaim>(ctx, namespace, &claim.name, &patch).await
}

/// A merge patch that names a UID is refused by the API server for any other object of the name.
pub async fn patch_object<K: Object>(
    ctx: &Context,
    namespace: &str,
    name: &str,
    patch: &Value,
) -> Result<(), ActError> {
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    let params =
        PatchParams { field_manager: Some(crds::names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(patch)).await.map_err(|e| failed::<K>("patching", name, e))?;
    Ok(())
}

/// Deletes the object that the preconditions name; one that is gone is a success.
pub async fn delete<K: Object>(
    ctx: &Context,
    namespace: &str,
    name: &str,
    preconditions: Preconditions,
) -> Result<(), ActError> {
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    let params = DeleteParams::background().preconditions(preconditions);
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(failed::<K>("deleting", name, error).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_kept_whatever_its_claim_is_called() {
        let (namespace, claim) = ("n".repeat(63), format!("data-{}-0", "c".repeat(40)));
        let patch = kept_volume(Some("uid"), &namespace, &claim);
        let labels = patch["metadata"]["labels"].as_object().unwrap();
        assert!(labels.values().all(|value| value.as_str().unwrap().len() <= 63), "{labels:?}");
        let served = &patch["metadata"]["annotations"][QUARANTINED_CLAIM_ANNOTATION];
        assert_eq!(*served, format!("{namespace}/{claim}"));
        assert_eq!(patch["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    }
}
