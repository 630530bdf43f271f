//! The Kubernetes client, with every write that leaves it counted: "at rest nothing is written" is a number.

use std::sync::Arc;

use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use thiserror::Error;
use tower::util::MapRequestLayer;

use crate::metrics::Metrics;

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Neither a service account nor a kubeconfig.
    #[error("finding the Kubernetes API failed: {0}; run in a pod with a service account, or set KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    /// The settings do not make a client.
    #[error("connecting to the Kubernetes API failed: {0}; check the kubeconfig or the service account")]
    Build(#[from] kube::Error),
}

/// A client for the cluster this process runs in, or that the kubeconfig names.
pub async fn client(metrics: Arc<Metrics>) -> Result<Client, ClientError> {
    let config = Config::infer().await?;
    let count = MapRequestLayer::new(move |request: http::Request<Body>| {
        if let Some(resource) = written_resource(request.method(), request.uri().path()) {
            metrics.api_write(request.method().as_str(), resource);
        }
        request
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&count).build())
}

/// The resource that a request may change, such as `pods`; `None` for a read.
pub fn written_resource<'a>(method: &http::Method, path: &'a str) -> Option<&'a str> {
    if *method == http::Method::GET {
        return None;
    }
    let mut parts = path.trim_start_matches('/').split('/');
    match parts.next() {
        Some("api") => parts.next(),
        Some("apis") => parts.nth(1),
        _ => return Some("other"),
    };
    match parts.next() {
        Some("namespaces") => {
            let name = parts.next();
            parts.next().or(name.map(|_| "namespaces"))
        }
        resource => resource,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn the_resource_of_a_write_is_its_plural() {
        for (path, resource) in [
            ("/api/v1/namespaces/db/pods/core-0", "pods"),
            ("/api/v1/persistentvolumes/pv-1", "persistentvolumes"),
            ("/apis/kvnode.io/v1alpha1/namespaces/db/etcdclusters/core/status", "etcdclusters"),
            ("/apis/apps/v1/namespaces/db/statefulsets", "statefulsets"),
        ] {
            assert_eq!(written_resource(&Method::PATCH, path), Some(resource), "{path}");
            assert_eq!(written_resource(&Method::GET, path), None);
        }
    }
}
