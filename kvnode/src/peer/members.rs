//! What members ask each other beside raft: who the members are, which version they run, and what only a leader can do.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use kvnode_mvcc::{
    ClusterId, KeyHash, LeaseId, MemberId, ReadError, Revision,
    membership::{
        Member,
        json::{decode_member, encode_member},
    },
};
use kvnode_proto::{
    etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest},
    leasepb::{LeaseInternalRequest, LeaseInternalResponse},
};
use prost::Message as _;

use super::{
    dial::{self, CallError, Dialer},
    headers,
};
use crate::{
    auth::Credentials,
    node::{
        LeaseTtl, NodeError,
        corruption::compare::{PeerAnswer, PeerSilence},
    },
};

/// Members as a JSON array, as Go encodes it.
pub(crate) fn encode_list(members: &[Member]) -> Vec<u8> {
    let rows: Vec<Vec<u8>> = members.iter().map(encode_member).collect();
    [b"[", rows.join(&b","[..]).as_slice(), b"]\n"].concat()
}

fn decode_list(body: &[u8]) -> Result<Vec<Member>, serde_json::Error> {
    let rows: Vec<serde_json::Value> = serde_json::from_slice(body)?;
    rows.into_iter().map(|row| decode_member(row.to_string().as_bytes())).collect()
}

/// The members that one of them knows, and the cluster they form.
pub(crate) async fn fetch(
    dialer: &Dialer,
    url: &str,
    limit: Duration,
) -> Result<(ClusterId, Vec<Member>), CallError> {
    let malformed = |why: String| CallError::Answer { url: url.to_owned(), why };
    let request = Request::get("/members").body(dial::full("")).map_err(|e| malformed(e.to_string()))?;
    let (parts, body) = dialer.call(url, request, limit).await?;
    let cluster = headers::text(&parts.headers, headers::CLUSTER_ID)
        .and_then(|id| u64::from_str_radix(id, 16).ok())
        .ok_or_else(|| malformed("it names no cluster ID".to_owned()))?;
    let members = decode_list(&body).map_err(|e| malformed(e.to_string()))?;
    Ok((ClusterId(cluster), members))
}

/// The version of the server behind a peer URL.
pub(crate) async fn fetch_version(dialer: &Dialer, url: &str, limit: Duration) -> Result<String, CallError> {
    #[derive(serde::Deserialize)]
    struct Versions {
        #[serde(rename = "etcdserver")]
        server: String,
    }
    let malformed = |why: String| CallError::Answer { url: url.to_owned(), why };
    let request = Request::get("/version").body(dial::full("")).map_err(|e| malformed(e.to_string()))?;
    let (_, body) = dialer.call(url, request, limit).await?;
    let versions: Versions = serde_json::from_slice(&body).map_err(|e| malformed(e.to_string()))?;
    Ok(versions.server)
}

#[derive(serde::Serialize, serde::Deserialize)]
struct HashRequest {
    #[serde(default, skip_serializing_if = "is_zero")]
    revision: i64,
}

/// Go leaves zeros out.
#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct HashAnswer {
    header: HashHeader,
    #[serde(skip_serializing_if = "is_zero")]
    hash: u32,
    #[serde(skip_serializing_if = "is_zero")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    hash_revision: i64,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct HashHeader {
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// Which revision a member asks the hash of.
pub(crate) fn decode_hash_request(body: &[u8]) -> Result<Revision, serde_json::Error> {
    serde_json::from_slice::<HashRequest>(body).map(|request| Revision(request.revision))
}

/// A hash, and the revision of the member that tells it, as a member expects them.
pub(crate) fn encode_hash(hash: &KeyHash, current: Revision) -> Vec<u8> {
    let answer = HashAnswer {
        header: HashHeader { revision: current.0 },
        hash: hash.hash,
        compact_revision: hash.compact_revision.0,
        hash_revision: hash.hash_revision.0,
    };
    // Numbers have a text.
    serde_json::to_vec(&answer).unwrap_or_default()
}

fn decode_hash(body: &[u8]) -> Result<PeerAnswer, serde_json::Error> {
    let answer: HashAnswer = serde_json::from_slice(body)?;
    let hash = KeyHash {
        hash: answer.hash,
        compact_revision: Revision(answer.compact_revision),
        hash_revision: Revision(answer.hash_revision),
    };
    Ok(PeerAnswer { hash, revision: Revision(answer.header.revision) })
}

/// The hash of a member's key space up to `revision`.
pub(crate) async fn fetch_hash(
    dialer: &Dialer,
    url: &str,
    cluster: ClusterId,
    revision: Revision,
    limit: Duration,
) -> Result<PeerAnswer, PeerSilence> {
    let unreachable = |why: &dyn std::fmt::Display| PeerSilence::Unreachable(why.to_string());
    let body = serde_json::to_vec(&HashRequest { revision: revision.0 }).map_err(|e| unreachable(&e))?;
    let request = Request::get("/members/hashkv")
        .header(header::CONTENT_TYPE, "application/json")
        .header(headers::CLUSTER_ID, cluster.to_string())
        .body(dial::full(body))
        .map_err(|e| unreachable(&e))?;
    match dialer.call(url, request, limit).await {
        Ok((_, body)) => decode_hash(&body).map_err(|e| unreachable(&e)),
        Err(e) => Err(hash_refused(&e, revision).unwrap_or_else(|| unreachable(&e))),
    }
}

fn hash_refused(error: &CallError, revision: Revision) -> Option<PeerSilence> {
    let refusal = match error.refusal()? {
        (StatusCode::BAD_REQUEST, text) if text.contains("required revision has been compacted") => {
            ReadError::Compacted(revision)
        }
        (StatusCode::BAD_REQUEST, text) if text.contains("required revision is a future revision") => {
            ReadError::FutureRevision(revision)
        }
        (StatusCode::PRECONDITION_FAILED, text) if text.contains(headers::CLUSTER_MISMATCH) => {
            return Some(PeerSilence::OtherCluster);
        }
        _ => return None,
    };
    Some(PeerSilence::Read(refusal))
}

async fn post(
    dialer: &Dialer,
    url: &str,
    path: &str,
    body: Vec<u8>,
    limit: Duration,
) -> Result<Bytes, CallError> {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/protobuf")
        .body(dial::full(body))
        .map_err(|e| CallError::Answer { url: url.to_owned(), why: e.to_string() })?;
    Ok(dialer.call(url, request, limit).await?.1)
}

/// Renews a lease at the leader. `None`: that one could not say, another may.
pub(crate) async fn renew(
    dialer: &Dialer,
    url: &str,
    id: LeaseId,
    limit: Duration,
) -> Option<Result<i64, NodeError>> {
    let body = LeaseKeepAliveRequest { id: id.0 }.encode_to_vec();
    match post(dialer, url, "/leases", body, limit).await {
        Ok(body) => LeaseKeepAliveResponse::decode(body).ok().map(|r| Ok(r.ttl)),
        Err(e) => lease_refused(&e).map(Err),
    }
}

/// Asks the leader how long a lease lives. `None`: that one could not say, another may.
pub(crate) async fn time_to_live(
    dialer: &Dialer,
    url: &str,
    id: LeaseId,
    limit: Duration,
) -> Option<Result<LeaseTtl, NodeError>> {
    let request = LeaseTimeToLiveRequest { id: id.0, keys: true };
    let body = LeaseInternalRequest { lease_time_to_live_request: Some(request) }.encode_to_vec();
    match post(dialer, url, "/leases/internal", body, limit).await {
        Ok(body) => {
            let ttl = LeaseInternalResponse::decode(body).ok()?.lease_time_to_live_response?;
            Some(Ok(LeaseTtl { ttl_seconds: ttl.ttl, granted_seconds: ttl.granted_ttl, keys: ttl.keys }))
        }
        Err(e) => lease_refused(&e).map(Err),
    }
}

fn lease_refused(error: &CallError) -> Option<NodeError> {
    match error.refusal()? {
        (StatusCode::NOT_FOUND, _) => Some(NodeError::LeaseNotFound),
        (StatusCode::REQUEST_TIMEOUT, _) => Some(NodeError::TimeoutWaitApplied),
        _ => None,
    }
}

/// Promotes a learner at the leader. `None`: that one could not say, another may.
pub(crate) async fn promote(
    dialer: &Dialer,
    url: &str,
    id: MemberId,
    credentials: &Credentials,
    limit: Duration,
) -> Option<Result<Vec<Member>, NodeError>> {
    let mut request = Request::post(format!("/members/promote/{}", id.0));
    if let Some(token) = &credentials.token {
        request = request.header(header::AUTHORIZATION, token);
    }
    let request = request.body(dial::full("")).ok()?;
    match dialer.call(url, request, limit).await.map(|(_, body)| body) {
        Ok(body) => decode_list(&body).ok().map(Ok),
        Err(e) => match e.refusal()? {
            (StatusCode::NOT_FOUND, _) => Some(Err(NodeError::MemberNotFound)),
            (StatusCode::PRECONDITION_FAILED, text) if text.contains("in sync with leader") => {
                Some(Err(NodeError::LearnerNotReady))
            }
            (StatusCode::PRECONDITION_FAILED, _) => Some(Err(NodeError::NotLearner)),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_members_comes_back() {
        let member = |id: u64, is_learner| Member {
            id: MemberId(id),
            name: format!("m{id}"),
            peer_urls: vec!["http://a:1".to_owned()],
            client_urls: vec!["http://a:2".to_owned()],
            is_learner,
        };
        let members = vec![member(1, false), member(u64::MAX, true)];
        assert_eq!(decode_list(&encode_list(&members)).expect("a list"), members);
        assert_eq!(encode_list(&[]), b"[]\n");
    }

    #[test]
    fn a_hash_reads_as_gos() {
        let hash = KeyHash { hash: 7, compact_revision: Revision(-1), hash_revision: Revision(3) };
        let text = br#"{"header":{"revision":5},"hash":7,"compact_revision":-1,"hash_revision":3}"#;
        assert_eq!(encode_hash(&hash, Revision(5)), text);
        assert_eq!(decode_hash(text).expect("an answer"), PeerAnswer { hash, revision: Revision(5) });
        assert!(decode_hash(b"{}").is_ok_and(|answer| answer.hash.hash == 0));
        assert_eq!(decode_hash_request(b"{}").expect("a request"), Revision(0));
        assert_eq!(decode_hash_request(br#"{"revision":3}"#).expect("a request"), Revision(3));
    }
}
