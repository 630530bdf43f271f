//! Is this disruption safe, and if not, why not: asked by everything that stops or removes a member.
//!
//! The observation is a moment old. Two rules make that harmless: a pod that is going away or was not heard in
//! this pass counts as missing, and the shell observes and plans again right before it acts.

use crate::facts::Facts;
use crate::ids::Ordinal;
use crate::observed::{ClusterView, Member, quorum};
use crate::waiting::Waiting;

/// Whether a member may be removed from the cluster: the voters that remain must have quorum among themselves
/// with those that take part now.
///
/// # Errors
/// The members that have to come back first.
pub fn may_remove(
    facts: &Facts<'_>,
    view: &ClusterView<'_>,
    ordinal: Ordinal,
    member: &Member,
) -> Result<(), Waiting> {
    if member.is_learner {
        return Ok(());
    }
    let remaining = view.voter_count() - 1;
    let change = format!("remove member {}", facts.names().pod(ordinal.0));
    let healthy = participants_without(facts, view, member);
    if remaining == 0 || healthy < quorum(remaining) {
        return Err(Waiting::Quorum { change, missing: missing_without(facts, view, member) });
    }
    Ok(())
}

/// Whether a working member may be stopped for a while: every other voter must take part (one disruption at a
/// time), and together they must have quorum. The only member of a cluster may be stopped: there is no other way.
///
/// # Errors
/// The members that have to come back first.
pub fn may_stop(
    facts: &Facts<'_>,
    view: &ClusterView<'_>,
    ordinal: Ordinal,
    member: &Member,
) -> Result<(), Waiting> {
    let voters = view.voter_count();
    if voters == 1 {
        return Ok(());
    }
    let others = voters - usize::from(!member.is_learner);
    let healthy = participants_without(facts, view, member);
    if healthy == others && healthy >= quorum(voters) {
        return Ok(());
    }
    // Usually the one restarted before, on its way back: what keeps it says more than that it is missed.
    let absent = view.voters().find(|(o, m)| m.id != member.id && !facts.participates(*o, m));
    Err(absent.map_or_else(
        || Waiting::Quorum {
            change: format!("restart {}", facts.names().pod(ordinal.0)),
            missing: missing_without(facts, view, member),
        },
        |(absent, _)| facts.wait_for_pod(absent),
    ))
}

/// Voters other than `member` that take part. A foreign voter cannot be asked, so it never counts.
fn participants_without(facts: &Facts<'_>, view: &ClusterView<'_>, member: &Member) -> usize {
    view.voters().filter(|(o, m)| m.id != member.id && facts.participates(*o, m)).count()
}

fn missing_without(facts: &Facts<'_>, view: &ClusterView<'_>, member: &Member) -> Vec<String> {
    view.voters()
        .filter(|(o, m)| m.id != member.id && !facts.participates(*o, m))
        .map(|(o, _)| facts.names().pod(o.0))
        .chain(view.foreign.iter().filter(|m| !m.is_learner).map(|m| format!("member {}", m.id)))
        .collect()
}
