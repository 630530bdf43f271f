//! Growing volumes: independent of what members do, one claim at a time.

use crate::action::Action;
use crate::facts::{Facts, Step};
use crate::observed::VolumePhase;
use crate::validate::quantity_bytes;

/// Seconds to leave a claim alone after growing it was refused: the storage class may not allow it.
const RETRY_SECONDS: i64 = 60;

/// The next claim that is smaller than the spec wants. Sizes only grow.
pub fn expand(facts: &Facts<'_>) -> Step {
    let wanted_text = &facts.cluster.spec.storage.size;
    let Some(wanted) = quantity_bytes(wanted_text) else { return Step::Rest };
    let mut volumes: Vec<_> = facts.observed.volumes.iter().collect();
    volumes.sort_by_key(|v| v.ordinal);
    for volume in volumes {
        let bound = volume.phase == VolumePhase::Bound && !volume.terminating;
        let requested = volume.requested.as_deref().and_then(quantity_bytes);
        if !bound || facts.pod(volume.ordinal).is_none() || requested.is_none_or(|have| have >= wanted) {
            continue;
        }
        let action = Action::ExpandVolume { claim: volume.reference.clone(), size: wanted_text.clone() };
        if !refused_lately(facts, &action) {
            return Step::Act(action);
        }
    }
    Step::Rest
}

fn refused_lately(facts: &Facts<'_>, action: &Action) -> bool {
    facts.observed.failed_action.as_ref().is_some_and(|failed| {
        failed.attempted == action.to_string()
            && facts.observed.now.as_second() - failed.at.as_second() < RETRY_SECONDS
    })
}
