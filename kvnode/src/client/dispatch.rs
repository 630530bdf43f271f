//! One request: to the gRPC services or to the HTTP endpoints, by what it says it is.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use http::{Request, Response, header};
use hyper::body::Incoming;
use rustls_pki_types::CertificateDer;
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;

use super::{grpc::Services, web::Web};
use crate::flags::url::Security;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Address and port, for logs.
    pub address: String,
    pub security: Security,
    /// Common name of the client certificate, where one was shown and verified.
    pub common_name: Option<String>,
    /// Given back when nothing serves the connection any more, nor what it was upgraded to.
    pub slot: Option<Arc<OwnedSemaphorePermit>>,
}

impl Remote {
    pub fn plain(address: String) -> Self {
        Self { address, security: Security::Plain, common_name: None, slot: None }
    }

    pub fn tls(address: String, certificate: Option<&CertificateDer<'_>>) -> Self {
        // As in etcd, whoever proves to be nobody by name is still somebody.
        let common_name = certificate.map(|shown| crate::tls::common_name(shown).unwrap_or_default());
        Self { address, security: Security::Tls, common_name, slot: None }
    }
}

/// What a port answers.
#[derive(Clone)]
pub struct Dispatch {
    /// `None` on ports for HTTP alone.
    pub grpc: Option<Arc<Services>>,
    /// `None` on ports for gRPC alone.
    pub http: Option<Arc<Web>>,
}

impl Dispatch {
    /// The service of one connection.
    pub fn for_connection(&self, remote: Remote) -> Connection {
        Connection { dispatch: self.clone(), remote: Arc::new(remote) }
    }
}

/// The requests of one connection.
#[derive(Clone)]
pub struct Connection {
    dispatch: Dispatch,
    remote: Arc<Remote>,
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        super::trace::target(&request);
        let is_grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let (request, remote) = (request.map(Body::new), Arc::clone(&self.remote));
        match (&self.dispatch.grpc, &self.dispatch.http) {
            (Some(services), _) if is_grpc => {
                let services = Arc::clone(services);
                Box::pin(async move { Ok(services.call(request, remote).await) })
            }
            (_, Some(web)) => {
                let web = Arc::clone(web);
                Box::pin(async move { Ok(web.call(request, &remote).await) })
            }
            _ => Box::pin(async { Ok(super::http::not_found()) }),
        }
    }
}
