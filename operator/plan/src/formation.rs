//! How a cluster begins, exactly once: by a create ticket, or from a backup.
//!
//! ```text
//! no record -> begun (no grant) -> granted to one pod or claim -> formed (seen serving)
//! ```
//! The record is written before what it allows, so a crash between two steps repeats a step and never skips
//! one. A record that is gone while volumes exist is not written anew on a guess: only a member that serves
//! under the expected cluster ID proves that the cluster was formed.

use crds::Reason;

use crate::action::{Action, Expect};
use crate::facts::{Facts, Step};
use crate::identity::{Grant, IdentityRecord, Origin};
use crate::ids::{ClusterId, Ordinal};
use crate::observed::{IdentityView, PodView};
use crate::resources::RestoreFrom;
use crate::restore;
use crate::ticket::Ticket;
use crate::waiting::Waiting;

/// The ordinal that begins a cluster.
pub const SEED: Ordinal = Ordinal(0);

/// How far a cluster's beginning is; it decides which objects may exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing may be created: leftovers of another cluster, or a damaged record.
    Blocked,
    /// Nothing is recorded yet; no pods and no volumes.
    New,
    /// The first volume is being filled from a backup; no StatefulSet.
    Restoring {
        /// What to restore, once there is a claim to restore to and no Job yet.
        job: Option<Box<RestoreFrom>>,
    },
    /// Pods run, the cluster is not known to serve yet.
    Seeding,
    /// The cluster was seen serving.
    Formed {
        /// Its ID.
        cluster_id: ClusterId,
    },
}

/// Where the beginning stands and what to do about it.
pub fn form(facts: &Facts<'_>) -> (Stage, Step) {
    if let Some(set) = &facts.observed.stateful_set
        && set.owner_uid.as_deref() != Some(facts.cluster.uid.as_str())
    {
        return human(
            Reason::ObjectNotOwned,
            format!(
                "StatefulSet {} exists and is not controlled by this cluster; if it is of a deleted cluster it will \
                 go by itself, else rename or delete it or use another cluster name",
                facts.names().stateful_set()
            ),
        );
    }
    match &facts.observed.identity {
        IdentityView::Malformed { error } => human(
            Reason::IdentityUnreadable,
            format!(
                "ConfigMap {} does not read ({error}); restore it from your copy, nothing is created until then",
                facts.names().identity()
            ),
        ),
        IdentityView::Absent => without_record(facts),
        IdentityView::Present { record, resource_version } if record.cluster_uid != facts.cluster.uid => {
            if facts.observed.stateful_set.is_some() || !facts.observed.volumes.is_empty() {
                return leftovers(facts, &record.cluster_uid);
            }
            // The record lives as long as the volumes, and those are gone.
            let record = IdentityRecord::begun(&facts.cluster.uid);
            let expect = Expect::Version(resource_version.clone());
            (Stage::New, Step::Act(Action::RecordIdentity { record, expect }))
        }
        IdentityView::Present { record, resource_version } => {
            with_record(facts, record, Expect::Version(resource_version.clone()))
        }
    }
}

fn human(reason: Reason, message: String) -> (Stage, Step) {
    (Stage::Blocked, Step::Wait(Waiting::Human { message, reason }))
}

fn without_record(facts: &Facts<'_>) -> (Stage, Step) {
    let volumes = &facts.observed.volumes;
    if facts.observed.stateful_set.is_none() && volumes.is_empty() {
        let record = IdentityRecord::begun(&facts.cluster.uid);
        return (Stage::New, Step::Act(Action::RecordIdentity { record, expect: Expect::Absent }));
    }
    if proof_of_formation(facts) {
        let record = formed(facts, &IdentityRecord::begun(&facts.cluster.uid));
        return (Stage::Seeding, Step::Act(Action::RecordIdentity { record, expect: Expect::Absent }));
    }
    if facts.observed.stateful_set.is_none() {
        return leftovers(facts, "unknown");
    }
    human(
        Reason::IdentityUnreadable,
        format!(
            "ConfigMap {} is gone and no member answers that could prove the cluster exists; bring a member back \
             or restore the ConfigMap from your copy",
            facts.names().identity()
        ),
    )
}

fn leftovers(facts: &Facts<'_>, uid: &str) -> (Stage, Step) {
    let names = facts.names();
    let mut claims: Vec<&str> = facts.observed.volumes.iter().map(|v| v.reference.name.as_str()).collect();
    claims.sort_unstable();
    // By name: a claim that lost its label is left over as well.
    let (volumes, delete_claims) = if claims.is_empty() {
        ("no volume".to_owned(), String::new())
    } else {
        let delete = format!(" && kubectl -n {} delete pvc {}", names.namespace(), claims.join(" "));
        (format!("volume claims {}", claims.join(", ")), delete)
    };
    human(
        Reason::LeftoverIdentity,
        format!(
            "a former cluster {} (UID {uid}) left ConfigMap {} and {volumes}; use another name, or, if that data \
             is not needed: kubectl -n {} delete configmap/{} --ignore-not-found{delete_claims}",
            names.cluster(),
            names.identity(),
            names.namespace(),
            names.identity(),
        ),
    )
}

fn with_record(facts: &Facts<'_>, record: &IdentityRecord, expect: Expect) -> (Stage, Step) {
    if let (Some(grant), Some(_)) = (&record.grant, record.formed_at) {
        return (Stage::Formed { cluster_id: grant.cluster_id }, Step::Rest);
    }
    if proof_of_formation(facts) {
        let record = formed(facts, record);
        return (Stage::Seeding, Step::Act(Action::RecordIdentity { record, expect }));
    }
    if let Some(serving) = facts.serving(SEED) {
        return human(
            Reason::ClusterIdMismatch,
            format!(
                "{} answers with cluster ID {}, expected {}; its volume is not this cluster's",
                facts.names().pod(SEED.0),
                serving.cluster_id,
                facts.expected_cluster_id()
            ),
        );
    }
    match (&record.grant, &facts.cluster.spec.bootstrap) {
        (Some(Grant { origin: Origin::Restored { .. }, .. }), _) | (None, Some(_)) => {
            restore::step(facts, record, expect)
        }
        (grant, _) => (Stage::Seeding, create(facts, grant.as_ref(), expect)),
    }
}

/// A member serves under the ID that only this object's UID yields.
fn proof_of_formation(facts: &Facts<'_>) -> bool {
    let expected = facts.expected_cluster_id();
    let mut ordinals = facts.observed.nodes.keys();
    ordinals.any(|o| facts.serving(*o).is_some_and(|s| s.cluster_id == expected && s.leader.is_some()))
}

fn formed(facts: &Facts<'_>, record: &IdentityRecord) -> IdentityRecord {
    let claim_uid = facts.volume(SEED).map(|v| v.reference.uid.clone()).unwrap_or_default();
    let grant = record.grant.clone().unwrap_or_else(|| Grant {
        cluster_id: facts.expected_cluster_id(),
        seed_member_id: facts.seed_member_id(),
        origin: Origin::Observed { claim_uid },
        at: facts.observed.now,
    });
    IdentityRecord { grant: Some(grant), formed_at: Some(facts.observed.now), ..record.clone() }
}

fn create(facts: &Facts<'_>, grant: Option<&Grant>, expect: Expect) -> Step {
    let pod = facts.pod(SEED).filter(|_| facts.awaits_ticket(SEED));
    let (Some(pod), Some(volume)) = (pod, facts.volume(SEED)) else {
        return Step::Wait(facts.wait_for_pod(SEED));
    };
    let claim_uid = volume.reference.uid.clone();
    let Some(grant) = grant else { return give_grant(facts, pod, claim_uid, expect) };
    if grant.claim_uid() != claim_uid {
        return Step::Wait(seed_lost(facts));
    }
    let same_pod = matches!(&grant.origin, Origin::Created { pod_uid, .. } if *pod_uid == pod.reference.uid);
    let has_ticket = pod
        .ticket
        .as_deref()
        .and_then(Ticket::from_json)
        .is_some_and(|t| t.pod_uid == pod.reference.uid && t.cluster_uid == facts.cluster.uid);
    if same_pod && has_ticket {
        let member = facts.names().pod(SEED.0);
        return Step::Wait(Waiting::MemberStarting { member, error: None });
    }
    // The pod was replaced before the cluster was ever seen serving, on the very claim the grant names, and
    // that claim is blank still: nothing was created yet.
    give_grant(facts, pod, claim_uid, expect)
}

fn give_grant(facts: &Facts<'_>, pod: &PodView, claim_uid: String, expect: Expect) -> Step {
    let seed_member_id = facts.seed_member_id();
    let grant = Grant {
        cluster_id: facts.expected_cluster_id(),
        seed_member_id,
        origin: Origin::Created { pod_uid: pod.reference.uid.clone(), claim_uid },
        at: facts.observed.now,
    };
    let record = IdentityRecord { grant: Some(grant), ..IdentityRecord::begun(&facts.cluster.uid) };
    let ticket = Ticket::create(&facts.cluster.uid, &pod.reference.uid, seed_member_id).to_json();
    Step::Act(Action::GrantCreate { record, expect, pod: pod.reference.clone(), ticket })
}

/// The first volume is gone before anything else holds the data.
pub(crate) fn seed_lost(facts: &Facts<'_>) -> Waiting {
    Waiting::Human {
        reason: Reason::SeedVolumeLost,
        message: format!(
            "volume claim {} was replaced or emptied after the cluster was allowed to begin on it; creating the \
             cluster a second time could hide lost writes. Delete this EtcdCluster and ConfigMap {}, then create \
             it again, from a backup if there is one",
            facts.names().claim(SEED.0),
            facts.names().identity()
        ),
    }
}
