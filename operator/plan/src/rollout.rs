//! Which pod is restarted next when the template changed: broken ones first, followers next, leader last.

use std::cmp::Reverse;

use crate::action::{Action, RestartReason};
use crate::facts::{Facts, Step};
use crate::ids::Ordinal;
use crate::membership::{Keep, hand_over};
use crate::observed::{ClusterView, PodPhase, PodTrouble, PodView};
use crate::safety;
use crate::waiting::Waiting;

/// Pods made from another template than the wished-for one, none of them on their way out.
pub fn outdated<'a>(facts: &Facts<'a>, wanted_hash: &str) -> Vec<&'a PodView> {
    let mut pods: Vec<&PodView> = facts
        .observed
        .pods
        .iter()
        // What is about to go anyway is not worth a restart.
        .filter(|p| p.ordinal.0 < facts.target())
        .filter(|p| facts.pod(p.ordinal).is_some_and(|own| own.reference == p.reference))
        .filter(|p| p.template_hash.as_deref() != Some(wanted_hash))
        .collect();
    pods.sort_by_key(|p| p.ordinal);
    pods
}

/// True once the StatefulSet makes pods from the wished-for template: deleting one before would bring the old
/// one back.
pub fn template_is_current(facts: &Facts<'_>, wanted_hash: &str) -> bool {
    let set = facts.observed.stateful_set.as_ref();
    set.and_then(|s| s.template_hash.as_deref()) == Some(wanted_hash)
}

/// An outdated pod in which no process runs. Deleting it disturbs nothing, whatever the state of the cluster,
/// and may be the only way for a corrected spec to take effect.
pub fn restart_stuck(facts: &Facts<'_>, wanted_hash: &str) -> Step {
    if !template_is_current(facts, wanted_hash) {
        return Step::Rest;
    }
    let stuck = outdated(facts, wanted_hash).into_iter().find(|p| !p.terminating && runs_nothing(p));
    stuck.map_or(Step::Rest, |pod| Step::Act(restart(pod)))
}

fn runs_nothing(pod: &PodView) -> bool {
    pod.phase == PodPhase::Pending
        || matches!(pod.trouble, Some(PodTrouble::ImagePull { .. } | PodTrouble::Failing { .. }))
}

/// The next working pod to restart, when membership is at rest.
pub fn restart_next(facts: &Facts<'_>, view: &ClusterView<'_>, wanted_hash: &str) -> Step {
    let mut candidates = outdated(facts, wanted_hash);
    if candidates.is_empty() {
        return Step::Rest;
    }
    if !template_is_current(facts, wanted_hash) {
        return Step::Wait(Waiting::Template { set: facts.names().stateful_set() });
    }
    if let Some(going) = candidates.iter().find(|p| p.terminating) {
        return Step::Wait(Waiting::Terminating { object: format!("pod {}", going.reference.name) });
    }
    let leader = facts.leader().map(|(ordinal, _)| ordinal);
    candidates.sort_by_key(|p| {
        (participates(facts, view, p.ordinal), Some(p.ordinal) == leader, Reverse(p.ordinal))
    });
    let Some(pod) = candidates.first() else { return Step::Rest };
    let Some(member) = view.at(pod.ordinal) else { return Step::Act(restart(pod)) };
    if let Err(waiting) = safety::may_stop(facts, view, pod.ordinal, member) {
        return Step::Wait(waiting);
    }
    if Some(pod.ordinal) == leader && view.voter_count() > 1 {
        return hand_over(facts, view, pod.ordinal, member, Keep::Any);
    }
    Step::Act(restart(pod))
}

fn participates(facts: &Facts<'_>, view: &ClusterView<'_>, ordinal: Ordinal) -> bool {
    view.at(ordinal).is_some_and(|m| facts.participates(ordinal, m))
}

fn restart(pod: &PodView) -> Action {
    Action::DeletePod { pod: pod.reference.clone(), why: RestartReason::TemplateChanged }
}
