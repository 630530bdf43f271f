//! Growing volumes and tying them to their cluster: independent of what members do.

use crate::action::Action;
use crate::facts::{Facts, Step};
use crate::failures::Failure;
use crate::observed::{IdentityView, VolumePhase};
use crate::plan::ClaimOwner;
use crate::resources::volume_owner;
use crate::validate::quantity_bytes;

/// Seconds to leave a claim alone after growing it was refused: the storage class may not allow it.
const RETRY_SECONDS: i64 = 60;

/// What has to change for the claims to go with the EtcdCluster exactly if `deletionPolicy` says so. Never with the
/// StatefulSet, which may be deleted and made anew.
///
/// Only a cluster that is on record takes claims for its own: before it was recorded there were none of the names.
pub fn owners(facts: &Facts<'_>) -> Vec<ClaimOwner> {
    let uid = &facts.cluster.uid;
    let owned = facts.cluster.deletes_volumes();
    let on_record = matches!(
        &facts.observed.identity,
        IdentityView::Present { record, .. } if record.cluster_uid == *uid
    );
    if owned && !on_record {
        return Vec::new();
    }
    let mut volumes: Vec<_> = facts.observed.volumes.iter().collect();
    volumes.sort_by_key(|v| v.ordinal);
    volumes
        .into_iter()
        .filter(|volume| !volume.terminating && volume.owners.contains(uid) != owned)
        .map(|volume| ClaimOwner {
            claim: volume.reference.clone(),
            owner: volume_owner(facts.cluster),
            owned,
        })
        .collect()
}

/// The next claim that is smaller than the spec wants. Sizes only grow.
pub fn expand(facts: &Facts<'_>) -> Step {
    let lately = |failure: &Failure| facts.observed.now.as_second() - failure.at.as_second() < RETRY_SECONDS;
    let next = lacking(facts).find(|(_, refused)| !refused.is_some_and(lately));
    next.map_or(Step::Rest, |(action, _)| Step::Act(action))
}

/// The first claim that was refused to grow and still has to, for as long as it has to: also while it is tried again.
pub fn refused<'a>(facts: &Facts<'a>) -> Option<&'a Failure> {
    lacking(facts).find_map(|(_, refused)| refused)
}

/// What makes each claim that is too small as large as the spec wants, by ordinal, and how that failed before.
fn lacking<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (Action, Option<&'a Failure>)> + use<'a> {
    let facts = *facts;
    let size = &facts.cluster.spec.storage.size;
    let wanted = quantity_bytes(size).unwrap_or(0);
    let mut volumes: Vec<_> = facts.observed.volumes.iter().collect();
    volumes.sort_by_key(|v| v.ordinal);
    volumes.into_iter().filter_map(move |volume| {
        let bound = volume.phase == VolumePhase::Bound && !volume.terminating;
        let requested = volume.requested.as_deref().and_then(quantity_bytes);
        if !bound || facts.pod(volume.ordinal).is_none() || requested.is_none_or(|have| have >= wanted) {
            return None;
        }
        let action = Action::ExpandVolume { claim: volume.reference.clone(), size: size.clone() };
        let refused = facts.observed.failures.of_growth(&volume.reference.name, &action);
        Some((action, refused))
    })
}
