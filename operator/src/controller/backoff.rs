//! How long to wait after a failed pass: doubling per object, so that one broken object costs little and a mended one
//! is served soon. Pure but for the map.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::limits;

/// Failures in a row, by object.
#[derive(Default)]
pub struct Backoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl Backoff {
    /// Another failure of `object`; says how long to wait.
    pub fn failed(&self, object: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object.to_owned()).or_default();
        let wait = limits::BACKOFF_MIN.saturating_mul(1u32.checked_shl(*count).unwrap_or(u32::MAX));
        *count = count.saturating_add(1);
        wait.min(limits::BACKOFF_MAX)
    }

    /// A good pass, or the object is gone.
    pub fn reset(&self, object: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_per_object_up_to_a_bound_and_a_success_ends_them() {
        let backoff = Backoff::default();
        let waits: Vec<_> = (0..40).map(|_| backoff.failed("a")).collect();
        assert_eq!(waits[0], limits::BACKOFF_MIN);
        assert_eq!(waits[1], limits::BACKOFF_MIN * 2);
        assert_eq!(waits[39], limits::BACKOFF_MAX);
        assert_eq!(backoff.failed("b"), limits::BACKOFF_MIN, "another object is not held back");
        backoff.reset("a");
        assert_eq!(backoff.failed("a"), limits::BACKOFF_MIN);
    }
}
