//! One pass over an `EtcdCluster`: observe, plan, apply, act, report.
//!
//! Nothing is remembered between passes but words (see `context`). Read next: [`observe`], [`objects`], [`act`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::EtcdCluster;
use crds::cluster::MemberHealth;
use crds::conditions::ConditionType;
use crds::progress::OperationType;
use kube::ResourceExt;
use operator_plan::Failure;

use super::PassError;
use super::context::{Context, Newest};
use super::report;
use crate::metrics::MemberCounts;

pub mod act;
pub mod children;
pub mod objects;
pub mod observe;
pub mod probe;

use act::Acted;
use children::From;

/// What the objects' failures are called where failed actions are shown.
const APPLYING: &str = "make the cluster's objects as planned";

/// After a step the next one is looked for at once, as soon as watches may have seen the first.
const AFTER_ACTION: Duration = Duration::from_millis(300);

/// Members that ask to wait are asked again after this; each time costs a fresh look.
const AFTER_REFUSAL: Duration = Duration::from_millis(700);

/// The controller's own state: what it wrote last.
#[derive(Default)]
pub struct State {
    newest: Newest<EtcdCluster>,
}

/// Makes one pass; says when to look again even if nothing is heard.
pub async fn pass(ctx: &Context, state: &State, cluster: Arc<EtcdCluster>) -> Result<Duration, PassError> {
    let began = Instant::now();
    let cluster = state.newest.of(cluster);
    let Some(look) = observe::look(ctx, Arc::clone(&cluster), From::Caches).await? else {
        return Ok(AFTER_ACTION);
    };
    let plan = operator_plan::plan_cluster(&look.observed);
    tracing::debug!(
        action = plan.action.as_ref().map(tracing::field::display),
        waiting = plan.waiting.as_ref().map(tracing::field::display),
        recheck = ?plan.recheck,
        took = ?began.elapsed(),
        "planned"
    );
    let uid = cluster.uid().unwrap_or_default();
    // The report does not wait for what follows: whatever fails below, users see what is known now.
    tell(ctx, state, &cluster, &plan.report).await?;
    if let Some(objects) = plan.objects
        && let Err(error) = objects::apply(ctx, &look, &uid, objects).await
    {
        let failed =
            Failure { at: look.observed.now, attempted: APPLYING.to_owned(), error: error.to_string() };
        ctx.note_failures(cluster.as_ref(), |failures| failures.failed_otherwise(failed));
        return Err(error.into());
    }
    ctx.note_failures(cluster.as_ref(), |failures| {
        failures.recovered(|failed| plan.action.is_none() || failed.attempted == APPLYING);
    });
    let Some(action) = plan.action else { return Ok(plan.recheck) };
    match act::act(ctx, &look, &action).await? {
        Acted::Done => Ok(AFTER_ACTION),
        // The caches may lag for long: what was seen past them says when it is worth another look.
        Acted::Outdated { recheck } => Ok(recheck.max(AFTER_REFUSAL)),
        Acted::NotYet => Ok(plan.recheck.max(AFTER_REFUSAL).min(Duration::from_secs(1))),
    }
}

/// A cluster is gone: nothing about it is kept.
pub fn forget(ctx: &Context, state: &State, name: &(String, String)) {
    state.newest.forget(name);
    ctx.forget(name);
    let conditions: Vec<_> = ConditionType::ALL.iter().map(|c| c.as_str()).collect();
    ctx.metrics.forget(&name.0, &name.1, &conditions, &operation_types());
}

async fn tell(
    ctx: &Context,
    state: &State,
    cluster: &EtcdCluster,
    told: &operator_plan::Report,
) -> Result<(), PassError> {
    if !ctx.leadership.held() {
        return Err(PassError::NotLeading);
    }
    let written = report::status(
        &ctx.client,
        crds::names::FIELD_MANAGER,
        cluster,
        cluster.status.as_ref(),
        &told.status,
    )
    .await?;
    if let Some(written) = written {
        state.newest.wrote(written);
    }
    report::events(&ctx.recorder, cluster, &told.events).await;
    measure(ctx, cluster, told);
    Ok(())
}

fn measure(ctx: &Context, cluster: &EtcdCluster, told: &operator_plan::Report) {
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    let status = &told.status;
    ctx.metrics.conditions(
        &namespace,
        &name,
        status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())),
    );
    let mut counts = MemberCounts::default();
    for member in &status.members {
        match (member.learner, member.healthy) {
            (true, _) => counts.learners += 1,
            (false, MemberHealth::True) => counts.healthy_voters += 1,
            (false, MemberHealth::False | MemberHealth::Unknown) => counts.unhealthy_voters += 1,
        }
    }
    ctx.metrics.members(&namespace, &name, counts);
    let operation = status.operation.as_ref().map(|operation| operation.type_.as_str());
    ctx.metrics.operation(&namespace, &name, &operation_types(), operation);
    if let Some(expiry) = status.certificates_expire.as_deref().and_then(expiry_seconds) {
        ctx.metrics.certificate_expiry(&namespace, &name, expiry);
    }
}

fn operation_types() -> [&'static str; 6] {
    use OperationType::{Bootstrap, Replace, Restore, Roll, ScaleDown, ScaleUp};
    [Bootstrap, Restore, ScaleUp, ScaleDown, Replace, Roll].map(OperationType::as_str)
}

/// Midnight of the date in status: alerts are in days.
fn expiry_seconds(date: &str) -> Option<f64> {
    let date: jiff::civil::Date = date.parse().ok()?;
    let at = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(at.as_second() as f64)
}
