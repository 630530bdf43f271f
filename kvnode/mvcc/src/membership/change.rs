//! Changes of membership: what makes one valid, and what it does once committed (etcd: `ValidateConfigurationChange` in
//! `server/etcdserver/api/membership/cluster.go`, `applyConfChange` in `server/etcdserver/server.go`).

use kvnode_proto::{
    membershippb::{ClusterMemberAttrSetRequest, DowngradeInfoSetRequest},
    raftpb::{ConfChange, ConfChangeType},
};

use super::{
    Downgrade, Member, Membership,
    json::{ChangeContext, decode_context, decode_member},
};
use crate::ids::MemberId;

/// Why a change of membership is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The id belonged to a member that was removed, and may not come back.
    #[error("etcdserver: member not found")]
    IdRemoved(MemberId),
    /// No such member.
    #[error("etcdserver: member not found")]
    IdNotFound(MemberId),
    /// A member of this id exists.
    #[error("etcdserver: member ID already exist")]
    IdExists(MemberId),
    /// Another member has one of the peer URLs.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists(String),
    /// A voter cannot be promoted.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner(MemberId),
    /// There are as many learners as allowed.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// Too few started members would remain for a quorum.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// The change in the raft log is not one that etcd writes.
    #[error("etcdserver: malformed membership change in the raft log: {0}")]
    Malformed(String),
}

/// What a committed change did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfChangeOutcome {
    /// A voter or learner joined.
    Added(Member),
    /// A learner votes from now on.
    Promoted(MemberId),
    /// A member is gone; if it is this one, it has to stop.
    Removed(MemberId),
    /// A member has other peer URLs.
    Updated(MemberId),
}

/// A strict check before proposing: enough started voters must remain after the change (etcd:
/// `IsReadyTo{Add,Remove,Promote}...Member`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// A voter is to be added.
    AddVoter,
    /// This member is to be removed.
    Remove(MemberId),
    /// A learner is to become a voter.
    Promote,
}

impl Membership {
    /// Whether `change` is valid on this membership. Checked before proposing and again when applying.
    pub(crate) fn validate(&self, change: &ConfChange, max_learners: usize) -> Result<(), MembershipError> {
        self.decide(change, max_learners).map(drop)
    }

    /// Applies a committed change; an invalid one changes nothing.
    pub(crate) fn apply(
        &mut self,
        change: &ConfChange,
        max_learners: usize,
    ) -> Result<ConfChangeOutcome, MembershipError> {
        let outcome = self.decide(change, max_learners)?;
        match &outcome {
            ConfChangeOutcome::Added(member) => {
                self.members.insert(member.id, member.clone());
            }
            ConfChangeOutcome::Promoted(id) => self.update(*id, |member| member.is_learner = false),
            ConfChangeOutcome::Removed(id) => {
                self.members.remove(id);
                self.removed.insert(*id);
            }
            ConfChangeOutcome::Updated(id) => {
                // Only URLs: an update must not make a voter of a learner.
                let urls = parse_member(change)?.peer_urls;
                self.update(*id, |member| member.peer_urls = urls);
            }
        }
        Ok(outcome)
    }

    fn decide(&self, change: &ConfChange, max_learners: usize) -> Result<ConfChangeOutcome, MembershipError> {
        let id = MemberId(change.node_id);
        if self.removed.contains(&id) {
            return Err(MembershipError::IdRemoved(id));
        }
        if id == MemberId(0) {
            // Means nobody, also to raft.
            return Err(MembershipError::IdNotFound(id));
        }
        let kind = ConfChangeType::try_from(change.r#type)
            .map_err(|_| MembershipError::Malformed(format!("type {} of change to {id}", change.r#type)))?;
        match kind {
            ConfChangeType::ConfChangeAddNode | ConfChangeType::ConfChangeAddLearnerNode => {
                match decode_context(&change.context).map_err(|error| malformed(id, &error))? {
                    ChangeContext::Promote(_) => self.check_promotion(id),
                    ChangeContext::Add(member) => self.check_addition(id, member, kind, max_learners),
                }
            }
            ConfChangeType::ConfChangeRemoveNode => {
                self.member(id)?;
                Ok(ConfChangeOutcome::Removed(id))
            }
            ConfChangeType::ConfChangeUpdateNode => {
                self.member(id)?;
                self.check_urls(&parse_member(change)?.peer_urls, Some(id))?;
                Ok(ConfChangeOutcome::Updated(id))
            }
        }
    }

    fn check_promotion(&self, id: MemberId) -> Result<ConfChangeOutcome, MembershipError> {
        if self.member(id)?.is_learner {
            Ok(ConfChangeOutcome::Promoted(id))
        } else {
            Err(MembershipError::NotLearner(id))
        }
    }

    fn check_addition(
        &self,
        id: MemberId,
        member: Member,
        kind: ConfChangeType,
        max_learners: usize,
    ) -> Result<ConfChangeOutcome, MembershipError> {
        if member.id != id {
            return Err(MembershipError::Malformed(format!("change to {id} describes member {}", member.id)));
        }
        if self.members.contains_key(&id) {
            return Err(MembershipError::IdExists(id));
        }
        self.check_urls(&member.peer_urls, None)?;
        let learners = self.members.values().filter(|member| member.is_learner).count();
        if member.is_learner && kind == ConfChangeType::ConfChangeAddLearnerNode && learners >= max_learners {
            return Err(MembershipError::TooManyLearners);
        }
        Ok(ConfChangeOutcome::Added(member))
    }

    fn check_urls(&self, urls: &[String], except: Option<MemberId>) -> Result<(), MembershipError> {
        let mut others = self.members.values().filter(|member| Some(member.id) != except);
        match others.find_map(|member| member.peer_urls.iter().find(|url| urls.contains(url))) {
            Some(taken) => Err(MembershipError::PeerUrlExists(taken.clone())),
            None => Ok(()),
        }
    }

    /// Whether enough started voters remain for a quorum after the change.
    pub(crate) fn check_readiness(&self, change: Readiness) -> Result<(), MembershipError> {
        let staying = self.members.values().filter(|m| !m.is_learner && change != Readiness::Remove(m.id));
        let (mut voters, mut started) = staying.fold((0, 0), |(voters, started), member| {
            (voters + 1, started + usize::from(member.is_started()))
        });
        match change {
            // A second member may join the only one, although both are then needed.
            Readiness::AddVoter if voters == 1 && started == 1 => return Ok(()),
            Readiness::AddVoter => voters += 1,
            Readiness::Promote => {
                voters += 1;
                started += 1;
            }
            Readiness::Remove(_) => {}
        }
        if started > voters / 2 { Ok(()) } else { Err(MembershipError::NotEnoughStarted) }
    }

    /// What a member says of itself once it started. Of one that was removed meanwhile it is passed over.
    pub(crate) fn set_attributes(&mut self, request: &ClusterMemberAttrSetRequest) {
        let attributes = request.member_attributes.clone().unwrap_or_default();
        self.update(MemberId(request.member_id), |member| {
            member.name = attributes.name;
            member.client_urls = attributes.client_urls;
        });
    }

    pub(crate) fn set_downgrade(&mut self, request: &DowngradeInfoSetRequest) {
        self.downgrade = Some(Downgrade { target_version: request.enabled.then(|| request.ver.clone()) });
    }

    fn member(&self, id: MemberId) -> Result<&Member, MembershipError> {
        self.members.get(&id).ok_or(MembershipError::IdNotFound(id))
    }

    fn update(&mut self, id: MemberId, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members.get_mut(&id) {
            change(member);
        }
    }
}

fn parse_member(change: &ConfChange) -> Result<Member, MembershipError> {
    decode_member(&change.context).map_err(|error| malformed(MemberId(change.node_id), &error))
}

fn malformed(id: MemberId, error: &serde_json::Error) -> MembershipError {
    MembershipError::Malformed(format!("context of change to {id}: {error}"))
}
