//! Which member gives the snapshot: a healthy follower, so that the leader keeps its time for writes.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use kvnode_proto::etcdserverpb::StatusResponse;

use super::JobError;
use crate::etcd::{MemberClient, Pool, TlsMaterial};
use crate::limits;

/// A member and what it said about itself.
#[derive(Clone)]
pub struct Source {
    /// Its client.
    pub client: MemberClient,
    /// Its status.
    pub status: StatusResponse,
}

impl Source {
    /// The name in its URL: `core-1` of `https://core-1.core-peers.db.svc:2379`. An address stays whole.
    pub fn member_name(&self) -> String {
        member_name(self.client.endpoint())
    }
}

fn member_name(endpoint: &str) -> String {
    let authority = endpoint.split("://").last().unwrap_or_default().split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _port)| host);
    if host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() {
        return host.to_owned();
    }
    host.split('.').next().unwrap_or_default().to_owned()
}

/// Asks all members at once and takes the best.
pub async fn choose(
    pool: &Arc<Pool>,
    endpoints: &[String],
    tls: Option<&TlsMaterial>,
) -> Result<Source, JobError> {
    let answers: Vec<_> = stream::iter(endpoints.iter().filter(|e| !e.is_empty()))
        .map(|endpoint| async move {
            let client = pool.member(endpoint, tls)?;
            client.status().await.map(|status| Source { client, status })
        })
        .buffered(limits::PROBES_AT_ONCE)
        .collect()
        .await;
    let mut reasons = Vec::new();
    let mut healthy = Vec::new();
    for answer in answers {
        match answer {
            Ok(source) => match unfit(&source.status) {
                None => healthy.push(source),
                Some(why) => reasons.push(format!("{} {why}", source.client.endpoint())),
            },
            Err(error) => reasons.push(error.to_string()),
        }
    }
    let best = healthy.into_iter().max_by_key(|source| rank(&source.status));
    best.ok_or_else(|| JobError::NoSource(reasons.join("; ")))
}

/// Why a member that answers may not be the source.
fn unfit(status: &StatusResponse) -> Option<&'static str> {
    if status.is_learner {
        return Some("is a learner");
    }
    if status.leader == 0 {
        return Some("knows no leader, so its data may be old");
    }
    if status.errors.iter().any(|error| error.to_ascii_uppercase().contains("CORRUPT")) {
        return Some("reports corrupt data");
    }
    None
}

/// Followers first, among them the one that has applied most.
fn rank(status: &StatusResponse) -> (bool, u64) {
    let own = status.header.as_ref().map(|header| header.member_id);
    (own != Some(status.leader), status.raft_applied_index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvnode_proto::etcdserverpb::ResponseHeader;

    fn status(id: u64, leader: u64, applied: u64) -> StatusResponse {
        StatusResponse {
            header: Some(ResponseHeader { member_id: id, ..ResponseHeader::default() }),
            leader,
            raft_applied_index: applied,
            ..StatusResponse::default()
        }
    }

    #[test]
    fn the_most_advanced_follower_ranks_first_and_the_leader_last() {
        let mut all = [status(1, 1, 90), status(2, 1, 80), status(3, 1, 85)];
        all.sort_by_key(rank);
        let ids: Vec<_> = all.iter().map(|s| s.header.as_ref().unwrap().member_id).collect();
        assert_eq!(ids, [1, 2, 3]);
    }

    #[test]
    fn a_member_is_called_as_its_pod() {
        for (endpoint, name) in [
            ("https://core-1.core-peers.db.svc:2379", "core-1"),
            ("http://127.0.0.1:2379", "127.0.0.1"),
            ("http://[::1]:2379", "[::1]"),
            ("http://localhost:2379/", "localhost"),
        ] {
            assert_eq!(member_name(endpoint), name);
        }
    }

    #[test]
    fn a_member_without_leader_a_learner_and_a_corrupt_one_are_unfit() {
        assert!(unfit(&status(1, 0, 9)).is_some());
        assert!(unfit(&StatusResponse { is_learner: true, ..status(1, 2, 9) }).is_some());
        let corrupt =
            StatusResponse { errors: vec!["memberID:1 alarm:CORRUPT ".to_owned()], ..status(1, 2, 9) };
        assert!(unfit(&corrupt).is_some());
        let full = StatusResponse { errors: vec!["memberID:1 alarm:NOSPACE ".to_owned()], ..status(1, 2, 9) };
        assert_eq!(unfit(&full), None, "a full member's data is sound");
    }
}
