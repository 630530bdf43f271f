//! What peers tell each other about themselves with every request, and who is refused for it.

use http::{HeaderMap, HeaderValue, request};
use kvnode_mvcc::{ClusterId, MemberId};

use crate::flags::usage::ETCD_VERSION;

pub(crate) const CLUSTER_ID: &str = "x-etcd-cluster-id";
pub(crate) const SERVER_FROM: &str = "x-server-from";
pub(crate) const SERVER_VERSION: &str = "x-server-version";
pub(crate) const MIN_CLUSTER_VERSION: &str = "x-min-cluster-version";
pub(crate) const RAFT_TO: &str = "x-raft-to";
pub(crate) const PEER_URLS: &str = "x-peerurls";

/// Oldest cluster this version takes part in (etcd's `MinClusterVersion`).
const MIN_CLUSTER: &str = "3.0.0";

/// Texts of refusals; the other side tells them apart by these.
pub(crate) const INCOMPATIBLE_VERSION: &str = "incompatible version";
pub(crate) const CLUSTER_MISMATCH: &str = "cluster ID mismatch";

/// Who this member is to its peers.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) cluster: ClusterId,
    pub(crate) member: MemberId,
    /// Advertised peer URLs, joined by commas.
    pub(crate) urls: String,
}

impl Local {
    /// Signs a request.
    pub(crate) fn sign(&self, request: request::Builder) -> request::Builder {
        request
            .header(SERVER_FROM, self.member.to_string())
            .header(SERVER_VERSION, ETCD_VERSION)
            .header(MIN_CLUSTER_VERSION, MIN_CLUSTER)
            .header(CLUSTER_ID, self.cluster.to_string())
            .header(PEER_URLS, &self.urls)
    }

    /// Checks that a request comes from a member of this cluster that this version can work with.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        // What etcd 2.0 left out.
        let version = |name| text(headers, name).and_then(major_minor).unwrap_or((2, 0));
        let own = major_minor(ETCD_VERSION).unwrap_or_default();
        let minimum = major_minor(MIN_CLUSTER).unwrap_or_default();
        if version(SERVER_VERSION) < minimum || version(MIN_CLUSTER_VERSION) > own {
            return Err(INCOMPATIBLE_VERSION);
        }
        if text(headers, CLUSTER_ID) != Some(&self.cluster.to_string()) {
            return Err(CLUSTER_MISMATCH);
        }
        Ok(())
    }
}

/// A header as text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(HeaderValue::to_str)?.ok()
}

/// A member's ID from its hex digits.
pub(crate) fn member_id(digits: &str) -> Option<MemberId> {
    u64::from_str_radix(digits, 16).ok().map(MemberId)
}

/// Sender and its URLs, if it told both.
pub(crate) fn sender(headers: &HeaderMap) -> Option<(MemberId, Vec<String>)> {
    let id = member_id(text(headers, SERVER_FROM)?)?;
    let urls: Vec<String> = text(headers, PEER_URLS)?.split(',').map(str::to_owned).collect();
    (!urls.is_empty()).then_some((id, urls))
}

/// The first two numbers of a version.
pub(crate) fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_and_strange_versions_are_refused() {
        let local =
            |cluster| Local { cluster: ClusterId(cluster), member: MemberId(1), urls: "http://a:1".into() };
        let signed = |l: &Local| l.sign(http::Request::builder()).body(()).expect("valid").headers().clone();
        let own = signed(&local(7));
        assert_eq!(local(7).check(&own), Ok(()));
        assert_eq!(local(8).check(&own), Err(CLUSTER_MISMATCH));
        let mut future = own.clone();
        future.insert(MIN_CLUSTER_VERSION, HeaderValue::from_static("3.99.0"));
        assert_eq!(local(7).check(&future), Err(INCOMPATIBLE_VERSION));
        let mut past = own;
        past.remove(SERVER_VERSION);
        assert_eq!(local(7).check(&past), Err(INCOMPATIBLE_VERSION));
    }
}
