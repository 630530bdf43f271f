//! Leader election by a Lease: acquire, renew, release on stop, give up when renewing fails for too long.
//!
//! The holder gives up well before another replica may take over, and the process then ends: whatever a pass was about
//! to write dies with it. Decisions are in [`election`]; this is the loop around them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub mod election;

use election::{Election, Step};

/// Why the lease was given up.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// Renewing failed until the time to give up.
    #[error(
        "lease {name} was not renewed for {silent:?}: {why}; this replica stops so that another can lead"
    )]
    Lost {
        /// Name of the Lease.
        name: String,
        /// Time since the last renewal.
        silent: Duration,
        /// The last failure.
        why: String,
    },
}

/// How the competition is timed.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Another replica may take over after this much silence.
    pub duration: Duration,
    /// The holder gives up after this much: less than `duration`, so that two never lead at once.
    pub give_up: Duration,
    /// Pause between looks.
    pub retry: Duration,
}

impl Timing {
    /// The proportions client-go uses: 15 s, 10 s, 2 s.
    pub fn from_duration_seconds(seconds: u32) -> Self {
        let duration = Duration::from_secs(u64::from(seconds));
        Self { duration, give_up: duration * 2 / 3, retry: duration * 2 / 15 }
    }
}

/// Proof, at any moment, that this replica still leads.
#[derive(Clone)]
pub struct Leadership {
    started: Instant,
    renewed_millis: Arc<AtomicU64>,
    give_up: Duration,
}

impl Leadership {
    /// True while the last renewal is recent enough that no other replica can have taken over.
    pub fn held(&self) -> bool {
        let renewed = Duration::from_millis(self.renewed_millis.load(Ordering::Acquire));
        self.started.elapsed().saturating_sub(renewed) < self.give_up
    }

    /// Leadership that is held, or was lost, for as long as a test runs.
    #[cfg(test)]
    pub(crate) fn fixed(held: bool) -> Self {
        let give_up = if held { Duration::from_secs(3600) } else { Duration::ZERO };
        Self { started: Instant::now(), renewed_millis: Arc::default(), give_up }
    }

    fn renewed(&self, at: Instant) {
        let millis = at.saturating_duration_since(self.started).as_millis();
        self.renewed_millis.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Release);
    }
}

/// The held lease, to be kept by [`Held::keep`].
pub struct Held {
    api: Api<Lease>,
    election: Election,
    timing: Timing,
    leadership: Leadership,
    started: Instant,
}

/// Competes until this replica leads; `None` if `stop` came first.
pub async fn acquire(
    client: Client,
    namespace: &str,
    election: Election,
    timing: Timing,
    stop: &CancellationToken,
) -> Option<Held> {
    let started = Instant::now();
    let leadership =
        Leadership { started, renewed_millis: Arc::new(AtomicU64::new(0)), give_up: timing.give_up };
    let mut held = Held { api: Api::namespaced(client, namespace), election, timing, leadership, started };
    let mut waited_for = String::new();
    loop {
        let asked = Instant::now();
        match tokio::time::timeout(timing.give_up, held.look()).await {
            Ok(Ok(None)) => {
                held.leadership.renewed(asked);
                tracing::info!(lease = held.election.name(), "this replica leads");
                return Some(held);
            }
            Ok(Ok(Some(holder))) if holder != waited_for => {
                tracing::info!(lease = held.election.name(), holder, "another replica leads; waiting");
                waited_for = holder;
            }
            Ok(Ok(Some(_))) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, lease = held.election.name(), "asking for the lease failed");
            }
            Err(_) => tracing::warn!(lease = held.election.name(), "asking for the lease timed out"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(timing.retry) => {}
        }
    }
}

impl Held {
    /// The proof to be looked at before anything destructive.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Renews until `stop`, then releases. An error means that the lease is lost and the process has to end.
    pub async fn keep(mut self, stop: CancellationToken) -> Result<(), LeaseError> {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.release().await;
                    return Ok(());
                }
                () = tokio::time::sleep(self.timing.retry) => {}
            }
            let asked = Instant::now();
            let left = self.timing.give_up.saturating_sub(renewed.elapsed());
            let why = match tokio::time::timeout(left, self.look()).await {
                Ok(Ok(None)) => {
                    renewed = asked;
                    self.leadership.renewed(asked);
                    continue;
                }
                Ok(Ok(Some(holder))) => return Err(self.lost(renewed, format!("{holder} holds it"))),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the Kubernetes API did not answer in time".to_owned(),
            };
            tracing::warn!(lease = self.election.name(), why, "renewing the lease failed");
            if renewed.elapsed() >= self.timing.give_up {
                return Err(self.lost(renewed, why));
            }
        }
    }

    /// One look: `None` if the lease is ours now, else its holder.
    async fn look(&mut self) -> Result<Option<String>, kube::Error> {
        let current = self.api.get_opt(self.election.name()).await?;
        let written = match self.election.step(current.as_ref(), Timestamp::now(), self.started.elapsed()) {
            Step::Create(lease) => self.api.create(&PostParams::default(), &lease).await,
            Step::Write(lease) => {
                self.api.replace(self.election.name(), &PostParams::default(), &lease).await
            }
            Step::Wait { holder } => return Ok(Some(holder)),
        };
        // A conflict is an error like any other: the next look tells who was faster.
        written.map(|_| None)
    }

    async fn release(&self) {
        let released = async {
            let current = self.api.get(self.election.name()).await?;
            match self.election.release(&current, Timestamp::now()) {
                Some(free) => {
                    self.api.replace(self.election.name(), &PostParams::default(), &free).await.map(|_| ())
                }
                None => Ok(()),
            }
        };
        match tokio::time::timeout(self.timing.retry, released).await {
            Ok(Ok(())) => tracing::info!(lease = self.election.name(), "lease released"),
            Ok(Err(error)) => tracing::warn!(%error, "releasing the lease failed; it expires by itself"),
            Err(_) => tracing::warn!("releasing the lease timed out; it expires by itself"),
        }
    }

    fn lost(&self, renewed: Instant, why: String) -> LeaseError {
        LeaseError::Lost { name: self.election.name().to_owned(), silent: renewed.elapsed(), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use std::sync::Mutex;

    /// A Kubernetes API that knows one Lease, or answers nothing but 500.
    #[derive(Clone, Default)]
    struct Server {
        lease: Arc<Mutex<Option<Lease>>>,
        broken: Arc<std::sync::atomic::AtomicBool>,
    }

    impl Server {
        fn client(&self) -> Client {
            let server = self.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
            });
            Client::new(service, "default")
        }

        async fn answer(&self, request: Request<Body>) -> Response<Body> {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            if self.broken.load(Ordering::Acquire) {
                return reply(StatusCode::INTERNAL_SERVER_ERROR, "{}".to_owned());
            }
            let mut stored = self.lease.lock().unwrap();
            if parts.method != http::Method::GET {
                *stored = Some(serde_json::from_slice(&body).unwrap());
            }
            match &*stored {
                Some(lease) => reply(StatusCode::OK, serde_json::to_string(lease).unwrap()),
                None => reply(
                    StatusCode::NOT_FOUND,
                    r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"","reason":"NotFound","code":404}"#.to_owned(),
                ),
            }
        }

        fn holder(&self) -> Option<String> {
            self.lease.lock().unwrap().as_ref()?.spec.as_ref()?.holder_identity.clone()
        }
    }

    fn reply(status: StatusCode, body: String) -> Response<Body> {
        Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap()
    }

    async fn lead(server: &Server) -> Held {
        let election = Election::new("l", "a", 15);
        let stop = CancellationToken::new();
        acquire(server.client(), "default", election, Timing::from_duration_seconds(15), &stop).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_releases_the_lease() {
        let server = Server::default();
        let held = lead(&server).await;
        assert_eq!(server.holder().as_deref(), Some("a"));
        let stop = CancellationToken::new();
        stop.cancel();
        held.keep(stop).await.unwrap();
        assert_eq!(server.holder().as_deref(), Some(""));
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_cannot_renew_gives_up_before_another_may_take_over() {
        let server = Server::default();
        let held = lead(&server).await;
        let leadership = held.leadership();
        assert!(leadership.held());
        server.broken.store(true, Ordering::Release);
        let began = Instant::now();
        let lost = held.keep(CancellationToken::new()).await;
        assert!(matches!(lost, Err(LeaseError::Lost { .. })));
        assert!(!leadership.held());
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stolen_lease_ends_leadership_at_once() {
        let server = Server::default();
        let held = lead(&server).await;
        if let Some(spec) = server.lease.lock().unwrap().as_mut().and_then(|l| l.spec.as_mut()) {
            spec.holder_identity = Some("b".to_owned());
        }
        assert!(held.keep(CancellationToken::new()).await.unwrap_err().to_string().contains("b holds it"));
    }
}
