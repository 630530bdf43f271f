//! What members say about themselves and about the cluster.

use crds::names::ClusterNames;

use crate::ids::{ClusterId, MemberId, Ordinal};

/// A member as the member list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its ID.
    pub id: MemberId,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// True while it replicates without a vote.
    pub is_learner: bool,
}

impl Member {
    /// The ordinal of the pod that is this member, by peer URL: a member that never started has no name.
    pub fn ordinal(&self, names: &ClusterNames) -> Option<Ordinal> {
        self.peer_urls.iter().find_map(|url| names.ordinal_of_peer_url(url)).map(Ordinal)
    }

    /// True once the member has published its name, so it has run with a volume.
    pub fn has_started(&self) -> bool {
        !self.name.is_empty()
    }
}

/// The member list as a voter answered it, linearizably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberList {
    /// Cluster ID in the answer's header.
    pub cluster_id: ClusterId,
    /// The members.
    pub members: Vec<Member>,
}

/// How a linearizable read was answered. A member asks a quorum before it looks at who reads, so either way the
/// cluster serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAnswer {
    /// With what was asked for.
    Value,
    /// That the operator's user may not read it: authentication is enabled.
    Denied,
}

/// A member that serves, as its Status call says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingMember {
    /// Its own ID.
    pub member_id: MemberId,
    /// Its cluster's ID.
    pub cluster_id: ClusterId,
    /// The leader it knows, if any.
    pub leader: Option<MemberId>,
    /// Raft index it knows of.
    pub raft_index: u64,
    /// Raft index it has applied.
    pub raft_applied_index: u64,
    /// True if it has no vote.
    pub is_learner: bool,
    /// etcd version it stands for.
    pub version: String,
    /// Errors and alarms it reports, such as NOSPACE or CORRUPT.
    pub errors: Vec<String>,
}

/// What a running pod says it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeView {
    /// It is a member and answers.
    Serving(ServingMember),
    /// Its volume is blank and it waits for a ticket (`/readyz` says so on the metrics port).
    AwaitingTicket,
}

/// The members joined with the ordinals they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView<'a> {
    /// Members of an ordinal, in the member list's order of ordinals.
    pub placed: Vec<(Ordinal, &'a Member)>,
    /// Members whose peer URL is none of our pods'.
    pub foreign: Vec<&'a Member>,
    /// Those of the foreign ones that have one of our pods' names: somebody changed their peer URL.
    pub misplaced: Vec<(Ordinal, &'a Member)>,
}

impl<'a> ClusterView<'a> {
    /// Sorts a member list by ordinal, numerically.
    pub fn new(list: &'a MemberList, names: &ClusterNames) -> Self {
        let mut placed = Vec::new();
        let mut foreign = Vec::new();
        for member in &list.members {
            match member.ordinal(names) {
                Some(ordinal) => placed.push((ordinal, member)),
                None => foreign.push(member),
            }
        }
        placed.sort_by_key(|(ordinal, member)| (*ordinal, member.id));
        let named = |m: &&'a Member| names.ordinal_of_pod(&m.name).map(|ordinal| (Ordinal(ordinal), *m));
        let misplaced = foreign.iter().filter_map(named).collect();
        Self { placed, foreign, misplaced }
    }

    /// True if the pod of an ordinal is a member's, by URL or by name.
    pub fn has_ordinal(&self, ordinal: Ordinal) -> bool {
        self.placed.iter().chain(&self.misplaced).any(|(o, _)| *o == ordinal)
    }

    /// True if it is a member, wherever it is.
    pub fn has(&self, id: MemberId) -> bool {
        let placed = self.placed.iter().map(|(_, m)| *m);
        placed.chain(self.foreign.iter().copied()).any(|m| m.id == id)
    }

    /// The member of an ordinal.
    pub fn at(&self, ordinal: Ordinal) -> Option<&'a Member> {
        self.placed.iter().find(|(o, _)| *o == ordinal).map(|(_, m)| *m)
    }

    /// Every voter's ordinal; a foreign voter counts in [`Self::voter_count`] only.
    pub fn voters(&self) -> impl Iterator<Item = (Ordinal, &'a Member)> + '_ {
        self.placed.iter().copied().filter(|(_, m)| !m.is_learner)
    }

    /// Every learner's ordinal.
    pub fn learners(&self) -> impl Iterator<Item = (Ordinal, &'a Member)> + '_ {
        self.placed.iter().copied().filter(|(_, m)| m.is_learner)
    }

    /// Number of voters, foreign ones included: they count for quorum.
    pub fn voter_count(&self) -> usize {
        self.voters().count() + self.foreign.iter().filter(|m| !m.is_learner).count()
    }
}

/// Voters needed to decide anything in a cluster of `voters`.
pub const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}
