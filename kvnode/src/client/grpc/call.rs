//! What every call has in common: limits, metrics, the checks that come before a method (etcd:
//! `server/etcdserver/api/v3rpc/interceptor.go`), and the line that tells of slow ones.

use std::{collections::HashMap, future::Future, sync::Arc, time::Instant};

use futures::Stream;
use http::{HeaderValue, Response};
use parking_lot::RwLock;
use prometheus::IntCounter;
use prost::Message;
use tonic::{Code, Request, Status, Streaming, body::Body, metadata::MetadataMap, server::Grpc};
use tracing::{Level, debug, enabled, warn};

use super::{
    Services,
    codec::{Codec, Wire},
    rpc::Rpc,
    stream::Guarded,
};
use crate::{
    auth::Credentials,
    client::{
        dispatch::Remote,
        error::{code_name, invalid_client_api_version, no_leader, not_supported_for_learner},
    },
    limits,
};

/// What a method is given beside its request.
#[derive(Clone)]
pub struct Call {
    pub services: Arc<Services>,
    pub remote: Arc<Remote>,
    /// What the client shows of itself; nothing where nobody asks.
    pub credentials: Credentials,
}

/// A call on its way to its method.
pub struct Incall {
    pub services: Arc<Services>,
    pub rpc: Rpc,
    pub remote: Arc<Remote>,
    pub request: http::Request<Body>,
}

/// Ends a stream early, with this error.
type Cut = super::stream::Cut;

impl Incall {
    fn grpc<Req, Resp>(&self) -> Grpc<Codec<Req, Resp>>
    where
        Req: Message + Default + 'static,
        Resp: Wire + Send + 'static,
    {
        let network = &self.services.metrics.network;
        let codec = Codec::new(&network.client_received_bytes, &network.client_sent_bytes);
        let receive_max = self.services.config.max_request_bytes + limits::GRPC_OVERHEAD_BYTES;
        Grpc::new(codec).max_decoding_message_size(receive_max).max_encoding_message_size(i32::MAX as usize)
    }

    /// One request, one answer.
    pub async fn unary<Req, Resp, F, Fut>(self, method: F) -> Response<Body>
    where
        Req: Message + Default + 'static,
        Resp: Wire + Send + 'static,
        F: Fn(Call, Req) -> Fut + Copy + Send + 'static,
        Fut: Future<Output = Result<Resp, Status>> + Send + 'static,
    {
        let mut grpc = self.grpc::<Req, Resp>();
        let Self { services, rpc, remote, request } = self;
        let receive_max = services.config.max_request_bytes + limits::GRPC_OVERHEAD_BYTES;
        let service = tower::service_fn(move |request: Request<Req>| {
            let (services, remote) = (Arc::clone(&services), Arc::clone(&remote));
            async move {
                let started = Instant::now();
                let metrics = services.methods.metrics(rpc);
                metrics.started.inc();
                metrics.received.inc();
                let outcome = match services.admit(rpc, request.metadata()) {
                    Ok(_) => {
                        let credentials = services.credentials(request.metadata(), &remote);
                        let (services, remote) = (Arc::clone(&services), Arc::clone(&remote));
                        method(Call { services, remote, credentials }, request.into_inner()).await
                    }
                    Err(status) => Err(status),
                };
                services.finish(rpc, &remote, started, outcome.as_ref().err());
                outcome.map(tonic::Response::new)
            }
        });
        let mut response = grpc.unary(service, request).await;
        word_as_grpc_go(&mut response, receive_max);
        response
    }

    /// One request, many answers.
    pub async fn server_stream<Req, Resp, F, Fut, S>(self, method: F) -> Response<Body>
    where
        Req: Message + Default + 'static,
        Resp: Wire + Send + 'static,
        F: Fn(Call, Req) -> Fut + Copy + Send + 'static,
        Fut: Future<Output = Result<S, Status>> + Send + 'static,
        S: Stream<Item = Result<Resp, Status>> + Send + 'static,
    {
        let mut grpc = self.grpc::<Req, Resp>();
        let Self { services, rpc, remote, request } = self;
        let service = tower::service_fn(move |request: Request<Req>| {
            let (services, remote) = (Arc::clone(&services), Arc::clone(&remote));
            async move {
                let (call, cut) = Call::begin_stream(services, remote, rpc, request.metadata())?;
                call.services.methods.metrics(rpc).received.inc();
                let stream = method(call.clone(), request.into_inner()).await;
                call.guard(rpc, stream, cut)
            }
        });
        grpc.server_streaming(service, request).await
    }

    /// Many requests, many answers.
    pub async fn bidi_stream<Req, Resp, F, Fut, S>(self, method: F) -> Response<Body>
    where
        Req: Message + Default + 'static,
        Resp: Wire + Send + 'static,
        F: Fn(Call, Streaming<Req>) -> Fut + Copy + Send + 'static,
        Fut: Future<Output = Result<S, Status>> + Send + 'static,
        S: Stream<Item = Result<Resp, Status>> + Send + 'static,
    {
        let mut grpc = self.grpc::<Req, Resp>();
        let Self { services, rpc, remote, request } = self;
        let service = tower::service_fn(move |request: Request<Streaming<Req>>| {
            let (services, remote) = (Arc::clone(&services), Arc::clone(&remote));
            async move {
                let (call, cut) = Call::begin_stream(services, remote, rpc, request.metadata())?;
                let stream = method(call.clone(), request.into_inner()).await;
                call.guard(rpc, stream, cut)
            }
        });
        grpc.streaming(service, request).await
    }
}

impl Services {
    /// Counts a finished unary call, and tells of a slow one.
    fn finish(&self, rpc: Rpc, remote: &Remote, started: Instant, error: Option<&Status>) {
        let took = started.elapsed();
        let metrics = self.methods.metrics(rpc);
        let code = error.map_or(Code::Ok, Status::code);
        if code == Code::Ok {
            metrics.sent.inc();
        }
        self.metrics.grpc.handled(metrics, code_name(code), took.as_secs_f64());
        if took > self.config.warning_unary_request_duration {
            warn!(
                "time spent" = ?took, remote = remote.address, "response type" = response_type(rpc),
                code = code_name(code), "request stats"
            );
        } else if enabled!(Level::DEBUG) {
            debug!(
                "time spent" = ?took, remote = remote.address, "response type" = response_type(rpc),
                code = code_name(code), "request stats"
            );
        }
    }
}

impl Call {
    fn begin_stream(
        services: Arc<Services>,
        remote: Arc<Remote>,
        rpc: Rpc,
        metadata: &MetadataMap,
    ) -> Result<(Self, Cut), Status> {
        services.methods.metrics(rpc).started.inc();
        // A stream may live to see authentication switched on.
        let credentials = services.shown(metadata, &remote);
        let call = Self { services, remote, credentials };
        match call.services.admit(rpc, metadata) {
            Ok(leader) => {
                let cut = call.services.leader_watch.cut(leader, call.services.stop.clone());
                Ok((call, cut))
            }
            Err(status) => {
                call.end_stream(rpc, &status);
                Err(status)
            }
        }
    }

    fn end_stream(&self, rpc: Rpc, status: &Status) {
        let metrics = self.services.methods.metrics(rpc);
        self.services.metrics.grpc.handled(metrics, code_name(status.code()), 0.0);
        self.services.metrics.server.stream_failures.with_label_values(&["send", rpc.name()]).inc();
    }

    fn guard<S>(
        self,
        rpc: Rpc,
        stream: Result<S, Status>,
        cut: Cut,
    ) -> Result<tonic::Response<Guarded<S>>, Status> {
        match stream {
            Ok(stream) => Ok(tonic::Response::new(Guarded::new(stream, cut, self.services, rpc))),
            Err(status) => {
                self.end_stream(rpc, &status);
                Err(status)
            }
        }
    }
}

fn response_type(rpc: Rpc) -> String {
    format!("/{}/{}", rpc.service(), rpc.name())
}

/// Whether a call is worth less than nothing without a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderWish {
    Required,
    Indifferent,
}

impl Services {
    /// The checks before every method.
    fn admit(&self, rpc: Rpc, metadata: &MetadataMap) -> Result<LeaderWish, Status> {
        // A serializable range is fine too, which `kv::range` finds out.
        let on_learner = matches!(rpc, Rpc::Range | Rpc::Status | Rpc::Snapshot);
        if !on_learner && self.node.is_learner() {
            return Err(not_supported_for_learner());
        }
        self.versions.count(rpc, metadata, &self.metrics.server.client_requests)?;
        if metadata.get("hasleader").is_none_or(|value| value.as_bytes() != b"true") {
            return Ok(LeaderWish::Indifferent);
        }
        if self.node.status().leader.0 == 0 { Err(no_leader()) } else { Ok(LeaderWish::Required) }
    }
}

/// Counts calls by the API version that clients say they speak.
#[derive(Default)]
pub struct ApiVersions {
    counters: RwLock<HashMap<(&'static str, String), IntCounter>>,
}

/// More versions than there will be in a cluster; beyond, clients invent them and are counted as unknown.
const API_VERSIONS_MAX: usize = 64;

impl ApiVersions {
    fn count(
        &self,
        rpc: Rpc,
        metadata: &MetadataMap,
        requests: &prometheus::IntCounterVec,
    ) -> Result<(), Status> {
        let kind = if rpc.shape() == super::rpc::Shape::Unary { "unary" } else { "stream" };
        let version = match metadata.get("client-api-version") {
            Some(value) => std::str::from_utf8(value.as_bytes()).map_err(|_| invalid_client_api_version())?,
            None => "unknown",
        };
        let counters = self.counters.read();
        if let Some((_, counter)) = counters.iter().find(|((k, v), _)| *k == kind && v == version) {
            counter.inc();
            return Ok(());
        }
        let full = counters.len() >= API_VERSIONS_MAX;
        drop(counters);
        let version = if full { "unknown" } else { version };
        let counter = requests.with_label_values(&[kind, version]);
        counter.inc();
        self.counters.write().insert((kind, version.to_owned()), counter);
        Ok(())
    }
}

/// A request over the transport's limit is refused before any of our code sees it; clients know grpc-go's words.
fn word_as_grpc_go(response: &mut Response<Body>, receive_max: usize) {
    const TOO_LARGE: &str = "Error,%20decoded%20message%20length%20too%20large:%20found%20";
    let headers = response.headers_mut();
    let message = headers.get("grpc-message").and_then(|message| message.to_str().ok());
    let Some(found) = message.and_then(|message| message.strip_prefix(TOO_LARGE)) else {
        return;
    };
    let found = &found[..found.find('%').unwrap_or(found.len())];
    let text = format!("grpc:%20received%20message%20larger%20than%20max%20({found}%20vs.%20{receive_max})");
    headers.insert("grpc-status", HeaderValue::from_static("8"));
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert("grpc-message", value);
    }
}
