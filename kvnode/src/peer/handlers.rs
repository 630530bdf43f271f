//! What the peer port answers. Paths, statuses and texts are etcd's (`server/etcdserver/api/rafthttp/http.go`,
//! `etcdhttp/peer.go`, `leasehttp`).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kvnode_mvcc::{LeaseId, MemberId};
use kvnode_proto::{
    etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse, ResponseHeader},
    leasepb::{LeaseInternalRequest, LeaseInternalResponse},
};
use prost::Message as _;
use tracing::warn;

use super::{
    Peers,
    body::next_piece,
    codec::{self, StreamKind},
    dial::{self, Body},
    headers, limits, members,
    snapshot::{self, ReceiveError},
    stream::StreamBody,
};
use crate::{
    auth::Credentials,
    flags::usage::ETCD_VERSION,
    node::{Node, NodeError, peer_api::Refused},
};

/// A status and what to say with it.
struct Refusal(StatusCode, String);

type Answer = Result<Response<Body>, Refusal>;

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self(status, text.into())
    }

    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(dial::full(format!("{}\n", self.1)));
        *response.status_mut() = self.0;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

/// Answers one request.
pub(super) async fn answer(peers: &Arc<Peers>, request: Request<Incoming>) -> Response<Body> {
    let mut response = match route(peers, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    };
    let cluster = peers.context().local.cluster.to_string();
    if let Ok(value) = cluster.parse() {
        response.headers_mut().insert(headers::CLUSTER_ID, value);
    }
    response.headers_mut().insert(headers::SERVER_VERSION, header::HeaderValue::from_static(ETCD_VERSION));
    response
}

async fn route(peers: &Arc<Peers>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/raft" => pipeline(peers, allow(request, &Method::POST)?).await,
        "/raft/snapshot" => receive_snapshot(peers, allow(request, &Method::POST)?).await,
        "/raft/probing" => {
            let now = jiff::Timestamp::now();
            json(format!("{{\"OK\":true,\"Now\":\"{now}\"}}\n"))
        }
        "/members" => {
            allow(request, &Method::GET)?;
            json(members::encode_list(&peers.context().api.view().members()))
        }
        "/members/hashkv" => hash_kv(peers, allow(request, &Method::GET)?).await,
        "/version" => json(peers.context().api.version_json()),
        "/downgrade/enabled" => {
            allow(request, &Method::GET)?;
            downgrade_enabled(peers).await
        }
        "/leases" => lease_keep_alive(peers, allow(request, &Method::POST)?).await,
        "/leases/internal" => lease_time_to_live(peers, allow(request, &Method::POST)?).await,
        _ => {
            if let Some(id) = path.strip_prefix("/members/promote/") {
                let request = allow(request, &Method::POST)?;
                return promote(peers, request.headers(), id).await;
            }
            if let Some(rest) = path.strip_prefix("/raft/stream/") {
                return open_stream(peers, &allow(request, &Method::GET)?, rest);
            }
            Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found"))
        }
    }
}

async fn downgrade_enabled(peers: &Peers) -> Answer {
    match peers.context().api.downgrade_enabled().await {
        Ok(enabled) => text(enabled.to_string()),
        Err(error) => {
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("failed linearized read: {error}")))
        }
    }
}

fn allow(request: Request<Incoming>, method: &Method) -> Result<Request<Incoming>, Refusal> {
    if request.method() == method {
        Ok(request)
    } else {
        Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"))
    }
}

fn json(body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(dial::full(body));
    let value = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    Ok(response)
}

fn text(body: String) -> Answer {
    Ok(Response::new(dial::full(body)))
}

fn protobuf(message: &impl prost::Message) -> Answer {
    let mut response = Response::new(dial::full(message.encode_to_vec()));
    let value = header::HeaderValue::from_static("application/protobuf");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    Ok(response)
}

fn no_content() -> Answer {
    let mut response = Response::new(dial::full(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

async fn whole(request: Request<Incoming>, limit: usize) -> Result<Bytes, Refusal> {
    let failed = || Refusal::new(StatusCode::BAD_REQUEST, "error reading raft message");
    let (mut body, mut whole) = (request.into_body(), BytesMut::new());
    while let Some(piece) = next_piece(&mut body).await.map_err(|_| failed())? {
        if piece.len() > limit - whole.len() {
            return Err(failed());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Who asks: a member of this cluster, or nobody. A stranger that says where it lives is remembered, so that it can be
/// answered: it may be a member that this one has not heard of yet.
fn check_sender(peers: &Arc<Peers>, request: &Request<Incoming>) -> Result<(), Refusal> {
    let refused = |text| Refusal::new(StatusCode::PRECONDITION_FAILED, text);
    peers.context().local.check(request.headers()).map_err(refused)?;
    if let Some((id, urls)) = headers::sender(request.headers()) {
        peers.introduce(id, &urls);
    }
    Ok(())
}

async fn pipeline(peers: &Arc<Peers>, request: Request<Incoming>) -> Answer {
    check_sender(peers, &request)?;
    let data = whole(request, limits::POST_BYTES).await?;
    let size = data.len() as u64;
    let message = codec::decode(data)
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "error unmarshalling raft message"))?;
    if let Some(remote) = peers.get(MemberId(message.from)) {
        remote.received(size);
    }
    peers.context().api.receive(message).map_err(refusal)?;
    no_content()
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::Removed => Refusal::new(StatusCode::FORBIDDEN, "cannot process message from removed member"),
        // Raft sends again.
        Refused::Full | Refused::NotForUs => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "error processing raft message")
        }
    }
}

async fn receive_snapshot(peers: &Arc<Peers>, request: Request<Incoming>) -> Answer {
    check_sender(peers, &request)?;
    let from = headers::sender(request.headers()).map_or_else(String::new, |(id, _)| id.to_string());
    let network = &peers.context().api.metrics().network;
    let start = std::time::Instant::now();
    network.snapshot_receive_inflights.with_label_values(&[from.as_str()]).inc();
    let received = snapshot::receive(peers.context(), request.into_body()).await;
    network.snapshot_receive_inflights.with_label_values(&[from.as_str()]).dec();
    let (message, bytes) = match received {
        Ok(received) => received,
        Err(e @ ReceiveError::NotASnapshot) => {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, e.to_string()));
        }
        Err(ReceiveError::Refused(why)) => return Err(refusal(why)),
        Err(e) => {
            network.snapshot_receive_failures.with_label_values(&[from.as_str()]).inc();
            warn!(from, error = %e, "failed to save incoming database snapshot");
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()));
        }
    };
    if let Some(remote) = peers.get(MemberId(message.from)) {
        remote.received(bytes);
    }
    peers.context().api.receive_snapshot(message).map_err(refusal)?;
    network.snapshot_receive_success.with_label_values(&[from.as_str()]).inc();
    network
        .snapshot_receive_seconds
        .with_label_values(&[from.as_str()])
        .observe(start.elapsed().as_secs_f64());
    no_content()
}

fn open_stream(peers: &Arc<Peers>, request: &Request<Incoming>, rest: &str) -> Answer {
    let not_found = |text: &str| Refusal::new(StatusCode::NOT_FOUND, text);
    let local = &peers.context().local;
    local.check(request.headers()).map_err(|e| Refusal::new(StatusCode::PRECONDITION_FAILED, e))?;
    let (kind, from) = match rest.split_once('/') {
        Some(("msgapp", from)) => (StreamKind::Append, from),
        Some(("message", from)) => (StreamKind::Message, from),
        _ => return Err(not_found("invalid path")),
    };
    let from = headers::member_id(from).ok_or_else(|| not_found("invalid from"))?;
    if peers.context().api.is_removed(from) {
        return Err(Refusal::new(StatusCode::GONE, "removed member"));
    }
    let Some(remote) = peers.get(from) else {
        if let Some((id, urls)) = headers::sender(request.headers()) {
            peers.introduce(id, &urls);
        }
        return Err(not_found("error sender not found"));
    };
    if headers::text(request.headers(), headers::RAFT_TO) != Some(&local.member.to_string()) {
        return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "to field mismatch"));
    }
    Ok(Response::new(StreamBody::attach(&remote, kind).boxed()))
}

fn node(peers: &Arc<Peers>) -> Result<Node, Refusal> {
    let starting = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "etcdserver: server is starting");
    peers.context().api.node().ok_or_else(starting)
}

/// The hash of the key space up to a revision, for a member that compares.
async fn hash_kv(peers: &Arc<Peers>, request: Request<Incoming>) -> Answer {
    let cluster = headers::text(request.headers(), headers::CLUSTER_ID).unwrap_or_default();
    if !cluster.is_empty() && cluster != peers.context().local.cluster.to_string() {
        return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, headers::CLUSTER_MISMATCH));
    }
    let data = whole(request, limits::ANSWER_BYTES).await?;
    let revision = members::decode_hash_request(&data)
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "error unmarshalling request"))?;
    match node(peers)?.hash_kv(revision).await {
        Ok((hash, current)) => json(members::encode_hash(&hash, current)),
        Err(e) => {
            warn!("requested-revision" = revision.0, error = %e, "failed to get hashKV");
            Err(Refusal::new(StatusCode::BAD_REQUEST, e.to_string()))
        }
    }
}

/// Promotes on behalf of whoever holds the token that another member hands on.
async fn promote(peers: &Arc<Peers>, headers: &HeaderMap, id: &str) -> Answer {
    let missing = || Refusal::new(StatusCode::NOT_FOUND, format!("member {id} not found in cluster"));
    let member = id.parse().map(MemberId).map_err(|_| missing())?;
    let node = node(peers)?;
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.map(|token| token.strip_prefix("Bearer ").unwrap_or(token).to_owned());
    let outcome = match node.check_admin(&Credentials { token, common_name: None }).await {
        Ok(()) => node.promote_here(member).await,
        Err(e) => Err(e),
    };
    match outcome {
        Ok(members) => json(members::encode_list(&members)),
        Err(e) => {
            let status = match &e {
                NodeError::MemberNotFound => StatusCode::NOT_FOUND,
                NodeError::NotLearner | NodeError::LearnerNotReady => StatusCode::PRECONDITION_FAILED,
                NodeError::NotLeader | NodeError::NoLeader => StatusCode::SERVICE_UNAVAILABLE,
                NodeError::Timeout | NodeError::TimeoutConnectionLost | NodeError::TimeoutLeaderFailed => {
                    StatusCode::REQUEST_TIMEOUT
                }
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let text = e.to_string();
            let text = match status {
                // The other side compares with the texts of etcd's inner errors.
                StatusCode::NOT_FOUND => "membership: ID not found",
                StatusCode::PRECONDITION_FAILED if e == NodeError::NotLearner => {
                    "membership: can only promote a learner member"
                }
                _ => &text,
            };
            warn!("member-id" = %member, error = %e, "failed to promote a member");
            Err(Refusal::new(status, text))
        }
    }
}

fn lease_refusal(error: &NodeError) -> Refusal {
    match error {
        NodeError::LeaseNotFound => Refusal::new(StatusCode::NOT_FOUND, "lease not found"),
        NodeError::TimeoutWaitApplied => Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "waiting for node to catch up its applied index has timed out",
        ),
        other => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
    }
}

async fn lease_keep_alive(peers: &Arc<Peers>, request: Request<Incoming>) -> Answer {
    let data = whole(request, limits::ANSWER_BYTES).await?;
    let request = LeaseKeepAliveRequest::decode(data)
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "error unmarshalling request"))?;
    let ttl = node(peers)?.renew_here(LeaseId(request.id)).await.map_err(|e| lease_refusal(&e))?;
    protobuf(&LeaseKeepAliveResponse { header: None, id: request.id, ttl })
}

async fn lease_time_to_live(peers: &Arc<Peers>, request: Request<Incoming>) -> Answer {
    let data = whole(request, limits::ANSWER_BYTES).await?;
    let request = LeaseInternalRequest::decode(data)
        .ok()
        .and_then(|r| r.lease_time_to_live_request)
        .ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "error unmarshalling request"))?;
    let ttl = node(peers)?.time_to_live_here(LeaseId(request.id)).await.map_err(|e| lease_refusal(&e))?;
    let keys = if request.keys { ttl.keys } else { Vec::new() };
    protobuf(&LeaseInternalResponse {
        lease_time_to_live_response: Some(LeaseTimeToLiveResponse {
            header: Some(ResponseHeader::default()),
            id: request.id,
            ttl: ttl.ttl_seconds,
            granted_ttl: ttl.granted_seconds,
            keys,
        }),
    })
}
