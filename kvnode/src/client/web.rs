//! HTTP requests on one port: who may send them, and who answers.

use std::sync::Arc;

use http::{Method, Request, Response, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use tonic::body::Body;

use super::{
    access::Access,
    dispatch::Remote,
    gateway::{Gateway, is_for_gateway},
    http::Endpoints,
};
use crate::limits;

/// What a port does with HTTP.
pub struct Web {
    pub endpoints: Arc<Endpoints>,
    /// `None` lets everybody in, as on ports for metrics and health alone.
    pub access: Option<Access>,
    /// `None` where there is no gateway.
    pub gateway: Option<Arc<Gateway>>,
}

impl Web {
    /// Answers one request.
    pub async fn call(&self, request: Request<Body>, remote: &Remote) -> Response<Body> {
        let (head, body) = request.into_parts();
        let Some(access) = &self.access else {
            swallow(body).await;
            return self.endpoints.call(&head).await;
        };
        if let Some(refusal) = access.refuses(&head, remote) {
            swallow(body).await;
            return refusal;
        }
        let origin = head.headers.get(header::ORIGIN).cloned();
        let mut response = if head.method == Method::OPTIONS {
            Response::new(Body::empty())
        } else {
            self.answer(head, body, remote).await
        };
        access.share(origin.as_ref(), response.headers_mut());
        response
    }

    async fn answer(&self, head: Parts, body: Body, remote: &Remote) -> Response<Body> {
        let path = head.uri.path();
        match &self.gateway {
            Some(gateway) if is_for_gateway(path) => {
                Arc::clone(gateway).call(Request::from_parts(head, body), remote).await
            }
            _ => {
                swallow(body).await;
                self.endpoints.call(&head).await
            }
        }
    }
}

/// Takes in a body that nobody reads. An answer that comes before the end of its request is lost on some clients: curl
/// takes what HTTP/2 then says about the request for an error of the answer.
pub(super) async fn swallow(body: Body) {
    // Whoever sends more than this, or breaks off, may lose the answer.
    let _ = Limited::new(body, limits::UNREAD_BODY_BYTES).collect().await;
}
