//! The member list of status: what each said in this pass, and nothing that was true once.

use crds::cluster::{MemberHealth, MemberRole, MemberStatus};

use crate::facts::Facts;
use crate::ids::Ordinal;
use crate::observed::{ClusterView, Member};

/// Every member and every pod that is about to be one, by ordinal.
pub(super) fn members(facts: &Facts<'_>) -> Vec<MemberStatus> {
    let list = facts.observed.members.latest();
    let view = list.map(|list| ClusterView::new(list, facts.names()));
    let placed = view.as_ref().map(|v| v.placed.clone()).unwrap_or_default();
    let mut entries: Vec<(Ordinal, MemberStatus)> =
        placed.iter().map(|(ordinal, member)| (*ordinal, entry(facts, *ordinal, member))).collect();
    for pod in &facts.observed.pods {
        if !entries.iter().any(|(ordinal, _)| *ordinal == pod.ordinal) {
            entries.push((pod.ordinal, joining(facts, pod.ordinal)));
        }
    }
    entries.sort_by_key(|(ordinal, _)| *ordinal);
    // Two members of one ordinal (a human's doing) would make the list invalid: its key is the name.
    entries.dedup_by_key(|(ordinal, _)| *ordinal);
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn entry(facts: &Facts<'_>, ordinal: Ordinal, member: &Member) -> MemberStatus {
    let serving = facts.serving(ordinal).filter(|s| s.member_id == member.id);
    let leads = serving.is_some_and(|s| s.leader == Some(s.member_id));
    let role = match serving {
        None => MemberRole::Unknown,
        Some(_) if member.is_learner => MemberRole::Learner,
        Some(_) if leads => MemberRole::Leader,
        Some(_) => MemberRole::Follower,
    };
    let healthy = match serving {
        Some(s) if s.leader.is_some() && s.errors.is_empty() => MemberHealth::True,
        Some(_) => MemberHealth::False,
        None if facts.pod(ordinal).is_none_or(|p| p.trouble.is_some()) => MemberHealth::False,
        None => MemberHealth::Unknown,
    };
    MemberStatus {
        name: facts.names().pod(ordinal.0),
        id: Some(member.id.to_string()),
        role,
        learner: member.is_learner,
        healthy,
        version: serving.map(|s| s.version.clone()),
    }
}

fn joining(facts: &Facts<'_>, ordinal: Ordinal) -> MemberStatus {
    MemberStatus {
        name: facts.names().pod(ordinal.0),
        id: None,
        role: MemberRole::Joining,
        learner: false,
        healthy: MemberHealth::Unknown,
        version: None,
    }
}
