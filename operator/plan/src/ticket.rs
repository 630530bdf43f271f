//! Tickets: what a kvnode with a blank volume waits for before it creates or joins a cluster.
//!
//! A ticket names the cluster, the very pod and the member, so it is worthless to any other pod, to a
//! replacement of the same name, and to a stranger's volume. The node refuses what does not match.

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, MemberId};
use crate::observed::{Member, MemberList};

/// The only ticket format there is.
pub const TICKET_VERSION: u32 = 1;

/// A ticket as it stands in the pod's annotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// Format; 1.
    pub version: u32,
    /// UID of the `EtcdCluster`.
    #[serde(rename = "clusterUID")]
    pub cluster_uid: String,
    /// UID of the pod it is for.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// Member the pod shall be, sixteen hexadecimal digits.
    #[serde(rename = "memberID")]
    pub member_id: String,
    /// What it allows.
    #[serde(flatten)]
    pub kind: TicketKind,
}

/// What a ticket allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TicketKind {
    /// Create the cluster, as its only member.
    Create,
    /// Join the cluster.
    #[serde(rename_all = "camelCase")]
    Join {
        /// The cluster's ID, sixteen hexadecimal digits.
        #[serde(rename = "clusterID")]
        cluster_id: String,
        /// Every member, the new one included, as MemberAdd answered.
        members: Vec<TicketMember>,
    },
}

/// A member as a join ticket lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketMember {
    /// ID, sixteen hexadecimal digits.
    pub id: String,
    /// Name.
    pub name: String,
    /// Where its peers reach it.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// True if it has no vote.
    pub is_learner: bool,
}

impl Ticket {
    /// Allows the pod to create the cluster.
    pub fn create(cluster_uid: &str, pod_uid: &str, member: MemberId) -> Self {
        Self::new(cluster_uid, pod_uid, member, TicketKind::Create)
    }

    /// Allows the pod to join as `member`, which the list that MemberAdd returned must contain.
    ///
    /// `name` is the new member's: MemberAdd knows only its URL.
    pub fn join(cluster_uid: &str, pod_uid: &str, member: MemberId, name: &str, list: &MemberList) -> Self {
        let members = list.members.iter().map(|m| ticket_member(m, member, name)).collect();
        let kind = TicketKind::Join { cluster_id: ClusterId::hex16(list.cluster_id), members };
        Self::new(cluster_uid, pod_uid, member, kind)
    }

    fn new(cluster_uid: &str, pod_uid: &str, member: MemberId, kind: TicketKind) -> Self {
        Self {
            version: TICKET_VERSION,
            cluster_uid: cluster_uid.to_owned(),
            pod_uid: pod_uid.to_owned(),
            member_id: member.hex16(),
            kind,
        }
    }

    /// The member it is for, if the text is a member ID.
    pub fn member(&self) -> Option<MemberId> {
        MemberId::from_hex(&self.member_id)
    }

    /// The annotation's text; the same ticket always gives the same text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads an annotation; `None` if it is not a ticket this version understands.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|t: &Self| t.version == TICKET_VERSION)
    }
}

fn ticket_member(member: &Member, new: MemberId, name: &str) -> TicketMember {
    let name = if member.id == new { name.to_owned() } else { member.name.clone() };
    TicketMember {
        id: member.id.hex16(),
        name,
        peer_urls: member.peer_urls.clone(),
        is_learner: member.is_learner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_the_node_expects() {
        let create = Ticket::create("c-uid", "p-uid", MemberId(0x2a));
        assert_eq!(
            create.to_json(),
            r#"{"version":1,"clusterUID":"c-uid","podUID":"p-uid","memberID":"000000000000002a","kind":"create"}"#
        );
        let list = MemberList {
            cluster_id: ClusterId(0xc),
            members: vec![
                Member {
                    id: MemberId(1),
                    name: "core-0".into(),
                    peer_urls: vec!["https://a:2380".into()],
                    is_learner: false,
                },
                Member {
                    id: MemberId(2),
                    name: String::new(),
                    peer_urls: vec!["https://b:2380".into()],
                    is_learner: true,
                },
            ],
        };
        let join = Ticket::join("c-uid", "p-uid", MemberId(2), "core-1", &list);
        assert_eq!(
            join.to_json(),
            concat!(
                r#"{"version":1,"clusterUID":"c-uid","podUID":"p-uid","memberID":"0000000000000002","kind":"join","#,
                r#""clusterID":"000000000000000c","members":[{"id":"0000000000000001","name":"core-0","peerURLs":["https://a:2380"],"isLearner":false},"#,
                r#"{"id":"0000000000000002","name":"core-1","peerURLs":["https://b:2380"],"isLearner":true}]}"#
            )
        );
        for ticket in [create, join] {
            assert_eq!(Ticket::from_json(&ticket.to_json()), Some(ticket));
        }
        assert_eq!(Ticket::from_json("{}"), None);
        assert_eq!(
            Ticket::from_json(r#"{"version":2,"clusterUID":"","podUID":"","memberID":"1","kind":"create"}"#),
            None
        );
    }
}
