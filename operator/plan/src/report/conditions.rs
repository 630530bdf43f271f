//! The conditions of a cluster, from what was observed and decided in this pass.

use crds::conditions::{ConditionStatus, ConditionType, NewCondition, find, is};
use crds::progress::{OperationProgress, OperationType};
use crds::{EtcdBackupSchedule, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::status::Told;
use crate::formation::Stage;
use crate::limits;
use crate::membership;
use crate::observed::ReadAnswer;
use crate::pki::OPERATOR_USER;
use crate::reading::Reading;
use crate::validate::{Mode, Tls};
use crate::volumes;

/// All six conditions, in the order status lists them.
pub(super) fn conditions(
    told: &Told<'_>,
    operation: Option<&OperationProgress>,
    previous: &[Condition],
) -> Vec<NewCondition> {
    let degraded = degraded(told, operation, previous);
    let available = available(told);
    let progressing = progressing(told, operation);
    let tls = tls(told);
    let ready = ready(told, operation, &available, &degraded);
    vec![ready, available, progressing, degraded, tls, backup_healthy(&told.facts.observed.schedules)]
}

fn condition(
    type_: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: impl Into<String>,
) -> NewCondition {
    NewCondition { type_, status, reason, message: message.into() }
}

fn ready(
    told: &Told<'_>,
    operation: Option<&OperationProgress>,
    available: &NewCondition,
    degraded: &NewCondition,
) -> NewCondition {
    let no = |from: &NewCondition| {
        condition(ConditionType::Ready, ConditionStatus::False, from.reason, from.message.clone())
    };
    if degraded.status == ConditionStatus::True {
        return no(degraded);
    }
    if let Some(operation) = operation {
        let reason = operation_reason(operation.type_);
        let message = since(&operation.waiting_on, operation.waiting_since.0);
        return condition(ConditionType::Ready, ConditionStatus::False, reason, message);
    }
    if available.status != ConditionStatus::True {
        return condition(
            ConditionType::Ready,
            available.status,
            available.reason,
            available.message.clone(),
        );
    }
    if let Some(waiting) = told.waiting {
        return condition(
            ConditionType::Ready,
            ConditionStatus::False,
            waiting.reason(),
            waiting.to_string(),
        );
    }
    if let Some(action) = told.suppressed {
        let message = format!("paused; without the pause the next step would be: {action}");
        return condition(ConditionType::Ready, ConditionStatus::False, Reason::Paused, message);
    }
    let message = format!("all {} members vote and are healthy", told.facts.target());
    condition(ConditionType::Ready, ConditionStatus::True, Reason::Healthy, message)
}

fn available(told: &Told<'_>) -> NewCondition {
    let type_ = ConditionType::Available;
    let formed = matches!(told.stage, Stage::Formed { .. });
    match &told.facts.observed.linearizable_read {
        Reading::Fresh(ReadAnswer::Value | ReadAnswer::Denied) => condition(
            type_,
            ConditionStatus::True,
            Reason::QuorumAvailable,
            "a linearizable read was answered",
        ),
        Reading::Unreachable { .. } | Reading::Stale { .. } if !formed => {
            let reason = match told.facts.cluster.spec.bootstrap {
                Some(_) => Reason::Restoring,
                None => Reason::Bootstrapping,
            };
            condition(type_, ConditionStatus::False, reason, "the cluster has not begun to serve")
        }
        Reading::Stale { at, .. } => condition(
            type_,
            ConditionStatus::Unknown,
            Reason::Unreachable,
            format!("the last linearizable read was answered at {at}"),
        ),
        Reading::Unreachable { error } => condition(
            type_,
            ConditionStatus::False,
            Reason::QuorumLost,
            format!("no linearizable read is answered: {error}"),
        ),
    }
}

fn progressing(told: &Told<'_>, operation: Option<&OperationProgress>) -> NewCondition {
    let type_ = ConditionType::Progressing;
    match told.facts.cluster.mode {
        Mode::Paused => {
            let message = "reconciling is paused by spec.paused or the annotation kvnode.io/paused";
            return condition(type_, ConditionStatus::False, Reason::Paused, message);
        }
        Mode::Deleting => {
            return condition(type_, ConditionStatus::False, Reason::Deleting, "the object is being deleted");
        }
        Mode::Active => {}
    }
    let Some(operation) = operation else {
        // What was refused is only asked for again: nothing changes until it is granted.
        return match told.action.filter(|_| volumes::refused(told.facts).is_none()) {
            Some(action) => {
                condition(type_, ConditionStatus::True, Reason::ExpandingVolumes, action.to_string())
            }
            None => condition(type_, ConditionStatus::False, Reason::Settled, "nothing is being changed"),
        };
    };
    let message = since(&operation.waiting_on, operation.waiting_since.0);
    let waited = told.facts.observed.now.as_second() - operation.waiting_since.0.as_second();
    if waited > limits::STEP_DEADLINE_SECONDS {
        let message = format!("{message}; this takes longer than it should");
        return condition(type_, ConditionStatus::False, Reason::DeadlineExceeded, message);
    }
    condition(type_, ConditionStatus::True, operation_reason(operation.type_), message)
}

fn degraded(told: &Told<'_>, operation: Option<&OperationProgress>, previous: &[Condition]) -> NewCondition {
    let type_ = ConditionType::Degraded;
    let was = is(previous, type_, ConditionStatus::True);
    let before = find(previous, type_).filter(|_| was).map(|c| c.last_transition_time.0);
    let begun = before.unwrap_or(told.facts.observed.now);
    let yes = |reason, message: &str| condition(type_, ConditionStatus::True, reason, since(message, begun));
    if let Some(waiting) = told.waiting.filter(|w| w.is_obstacle()) {
        return yes(waiting.reason(), &waiting.to_string());
    }
    if let Some(trouble) =
        told.certificates.trouble.as_ref().filter(|t| t.reason != Reason::CertificatesIssued)
    {
        return yes(trouble.reason, &trouble.message);
    }
    // Then actions fail for that reason: it is told, not they.
    let denied = told.facts.observed.linearizable_read == Reading::Fresh(ReadAnswer::Denied);
    let failed = told.facts.observed.failures.last().or_else(|| volumes::refused(told.facts));
    if let Some(failed) = failed.filter(|_| !denied) {
        return yes(Reason::ActionFailed, &format!("could not {}: {}", failed.attempted, failed.error));
    }
    let Some(view) = told.facts.view() else {
        return condition(type_, ConditionStatus::False, Reason::Settled, "nothing is known to be broken");
    };
    if let Some(alarms) = alarms(told) {
        return yes(Reason::AlarmRaised, &alarms);
    }
    let formed_members = view.voters().filter(|(o, m)| !told.facts.participates(*o, m));
    let unhealthy: Vec<String> = formed_members.map(|(o, _)| told.facts.names().pod(o.0)).collect();
    // A member that is being restarted on purpose is progress, not damage.
    let rolling = operation.is_some_and(|o| o.type_ == OperationType::Roll);
    if !unhealthy.is_empty() && !rolling {
        let first = told.waiting.map(|w| format!(": {w}")).unwrap_or_default();
        return yes(Reason::MemberUnhealthy, &format!("{} not healthy{first}", unhealthy.join(", ")));
    }
    if denied {
        return yes(Reason::AccessDenied, &access_denied(told));
    }
    if let Some((ordinal, member)) = view.misplaced.first() {
        return yes(Reason::ForeignMember, &membership::misplaced(told.facts, *ordinal, member));
    }
    if let Some(foreign) = view.foreign.first() {
        let message = format!(
            "member {} ({}) is none of this cluster's pods; remove it with etcdctl member remove if it is not wanted",
            foreign.id,
            foreign.peer_urls.join(", ")
        );
        return yes(Reason::ForeignMember, &message);
    }
    condition(type_, ConditionStatus::False, Reason::Healthy, "nothing is broken")
}

/// The members know the operator by its certificate, and do little for a user without the role root.
fn access_denied(told: &Told<'_>) -> String {
    let user = match &told.facts.cluster.tls {
        Tls::Managed => OPERATOR_USER.to_owned(),
        Tls::Provided(provided) => {
            format!("<common name of the certificate in Secret {}>", provided.operator_secret_ref.name)
        }
    };
    format!(
        "authentication is enabled and the operator's user lacks the role root, so it cannot repair, scale or \
         back up: etcdctl user add {user} --no-password && etcdctl user grant-role {user} root"
    )
}

fn alarms(told: &Told<'_>) -> Option<String> {
    let view = told.facts.view()?;
    let raised: Vec<String> = view
        .placed
        .iter()
        .filter_map(|(o, _)| told.facts.serving(*o).map(|s| (o, s)))
        .filter(|(_, s)| s.leader.is_some() && !s.errors.is_empty())
        .map(|(o, s)| format!("{}: {}", told.facts.names().pod(o.0), s.errors.join(", ")))
        .collect();
    (!raised.is_empty()).then(|| {
        format!("{}; if NOSPACE, raise spec.options.quotaBackendBytes or delete keys and compact, then etcdctl alarm disarm", raised.join("; "))
    })
}

fn tls(told: &Told<'_>) -> NewCondition {
    let type_ = ConditionType::TLSReady;
    let certificates = told.certificates;
    let idle = *told.stage == Stage::Blocked || told.facts.cluster.mode != Mode::Active;
    match (&certificates.trouble, &certificates.warning, certificates.expires) {
        (Some(trouble), _, _) if idle && trouble.reason == Reason::CertificatesIssued => {
            let message = "certificates are lacking, and none is issued before the obstacle is gone";
            condition(type_, ConditionStatus::False, Reason::SecretMissing, message)
        }
        (Some(trouble), _, _) => {
            condition(type_, ConditionStatus::False, trouble.reason, trouble.message.clone())
        }
        (None, Some(warning), _) => {
            condition(type_, ConditionStatus::True, warning.reason, warning.message.clone())
        }
        (None, None, Some(at)) => {
            let message = format!("every certificate is valid; the first expires on {}", date(at));
            condition(type_, ConditionStatus::True, Reason::CertificatesValid, message)
        }
        (None, None, None) => {
            condition(type_, ConditionStatus::Unknown, Reason::NotYetObserved, "not looked at yet")
        }
    }
}

/// The schedules know their own health; the cluster's is the worst of them.
fn backup_healthy(schedules: &[EtcdBackupSchedule]) -> NewCondition {
    let type_ = ConditionType::BackupHealthy;
    let mut worst: Option<NewCondition> = None;
    for schedule in schedules {
        let name = schedule.metadata.name.clone().unwrap_or_default();
        let conditions = schedule.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let found = find(conditions, type_);
        let (status, reason) = match found.map(|c| c.status.as_str()) {
            Some("True") => (ConditionStatus::True, Reason::BackupFresh),
            Some("False") => (ConditionStatus::False, reason_of(found, Reason::BackupStale)),
            _ => (ConditionStatus::Unknown, Reason::NoBackupYet),
        };
        let message = found.map_or_else(|| "not looked at yet".to_owned(), |c| c.message.clone());
        let this = condition(type_, status, reason, format!("schedule {name}: {message}"));
        if worst.as_ref().is_none_or(|w| rank(this.status) < rank(w.status)) {
            worst = Some(this);
        }
    }
    worst.unwrap_or_else(|| {
        let message = "no EtcdBackupSchedule names this cluster";
        condition(type_, ConditionStatus::Unknown, Reason::NoSchedule, message)
    })
}

fn rank(status: ConditionStatus) -> u8 {
    match status {
        ConditionStatus::False => 0,
        ConditionStatus::Unknown => 1,
        ConditionStatus::True => 2,
    }
}

fn reason_of(condition: Option<&Condition>, default: Reason) -> Reason {
    let text = condition.map(|c| c.reason.as_str()).unwrap_or_default();
    Reason::ALL.iter().copied().find(|r| r.as_str() == text).unwrap_or(default)
}

fn operation_reason(type_: OperationType) -> Reason {
    match type_ {
        OperationType::Bootstrap => Reason::Bootstrapping,
        OperationType::Restore => Reason::Restoring,
        OperationType::ScaleUp => Reason::ScalingUp,
        OperationType::ScaleDown => Reason::ScalingDown,
        OperationType::Replace => Reason::ReplacingMember,
        OperationType::Roll => Reason::Rolling,
    }
}

/// A message with the moment it began to hold: unlike a duration it stays the same text.
fn since(message: &str, at: Timestamp) -> String {
    format!("{message} (since {})", crds::conditions::whole_seconds(at))
}

/// The day of a moment, in UTC.
pub(super) fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}
