//! The JSON gateway: HTTP requests with JSON bodies become calls of the gRPC services, and their answers JSON, by
//! grpc-gateway's conventions (etcd: `server/embed/serve.go`, `registerGateway`).
//!
//! It only transcodes. A call takes the same way as one that came by gRPC, through [`Services::call`], so limits, metrics
//! and checks are the same and no method has code here: [`routes`] names them, [`json`] maps messages by their
//! descriptors, [`frames`] speaks gRPC's framing, [`headers`] makes metadata, [`websocket`] serves clients that can stream
//! no other way.

mod frames;
mod headers;
mod json;
mod routes;
mod websocket;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use prost_reflect::MessageDescriptor;
use tokio::{sync::Semaphore, time::Instant};
use tonic::{Code, Status, body::Body};
use tracing::debug;

use super::{dispatch::Remote, grpc::Services, web::swallow};
use crate::limits;
use frames::{Answers, frame, within};
use routes::{Route, Routes};

pub use routes::is_for_gateway;

/// Answers the requests that [`is_for_gateway`] names.
pub struct Gateway {
    services: Arc<Services>,
    routes: Routes,
    /// Bytes of JSON that a request may have.
    request_max: usize,
    /// Calls at a time: to etcd's services its gateway is one connection, so `--max-concurrent-streams` bounds them.
    calls: Arc<Semaphore>,
}

impl Gateway {
    pub fn new(services: Arc<Services>) -> Arc<Self> {
        let message_max = services.config.max_request_bytes + limits::GRPC_OVERHEAD_BYTES;
        let streams = usize::try_from(services.config.max_concurrent_streams).unwrap_or(usize::MAX);
        Arc::new(Self {
            services,
            routes: Routes::new(),
            // Keys and values grow by a third as base64; white space and unknown fields may come on top.
            request_max: 4 * message_max,
            calls: Arc::new(Semaphore::new(streams.min(Semaphore::MAX_PERMITS))),
        })
    }

    /// Answers one request.
    pub async fn call(self: Arc<Self>, request: Request<Body>, remote: &Remote) -> Response<Body> {
        // The client's certificate does not speak for a call through the gateway.
        let remote = Arc::new(Remote { common_name: None, ..remote.clone() });
        if websocket::wanted(request.headers()) {
            return websocket::upgrade(self, request, remote);
        }
        self.answer(request, &remote).await
    }

    async fn answer(&self, request: Request<Body>, remote: &Arc<Remote>) -> Response<Body> {
        match self.transcode(request, remote).await {
            Ok(response) => response,
            Err(status) => failure(&status),
        }
    }

    async fn transcode(
        &self,
        request: Request<Body>,
        remote: &Arc<Remote>,
    ) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let (route, patience) = match self.route(&head) {
            Ok(found) => found,
            Err(status) => {
                swallow(body).await;
                return Err(status);
            }
        };
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut call = Request::new(self.messages(route, body).await?);
        *call.uri_mut() = route.uri.clone();
        *call.method_mut() = Method::POST;
        *call.version_mut() = Version::HTTP_2;
        *call.headers_mut() = headers::metadata(&head, &remote.address);
        let permit = within(deadline, Arc::clone(&self.calls).acquire_owned()).await?;
        let called = Arc::clone(&self.services).call(call, Arc::clone(remote));
        let answers = Answers::of(within(deadline, called).await?, deadline, permit.ok());
        let kind = route.method.output();
        if route.method.is_server_streaming() {
            Ok(lines(answers, kind).await)
        } else {
            one(answers, &kind).await
        }
    }

    /// Which call it is, and how long it may take.
    fn route(&self, head: &Parts) -> Result<(&Route, Option<Duration>), Status> {
        let route = self.routes.find(head.uri.path()).ok_or_else(|| Status::not_found("Not Found"))?;
        if head.method != Method::POST {
            return Err(Status::unimplemented("Method Not Allowed"));
        }
        Ok((route, headers::timeout(&head.headers)?))
    }

    /// The body of the call.
    async fn messages(&self, route: &Route, body: Body) -> Result<Body, Status> {
        let kind = route.method.input();
        if route.method.is_client_streaming() {
            return Ok(Body::new(StreamBody::new(framed(body, kind, self.request_max))));
        }
        let text =
            Limited::new(body, self.request_max).collect().await.map_err(|error| self.unreadable(&*error))?;
        let message = json::to_message(&text.to_bytes(), &kind).map_err(Status::invalid_argument)?;
        Ok(Body::new(Full::new(frame(&message))))
    }

    fn unreadable(&self, error: &(dyn std::error::Error + 'static)) -> Status {
        if error.is::<http_body_util::LengthLimitError>() {
            let max = self.request_max;
            return Status::resource_exhausted(format!("grpc: received message larger than max ({max})"));
        }
        Status::invalid_argument(error.to_string())
    }
}

/// The objects of a body, each as a framed message as soon as it is there. Ends where the body does, or stops being what it
/// should be: grpc-gateway tells its log of that, and the server that the client has no more to say.
fn framed(
    body: Body,
    kind: MessageDescriptor,
    max: usize,
) -> impl Stream<Item = Result<Frame<Bytes>, Status>> + Send {
    let state = (body, BytesMut::new(), json::Splitter::default(), kind);
    stream::unfold(state, move |(mut body, mut buffer, mut splitter, kind)| async move {
        loop {
            let object = match splitter.next(&buffer) {
                Ok(Some(length)) => buffer.split_to(length),
                Ok(None) if buffer.len() <= max => match body.frame().await? {
                    Ok(piece) => {
                        buffer.extend_from_slice(&piece.into_data().unwrap_or_default());
                        continue;
                    }
                    Err(error) => {
                        // Not `Cancelled`: tonic takes that of a request for its orderly end.
                        let broken = Status::unavailable(error.to_string());
                        return Some((Err(broken), (body, buffer, splitter, kind)));
                    }
                },
                Ok(None) | Err(json::NotAnObject) => {
                    debug!("a streamed request is no JSON object, or too long; taken for its end");
                    return None;
                }
            };
            match json::to_message(&object, &kind) {
                Ok(message) => {
                    let sent = Frame::data(frame(&message));
                    return Some((Ok(sent), (body, buffer, splitter, kind)));
                }
                Err(error) => {
                    debug!(error, "a streamed request cannot be read; taken for its end");
                    return None;
                }
            }
        }
    })
}

/// The only answer of a call.
async fn one(mut answers: Answers, kind: &MessageDescriptor) -> Result<Response<Body>, Status> {
    let message = answers.next().await?.ok_or_else(|| Status::internal("the call gave no answer"))?;
    // What it is worth is only known at its end.
    answers.next().await?;
    let mut response = json_response(StatusCode::OK, json::from_message(&message, kind)?);
    mark(&mut response);
    Ok(response)
}

/// The answers of a call, a line each, sent when they come. Waits for the first: what goes wrong before it still has a
/// status of its own.
async fn lines(mut answers: Answers, kind: MessageDescriptor) -> Response<Body> {
    let first = match answers.next().await {
        Ok(first) => first,
        Err(status) => {
            let mut response = json_response(http_status(status.code()), error_line(&status));
            mark(&mut response);
            return response;
        }
    };
    let rest = stream::unfold(Some((Some(first), answers, kind)), |state| async move {
        let (first, mut answers, kind) = state?;
        let next = match first {
            Some(first) => Ok(first),
            None => answers.next().await,
        };
        let text = next.and_then(|next| next.map(|message| json::from_message(&message, &kind)).transpose());
        let (text, state) = match text {
            Ok(text) => (json::line("result", &text?), Some((None, answers, kind))),
            Err(status) => (error_line(&status), None),
        };
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), state))
    });
    let mut response = Response::new(Body::new(StreamBody::new(rest)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    mark(&mut response);
    response
}

fn error_line(status: &Status) -> String {
    json::line("error", &json::from_status(status))
}

fn json_response(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer's metadata, of which services send only what gRPC demands.
fn mark(response: &mut Response<Body>) {
    let name = HeaderName::from_static("grpc-metadata-content-type");
    response.headers_mut().insert(name, HeaderValue::from_static("application/grpc"));
}

/// What a call that failed is answered with.
fn failure(status: &Status) -> Response<Body> {
    let mut response = json_response(http_status(status.code()), json::from_status(status));
    if status.code() == Code::Unauthenticated
        && let Ok(message) = HeaderValue::from_str(status.message())
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, message);
    }
    response
}

/// grpc-gateway's `HTTPStatusFromCode`.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // nginx's "client closed request", which has no name elsewhere.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
