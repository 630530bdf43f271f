//! The questions that decisions ask of an observation, each answered in one place.

use crds::names::ClusterNames;

use crate::action::MemberRef;
use crate::ids::{ClusterId, MemberId, Ordinal, initial_cluster_id, initial_member_id};
use crate::observed::{
    ClusterView, Member, NodeView, Observed, PodPhase, PodTrouble, PodView, ServingMember, StorageClassView,
    VolumePhase, VolumeView,
};
use crate::reading::Reading;
use crate::validate::ValidatedCluster;
use crate::waiting::Waiting;

/// One step of a decision: do this, wait for that, or nothing is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Do this one thing.
    Act(crate::action::Action),
    /// Nothing may be done before this.
    Wait(Waiting),
    /// Nothing is left to do here.
    Rest,
}

/// A validated cluster and what was observed of it.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What is wished for.
    pub cluster: &'a ValidatedCluster,
    /// What is.
    pub observed: &'a Observed,
}

impl<'a> Facts<'a> {
    /// Names of the cluster's objects.
    pub fn names(&self) -> &'a ClusterNames {
        &self.cluster.names
    }

    /// Wished-for members.
    pub fn target(&self) -> u32 {
        self.cluster.replicas
    }

    /// The pod of an ordinal, if the StatefulSet of this cluster made it.
    pub fn pod(&self, ordinal: Ordinal) -> Option<&'a PodView> {
        let set = self.observed.stateful_set.as_ref()?;
        self.observed
            .pods
            .iter()
            .find(|p| p.ordinal == ordinal && p.owner_uid.as_deref() == Some(set.uid.as_str()))
    }

    /// The claim of an ordinal.
    pub fn volume(&self, ordinal: Ordinal) -> Option<&'a VolumeView> {
        self.observed.volumes.iter().find(|v| v.ordinal == ordinal)
    }

    /// What the pod of an ordinal says, if it exists, is not going away, and answered in this pass.
    pub fn node(&self, ordinal: Ordinal) -> Option<&'a NodeView> {
        self.pod(ordinal).filter(|p| !p.terminating)?;
        self.observed.nodes.get(&ordinal)?.fresh()
    }

    /// Why the pod of an ordinal could not be asked.
    pub fn node_error(&self, ordinal: Ordinal) -> Option<String> {
        self.observed.nodes.get(&ordinal).and_then(|n| n.error().map(str::to_owned))
    }

    /// What a member of an ordinal says, if it serves.
    pub fn serving(&self, ordinal: Ordinal) -> Option<&'a ServingMember> {
        match self.node(ordinal)? {
            NodeView::Serving(serving) => Some(serving),
            NodeView::AwaitingTicket => None,
        }
    }

    /// True if the pod says its volume is blank. A pod that cannot be asked is not taken for blank.
    pub fn awaits_ticket(&self, ordinal: Ordinal) -> bool {
        matches!(self.node(ordinal), Some(NodeView::AwaitingTicket))
    }

    /// True if the member answers as itself and knows a leader: it takes part.
    pub fn participates(&self, ordinal: Ordinal, member: &Member) -> bool {
        self.serving(ordinal).is_some_and(|s| s.member_id == member.id && s.leader.is_some())
    }

    /// The members, if the list was read in this pass.
    pub fn view(&self) -> Option<ClusterView<'a>> {
        match &self.observed.members {
            Reading::Fresh(list) => Some(ClusterView::new(list, self.names())),
            Reading::Stale { .. } | Reading::Unreachable { .. } => None,
        }
    }

    /// The leader, by its own word; of two that claim it, the one whose log is ahead.
    pub fn leader(&self) -> Option<(Ordinal, &'a ServingMember)> {
        self.observed
            .nodes
            .keys()
            .filter_map(|ordinal| self.serving(*ordinal).map(|s| (*ordinal, s)))
            .filter(|(_, s)| s.leader == Some(s.member_id))
            .max_by_key(|(_, s)| s.raft_index)
    }

    /// True if any member that answers takes this one for the leader. The leader itself may be out of our reach
    /// only.
    pub fn is_followed(&self, id: MemberId) -> bool {
        self.observed.nodes.keys().any(|o| self.serving(*o).is_some_and(|s| s.leader == Some(id)))
    }

    /// A member by ordinal and ID, for an action.
    pub fn member_ref(&self, ordinal: Ordinal, id: MemberId) -> MemberRef {
        MemberRef { ordinal, id, name: self.names().pod(ordinal.0) }
    }

    /// ID of the member that creates the cluster.
    pub fn seed_member_id(&self) -> MemberId {
        initial_member_id(&[self.names().peer_url(0)], &self.cluster.uid)
    }

    /// ID of the cluster: the object's UID is the token, so a recreated cluster has another one.
    pub fn expected_cluster_id(&self) -> ClusterId {
        initial_cluster_id(&[self.seed_member_id()])
    }

    /// What keeps the pod of an ordinal from answering, the most telling first.
    pub fn wait_for_pod(&self, ordinal: Ordinal) -> Waiting {
        let name = self.names().pod(ordinal.0);
        if let Some(waiting) = self.wait_for_storage_class(ordinal) {
            return waiting;
        }
        let Some(pod) = self.pod(ordinal) else { return Waiting::PodMissing { pod: name } };
        if pod.terminating {
            return Waiting::Terminating { object: format!("pod {name}") };
        }
        match &pod.trouble {
            Some(PodTrouble::Unschedulable { message }) => {
                Waiting::Unschedulable { pod: name, message: message.clone() }
            }
            Some(PodTrouble::ImagePull { image, message }) => {
                Waiting::ImagePull { pod: name, image: image.clone(), message: message.clone() }
            }
            Some(PodTrouble::Failing { message, .. }) => {
                Waiting::PodFailing { pod: name, message: message.clone() }
            }
            None if pod.phase == PodPhase::Running => {
                Waiting::MemberStarting { member: name, error: self.node_error(ordinal) }
            }
            None => Waiting::PodPending { pod: name },
        }
    }

    /// The storage class, if its lack keeps a claim of this ordinal from being bound.
    fn wait_for_storage_class(&self, ordinal: Ordinal) -> Option<Waiting> {
        if self.volume(ordinal).is_some_and(|v| v.phase != VolumePhase::Pending) {
            return None;
        }
        self.storage_class_missing()
    }

    /// The storage class, if it is known to be missing.
    pub fn storage_class_missing(&self) -> Option<Waiting> {
        match &self.observed.storage_class {
            StorageClassView::Missing { name } => Some(Waiting::StorageClass { name: Some(name.clone()) }),
            StorageClassView::NoDefault => Some(Waiting::StorageClass { name: None }),
            StorageClassView::Usable | StorageClassView::Unknown => None,
        }
    }
}
