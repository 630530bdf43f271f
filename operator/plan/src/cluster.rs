//! One pass over one cluster: the order in which the parts are asked.

use std::time::Duration;

use crds::names::TEMPLATE_HASH_ANNOTATION;
use k8s_openapi::api::apps::v1::StatefulSet;

use crate::action::Action;
use crate::facts::{Facts, Step};
use crate::formation::{self, Stage};
use crate::ids::{ClusterId, Ordinal};
use crate::limits;
use crate::membership;
use crate::observed::{ClusterView, Observed};
use crate::pki::{CertificatesPlan, plan_certificates};
use crate::plan::{Objects, Plan};
use crate::reading::Reading;
use crate::report::{self, Told};
use crate::resources::{
    StatefulSetInput, client_service, peer_service, pod_disruption_budget, restore_job, seed_claim,
    stateful_set,
};
use crate::rollout;
use crate::validate::{Mode, ValidatedCluster, validate};
use crate::volumes;
use crate::waiting::Waiting;

/// Everything to do about a cluster now. The same observation gives the same plan.
pub fn plan_cluster(observed: &Observed) -> Plan {
    let certificates =
        |cluster: &ValidatedCluster| plan_certificates(cluster, &observed.secrets, observed.now);
    plan_cluster_given(observed, certificates)
}

/// The same, with the certificates' part answered by the caller: checking signatures costs more than all the
/// rest, and its answer changes only with the Secrets and, slowly, with time.
pub fn plan_cluster_given(
    observed: &Observed,
    certificates: impl FnOnce(&ValidatedCluster) -> CertificatesPlan,
) -> Plan {
    let cluster = match validate(&observed.cluster, &observed.settings) {
        Ok(cluster) => cluster,
        Err(invalid) => {
            let report = report::invalid(observed, &invalid);
            return Plan {
                objects: None,
                action: None,
                waiting: None,
                report,
                recheck: limits::RECHECK_IDLE,
            };
        }
    };
    let facts = Facts { cluster: &cluster, observed };
    let certificates = certificates(&cluster);
    let (stage, begin) = formation::form(&facts);
    let set = stateful_set(
        &cluster,
        &StatefulSetInput {
            replicas: membership::wanted_pods(&facts),
            existing_template_storage: observed
                .stateful_set
                .as_ref()
                .and_then(|s| s.template_storage.clone()),
        },
    );
    let hash = template_hash(&set);
    let step = next_step(&facts, &stage, begin, &certificates, &hash);
    let active = cluster.mode == Mode::Active;
    let (action, waiting) = match step {
        Step::Act(action) => (Some(action), None),
        Step::Wait(waiting) => (None, Some(waiting)),
        Step::Rest => (None, None),
    };
    let (action, suppressed) = if active { (action, None) } else { (None, action) };
    let told = Told {
        facts: &facts,
        stage: &stage,
        certificates: &certificates,
        action: action.as_ref(),
        waiting: waiting.as_ref(),
        suppressed: suppressed.as_ref(),
        template_hash: &hash,
    };
    let report = report::cluster(&told);
    let objects = active.then(|| objects(&facts, &stage, certificates, set)).flatten();
    let recheck = recheck(objects.as_ref(), action.as_ref(), waiting.as_ref());
    Plan { objects, action, waiting, report, recheck }
}

/// The one thing to do or to wait for. What disturbs nobody comes before what has to wait for others.
fn next_step(
    facts: &Facts<'_>,
    stage: &Stage,
    begin: Step,
    certificates: &CertificatesPlan,
    hash: &str,
) -> Step {
    let stuck = rollout::restart_stuck(facts, hash);
    let step = match stage {
        Stage::Formed { cluster_id } => formed(facts, *cluster_id, hash),
        Stage::Blocked | Stage::New | Stage::Restoring { .. } | Stage::Seeding => begin,
    };
    let step = match (step, stuck) {
        (Step::Act(action), _) | (Step::Wait(_) | Step::Rest, Step::Act(action)) => Step::Act(action),
        (other, _) => other,
    };
    // Pods cannot mount what is not there: say that rather than that they do not start. What needs a human is
    // said first.
    let patient = match &step {
        Step::Act(_) => false,
        Step::Wait(waiting) => !waiting.is_obstacle(),
        Step::Rest => true,
    };
    match &certificates.trouble {
        Some(trouble) if patient && facts.observed.stateful_set.is_none() => {
            Step::Wait(Waiting::Certificates { message: trouble.message.clone(), reason: trouble.reason })
        }
        _ => step,
    }
}

fn formed(facts: &Facts<'_>, cluster_id: ClusterId, hash: &str) -> Step {
    let list = match &facts.observed.members {
        Reading::Fresh(list) => list,
        Reading::Stale { .. } => return Step::Wait(no_quorum(facts, "the member list could not be read")),
        Reading::Unreachable { error } => return Step::Wait(no_quorum(facts, error)),
    };
    if list.cluster_id != cluster_id {
        return Step::Wait(Waiting::Human {
            reason: crds::Reason::ClusterIdMismatch,
            message: format!(
                "the members answer with cluster ID {}, on record is {cluster_id}; find out whose data they serve \
                 before writing to them",
                list.cluster_id
            ),
        });
    }
    let view = ClusterView::new(list, facts.names());
    // A pod that is waited for may be one that a former member's volume keeps from being made.
    let membership = match (membership::change(facts, &view, cluster_id), membership::clear_leftovers(facts))
    {
        (Step::Act(action), _) | (Step::Wait(_) | Step::Rest, Step::Act(action)) => Step::Act(action),
        (_, Step::Wait(waiting)) => Step::Wait(waiting),
        (step, Step::Rest) => step,
    };
    match membership {
        Step::Act(action) => Step::Act(action),
        Step::Wait(waiting) => match volumes::expand(facts) {
            Step::Act(action) => Step::Act(action),
            Step::Wait(_) | Step::Rest => Step::Wait(waiting),
        },
        Step::Rest => at_rest(facts, &view, hash),
    }
}

/// Every wished-for ordinal is a voter: restarts, volumes while none is possible, then whoever is not well. A storage
/// class that refuses to grow volumes must not hold up the restarts.
fn at_rest(facts: &Facts<'_>, view: &ClusterView<'_>, hash: &str) -> Step {
    match (rollout::restart_next(facts, view, hash), volumes::expand(facts)) {
        (Step::Act(action), _) | (Step::Wait(_) | Step::Rest, Step::Act(action)) => return Step::Act(action),
        (Step::Wait(waiting), _) => return Step::Wait(waiting),
        (Step::Rest, _) => {}
    }
    let absent = view.voters().find(|(ordinal, member)| !facts.participates(*ordinal, member));
    if let Some((ordinal, _)) = absent {
        return Step::Wait(facts.wait_for_pod(ordinal));
    }
    let unready = view.voters().find(|(ordinal, _)| facts.pod(*ordinal).is_some_and(|pod| !pod.ready));
    unready.map_or(Step::Rest, |(ordinal, _)| {
        Step::Wait(Waiting::PodNotReady { pod: facts.names().pod(ordinal.0) })
    })
}

/// While quorum is absent nothing is decided, so nothing is deleted.
fn no_quorum(facts: &Facts<'_>, error: &str) -> Waiting {
    let missing = (0..facts.target().max(membership::wanted_pods(facts)))
        .map(Ordinal)
        .filter(|o| facts.serving(*o).is_none())
        .map(|o| facts.names().pod(o.0))
        .collect();
    Waiting::NoQuorum { missing, error: error.to_owned(), scale_back: membership::scale_back(facts) }
}

fn objects(
    facts: &Facts<'_>,
    stage: &Stage,
    certificates: CertificatesPlan,
    set: StatefulSet,
) -> Option<Objects> {
    let cluster = facts.cluster;
    let exists = facts.observed.stateful_set.is_some();
    let usable = certificates.usable() && facts.storage_class_missing().is_none();
    let (seed, job, members) = match stage {
        Stage::Blocked => return None,
        Stage::New => (None, None, false),
        Stage::Restoring { job } => {
            let from = job.as_ref().map(|from| restore_job(cluster, &facts.observed.settings, from));
            (Some(seed_claim(cluster)), from, false)
        }
        Stage::Seeding | Stage::Formed { .. } => (None, None, usable),
    };
    // Voters that cannot be counted are taken to be as many as there are pods: the budget must not loosen.
    let unknown = usize::try_from(membership::wanted_pods(facts)).unwrap_or(usize::MAX);
    let voters = facts.view().map_or(unknown, |view| view.voter_count());
    Some(Objects {
        claim_owners: volumes::owners(facts),
        certificates: certificates.issue,
        peer_service: peer_service(cluster),
        client_service: client_service(cluster),
        pod_disruption_budget: pod_disruption_budget(cluster, voters),
        seed_claim: seed,
        restore_job: job,
        stateful_set: (members || exists).then_some(set),
    })
}

fn template_hash(set: &StatefulSet) -> String {
    let annotations =
        set.spec.as_ref().and_then(|s| s.template.metadata.as_ref()).and_then(|m| m.annotations.as_ref());
    annotations.and_then(|a| a.get(TEMPLATE_HASH_ANNOTATION).cloned()).unwrap_or_default()
}

fn recheck(objects: Option<&Objects>, action: Option<&Action>, waiting: Option<&Waiting>) -> Duration {
    let issues = objects.is_some_and(|o| !o.certificates.is_empty());
    match (action, waiting) {
        (Some(_), _) => limits::RECHECK_AFTER_ACTION,
        (None, _) if issues => limits::RECHECK_AFTER_ACTION,
        (None, Some(Waiting::Human { .. })) => limits::RECHECK_IDLE,
        (None, Some(_)) => limits::RECHECK_BUSY,
        (None, None) => limits::RECHECK_REST,
    }
}
