//! What failed lately, as far as passes have to know: to show it, and not to try again at once what was refused.
//!
//! The shell keeps it in memory only. Without it, after a restart, each refused thing is tried once more.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::action::Action;

/// Something that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When it failed.
    pub at: Timestamp,
    /// What was attempted, as `Action`'s text says it.
    pub attempted: String,
    /// What came back.
    pub error: String,
}

/// The failures of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    last: Option<Failure>,
    /// By name of the claim. What one storage class refuses for one claim it refuses for all, so these stand side
    /// by side: with one place for all of them each would be tried again as soon as another one failed.
    growth: BTreeMap<String, Failure>,
}

impl Failures {
    /// An action failed.
    pub fn failed(&mut self, action: &Action, at: Timestamp, error: &str) {
        let failure = Failure { at, attempted: action.to_string(), error: error.to_owned() };
        match action {
            Action::ExpandVolume { claim, .. } => {
                self.growth.insert(claim.name.clone(), failure);
            }
            _ => self.last = Some(failure),
        }
    }

    /// Something other than an action failed.
    pub fn failed_otherwise(&mut self, failure: Failure) {
        self.last = Some(failure);
    }

    /// An action succeeded.
    pub fn succeeded(&mut self, action: &Action) {
        self.last = None;
        if let Action::ExpandVolume { claim, .. } = action {
            self.growth.remove(&claim.name);
        }
    }

    /// Forgets the last failure if `is_over` says so. What was refused to claims stays: that nothing else is to be
    /// done does not make it allowed.
    pub fn recovered(&mut self, is_over: impl FnOnce(&Failure) -> bool) {
        self.last = self.last.take().filter(|failure| !is_over(failure));
    }

    /// What failed last, if nothing succeeded since.
    pub fn last(&self) -> Option<&Failure> {
        self.last.as_ref()
    }

    /// How growing a claim failed, if this very attempt did.
    pub fn of_growth(&self, claim: &str, attempt: &Action) -> Option<&Failure> {
        self.growth.get(claim).filter(|failure| failure.attempted == attempt.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::ClaimRef;

    fn grow(ordinal: u32) -> Action {
        let claim = ClaimRef {
            name: format!("data-core-{ordinal}"),
            uid: "u".to_owned(),
            resource_version: "1".to_owned(),
        };
        Action::ExpandVolume { claim, size: "16Gi".to_owned() }
    }

    #[test]
    fn what_a_claim_was_refused_stands_until_that_claim_grows() {
        let mut failures = Failures::default();
        let refused = |failures: &Failures, ordinal| {
            failures.of_growth(&format!("data-core-{ordinal}"), &grow(ordinal)).is_some()
        };
        failures.failed(&grow(0), Timestamp::UNIX_EPOCH, "no");
        failures.failed(&grow(1), Timestamp::UNIX_EPOCH, "no");
        failures.recovered(|_| true);
        assert!(refused(&failures, 0) && refused(&failures, 1));
        failures.succeeded(&grow(1));
        assert!(refused(&failures, 0) && !refused(&failures, 1));
    }
}
