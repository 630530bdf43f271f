//! HTTP beside gRPC: `/health`, `/livez`, `/readyz`, `/version`, `/metrics`, `/debug/vars`, as etcd answers them
//! (`server/etcdserver/api/etcdhttp`). Served on the client port and on `--listen-metrics-urls`, the latter from the
//! first moment, while the member may still be waiting to be let into its cluster.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use http::{Method, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use tonic::body::Body;
use tracing::{error, warn};

use super::{health::Health, observe, vars};
use crate::{
    flags::{Config, usage::ETCD_VERSION},
    metrics::{self, Metrics},
};

/// The endpoints of one process.
pub struct Endpoints {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// What one check may take.
    timeout: Duration,
}

/// One check of `/livez` or `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }
}

impl Endpoints {
    pub fn new(health: Arc<Health>, metrics: Arc<Metrics>, config: &Config) -> Self {
        Self { health, metrics, timeout: config.request_timeout() }
    }

    /// Answers one request.
    pub async fn call(&self, request: &Parts) -> Response<Body> {
        let response = self.answer(request).await;
        if request.method == Method::HEAD { without_body(response) } else { response }
    }

    async fn answer(&self, request: &Parts) -> Response<Body> {
        let path = request.uri.path();
        let query = Query::read(request.uri.query().unwrap_or_default());
        let known =
            matches!(path, "/health" | "/livez" | "/readyz" | "/version" | "/metrics" | "/debug/vars")
                || path.starts_with("/livez/")
                || path.starts_with("/readyz/");
        if !known {
            return not_found();
        }
        // Metrics are told to all methods: the handler is not etcd's own.
        if request.method != Method::GET && path != "/metrics" {
            return method_not_allowed();
        }
        match path {
            "/health" => self.health(&query).await,
            "/version" => self.version(),
            "/metrics" => self.metrics(),
            "/debug/vars" => {
                answer(StatusCode::OK, "application/json; charset=utf-8", vars::text(&self.health))
            }
            "/livez" => self.checks("livez", LIVEZ, &query).await,
            "/readyz" => self.checks("readyz", READYZ, &query).await,
            _ => self.one_check(path, &query).await,
        }
    }

    async fn health(&self, query: &Query) -> Response<Body> {
        let reason = self.unhealthy(query).await;
        let health = if reason.is_none() { "true" } else { "false" };
        let body = serde_json::json!({ "health": health, "reason": reason.as_deref().unwrap_or("") });
        if reason.is_none() {
            self.metrics.server.health_success.inc();
            return answer(StatusCode::OK, "text/plain; charset=utf-8", body.to_string());
        }
        self.metrics.server.health_failures.inc();
        warn!(output = %body, "status-code" = 503, "/health error");
        failure(StatusCode::SERVICE_UNAVAILABLE, &body.to_string())
    }

    /// What is wrong, in etcd's words.
    async fn unhealthy(&self, query: &Query) -> Option<String> {
        if let Some(reason) = self.health.waiting() {
            return Some(reason);
        }
        if let Some(alarm) = self.health.alarms().iter().find(|alarm| !query.excludes(alarm)) {
            return Some(format!("ALARM {alarm}"));
        }
        if !query.serializable && !self.health.has_leader() {
            return Some("RAFT NO LEADER".to_owned());
        }
        if query.serializable {
            return None;
        }
        self.linearizable().await.err().map(|error| format!("RANGE ERROR:{error}"))
    }

    async fn linearizable(&self) -> Result<(), String> {
        match tokio::time::timeout(self.timeout, self.health.linearize()).await {
            Ok(result) => result,
            Err(_) => Err("context deadline exceeded".to_owned()),
        }
    }

    async fn one_check(&self, path: &str, query: &Query) -> Response<Body> {
        let (kind, checks, name) = match path.split_at_checked("/livez/".len()) {
            Some(("/livez/", name)) => ("livez", LIVEZ, name),
            _ => ("readyz", READYZ, path.trim_start_matches("/readyz/")),
        };
        match checks.iter().position(|check| check.name() == name) {
            Some(at) => self.checks(kind, &checks[at..=at], query).await,
            None => not_found(),
        }
    }

    async fn checks(&self, kind: &'static str, checks: &[Check], query: &Query) -> Response<Body> {
        let mut lines = String::new();
        let mut failed = false;
        for check in checks.iter().filter(|check| !query.excludes(check.name())) {
            let (status, line) = match self.check(kind, *check).await {
                Ok(()) => ("success", format!("[+]{} ok\n", check.name())),
                Err(why) => ("error", format!("[-]{} failed: {why}\n", check.name())),
            };
            failed |= status == "error";
            lines.push_str(&line);
            let server = &self.metrics.server;
            server.healthcheck.with_label_values(&[kind, check.name()]).set(i64::from(status == "success"));
            server.healthchecks.with_label_values(&[kind, check.name(), status]).inc();
        }
        if failed {
            error!(path = kind, reason = lines, "status-code" = 503, "Health check error");
            return failure(StatusCode::SERVICE_UNAVAILABLE, &lines);
        }
        let body = if query.verbose { lines + "ok\n" } else { "ok\n".to_owned() };
        let mut response = answer(StatusCode::OK, "text/plain; charset=utf-8", body);
        no_sniff(&mut response);
        response
    }

    async fn check(&self, kind: &str, check: Check) -> Result<(), String> {
        // A member that waits for its ticket is alive, and ready for nothing.
        if let Some(reason) = self.health.waiting() {
            return if kind == "livez" { Ok(()) } else { Err(reason) };
        }
        match check {
            Check::DataCorruption if self.health.alarms().contains(&"CORRUPT") => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            Check::DataCorruption | Check::SerializableRead => Ok(()),
            Check::LinearizableRead => self.linearizable().await,
            Check::NonLearner if self.health.is_learner() => Err("not supported for learner".to_owned()),
            Check::NonLearner => Ok(()),
        }
    }

    fn version(&self) -> Response<Body> {
        let versions = self.health.versions();
        let body = format!(
            "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{}\",\"storage\":\"{}\",\"kvnode\":\"{}\"}}",
            versions.cluster.as_deref().unwrap_or("not_decided"),
            versions.storage.as_deref().unwrap_or("unknown"),
            env!("CARGO_PKG_VERSION"),
        );
        answer(StatusCode::OK, "application/json", body)
    }

    fn metrics(&self) -> Response<Body> {
        let server = &self.metrics.server;
        server.scrapes_in_flight.inc();
        observe::observe(&self.health, &self.metrics);
        let text = self.metrics.render();
        server.scrapes_in_flight.dec();
        server.scrapes.with_label_values(&["200"]).inc();
        answer(StatusCode::OK, metrics::CONTENT_TYPE, text)
    }
}

/// The parameters that any endpoint understands.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    exclude: BTreeSet<String>,
    serializable: bool,
    verbose: bool,
}

impl Query {
    fn read(text: &str) -> Self {
        let mut query = Self::default();
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "exclude" if !value.is_empty() => {
                    query.exclude.insert(value.to_owned());
                }
                "serializable" => query.serializable = value == "true",
                "verbose" => query.verbose = true,
                _ => {}
            }
        }
        query
    }

    fn excludes(&self, name: &str) -> bool {
        self.exclude.contains(name)
    }
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// HTTP/2 would send the body after a HEAD, too.
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, Body::empty())
}

fn no_sniff(response: &mut Response<Body>) {
    let value = http::HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, value);
}

/// As Go's `http.Error`: plain text with a line end.
pub(super) fn failure(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = answer(status, "text/plain; charset=utf-8", format!("{text}\n"));
    no_sniff(&mut response);
    response
}

fn method_not_allowed() -> Response<Body> {
    let mut response = failure(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("GET"));
    response
}

/// The answer to a path that nobody knows.
pub fn not_found() -> Response<Body> {
    failure(StatusCode::NOT_FOUND, "404 page not found")
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
