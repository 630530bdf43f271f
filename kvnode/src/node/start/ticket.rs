//! Admission by ticket: a member on a blank volume waits until it is told, by name, to create its cluster or to join it.
//!
//! A ticket is a small JSON file that an operator puts beside the member. It names the cluster, the holder and the
//! member, so that a replaced holder or a stranger's volume can neither create nor join anything by accident. What does
//! not fit is logged once and waited out: the right one may still come.

use std::{collections::BTreeSet, time::Duration};

use kvnode_mvcc::{
    ClusterId, MemberId,
    membership::{Member, id::bootstrap_member_id},
};
use kvnode_storage::identity::{HexId, Origin};
use serde::Deserialize;
use tracing::{info, warn};

use super::{Boot, Disk, Recovered, StartError, fresh, join};
use crate::{flags::config::Config, node::Identity};

/// How often the file is looked at. It is a few hundred bytes in memory, and a start should not wait for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The format that is understood.
const TICKET_VERSION: u32 = 1;

/// What a ticket lets its holder do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Kind {
    /// Create the cluster.
    Create,
    /// Join it; it has these members, this one included.
    Join {
        #[serde(rename = "clusterID")]
        cluster: HexId,
        members: Vec<TicketMember>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Ticket {
    version: u32,
    #[serde(flatten)]
    kind: Kind,
    #[serde(rename = "clusterUID")]
    cluster_uid: String,
    #[serde(rename = "podUID")]
    holder: String,
    #[serde(rename = "memberID")]
    member: HexId,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TicketMember {
    id: HexId,
    #[serde(default)]
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default)]
    is_learner: bool,
}

/// Why a ticket is not for this member.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("it is not a ticket: {0}")]
    Malformed(String),
    #[error("it has version {0}, this program understands {TICKET_VERSION}")]
    Version(u32),
    #[error("it is for cluster {found}, this member belongs to {wanted}")]
    OtherCluster { found: String, wanted: String },
    #[error("it is for holder {found}, this is {wanted}")]
    OtherHolder { found: String, wanted: String },
    #[error(
        "it creates member {found}, but --initial-advertise-peer-urls and --initial-cluster-token make {computed}"
    )]
    OtherMember { found: String, computed: String },
    #[error("its member {0} is not in its list of members")]
    NotListed(String),
    #[error("its member list gives {found} for this member, --initial-advertise-peer-urls says {wanted}")]
    OtherUrls { found: String, wanted: String },
}

/// Waits for the ticket and does what it says.
pub(super) async fn begin(config: &Config, disk: &Disk, boot: &Boot) -> Result<Recovered, StartError> {
    let ticket = wait(config, boot).await;
    let own = MemberId(ticket.member.0);
    match ticket.kind {
        Kind::Create => {
            info!("local-member-id" = %own, "admitted by ticket to create the cluster");
            let peer_urls = fresh::texts(&config.initial_advertise_peer_urls);
            let member = Member { id: own, name: config.name.clone(), peer_urls, ..Member::default() };
            fresh::create_with(config, disk, vec![member], own)
        }
        Kind::Join { cluster, members } => {
            info!("local-member-id" = %own, "cluster-id" = %cluster, "admitted by ticket to join the cluster");
            let identity = Identity { cluster: ClusterId(cluster.0), member: own, name: config.name.clone() };
            join::join_as(config, disk, identity, members.into_iter().map(Into::into).collect())
        }
    }
}

/// For a log without an identity beside it: waits for a ticket that names the same member, then writes the identity.
pub(super) async fn confirm(
    config: &Config,
    disk: &Disk,
    boot: &Boot,
    found: &Identity,
) -> Result<(), StartError> {
    let ticket = wait(config, boot).await;
    let (cluster, origin) = match ticket.kind {
        Kind::Create => {
            (kvnode_mvcc::membership::id::cluster_id(&[MemberId(ticket.member.0)]), Origin::Created)
        }
        Kind::Join { cluster, .. } => (ClusterId(cluster.0), Origin::Joined),
    };
    if ticket.member.0 != found.member.0 || cluster != found.cluster {
        return Err(StartError::Flags(format!(
            "{} holds the log of member {} of cluster {}, but the ticket is for member {} of cluster {cluster}; mount the \
             right volume or an empty one",
            disk.wal_dir.display(),
            found.member,
            found.cluster,
            ticket.member
        )));
    }
    fresh::store_identity(config, disk, found, origin)
}

/// Waits until the file holds a ticket for this member.
async fn wait(config: &Config, boot: &Boot) -> Ticket {
    let path = config.ticket_file.clone().unwrap_or_default();
    let missing = format!("waiting for a ticket in {}", path.display());
    boot.wait_for(missing.clone());
    info!(path = %path.display(), "waiting for an admission ticket");
    let mut refused = BTreeSet::new();
    loop {
        // A file that is not there yet, or cannot be read at this moment, is a ticket that has not come.
        let text = tokio::fs::read_to_string(&path).await.unwrap_or_default();
        if text.trim().is_empty() {
            boot.wait_for(missing.clone());
        } else {
            match admit(config, &text) {
                Ok(ticket) => return ticket,
                Err(refusal) => {
                    boot.wait_for(format!("refused the ticket in {}: {refusal}", path.display()));
                    // Once per text: the file is looked at many times.
                    if refused.len() < 64 && refused.insert(text) {
                        warn!(path = %path.display(), reason = %refusal, "refused an admission ticket");
                    }
                }
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn admit(config: &Config, text: &str) -> Result<Ticket, Refusal> {
    #[derive(Deserialize)]
    struct VersionOnly {
        version: u32,
    }
    let malformed = |e: serde_json::Error| Refusal::Malformed(e.to_string());
    let VersionOnly { version } = serde_json::from_str(text).map_err(malformed)?;
    if version != TICKET_VERSION {
        return Err(Refusal::Version(version));
    }
    let ticket: Ticket = serde_json::from_str(text).map_err(malformed)?;
    let wanted = &config.initial_cluster_token;
    if ticket.cluster_uid != *wanted {
        return Err(Refusal::OtherCluster { found: ticket.cluster_uid, wanted: wanted.clone() });
    }
    if ticket.holder != config.ticket_holder {
        return Err(Refusal::OtherHolder { found: ticket.holder, wanted: config.ticket_holder.clone() });
    }
    let mut urls = fresh::texts(&config.initial_advertise_peer_urls);
    urls.sort();
    match &ticket.kind {
        Kind::Create => {
            let computed = bootstrap_member_id(&urls, wanted);
            if computed.0 != ticket.member.0 {
                let computed = HexId(computed.0).to_string();
                return Err(Refusal::OtherMember { found: ticket.member.to_string(), computed });
            }
        }
        Kind::Join { members, .. } => {
            let listed = members.iter().find(|m| m.id == ticket.member);
            let own = listed.ok_or_else(|| Refusal::NotListed(ticket.member.to_string()))?;
            let mut found = own.peer_urls.clone();
            found.sort();
            if found != urls {
                return Err(Refusal::OtherUrls { found: found.join(","), wanted: urls.join(",") });
            }
        }
    }
    Ok(ticket)
}

impl From<TicketMember> for Member {
    fn from(m: TicketMember) -> Self {
        Self {
            id: MemberId(m.id.0),
            name: m.name,
            peer_urls: m.peer_urls,
            client_urls: Vec::new(),
            is_learner: m.is_learner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let mut config = Config::default();
        config.name = "core-1".to_owned();
        config.initial_cluster_token = "uid-1".to_owned();
        config.ticket_holder = "pod-1".to_owned();
        config.initial_advertise_peer_urls = vec!["https://core-1:2380".parse().expect("a URL")];
        config
    }

    fn create(cluster: &str, holder: &str, member: &str) -> String {
        format!(
            r#"{{"version":1,"kind":"create","clusterUID":"{cluster}","podUID":"{holder}","memberID":"{member}"}}"#
        )
    }

    fn own_id() -> String {
        HexId(bootstrap_member_id(&["https://core-1:2380".to_owned()], "uid-1").0).to_string()
    }

    #[test]
    fn only_a_ticket_of_this_cluster_holder_and_member_admits() {
        let config = config();
        assert!(admit(&config, &create("uid-1", "pod-1", &own_id())).is_ok());
        let refusal = |text: &str| admit(&config, text).expect_err("must be refused");
        assert!(matches!(refusal(&create("uid-2", "pod-1", &own_id())), Refusal::OtherCluster { .. }));
        assert!(matches!(refusal(&create("uid-1", "pod-2", &own_id())), Refusal::OtherHolder { .. }));
        assert!(matches!(refusal(&create("uid-1", "pod-1", "1")), Refusal::OtherMember { .. }));
        assert!(matches!(refusal("{"), Refusal::Malformed(_)));
        assert_eq!(refusal(r#"{"version":2}"#), Refusal::Version(2));
    }

    #[test]
    fn a_join_ticket_lists_its_member_with_its_urls() {
        let ticket = |id: &str, url: &str| {
            format!(
                r#"{{"version":1,"kind":"join","clusterUID":"uid-1","podUID":"pod-1","memberID":"{id}","clusterID":"ab",
                "members":[{{"id":"7","name":"","peerURLs":["{url}"],"isLearner":true}}]}}"#
            )
        };
        let config = config();
        let admitted = admit(&config, &ticket("7", "https://core-1:2380")).expect("fits");
        let Kind::Join { cluster, members } = admitted.kind else { panic!("a join ticket") };
        assert_eq!((cluster, members[0].is_learner), (HexId(0xab), true));
        assert_eq!(
            admit(&config, &ticket("8", "https://core-1:2380")),
            Err(Refusal::NotListed("0000000000000008".to_owned()))
        );
        assert!(matches!(admit(&config, &ticket("7", "https://other:2380")), Err(Refusal::OtherUrls { .. })));
    }
}
