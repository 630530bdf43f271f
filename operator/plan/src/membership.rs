//! Which member joins, votes or leaves next. One change at a time, derived from what members say each pass.
//!
//! ```text
//! add:     pod waits with a blank volume -> learner + ticket -> caught up -> voter
//! remove:  (not the leader) -> member removed -> StatefulSet shrinks -> volume kept, quarantined before reuse
//! replace: member of a lost volume removed -> same ordinal is added anew
//! ```
//! Order of attention: unfinished learners, lost volumes, members that lack, members that are too many: what
//! stays is complete before anything that goes is taken away. No rule looks at which member it is, only at
//! what it holds.

use std::cmp::Reverse;

use crds::Reason;

use crate::action::{Action, RemovalReason};
use crate::facts::{Facts, Step};
use crate::ids::{ClusterId, Ordinal};
use crate::limits;
use crate::observed::{ClusterView, Member, NodeView, PodTrouble, VolumePhase};
use crate::safety;
use crate::ticket::Ticket;
use crate::waiting::{ScaleBack, Waiting};

/// What a node says when its volume is a former member's: one that was removed, or one whose ticket was void
/// before it could note who it is.
const STALE_MARKS: [&str; 2] = ["permanently removed", "holds the log of member"];

/// The next change of the membership.
pub fn change(facts: &Facts<'_>, view: &ClusterView<'_>, cluster_id: ClusterId) -> Step {
    let steps: [fn(&Facts<'_>, &ClusterView<'_>, ClusterId) -> Step; 5] =
        [unfinished_learner, stale_volume, lost_volume, too_few, too_many];
    for step in steps {
        match step(facts, view, cluster_id) {
            Step::Rest => {}
            found => return found,
        }
    }
    Step::Rest
}

/// A learner goes on before anything else begins: to voter, or away.
fn unfinished_learner(facts: &Facts<'_>, view: &ClusterView<'_>, _: ClusterId) -> Step {
    let Some((ordinal, learner)) = view.learners().next() else { return Step::Rest };
    let remove = |why| Step::Act(Action::RemoveMember { member: facts.member_ref(ordinal, learner.id), why });
    if ordinal.0 >= facts.target() {
        return remove(RemovalReason::ScaleDown);
    }
    match facts.node(ordinal) {
        Some(NodeView::AwaitingTicket) if learner.has_started() => remove(RemovalReason::VolumeLost),
        Some(NodeView::AwaitingTicket) if !holds_ticket(facts, ordinal, learner) => {
            remove(RemovalReason::NeverJoined)
        }
        Some(NodeView::AwaitingTicket) => {
            Step::Wait(Waiting::MemberStarting { member: facts.names().pod(ordinal.0), error: None })
        }
        Some(NodeView::Serving(serving)) if serving.member_id == learner.id => {
            promote_when_ready(facts, ordinal, learner, serving.raft_applied_index)
        }
        // A ticket is for one member: a pod that is another one has the data of a former member.
        Some(NodeView::Serving(_)) => remove(RemovalReason::VolumeLost),
        None if fails_as_former_member(facts, ordinal) => remove(RemovalReason::VolumeLost),
        None => Step::Wait(facts.wait_for_pod(ordinal)),
    }
}

/// The pod was given the ticket for exactly this member.
fn holds_ticket(facts: &Facts<'_>, ordinal: Ordinal, learner: &Member) -> bool {
    let Some(pod) = facts.pod(ordinal) else { return false };
    let ticket = pod.ticket.as_deref().and_then(Ticket::from_json);
    ticket.is_some_and(|t| t.pod_uid == pod.reference.uid && t.member() == Some(learner.id))
}

fn promote_when_ready(facts: &Facts<'_>, ordinal: Ordinal, learner: &Member, applied: u64) -> Step {
    let entries = facts.leader().map(|(_, leader)| leader.raft_index.saturating_sub(applied));
    match entries {
        Some(behind) if behind <= limits::LEARNER_LAG_ENTRIES && learner.has_started() => {
            Step::Act(Action::Promote { member: facts.member_ref(ordinal, learner.id) })
        }
        entries => Step::Wait(Waiting::LearnerBehind { member: facts.names().pod(ordinal.0), entries }),
    }
}

/// A volume that cannot serve its member any more is taken out, so that a blank one can take its place.
fn stale_volume(facts: &Facts<'_>, view: &ClusterView<'_>, _: ClusterId) -> Step {
    for ordinal in (0..facts.target()).map(Ordinal) {
        let Some(volume) = facts.volume(ordinal) else { continue };
        // A claim that is on its way out goes once its pod does; that pod may still have to be told.
        if volume.terminating && facts.pod(ordinal).is_none_or(|p| p.terminating) {
            continue;
        }
        let is_misplaced = view.at(ordinal).is_none() && view.has_ordinal(ordinal);
        let lost = volume.phase == VolumePhase::Lost && !is_misplaced;
        let serves_as_none = facts.serving(ordinal).is_some_and(|serving| !view.has(serving.member_id));
        let removed =
            !view.has_ordinal(ordinal) && (serves_as_none || fails_as_former_member(facts, ordinal));
        if !lost && !removed {
            continue;
        }
        if let Some(member) = view.at(ordinal)
            && let Err(waiting) = safety::may_remove(facts, view, ordinal, member)
        {
            return Step::Wait(waiting);
        }
        return Step::Act(Action::QuarantineVolume {
            claim: volume.reference.clone(),
            pod: facts.pod(ordinal).map(|p| p.reference.clone()),
            ordinal,
        });
    }
    Step::Rest
}

/// The pod holds the data of a member that is none (any more), fails, and says so. A node ends by itself without an
/// error only for this reason, as etcd does.
fn fails_as_former_member(facts: &Facts<'_>, ordinal: Ordinal) -> bool {
    match facts.pod(ordinal).and_then(|p| p.trouble.as_ref()) {
        Some(PodTrouble::Failing { message, exit_code, .. }) => {
            *exit_code == Some(0) || STALE_MARKS.iter().any(|mark| message.contains(mark))
        }
        _ => false,
    }
}

/// A voter whose pod waits with a blank volume has lost its data: it may never speak again under its old ID.
fn lost_volume(facts: &Facts<'_>, view: &ClusterView<'_>, _: ClusterId) -> Step {
    let found = view.voters().find(|(ordinal, _)| facts.awaits_ticket(*ordinal));
    let Some((ordinal, member)) = found else { return Step::Rest };
    match safety::may_remove(facts, view, ordinal, member) {
        // It led until a moment ago; the others are about to notice.
        Ok(()) if facts.is_followed(member.id) => Step::Wait(facts.wait_for_pod(ordinal)),
        Ok(()) => Step::Act(Action::RemoveMember {
            member: facts.member_ref(ordinal, member.id),
            why: RemovalReason::VolumeLost,
        }),
        Err(waiting) => Step::Wait(waiting),
    }
}

/// The highest ordinal goes first, never while it leads.
fn too_many(facts: &Facts<'_>, view: &ClusterView<'_>, _: ClusterId) -> Step {
    let surplus = view.placed.iter().copied().filter(|(o, _)| o.0 >= facts.target()).max_by_key(|(o, _)| *o);
    let Some((ordinal, member)) = surplus else { return Step::Rest };
    if let Err(waiting) = safety::may_remove(facts, view, ordinal, member) {
        return Step::Wait(waiting);
    }
    if let Some((leader, serving)) = facts.leader()
        && serving.member_id == member.id
    {
        return hand_over(facts, view, leader, member, Keep::BelowTarget);
    }
    if facts.is_followed(member.id) {
        return Step::Wait(facts.wait_for_pod(ordinal));
    }
    Step::Act(Action::RemoveMember {
        member: facts.member_ref(ordinal, member.id),
        why: RemovalReason::ScaleDown,
    })
}

/// Who may receive leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// A member that stays.
    BelowTarget,
    /// Any other member.
    Any,
}

/// Moves leadership away from `leader`, to the voter that is furthest; the lowest ordinal of those.
pub(crate) fn hand_over(
    facts: &Facts<'_>,
    view: &ClusterView<'_>,
    leader: Ordinal,
    member: &Member,
    keep: Keep,
) -> Step {
    let heir = view
        .voters()
        .filter(|(o, m)| m.id != member.id && facts.participates(*o, m))
        .filter(|(o, _)| keep == Keep::Any || o.0 < facts.target())
        .max_by_key(|(o, _)| (facts.serving(*o).map(|s| s.raft_applied_index), Reverse(*o)));
    match heir {
        Some((ordinal, to)) => Step::Act(Action::MoveLeader {
            from: facts.member_ref(leader, member.id),
            to: facts.member_ref(ordinal, to.id),
        }),
        None => Step::Wait(Waiting::Quorum {
            change: format!("move leadership away from {}", facts.names().pod(leader.0)),
            missing: vec!["another voter".to_owned()],
        }),
    }
}

/// The lowest ordinal that waits for a ticket joins; if none waits yet, the lowest that lacks is waited for.
fn too_few(facts: &Facts<'_>, view: &ClusterView<'_>, cluster_id: ClusterId) -> Step {
    // Another member beside one whose URL was changed would be a voter too many.
    let lacking: Vec<Ordinal> = (0..facts.target()).map(Ordinal).filter(|o| !view.has_ordinal(*o)).collect();
    let waiting = lacking.iter().find_map(|o| {
        let pod = facts.pod(*o).filter(|_| facts.awaits_ticket(*o))?;
        Some((*o, pod))
    });
    match (waiting, lacking.first()) {
        (Some((ordinal, pod)), _) => Step::Act(Action::AddLearner {
            ordinal,
            pod: pod.reference.clone(),
            peer_url: facts.names().peer_url(ordinal.0),
            cluster_uid: facts.cluster.uid.clone(),
            cluster_id,
        }),
        (None, Some(ordinal)) => Step::Wait(facts.wait_for_pod(*ordinal)),
        (None, None) => await_placing(facts, view),
    }
}

/// A member at an ordinal that is wished for and whose peer URL was changed: only a human knows what that was for.
fn await_placing(facts: &Facts<'_>, view: &ClusterView<'_>) -> Step {
    let is_wished_for = |o: Ordinal| o.0 < facts.target() && view.at(o).is_none();
    let Some((ordinal, member)) = view.misplaced.iter().find(|(o, _)| is_wished_for(*o)) else {
        return Step::Rest;
    };
    let message = misplaced(facts, *ordinal, member);
    Step::Wait(Waiting::Human { reason: Reason::ForeignMember, message })
}

/// What to do about such a member. Nothing is done here: that its pod serves it is likely, and its volume must stay.
pub fn misplaced(facts: &Facts<'_>, ordinal: Ordinal, member: &Member) -> String {
    let (id, names) = (member.id, facts.names());
    let serves_another = facts.serving(ordinal).is_some_and(|serving| serving.member_id != id);
    let remedy = if serves_another || facts.awaits_ticket(ordinal) {
        format!("its data is gone; remove it: etcdctl member remove {id}")
    } else {
        format!("put it back: etcdctl member update {id} --peer-urls={}", names.peer_url(ordinal.0))
    };
    let (pod, urls) = (names.pod(ordinal.0), member.peer_urls.join(", "));
    format!("member {id} has the name of {pod} and another peer URL ({urls}); {remedy}")
}

/// Pods the StatefulSet should run: all that are wished for and all that are still members. It grows over an
/// ordinal only once no volume of a former member is left there.
pub fn wanted_pods(facts: &Facts<'_>) -> u32 {
    let set = facts.observed.stateful_set.as_ref().map(|s| s.replicas);
    // Without a fresh member list nothing shrinks: a member's pod may be needed to get quorum back. A set that is
    // made anew takes over the pods it finds and ends those that are too many.
    let members = match facts.view() {
        Some(view) => {
            // A name alone is no pod of ours: anybody may be called core-99.
            let misplaced = view.misplaced.iter().filter(|(o, _)| facts.volume(*o).is_some());
            view.placed.iter().chain(misplaced).map(|(ordinal, _)| ordinal.0 + 1).max()
        }
        None => set.or_else(|| {
            let with_volume = facts.observed.pods.iter().filter(|pod| facts.volume(pod.ordinal).is_some());
            with_volume.map(|pod| pod.ordinal.0 + 1).max()
        }),
    };
    let wanted = facts.target().max(members.unwrap_or(0));
    let blocked = leftover_volumes(facts).map(|(ordinal, _)| ordinal.0).min();
    blocked.map_or(wanted, |ordinal| wanted.min(ordinal.max(set.unwrap_or(0))))
}

/// Claims at ordinals the StatefulSet is about to grow over, except those of members: somebody else may have scaled
/// the set down. Ordinal 0 is never left over, for the operator asks for one pod at least.
fn leftover_volumes<'a>(
    facts: &Facts<'a>,
) -> impl Iterator<Item = (Ordinal, &'a crate::observed::VolumeView)> + use<'a> {
    let target = facts.target();
    let running = facts.observed.stateful_set.as_ref().map_or(u32::MAX, |s| s.replicas.max(1));
    let view = facts.view();
    let is_member = move |ordinal| view.as_ref().is_some_and(|view| view.has_ordinal(ordinal));
    let volumes = facts.observed.volumes.iter();
    volumes
        .filter(move |v| v.ordinal.0 >= running && v.ordinal.0 < target && !is_member(v.ordinal))
        .map(|v| (v.ordinal, v))
}

/// How to get back the pods of volumes that the StatefulSet runs none for, where they may be what quorum lacks.
/// Without a member list nobody knows whether they are members', so it is for a human to say.
pub fn scale_back(facts: &Facts<'_>) -> Option<ScaleBack> {
    let set = facts.observed.stateful_set.as_ref()?;
    let replicas = facts.observed.volumes.iter().map(|v| v.ordinal.0 + 1).max()?;
    let is_awaited = |o| facts.node(o).is_none() && !fails_as_former_member(facts, o);
    let awaits_none = !(0..set.replicas).map(Ordinal).any(is_awaited);
    let too_few = set.replicas < facts.target() || awaits_none;
    (too_few && replicas > set.replicas).then(|| ScaleBack {
        namespace: facts.names().namespace().to_owned(),
        set: facts.names().stateful_set(),
        replicas,
    })
}

/// A volume of a former member at an ordinal that is about to be used again: it is taken out first, for the
/// removed member's ID must never speak again.
pub fn clear_leftovers(facts: &Facts<'_>) -> Step {
    let Some((ordinal, volume)) = leftover_volumes(facts).min_by_key(|(o, _)| *o) else { return Step::Rest };
    let name = facts.names().pod(ordinal.0);
    if facts.observed.pods.iter().any(|p| p.ordinal == ordinal) {
        return Step::Wait(Waiting::Terminating { object: format!("pod {name}") });
    }
    if volume.terminating {
        return Step::Wait(Waiting::Terminating {
            object: format!("volume claim {}", volume.reference.name),
        });
    }
    Step::Act(Action::QuarantineVolume { claim: volume.reference.clone(), pod: None, ordinal })
}
