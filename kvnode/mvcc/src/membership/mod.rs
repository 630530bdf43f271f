//! Who belongs to the raft cluster, who did once, and the version all members agreed on (etcd:
//! `server/etcdserver/api/membership`).
//!
//! [`change`] checks and applies membership changes, [`id`] computes ids, [`json`] is the form in which members travel in
//! the raft log and stand in files.

pub mod change;
pub mod id;
pub mod json;

use kvnode_proto::raftpb::ConfState;

use crate::ids::MemberId;

pub use change::{ConfChangeOutcome, MembershipError, Readiness};

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub id: MemberId,
    /// Its name; empty until it started and told the cluster.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it started.
    pub client_urls: Vec<String>,
    /// Whether it follows without voting.
    pub is_learner: bool,
}

impl Member {
    /// Whether the member ever started: then it has a name.
    #[must_use]
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }
}

/// A downgrade that an administrator began or ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downgrade {
    /// The version to go to; `None` when no downgrade is going on.
    pub target_version: Option<String>,
}

/// Replicated membership. Cloning costs a few reference counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    pub(crate) members: imbl::OrdMap<MemberId, Member>,
    /// Ids that may never come back.
    pub(crate) removed: imbl::OrdSet<MemberId>,
    /// `major.minor.patch`; `None` until the cluster decided.
    pub(crate) cluster_version: Option<String>,
    /// `None` until a downgrade was ever asked for.
    pub(crate) downgrade: Option<Downgrade>,
}

impl Membership {
    /// The members as raft counts them; `None` while there are none.
    pub(crate) fn conf_state(&self) -> Option<ConfState> {
        let ids = |learners| {
            let found = self.members.values().filter(move |member| member.is_learner == learners);
            found.map(|member| member.id.0).collect()
        };
        let state = ConfState { voters: ids(false), learners: ids(true), ..ConfState::default() };
        (!self.members.is_empty()).then_some(state)
    }
}
