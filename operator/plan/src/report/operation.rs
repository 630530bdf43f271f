//! The record of work under way. Kept in status only to be shown: its type and dates carry over from the last
//! report, what has to be done never does.

use crds::cluster::EtcdClusterStatus;
use crds::conditions::whole_seconds;
use crds::progress::{OperationProgress, OperationType};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::status::Told;
use crate::formation::Stage;
use crate::ids::Ordinal;
use crate::observed::ClusterView;
use crate::rollout;
use crate::validate::Mode;

/// Work under way, if any.
pub(super) fn operation(told: &Told<'_>, previous: &EtcdClusterStatus) -> Option<OperationProgress> {
    if told.facts.cluster.mode != Mode::Active {
        return None;
    }
    let before = previous.operation.as_ref();
    let (type_, done, total) = match told.stage {
        Stage::Blocked => return None,
        Stage::Restoring { .. } => (OperationType::Restore, 0, joining_steps(told.facts.target())),
        Stage::New | Stage::Seeding => (beginning(told), 0, joining_steps(told.facts.target())),
        Stage::Formed { .. } => match told.facts.view() {
            Some(view) => under_way(told, &view, previous)?,
            // Nothing is known: what was under way still is.
            None => before.map(|b| (b.type_, b.steps_done, b.steps_total))?,
        },
    };
    let waiting_on = text(told);
    let now = Time(whole_seconds(told.facts.observed.now));
    let same = before.filter(|b| b.type_ == type_);
    let started_at = same.map_or_else(|| now.clone(), |b| b.started_at.clone());
    let waiting_since = same.filter(|b| b.waiting_on == waiting_on).map_or(now, |b| b.waiting_since.clone());
    Some(OperationProgress {
        type_,
        started_at,
        steps_done: done,
        steps_total: total,
        waiting_on,
        waiting_since,
    })
}

fn text(told: &Told<'_>) -> String {
    match (told.action, told.waiting) {
        (Some(action), _) => action.to_string(),
        (None, Some(waiting)) => waiting.to_string(),
        (None, None) => "the next look".to_owned(),
    }
}

fn beginning(told: &Told<'_>) -> OperationType {
    match told.facts.cluster.spec.bootstrap {
        Some(_) => OperationType::Restore,
        None => OperationType::Bootstrap,
    }
}

/// One step for the first member, two for each other: learner, then voter.
fn joining_steps(target: u32) -> u32 {
    (2 * target).saturating_sub(1)
}

fn under_way(
    told: &Told<'_>,
    view: &ClusterView<'_>,
    previous: &EtcdClusterStatus,
) -> Option<(OperationType, u32, u32)> {
    let facts = told.facts;
    let target = facts.target();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let surplus = count(view.placed.iter().filter(|(o, _)| o.0 >= target).count());
    let voters = count(view.voters().filter(|(o, _)| o.0 < target).count());
    let learners = count(view.learners().filter(|(o, _)| o.0 < target).count());
    if voters < target {
        let total = joining_steps(target);
        let done = (2 * voters + learners).saturating_sub(1);
        return Some((joining_type(told, view, previous), done, total));
    }
    if surplus > 0 {
        let before = previous.operation.as_ref().filter(|o| o.type_ == OperationType::ScaleDown);
        let total = before.map_or(surplus, |o| o.steps_total.max(surplus));
        return Some((OperationType::ScaleDown, total - surplus, total));
    }
    let outdated = count(rollout::outdated(facts, told.template_hash).len());
    let rolling = previous.operation.as_ref().is_some_and(|o| o.type_ == OperationType::Roll);
    // A roll ends when the last restarted member takes part again, not when its old pod is gone.
    let settled = told.action.is_none() && told.waiting.is_none();
    if outdated > 0 || (rolling && !settled) {
        return Some((OperationType::Roll, target.saturating_sub(outdated), target));
    }
    None
}

fn joining_type(told: &Told<'_>, view: &ClusterView<'_>, previous: &EtcdClusterStatus) -> OperationType {
    use OperationType::{Bootstrap, Replace, Restore, ScaleUp};
    if let Some(before) = &previous.operation
        && matches!(before.type_, Bootstrap | Restore | ScaleUp | Replace)
    {
        return before.type_;
    }
    let names = told.facts.names();
    let was_member =
        |o: &Ordinal| previous.members.iter().any(|m| m.name == names.pod(o.0) && m.id.is_some());
    let mut lacking =
        (0..told.facts.target()).map(Ordinal).filter(|o| view.at(*o).is_none_or(|m| m.is_learner));
    if lacking.any(|o| was_member(&o)) { Replace } else { ScaleUp }
}
