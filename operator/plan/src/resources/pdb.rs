//! The disruption budget: evictions may never take quorum away.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Component, member_selector, metadata};
use crate::observed::quorum;
use crate::validate::ValidatedCluster;

/// Pods that must stay, for `voters` live voters and `target` wished-for ones: the quorum of the greater, as
/// an integer, so that a changing pod count never rebases it. `None` for one member: a budget of one would
/// block every drain for ever, and one member cannot survive an eviction whatever the budget says.
pub fn min_available(voters: usize, target: u32) -> Option<i32> {
    let target = usize::try_from(target).unwrap_or(usize::MAX);
    let size = voters.max(target);
    (size > 1).then(|| i32::try_from(quorum(size)).unwrap_or(i32::MAX))
}

/// The budget, unless the cluster has one member.
pub fn pod_disruption_budget(cluster: &ValidatedCluster, voters: usize) -> Option<PodDisruptionBudget> {
    let min_available = min_available(voters, cluster.replicas)?;
    Some(PodDisruptionBudget {
        metadata: metadata(cluster, cluster.names.pod_disruption_budget(), Component::Member),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(min_available)),
            selector: Some(LabelSelector {
                match_labels: Some(member_selector(&cluster.names)),
                match_expressions: None,
            }),
            // A pod that is not ready serves nobody: it must not block a drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_keeps_the_quorum_of_the_larger_of_now_and_wished_for() {
        for (voters, target, expected) in [
            (0, 1, None),
            (1, 1, None),
            (0, 3, Some(2)),
            (1, 3, Some(2)),
            (3, 3, Some(2)),
            (5, 3, Some(3)),
            (3, 5, Some(3)),
            (7, 7, Some(4)),
            (3, 1, Some(2)),
        ] {
            assert_eq!(min_available(voters, target), expected, "{voters} voters, {target} wished for");
        }
    }
}
