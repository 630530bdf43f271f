//! The whole status of a cluster.

use crds::backup::BackupPhase;
use crds::cluster::{EtcdClusterStatus, MemberHealth, MemberRole};
use crds::conditions::{ConditionStatus, ConditionType, NewCondition, find, is, set_condition};
use crds::progress::OperationProgress;
use crds::{EtcdBackup, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::{conditions, date};
use super::events::transitions;
use super::members::members;
use super::operation::operation;
use super::{Note, NoteKind, Report};
use crate::action::Action;
use crate::facts::Facts;
use crate::formation::Stage;
use crate::observed::Observed;
use crate::pki::CertificatesPlan;
use crate::resources::member_selector_text;
use crate::validate::{Invalid, Mode};
use crate::volumes;
use crate::waiting::Waiting;

/// What a report is made of.
pub(crate) struct Told<'a> {
    pub(crate) facts: &'a Facts<'a>,
    pub(crate) stage: &'a Stage,
    pub(crate) certificates: &'a CertificatesPlan,
    pub(crate) action: Option<&'a Action>,
    pub(crate) waiting: Option<&'a Waiting>,
    /// What would be done if reconciling were not paused.
    pub(crate) suppressed: Option<&'a Action>,
    pub(crate) template_hash: &'a str,
}

/// Status and events for a cluster that can be planned.
pub(crate) fn cluster(told: &Told<'_>) -> Report {
    let observed = told.facts.observed;
    let before = observed.cluster.status.clone().unwrap_or_default();
    let operation = operation(told, &before);
    let members = members(told.facts, &before);
    let votes = |role: MemberRole| matches!(role, MemberRole::Leader | MemberRole::Follower);
    let healthy = members.iter().filter(|m| votes(m.role) && m.healthy == MemberHealth::True).count();
    let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
    let versions = members.iter().filter_map(|m| m.version.clone());
    let mut status = EtcdClusterStatus {
        observed_generation: observed_generation(told.facts, &before),
        conditions: before.conditions.clone(),
        replicas: i32::try_from(observed.pods.len()).unwrap_or(i32::MAX),
        ready_replicas: healthy,
        ready: Some(format!("{healthy}/{}", told.facts.target())),
        summary: None,
        selector: Some(member_selector_text(told.facts.names())),
        version: versions.min_by_key(|v| version_key(v)).or_else(|| before.version.clone()),
        cluster_id: cluster_id(told),
        leader: members.iter().find(|m| m.role == MemberRole::Leader).map(|m| m.name.clone()),
        endpoint: Some(told.facts.names().service_url()),
        members,
        last_backup_time: last_backup(&observed.backups, told.facts.names().cluster()),
        certificates_expire: told.certificates.expires.map(date),
        operation,
    };
    let new = conditions(told, status.operation.as_ref(), &before.conditions);
    write(&mut status, new, observed);
    status.summary = Some(summary(told, &status));
    let events = transitions(&before, &status);
    Report { status, events }
}

/// Who waits for it before deleting the cluster must find the claims as the deletion policy says.
fn observed_generation(facts: &Facts<'_>, before: &EtcdClusterStatus) -> Option<i64> {
    if volumes::owners(facts).is_empty() { facts.cluster.generation } else { before.observed_generation }
}

/// Status and events for a spec that cannot be planned: what is known stays, the reason is told.
pub(crate) fn invalid(observed: &Observed, why: &Invalid) -> Report {
    let before = observed.cluster.status.clone().unwrap_or_default();
    let mut status =
        EtcdClusterStatus { observed_generation: observed.cluster.metadata.generation, ..before.clone() };
    let new = [
        (ConditionType::Ready, ConditionStatus::False),
        (ConditionType::Progressing, ConditionStatus::False),
        (ConditionType::Degraded, ConditionStatus::True),
    ]
    .map(|(type_, status)| NewCondition {
        type_,
        status,
        reason: Reason::InvalidSpec,
        message: why.to_string(),
    });
    write(&mut status, new.to_vec(), observed);
    status.summary = Some(Reason::InvalidSpec.as_str().to_owned());
    let mut events = transitions(&before, &status);
    if before.conditions.is_empty() {
        events.push(Note {
            kind: NoteKind::Warning,
            reason: Reason::InvalidSpec,
            action: "Validate",
            message: why.to_string(),
            related: None,
        });
    }
    Report { status, events }
}

fn write(status: &mut EtcdClusterStatus, new: Vec<NewCondition>, observed: &Observed) {
    for condition in new {
        set_condition(&mut status.conditions, condition, status.observed_generation, observed.now);
    }
}

fn cluster_id(told: &Told<'_>) -> Option<String> {
    match told.stage {
        Stage::Formed { cluster_id } => Some(cluster_id.to_string()),
        Stage::Blocked | Stage::New | Stage::Restoring { .. } | Stage::Seeding => None,
    }
}

fn last_backup(backups: &[EtcdBackup], cluster: &str) -> Option<Time> {
    backups
        .iter()
        .filter(|b| b.spec.cluster_ref.name == cluster)
        .filter_map(|b| b.status.as_ref())
        .filter(|s| s.phase == Some(BackupPhase::Succeeded))
        .filter_map(|s| s.completed_at.clone())
        .max()
}

/// A few words for the table.
fn summary(told: &Told<'_>, status: &EtcdClusterStatus) -> String {
    let reason = |type_| find(&status.conditions, type_).map(|c| c.reason.clone()).unwrap_or_default();
    if told.facts.cluster.mode == Mode::Paused {
        return Reason::Paused.as_str().to_owned();
    }
    if told.facts.cluster.mode == Mode::Deleting {
        return Reason::Deleting.as_str().to_owned();
    }
    if is(&status.conditions, ConditionType::Degraded, ConditionStatus::True) {
        return reason(ConditionType::Degraded);
    }
    if let Some(OperationProgress { type_, steps_done, steps_total, .. }) = &status.operation {
        return format!("{}: {steps_done}/{steps_total}", type_.as_str());
    }
    reason(ConditionType::Ready)
}

/// Numeric parts, so that 3.10 follows 3.9.
fn version_key(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}
