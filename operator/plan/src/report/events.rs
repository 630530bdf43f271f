//! Events on transitions between the status that was there and the new one.

use crds::Reason;
use crds::cluster::EtcdClusterStatus;
use crds::conditions::{ConditionType, find};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Note, NoteKind, Related};

/// What changed that a user wants to hear of. A first status is no transition.
pub(super) fn transitions(before: &EtcdClusterStatus, after: &EtcdClusterStatus) -> Vec<Note> {
    if before.conditions.is_empty() {
        return Vec::new();
    }
    let mut notes = Vec::new();
    for type_ in ConditionType::ALL {
        let (was, is) = (find(&before.conditions, type_), find(&after.conditions, type_));
        if let (Some(was), Some(is)) = (was, is)
            && was.status != is.status
        {
            notes.extend(flipped(type_, was, is));
        }
    }
    if let (Some(old), Some(new)) = (&before.leader, &after.leader)
        && old != new
    {
        notes.push(Note {
            kind: NoteKind::Normal,
            reason: Reason::LeaderChanged,
            action: "Elect",
            message: format!("{new} leads instead of {old}"),
            related: Related::pod(new),
        });
    }
    notes
}

fn flipped(type_: ConditionType, was: &Condition, is: &Condition) -> Option<Note> {
    let reason = Reason::ALL.iter().copied().find(|r| r.as_str() == is.reason)?;
    let (kind, action) = match (type_, is.status.as_str()) {
        (ConditionType::Ready, "True") => (NoteKind::Normal, "BecomeReady"),
        (ConditionType::Available, "True") => (NoteKind::Normal, "GainQuorum"),
        (ConditionType::Available, "False") => (NoteKind::Warning, "LoseQuorum"),
        (ConditionType::Degraded, "True") => (NoteKind::Warning, "Degrade"),
        (ConditionType::TLSReady, "False") => (NoteKind::Warning, "CheckCertificates"),
        (ConditionType::BackupHealthy, "False") => (NoteKind::Warning, "CheckBackups"),
        (ConditionType::BackupHealthy, "True") if was.status == "False" => (NoteKind::Normal, "CheckBackups"),
        _ => return None,
    };
    Some(Note { kind, reason, action, message: is.message.clone(), related: None })
}
