//! Which HTTP requests are let in, and which web pages may send them (etcd: `accessController` in
//! `server/embed/serve.go`).

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use tonic::body::Body;
use tracing::warn;

use super::{dispatch::Remote, gateway::is_for_gateway, health::Health, http::failure};
use crate::flags::{Config, url::Security};

/// What `--host-whitelist`, `--cors` and authentication demand.
pub struct Access {
    hosts: Vec<String>,
    origins: Vec<String>,
    /// Whether client certificates may be taken for users.
    certificates: bool,
    health: Arc<Health>,
}

impl Access {
    pub fn new(config: &Config, health: Arc<Health>) -> Self {
        Self {
            hosts: config.host_whitelist.clone(),
            origins: config.cors.clone(),
            certificates: config.client_tls.client_cert_auth && config.enable_grpc_gateway,
            health,
        }
    }

    /// The answer to a request that is not let in.
    pub fn refuses(&self, request: &Parts, remote: &Remote) -> Option<Response<Body>> {
        if remote.security == Security::Plain {
            let host = host(request);
            return (!listed(&self.hosts, host)).then(|| misdirected(host));
        }
        let takes_for_user = self.certificates && named(remote) && is_for_gateway(request.uri.path());
        (takes_for_user && self.authenticates()).then(|| {
            failure(
                StatusCode::BAD_REQUEST,
                "CommonName of client sending a request against gateway will be ignored and not used as expected",
            )
        })
    }

    fn authenticates(&self) -> bool {
        self.health.node().is_some_and(|node| node.reader().view().authorizer().is_enabled())
    }

    /// Tells a browser whether the page it asks for may see the answer.
    pub fn share(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        let any = HeaderValue::from_static("*");
        let allowed = match origin {
            _ if listed(&self.origins, "*") => Some(&any),
            Some(origin) => origin.to_str().is_ok_and(|name| listed(&self.origins, name)).then_some(origin),
            None => None,
        };
        let Some(allowed) = allowed else { return };
        answer.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
        );
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
        answer.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("accept, content-type, authorization"),
        );
    }
}

/// Whether the client's certificate has a name.
fn named(remote: &Remote) -> bool {
    remote.common_name.as_deref().is_some_and(|name| !name.is_empty())
}

/// Whether a list has a name; one that is empty or has `*` has all.
fn listed(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|listed| listed == "*" || listed == name)
}

/// The host that a request names, without port.
fn host(request: &Parts) -> &str {
    let header = request.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let authority = header.or(request.uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A web page must not reach a member on the loopback of its reader's machine under a name of its own (CVE-2018-5702).
/// The text is etcd's.
fn misdirected(host: &str) -> Response<Body> {
    warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
    let text = format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
           - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n"
    );
    failure(StatusCode::MISDIRECTED_REQUEST, &text)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::node::Boot;

    fn access(hosts: &[&str], origins: &[&str]) -> Access {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut config = Config::default();
        (config.host_whitelist, config.cors) = (texts(hosts), texts(origins));
        Access::new(&config, Arc::new(Health::new(Arc::new(Boot::default()))))
    }

    fn status(access: &Access, host: &str, security: Security) -> Option<StatusCode> {
        let request = Request::builder().uri("/v3/kv/range").header(header::HOST, host).body(()).unwrap();
        let remote = Remote { security, ..Remote::plain("127.0.0.1:1".to_owned()) };
        access.refuses(&request.into_parts().0, &remote).map(|response| response.status())
    }

    #[test]
    fn only_listed_hosts_are_let_in_over_plain_http() {
        let named = access(&["example.org", "::1"], &["*"]);
        for host in ["example.org", "example.org:2379", "[::1]:2379", "[::1]"] {
            assert_eq!(status(&named, host, Security::Plain), None, "{host}");
        }
        assert_eq!(status(&named, "evil.org:2379", Security::Plain), Some(StatusCode::MISDIRECTED_REQUEST));
        assert_eq!(status(&named, "evil.org", Security::Tls), None);
        assert_eq!(status(&access(&["*"], &["*"]), "evil.org", Security::Plain), None);
    }

    #[test]
    fn pages_of_allowed_origins_may_see_answers() {
        let shared = |access: &Access, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            access.share(origin.map(HeaderValue::from_static).as_ref(), &mut headers);
            headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(shared(&access(&["*"], &["*"]), None).as_deref(), Some("*"));
        let named = access(&["*"], &["https://a.org"]);
        assert_eq!(shared(&named, Some("https://a.org")).as_deref(), Some("https://a.org"));
        assert_eq!(shared(&named, Some("https://b.org")), None);
        assert_eq!(shared(&named, None), None);
    }
}
