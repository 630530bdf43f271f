//! Changes of membership and of leadership, with etcd's guards: a change that would cost the quorum is refused before it
//! is proposed, and everything is judged once more when it is applied.

use std::time::{Duration, Instant};

use kvnode_mvcc::{
    ApplyError, MemberId,
    membership::{
        Member, Readiness,
        id::added_member_id,
        json::{ChangeContext, encode_context, encode_member},
    },
};
use kvnode_proto::raftpb::{ConfChange, ConfChangeType};
use kvnode_raft::{PeerProgress, Role};
use tokio::time;
use tracing::{info, warn};

use super::{
    Node, NodeError,
    inbox::{Control, ProposalBody},
    limits,
};
use crate::{auth::Credentials, flags::url::Url, peer::members};

/// How a member is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// It votes at once.
    Voter,
    /// It follows until it is promoted.
    Learner,
}

/// A member must have been connected this long to count as healthy (etcd's `HealthInterval`).
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// A learner may be promoted when it has this much of the leader's log, in percent (etcd's `readyPercentThreshold`).
const READY_PERCENT: u64 = 90;

impl Node {
    /// Adds a member; returns it and all members.
    ///
    /// # Errors
    /// As etcd's `MemberAdd`.
    pub async fn member_add(
        &self,
        mut peer_urls: Vec<String>,
        kind: MemberKind,
    ) -> Result<(Member, Vec<Member>), NodeError> {
        check_urls(&peer_urls)?;
        peer_urls.sort();
        self.check_addition(kind)?;
        let now = jiff::Timestamp::now().as_second();
        let member = Member {
            // etcd leaves the cluster's token out here.
            id: added_member_id(&peer_urls, "", now),
            peer_urls,
            is_learner: kind == MemberKind::Learner,
            ..Member::default()
        };
        let change = match kind {
            MemberKind::Voter => ConfChangeType::ConfChangeAddNode,
            MemberKind::Learner => ConfChangeType::ConfChangeAddLearnerNode,
        };
        let members =
            self.change(change, member.id, encode_context(&ChangeContext::Add(member.clone()))).await?;
        Ok((member, members))
    }

    /// Removes a member; returns the others.
    ///
    /// # Errors
    /// As etcd's `MemberRemove`.
    pub async fn member_remove(&self, id: MemberId) -> Result<Vec<Member>, NodeError> {
        self.check_removal(id)?;
        self.change(ConfChangeType::ConfChangeRemoveNode, id, Vec::new()).await
    }

    /// Gives a member other peer URLs, kept in the order given; returns all members.
    ///
    /// # Errors
    /// As etcd's `MemberUpdate`.
    pub async fn member_update(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> Result<Vec<Member>, NodeError> {
        check_urls(&peer_urls)?;
        let context = encode_member(&Member { id, peer_urls, ..Member::default() });
        self.change(ConfChangeType::ConfChangeUpdateNode, id, context).await
    }

    /// Makes a learner a voter, at the leader; returns all members. Whoever wants it must have been let through here; the
    /// leader looks at the token once more.
    ///
    /// # Errors
    /// As etcd's `MemberPromote`.
    pub async fn member_promote(
        &self,
        id: MemberId,
        credentials: &Credentials,
    ) -> Result<Vec<Member>, NodeError> {
        match self.promote_here(id).await {
            Err(NodeError::NotLeader) => {}
            outcome => return outcome,
        }
        let limit = self.shared.settings.request_timeout;
        let deadline = time::Instant::now() + limit;
        while time::Instant::now() < deadline {
            for url in self.leader_urls() {
                if let Some(outcome) = members::promote(&self.dialer, &url, id, credentials, limit).await {
                    return outcome;
                }
            }
            time::sleep(limits::FORWARD_RETRY).await;
        }
        Err(NodeError::Timeout)
    }

    /// Promotes if this member leads, and counts it.
    pub(crate) async fn promote_here(&self, id: MemberId) -> Result<Vec<Member>, NodeError> {
        let outcome = self.promote(id).await;
        let metrics = &self.shared.metrics.server;
        match &outcome {
            Ok(_) => metrics.learner_promote_successes.inc(),
            Err(NodeError::NotLeader) => {}
            Err(e) => metrics.learner_promote_failures.with_label_values(&[&e.to_string()]).inc(),
        }
        outcome
    }

    async fn promote(&self, id: MemberId) -> Result<Vec<Member>, NodeError> {
        let status = self.raft_status().await?;
        if status.role != Role::Leader {
            return Err(NodeError::NotLeader);
        }
        let of =
            |id: MemberId| status.progress.iter().find(|p: &&PeerProgress| p.id.0 == id.0).map(|p| p.matched);
        let learner = of(id).ok_or(NodeError::MemberNotFound)?;
        let leader = of(self.member_id()).unwrap_or(status.last);
        let member = self.reader().view().member(id).ok_or(NodeError::MemberNotFound)?;
        if !member.is_learner {
            return Err(NodeError::NotLearner);
        }
        if learner * 100 < leader * READY_PERCENT {
            return Err(NodeError::LearnerNotReady);
        }
        if self.shared.settings.strict_reconfig_check {
            self.check_readiness(Readiness::Promote)?;
        }
        let context = encode_context(&ChangeContext::Promote(id));
        self.change(ConfChangeType::ConfChangeAddNode, id, context).await
    }

    async fn change(
        &self,
        kind: ConfChangeType,
        member: MemberId,
        context: Vec<u8>,
    ) -> Result<Vec<Member>, NodeError> {
        let id = self.shared.ids.next();
        let change = ConfChange { id, r#type: kind as i32, node_id: member.0, context: context.into() };
        self.propose_body(id, ProposalBody::ConfChange(change)).await?;
        Ok(self.reader().view().members())
    }

    fn check_readiness(&self, change: Readiness) -> Result<(), NodeError> {
        self.reader()
            .view()
            .check_readiness(change)
            .map_err(|e| NodeError::Apply(ApplyError::Membership(e)))
            .inspect_err(|e| warn!(error = %e, "rejecting a membership change"))
    }

    fn check_addition(&self, kind: MemberKind) -> Result<(), NodeError> {
        if !self.shared.settings.strict_reconfig_check {
            return Ok(());
        }
        if kind == MemberKind::Voter {
            self.check_readiness(Readiness::AddVoter)?;
        }
        // The new member counts as down until it has started.
        let (voters, connected) = self.voters_connected();
        if voters == 1 || connected > voters.div_ceil(2) {
            return Ok(());
        }
        warn!(
            voters,
            connected,
            "rejecting member add request; local member has not been connected to a quorum, reconfigure breaks active quorum"
        );
        Err(NodeError::Unhealthy)
    }

    fn check_removal(&self, id: MemberId) -> Result<(), NodeError> {
        let member = self.reader().view().member(id);
        if !self.shared.settings.strict_reconfig_check || member.is_none_or(|m| m.is_learner) {
            return Ok(());
        }
        self.check_readiness(Readiness::Remove(id))?;
        // One that is down takes no part in the quorum that is up.
        if id != self.member_id() && self.transport.active_since(id).is_none() {
            return Ok(());
        }
        let (voters, connected) = self.voters_connected();
        if connected >= 2 + (voters - 1) / 2 {
            return Ok(());
        }
        warn!(
            voters,
            connected,
            "rejecting member remove request; local member has not been connected to all peers, reconfigure breaks active quorum"
        );
        Err(NodeError::Unhealthy)
    }

    /// Number of voters, and of those this member has been connected to for a while, itself included.
    fn voters_connected(&self) -> (usize, usize) {
        let members = self.reader().view().members();
        let voters: Vec<_> = members.iter().filter(|m| !m.is_learner).collect();
        let own = self.member_id();
        let steady =
            |id| self.transport.active_since(id).is_some_and(|since| since.elapsed() >= HEALTH_INTERVAL);
        (voters.len(), voters.iter().filter(|m| m.id == own || steady(m.id)).count())
    }

    /// Hands leadership to a voter, and returns when it has it.
    ///
    /// # Errors
    /// [`NodeError::NotLeader`], [`NodeError::BadTransferee`], [`NodeError::TimeoutLeaderTransfer`].
    pub async fn move_leader(&self, to: MemberId) -> Result<(), NodeError> {
        if self.shared.leader().leader != self.member_id() {
            return Err(NodeError::NotLeader);
        }
        match self.reader().view().member(to) {
            Some(member) if !member.is_learner => {}
            _ => return Err(NodeError::BadTransferee),
        }
        let (start, mut leadership) = (Instant::now(), self.leadership());
        info!("current-leader-member-id" = %self.member_id(), "transferee-member-id" = %to, "leadership transfer starting");
        self.shared.inbox.control(Control::Transfer(kvnode_raft::MemberId(to.0)));
        let arrived = leadership.wait_for(|now| now.leader == to);
        match time::timeout(self.shared.settings.election_timeout, arrived).await {
            Ok(Ok(_)) => {
                info!("transferee-member-id" = %to, took = ?start.elapsed(), "leadership transfer finished");
                Ok(())
            }
            Ok(Err(_)) => Err(NodeError::Stopped),
            Err(_) => Err(NodeError::TimeoutLeaderTransfer),
        }
    }

    /// Hands leadership to the voter that has been connected for longest, if this member leads and there is one.
    pub(super) async fn hand_over(&self) {
        if self.shared.leader().leader != self.member_id() {
            return;
        }
        let own = self.member_id();
        let voters = self.reader().view().members().into_iter().filter(|m| !m.is_learner && m.id != own);
        let oldest = voters
            .filter_map(|m| self.transport.active_since(m.id).map(|since| (since, m.id)))
            .min_by_key(|(since, _)| *since);
        let Some((_, to)) = oldest else { return };
        if let Err(e) = self.move_leader(to).await {
            warn!("transferee-member-id" = %to, error = %e, "leadership transfer failed");
        }
    }

    /// Peer URLs of the leader, if it is known and not this member.
    pub(super) fn leader_urls(&self) -> Vec<String> {
        let leader = self.shared.leader().leader;
        if leader == self.member_id() {
            return Vec::new();
        }
        self.reader().view().member(leader).map(|m| m.peer_urls).unwrap_or_default()
    }
}

/// At least one URL, all of them such as a peer port may have; sorted.
fn check_urls(urls: &[String]) -> Result<(), NodeError> {
    if urls.is_empty() || urls.iter().any(|url| url.parse::<Url>().is_err()) {
        return Err(NodeError::InvalidPeerUrls);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_a_member_are_checked() {
        let urls = |list: &[&str]| check_urls(&list.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>());
        assert_eq!(urls(&["http://b:1", "http://a:1"]), Ok(()));
        assert_eq!(urls(&[]), Err(NodeError::InvalidPeerUrls));
        assert_eq!(urls(&["a:1"]), Err(NodeError::InvalidPeerUrls));
    }
}
