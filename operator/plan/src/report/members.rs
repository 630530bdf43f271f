//! The member list of status: what each said in this pass, and nothing that was true once.

use crds::cluster::{EtcdClusterStatus, MemberHealth, MemberRole, MemberStatus};

use crate::facts::Facts;
use crate::ids::Ordinal;
use crate::observed::{ClusterView, Member};

/// Every member and every pod that is about to be one, by ordinal. While the member list cannot be read, the
/// members are those last told of, and nothing about them is taken for known.
pub(super) fn members(facts: &Facts<'_>, before: &EtcdClusterStatus) -> Vec<MemberStatus> {
    let Some(list) = facts.observed.members.latest() else {
        let pods = facts.observed.pods.iter().map(|pod| (pod.ordinal, joining(facts, pod.ordinal)));
        let known = before.members.iter().filter(|m| m.id.is_some()).filter_map(|m| {
            let ordinal = Ordinal(facts.names().ordinal_of_pod(&m.name)?);
            Some((ordinal, unknown(facts, ordinal, m)))
        });
        return sorted(known.chain(pods).collect());
    };
    let view = ClusterView::new(list, facts.names());
    let placed = view.placed.iter().map(|(ordinal, member)| (*ordinal, entry(facts, *ordinal, member)));
    let pods = facts.observed.pods.iter().map(|pod| (pod.ordinal, joining(facts, pod.ordinal)));
    sorted(placed.chain(pods).collect())
}

/// By ordinal; of several entries of one ordinal the first: the list's key is the name.
fn sorted(mut entries: Vec<(Ordinal, MemberStatus)>) -> Vec<MemberStatus> {
    entries.sort_by_key(|(ordinal, _)| *ordinal);
    entries.dedup_by_key(|(ordinal, _)| *ordinal);
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn unknown(facts: &Facts<'_>, ordinal: Ordinal, last: &MemberStatus) -> MemberStatus {
    let answers = facts.serving(ordinal).is_some_and(|s| Some(s.member_id.to_string()) == last.id);
    MemberStatus {
        role: MemberRole::Unknown,
        // It answers, and says itself that it has no leader; or nothing is heard of it.
        healthy: if answers { MemberHealth::False } else { MemberHealth::Unknown },
        ..last.clone()
    }
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
