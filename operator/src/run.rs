//! `operator run`: serves health and metrics, competes for the lease, and while it holds it runs the controllers.
//!
//! The process ends when it is told to stop, when the lease is lost, or when a task that must not end does. A restart
//! is always safe: no truth is kept here.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use operator_plan::observed::Settings;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::cli::RunArgs;
use crate::controller::caches;
use crate::controller::context::{Context, Shared};
use crate::etcd::Pool;
use crate::http::{HttpError, Readiness};
use crate::kubernetes::{self, ClientError};
use crate::lease::election::Election;
use crate::lease::{self, Held, LeaseError, Timing};
use crate::metrics::Metrics;
use crate::{controller, http, limits};

/// Why the operator ended with an error.
#[derive(Debug, Error)]
enum RunError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error("listening for signals failed: {0}")]
    Signals(std::io::Error),
    #[error("making an HTTP client failed: {0}")]
    HttpClient(#[from] reqwest::Error),
    #[error("a task ended that must not: {0}; the operator is started again")]
    Task(String),
}

/// Runs the operator to its end.
pub async fn main(args: RunArgs) -> ExitCode {
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: RunArgs) -> Result<(), RunError> {
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    let metrics = Arc::new(Metrics::new());
    let readiness = Readiness::default();
    // A replica that waits for the lease does its work by waiting; a Deployment must be able to roll past it.
    readiness.ready();
    let server_stop = CancellationToken::new();
    let server =
        tokio::spawn(http::serve(args.listen, Arc::clone(&metrics), readiness.clone(), server_stop.clone()));
    let client = kubernetes::client(Arc::clone(&metrics)).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), identity = args.identity, "operator started");
    let seconds = args.lease_duration_seconds;
    let election = Election::new(&args.lease_name, &args.identity, i32::try_from(seconds).unwrap_or(15));
    let timing = Timing::from_duration_seconds(seconds);
    let acquired = lease::acquire(client.clone(), &args.namespace, election, timing, &stop).await;
    let Some(held) = acquired else {
        server_stop.cancel();
        return Ok(());
    };
    metrics.leading();
    readiness.not_ready();
    let shared = shared(&args, &held, metrics)?;
    let outcome = lead(client, &args, shared, held, readiness, server, &stop).await;
    server_stop.cancel();
    outcome
}

fn shared(args: &RunArgs, held: &Held, metrics: Arc<Metrics>) -> Result<Shared, RunError> {
    Ok(Shared {
        settings: Settings {
            node_image: args.kvnode_image.clone(),
            operator_image: args.operator_image.clone(),
            node_image_pull_policy: Some(args.kvnode_image_pull_policy.clone())
                .filter(|policy| !policy.is_empty()),
            operator_image_pull_policy: Some(args.operator_image_pull_policy.clone())
                .filter(|policy| !policy.is_empty()),
            dns_domain: args.cluster_domain.clone(),
        },
        pool: Arc::new(Pool::default()),
        http: reqwest::Client::builder().connect_timeout(limits::CONNECT_DEADLINE).no_proxy().build()?,
        metrics,
        leadership: held.leadership(),
        identity: args.identity.clone(),
    })
}

/// Everything that happens while the lease is held. Controllers stop before the lease is released.
async fn lead(
    client: kube::Client,
    args: &RunArgs,
    shared: Shared,
    held: Held,
    readiness: Readiness,
    server: JoinHandle<Result<(), HttpError>>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let (release, halt) = (CancellationToken::new(), CancellationToken::new());
    let mut lease_task = tokio::spawn(held.keep(release.clone()));
    let mut tasks = JoinSet::new();
    let mut watches = JoinSet::new();
    let mut waits = Vec::new();
    for namespace in scopes(&args.watch_namespaces) {
        let (caches, triggers) = caches::start(&client, namespace.as_deref(), &mut watches, &halt);
        let ctx = Arc::new(Context::new(client.clone(), caches.clone(), shared.clone()));
        let halt = halt.clone();
        waits.push(async move {
            caches.ready().await;
            (ctx, triggers, halt)
        });
    }
    let all_ready = futures::future::join_all(waits);
    let ended = tokio::select! {
        ready = all_ready => {
            for (ctx, triggers, halt) in ready {
                controller::start(&ctx, triggers, &mut tasks, &halt);
            }
            readiness.ready();
            tracing::info!("watches are filled; controllers run");
            supervise(&mut lease_task, server, &mut tasks, &mut watches, stop).await
        }
        lost = &mut lease_task => lease_outcome(lost),
        () = stop.cancelled() => Ok(()),
    };
    halt.cancel();
    // Without the lease another replica may lead by the time that a pass would have ended.
    let grace = if ended.is_ok() { limits::DRAIN_GRACE } else { Duration::ZERO };
    drain(&mut tasks, grace).await;
    release.cancel();
    if ended.is_ok() && !lease_task.is_finished() {
        return lease_outcome(lease_task.await);
    }
    ended
}

/// Waits for the controllers to end their passes, and cuts them off after `grace`.
async fn drain(tasks: &mut JoinSet<()>, grace: Duration) {
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, ended).await.is_err() {
        tracing::warn!("some passes did not end in time; they are cut off, which is safe at any point");
        tasks.shutdown().await;
    }
}

/// Returns when something ends that should not, or when it is time to stop.
async fn supervise(
    lease_task: &mut JoinHandle<Result<(), LeaseError>>,
    server: JoinHandle<Result<(), HttpError>>,
    tasks: &mut JoinSet<()>,
    watches: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        lost = lease_task => lease_outcome(lost),
        served = server => match served {
            Ok(result) => result.map_err(RunError::from).and(Err(RunError::Task("the health server".to_owned()))),
            Err(error) => Err(RunError::Task(format!("the health server: {error}"))),
        },
        ended = tasks.join_next() => Err(RunError::Task(format!("a controller: {ended:?}"))),
        ended = watches.join_next() => Err(RunError::Task(format!("a watch: {ended:?}"))),
    }
}

fn lease_outcome(ended: Result<Result<(), LeaseError>, tokio::task::JoinError>) -> Result<(), RunError> {
    match ended {
        Ok(result) => result.map_err(RunError::from),
        Err(error) => Err(RunError::Task(format!("keeping the lease: {error}"))),
    }
}

/// One scope for all namespaces, or one for each that was named.
fn scopes(namespaces: &[String]) -> Vec<Option<String>> {
    let named: BTreeSet<_> = namespaces.iter().map(|n| n.trim()).filter(|n| !n.is_empty()).collect();
    if named.is_empty() { vec![None] } else { named.into_iter().map(|n| Some(n.to_owned())).collect() }
}

fn stop_on_signals(stop: &CancellationToken) -> Result<(), RunError> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).map_err(RunError::Signals)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            tracing::info!("told to stop");
            stop.cancel();
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn passes_may_end_in_their_time_or_are_cut_off_at_once() {
        for (grace, ends) in [(limits::DRAIN_GRACE, true), (Duration::ZERO, false)] {
            let mut tasks = JoinSet::new();
            let done = Arc::new(AtomicBool::new(false));
            let noted = Arc::clone(&done);
            tasks.spawn(async move {
                tokio::time::sleep(Duration::from_secs(5)).await;
                noted.store(true, Ordering::Release);
            });
            drain(&mut tasks, grace).await;
            assert!(tasks.is_empty());
            assert_eq!(done.load(Ordering::Acquire), ends);
        }
    }

    #[test]
    fn no_namespace_means_all_and_each_is_served_once() {
        assert_eq!(scopes(&[]), [None]);
        assert_eq!(scopes(&[String::new()]), [None]);
        let named = ["b", "a ", "b"].map(str::to_owned);
        assert_eq!(scopes(&named), [Some("a".to_owned()), Some("b".to_owned())]);
    }
}
