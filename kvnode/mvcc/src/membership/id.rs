//! How etcd computes ids (etcd: `computeMemberID`, `genID`). Tools compare them, and members of a mixed cluster must
//! agree on them.

use sha1::{Digest, Sha1};

use crate::ids::{ClusterId, MemberId};

/// The id of a member of the initial cluster.
#[must_use]
pub fn bootstrap_member_id(peer_urls: &[String], cluster_token: &str) -> MemberId {
    member_id(peer_urls, cluster_token, "")
}

/// The id of a member added at `unix_seconds`. The time makes it another one than that of an earlier member at the same
/// URLs.
#[must_use]
pub fn added_member_id(peer_urls: &[String], cluster_token: &str, unix_seconds: i64) -> MemberId {
    member_id(peer_urls, cluster_token, &unix_seconds.to_string())
}

/// The id of the cluster that these members bootstrap.
#[must_use]
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut members = members.to_vec();
    members.sort_unstable();
    let mut hash = Sha1::new();
    members.iter().for_each(|id| hash.update(id.0.to_be_bytes()));
    ClusterId(first_eight(hash))
}

fn member_id(peer_urls: &[String], cluster_token: &str, time: &str) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    urls.iter().for_each(|url| hash.update(url));
    hash.update(cluster_token);
    hash.update(time);
    MemberId(first_eight(hash))
}

fn first_eight(hash: Sha1) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known ids of real etcd: `etcd` with default flags, and the three members of its Procfile.
    #[test]
    fn ids_are_etcds() {
        let default = bootstrap_member_id(&["http://localhost:2380".into()], "etcd-cluster");
        assert_eq!(default.to_string(), "8e9e05c52164694d");
        assert_eq!(cluster_id(&[default]).to_string(), "cdf818194e3a8c32");
        let three: Vec<_> = ["12380", "22380", "32380"]
            .map(|port| bootstrap_member_id(&[format!("http://127.0.0.1:{port}")], "etcd-cluster-1"))
            .into();
        assert_eq!(
            three.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["8211f1d0f64f3269", "91bc3c398fb3c146", "fd422379fda50e48"]
        );
        assert_eq!(cluster_id(&three).to_string(), "ef37ad9dc622a7c4");
    }

    #[test]
    fn an_added_member_depends_on_the_time_and_not_on_the_order_of_urls() {
        let urls = ["http://b:1".to_owned(), "http://a:1".to_owned()];
        let turned = ["http://a:1".to_owned(), "http://b:1".to_owned()];
        assert_eq!(added_member_id(&urls, "t", 7), added_member_id(&turned, "t", 7));
        assert_ne!(added_member_id(&urls, "t", 7), added_member_id(&urls, "t", 8));
    }
}
