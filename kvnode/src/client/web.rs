//! HTTP requests on one port: who may send them, and who answers.

use std::sync::Arc;

use http::{Method, Request, Response, header};
use tonic::body::Body;

use super::{
    access::Access,
    dispatch::Remote,
    gateway::{BETA_PREFIX, Gateway, PREFIX},
    http::Endpoints,
};

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
        let Some(access) = &self.access else {
            return self.endpoints.call(&request.into_parts().0).await;
        };
        let (head, body) = request.into_parts();
        if let Some(refusal) = access.refuses(&head, remote) {
            return refusal;
        }
        let origin = head.headers.get(header::ORIGIN).cloned();
        let mut response = if head.method == Method::OPTIONS {
            Response::new(Body::empty())
        } else {
            self.answer(Request::from_parts(head, body), remote).await
        };
        access.share(origin.as_ref(), response.headers_mut());
        response
    }

    async fn answer(&self, request: Request<Body>, remote: &Remote) -> Response<Body> {
        let path = request.uri().path();
        match &self.gateway {
            Some(gateway) if path.starts_with(PREFIX) || path.starts_with(BETA_PREFIX) => {
                Arc::clone(gateway).call(request, remote).await
            }
            _ => self.endpoints.call(&request.into_parts().0).await,
        }
    }
}
