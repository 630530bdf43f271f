//! `EtcdOperation`: one-shot work, begun only when the cluster is at rest and safe to work on.

//!
//! Its own status is its record, the one place where a decision depends on status: what was asked for once
//! must not be done twice.

use std::cmp::Reverse;
use std::time::Duration;

use crds::conditions::{ConditionStatus, ConditionType, NewCondition, is, set_condition, whole_seconds};
use crds::names::RESTARTED_AT_ANNOTATION;
use crds::operation::{EtcdOperationStatus, OperationKind, OperationPhase};
use crds::{EtcdOperation, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::action::MemberRef;
use crate::facts::Facts;
use crate::limits;
use crate::observed::{ClusterView, Observed};
use crate::plan::Plan;
use crate::report::{Note, NoteKind};
use crate::validate::{Mode, validate};

/// All facts about one operation at one moment.
#[derive(Clone, Debug)]
pub struct ObservedOperation<'a> {
    /// The object.
    pub operation: EtcdOperation,
    /// The cluster it names and the plan for it, if the cluster exists.
    pub cluster: Option<(&'a Observed, &'a Plan)>,
    /// Operations on the same cluster that are not finished and older than this one.
    pub ahead: Vec<String>,
    /// The moment.
    pub now: jiff::Timestamp,
}

/// One step of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationAction {
    /// Call Defragment on this member; then it belongs in `status.membersDone`.
    Defragment {
        /// The member.
        member: MemberRef,
    },
    /// Hand leadership over.
    MoveLeader {
        /// Who leads; the call goes to it.
        from: MemberRef,
        /// Who shall lead.
        to: MemberRef,
    },
    /// Set annotation `kvnode.io/restartedAt` of the `EtcdCluster` to this value.
    AnnotateRestart {
        /// The value.
        value: String,
    },
}

/// Everything to do about one operation now.
#[derive(Clone, Debug)]
pub struct OperationPlan {
    /// One step. After a Defragment that succeeded the shell appends the member's name to
    /// `status.members_done` in the same status write.
    pub action: Option<OperationAction>,
    /// The whole status; written only if it differs.
    pub status: EtcdOperationStatus,
    /// Events for what changed since the status that was there.
    pub events: Vec<Note>,
    /// True once `ttlSecondsAfterFinished` has passed: delete the object (UID precondition).
    pub delete: Expiry,
    /// Look again after this long even if nothing is heard.
    pub recheck: Duration,
}

/// Whether a finished object may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It stays.
    Keep,
    /// Its time has come.
    Delete,
}

/// What to do about an operation now, and how to say it.
struct Verdict {
    phase: OperationPhase,
    reason: Reason,
    message: String,
    action: Option<OperationAction>,
}

fn verdict(phase: OperationPhase, reason: Reason, message: impl Into<String>) -> Verdict {
    Verdict { phase, reason, message: message.into(), action: None }
}

/// Everything to do about an operation now.
pub fn plan_operation(observed: &ObservedOperation<'_>) -> OperationPlan {
    let before = observed.operation.status.clone().unwrap_or_default();
    let mut status = before.clone();
    status.observed_generation = observed.operation.metadata.generation;
    let mut plan = OperationPlan {
        action: None,
        status,
        events: Vec::new(),
        delete: Expiry::Keep,
        recheck: limits::RECHECK_IDLE,
    };
    if matches!(before.phase, Some(OperationPhase::Succeeded | OperationPhase::Failed)) {
        plan.delete = expiry(observed, &before);
        return plan;
    }
    let verdict = match timed_out(observed) {
        Some(failed) => failed,
        None => decide(observed, &mut plan.status),
    };
    tell(observed, &mut plan, verdict);
    plan
}

fn expiry(observed: &ObservedOperation<'_>, status: &EtcdOperationStatus) -> Expiry {
    let ttl = observed.operation.spec.ttl_seconds_after_finished;
    let ended = status.completed_at.as_ref().map(|t| t.0.as_second());
    match (ttl, ended) {
        (Some(ttl), Some(ended)) if observed.now.as_second() - ended >= ttl => Expiry::Delete,
        _ => Expiry::Keep,
    }
}

fn timed_out(observed: &ObservedOperation<'_>) -> Option<Verdict> {
    let created = observed.operation.metadata.creation_timestamp.as_ref()?.0;
    let timeout = observed.operation.spec.timeout_seconds;
    if observed.now.as_second() - created.as_second() <= timeout {
        return None;
    }
    let message = format!(
        "not done within {timeout} s (spec.timeoutSeconds); create another EtcdOperation to try again"
    );
    Some(verdict(OperationPhase::Failed, Reason::DeadlineExceeded, message))
}

fn decide(observed: &ObservedOperation<'_>, status: &mut EtcdOperationStatus) -> Verdict {
    let spec = &observed.operation.spec;
    let Some((cluster, cluster_plan)) = observed.cluster else {
        let message = format!("EtcdCluster {} does not exist", spec.cluster_ref.name);
        return verdict(OperationPhase::Pending, Reason::ClusterMissing, message);
    };
    if let Some(first) = observed.ahead.first() {
        let message = format!("EtcdOperation {first} comes first");
        return verdict(OperationPhase::Pending, Reason::ClusterNotReady, message);
    }
    let Ok(valid) = validate(&cluster.cluster, &cluster.settings) else {
        return verdict(OperationPhase::Pending, Reason::InvalidSpec, "the cluster's spec cannot be planned");
    };
    let facts = Facts { cluster: &valid, observed: cluster };
    let ready = is(&cluster_plan.report.status.conditions, ConditionType::Ready, ConditionStatus::True);
    // A paused cluster with nothing to be done is Ready, too, and still to be left alone.
    let at_rest = valid.mode == Mode::Active
        && ready
        && cluster_plan.action.is_none()
        && cluster_plan.waiting.is_none();
    if spec.type_ == OperationKind::Restart {
        return restart(observed, &facts, at_rest);
    }
    let (true, Some(view)) = (at_rest, facts.view()) else {
        let summary = cluster_plan.report.status.summary.clone().unwrap_or_default();
        let message = format!("waits until the cluster is ready; now: {summary}");
        return verdict(OperationPhase::Pending, Reason::ClusterNotReady, message);
    };
    match spec.type_ {
        OperationKind::MoveLeader => move_leader(observed, &facts, &view, status),
        OperationKind::Defragment | OperationKind::Restart => defragment(&facts, &view, status),
    }
}

/// The annotation is set once, to this operation's UID; the cluster's own rollout does the rest.
fn restart(observed: &ObservedOperation<'_>, facts: &Facts<'_>, at_rest: bool) -> Verdict {
    let uid = observed.operation.metadata.uid.clone().unwrap_or_default();
    let annotations = facts.observed.cluster.metadata.annotations.as_ref();
    let current = annotations.and_then(|a| a.get(RESTARTED_AT_ANNOTATION));
    if current != Some(&uid) {
        if !at_rest {
            let message = "waits until the cluster is ready";
            return verdict(OperationPhase::Pending, Reason::ClusterNotReady, message);
        }
        let action = Some(OperationAction::AnnotateRestart { value: uid });
        return Verdict {
            action,
            ..verdict(OperationPhase::Running, Reason::Running, "asking for the restart")
        };
    }
    if at_rest {
        return verdict(OperationPhase::Succeeded, Reason::Succeeded, "every member was restarted");
    }
    verdict(
        OperationPhase::Running,
        Reason::Running,
        "members are being restarted; see the cluster's conditions",
    )
}

fn move_leader(
    observed: &ObservedOperation<'_>,
    facts: &Facts<'_>,
    view: &ClusterView<'_>,
    status: &mut EtcdOperationStatus,
) -> Verdict {
    let Some((leader, serving)) = facts.leader() else {
        return verdict(OperationPhase::Pending, Reason::ClusterNotReady, "no member leads");
    };
    let from = facts.member_ref(leader, serving.member_id);
    let wished = observed.operation.spec.member.clone().or_else(|| status.target.clone());
    let mut heirs: Vec<_> = view.voters().filter(|(o, m)| facts.participates(*o, m)).collect();
    heirs.sort_by_key(|(o, _)| (Reverse(facts.serving(*o).map(|s| s.raft_applied_index)), *o));
    let heir = match &wished {
        Some(name) => heirs.iter().find(|(o, _)| facts.names().pod(o.0) == *name),
        None => heirs.iter().find(|(o, _)| *o != leader),
    };
    let Some((ordinal, member)) = heir else {
        let message = match wished {
            Some(name) => {
                format!("{name} is not a healthy voter of this cluster; name another in spec.member")
            }
            None => "there is no other voter to lead".to_owned(),
        };
        return verdict(OperationPhase::Failed, Reason::Failed, message);
    };
    let to = facts.member_ref(*ordinal, member.id);
    status.target = Some(to.name.clone());
    if *ordinal == leader {
        return verdict(OperationPhase::Succeeded, Reason::Succeeded, format!("{} leads", to.name));
    }
    let message = format!("moving leadership from {} to {}", from.name, to.name);
    let action = Some(OperationAction::MoveLeader { from, to });
    Verdict { action, ..verdict(OperationPhase::Running, Reason::Running, message) }
}

fn defragment(facts: &Facts<'_>, view: &ClusterView<'_>, status: &EtcdOperationStatus) -> Verdict {
    let leader = facts.leader().map(|(ordinal, _)| ordinal);
    let mut todo: Vec<_> =
        view.placed.iter().filter(|(o, _)| !status.members_done.contains(&facts.names().pod(o.0))).collect();
    todo.sort_by_key(|(o, _)| (Some(*o) == leader, *o));
    let Some((ordinal, member)) = todo.first() else {
        return verdict(OperationPhase::Succeeded, Reason::Succeeded, "every member was defragmented");
    };
    let member = facts.member_ref(*ordinal, member.id);
    let message =
        format!("defragmenting {}, {} of {} done", member.name, status.members_done.len(), view.placed.len());
    let action = Some(OperationAction::Defragment { member });
    Verdict { action, ..verdict(OperationPhase::Running, Reason::Running, message) }
}

fn tell(observed: &ObservedOperation<'_>, plan: &mut OperationPlan, verdict: Verdict) {
    use OperationPhase::{Failed, Pending, Running, Succeeded};
    let now = Time(whole_seconds(observed.now));
    let was = plan.status.phase;
    let flag = |yes| if yes { ConditionStatus::True } else { ConditionStatus::False };
    for (type_, status) in [
        (ConditionType::Ready, flag(verdict.phase == Succeeded)),
        (ConditionType::Progressing, flag(verdict.phase == Running)),
    ] {
        let condition =
            NewCondition { type_, status, reason: verdict.reason, message: verdict.message.clone() };
        let generation = plan.status.observed_generation;
        set_condition(&mut plan.status.conditions, condition, generation, observed.now);
    }
    if verdict.phase != Pending && plan.status.started_at.is_none() {
        plan.status.started_at = Some(now.clone());
    }
    plan.status.phase = Some(verdict.phase);
    if matches!(verdict.phase, Succeeded | Failed) {
        plan.status.completed_at = Some(now);
    }
    if was != Some(verdict.phase) && verdict.phase != Pending && verdict.phase != Running {
        plan.events.push(Note {
            kind: if verdict.phase == Failed { NoteKind::Warning } else { NoteKind::Normal },
            reason: verdict.reason,
            action: "Operate",
            message: verdict.message,
            related: None,
        });
    }
    plan.recheck = match verdict.action {
        Some(_) => limits::RECHECK_AFTER_ACTION,
        None => limits::RECHECK_BUSY,
    };
    plan.action = verdict.action;
}
