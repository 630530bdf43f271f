//! The controllers: a queue of objects per kind, bounded passes at once, a wait after failures.
//!
//! ```text
//! watches -> triggers -> queue (one pass per object at a time) -> pass -> look again later
//! ```
//! Never: two passes over one object at once, or a pass that holds up another object's.
//! Read next: [`cluster`] for the main pass, [`caches`] for what it reads, [`apply`] for how it writes.

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Resource;
use kube::runtime::controller::{Action as Requeue, Error as ControllerError, ReconcileRequest, applier};
use kube::runtime::reflector::Store;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::limits;

pub mod apply;
pub mod backoff;
pub mod backup;
pub mod caches;
pub mod cluster;
pub mod compare;
pub mod context;
pub mod operation;
pub mod report;
pub mod schedule;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use caches::{Triggered, Triggers};
use context::{Context, name_of};

/// Why a pass failed.
#[derive(Debug, Error)]
pub enum PassError {
    /// An object could not be read or written.
    #[error(transparent)]
    Apply(#[from] apply::ApplyError),
    /// The planned objects could not be made.
    #[error(transparent)]
    Objects(#[from] cluster::objects::ObjectsError),
    /// The action failed.
    #[error(transparent)]
    Act(#[from] cluster::act::ActError),
    /// Another replica may lead.
    #[error("this operator may not act: its lease is not fresh")]
    NotLeading,
    /// It took too long.
    #[error("the pass did not end within {0:?}")]
    Deadline(Duration),
}

impl PassError {
    /// A name from a closed set, for the metric.
    pub fn reason(&self) -> &'static str {
        use apply::ApplyError;
        use cluster::act::ActError;
        use cluster::objects::ObjectsError;
        match self {
            Self::Apply(ApplyError::Api { .. })
            | Self::Objects(ObjectsError::Apply(ApplyError::Api { .. }))
            | Self::Act(ActError::Kubernetes(_)) => "KubernetesApi",
            Self::Apply(ApplyError::NotOwned(_))
            | Self::Objects(ObjectsError::Apply(ApplyError::NotOwned(_))) => "ObjectNotOwned",
            Self::Apply(ApplyError::Json { .. })
            | Self::Objects(ObjectsError::Apply(ApplyError::Json { .. })) => "Internal",
            Self::Objects(ObjectsError::Issue { .. } | ObjectsError::Key { .. }) => "Certificate",
            Self::Act(ActError::NotLeading)
            | Self::Apply(ApplyError::NotLeading)
            | Self::Objects(ObjectsError::Apply(ApplyError::NotLeading))
            | Self::NotLeading => "NotLeading",
            Self::Act(
                ActError::Member(_)
                | ActError::NoVoter
                | ActError::NotReachable(_)
                | ActError::OtherCluster { .. }
                | ActError::NoMember,
            ) => "Member",
            Self::Deadline(_) => "Deadline",
        }
    }
}

/// Starts the four controllers of a scope as tasks; they end, after passes under way, at `stop`.
pub fn start(ctx: &Arc<Context>, triggers: Triggers, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
    let Triggers { clusters, backups, schedules, operations } = triggers;
    let (state, kept) = shared(cluster::State::default());
    let pass = move |object, ctx: Arc<Context>| {
        let state = Arc::clone(&state);
        async move { cluster::pass(&ctx, &state, object).await }
    };
    let gone = move |ctx: &Context, name: &(String, String)| cluster::forget(ctx, &kept, name);
    tasks.spawn(control(ctx, "EtcdCluster", ctx.caches.clusters.clone(), clusters, stop, pass, gone));

    let (state, kept) = shared(backup::State::default());
    let pass = move |object, ctx: Arc<Context>| {
        let state = Arc::clone(&state);
        async move { backup::pass(&ctx, &state, object).await }
    };
    let gone = move |_: &Context, name: &(String, String)| kept.forget(name);
    tasks.spawn(control(ctx, "EtcdBackup", ctx.caches.backups.clone(), backups, stop, pass, gone));

    let (state, kept) = shared(schedule::State::default());
    let pass = move |object, ctx: Arc<Context>| {
        let state = Arc::clone(&state);
        async move { schedule::pass(&ctx, &state, object).await }
    };
    let gone = move |_: &Context, name: &(String, String)| kept.forget(name);
    tasks.spawn(control(
        ctx,
        "EtcdBackupSchedule",
        ctx.caches.schedules.clone(),
        schedules,
        stop,
        pass,
        gone,
    ));

    let (state, kept) = shared(operation::State::default());
    let pass = move |object, ctx: Arc<Context>| {
        let state = Arc::clone(&state);
        async move { operation::pass(&ctx, &state, object).await }
    };
    let gone = move |_: &Context, name: &(String, String)| kept.forget(name);
    tasks.spawn(control(ctx, "EtcdOperation", ctx.caches.operations.clone(), operations, stop, pass, gone));
}

fn shared<T>(state: T) -> (Arc<T>, Arc<T>) {
    let state = Arc::new(state);
    (Arc::clone(&state), state)
}

/// Runs the passes over one kind, and forgets what is gone.
fn control<K, F>(
    ctx: &Arc<Context>,
    kind: &'static str,
    store: Store<K>,
    triggered: Triggered<K>,
    stop: &CancellationToken,
    pass: impl Fn(Arc<K>, Arc<Context>) -> F + Clone + Send + Sync + 'static,
    gone: impl Fn(&Context, &(String, String)) + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    F: Future<Output = Result<Duration, PassError>> + Send + 'static,
{
    let ctx = Arc::clone(ctx);
    let queue = triggered
        .map(|object| Ok::<_, Infallible>(ReconcileRequest::from(object)))
        .take_until(stop.clone().cancelled_owned());
    let config =
        kube::runtime::Config::default().debounce(limits::DEBOUNCE).concurrency(limits::CONCURRENT_PASSES);
    let run = move |object: Arc<K>, ctx: Arc<Context>| Box::pin(timed(kind, object, ctx, pass.clone()));
    // Failures are turned into waits inside, so this policy only exists for the type.
    let policy = |_: Arc<K>, _: &Infallible, _: Arc<Context>| Requeue::await_change();
    async move {
        let mut passes = Box::pin(applier(run, policy, Arc::clone(&ctx), store, Box::pin(queue), config));
        while let Some(pass) = passes.next().await {
            if let Err(ControllerError::ObjectNotFound(object)) = pass {
                let name = (object.namespace.clone().unwrap_or_default(), object.name.clone());
                ctx.backoff.reset(&key(kind, &name));
                gone(&ctx, &name);
            }
        }
    }
}

fn key(kind: &str, (namespace, name): &(String, String)) -> String {
    format!("{kind}/{namespace}/{name}")
}

/// One pass with its deadline, its figures and, after a failure, its wait.
async fn timed<K, F>(
    kind: &'static str,
    object: Arc<K>,
    ctx: Arc<Context>,
    pass: impl Fn(Arc<K>, Arc<Context>) -> F,
) -> Result<Requeue, Infallible>
where
    K: Resource<DynamicType = ()>,
    F: Future<Output = Result<Duration, PassError>>,
{
    let key = key(kind, &name_of(object.as_ref()));
    let began = Instant::now();
    ctx.metrics.pass_began(kind);
    let done = tokio::time::timeout(limits::PASS_DEADLINE, pass(object, Arc::clone(&ctx))).await;
    ctx.metrics.pass_ended(kind);
    match done.unwrap_or(Err(PassError::Deadline(limits::PASS_DEADLINE))) {
        Ok(again) => {
            ctx.metrics.pass_done(kind, began.elapsed());
            ctx.backoff.reset(&key);
            Ok(Requeue::requeue(again))
        }
        Err(error) => {
            let wait = ctx.backoff.failed(&key);
            ctx.metrics.pass_failed(kind, error.reason(), began.elapsed());
            tracing::warn!(object = key, %error, reason = error.reason(), ?wait, "the pass failed; it is tried again");
            Ok(Requeue::requeue(wait))
        }
    }
}
