//! Numbers that no two requests in a cluster share, as etcd makes them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes unique numbers: two bytes of the member's ID, five of the time at start in milliseconds, one of a counter, and
/// the counter then runs over the rest (etcd: `pkg/idutil`). Unique across members, and across restarts that are more
/// than a few milliseconds apart.
#[derive(Debug)]
pub struct IdGenerator {
    prefix: u64,
    suffix: AtomicU64,
}

const SUFFIX_BITS: u32 = 48;
const COUNTER_BITS: u32 = 8;
const SUFFIX_MASK: u64 = (1 << SUFFIX_BITS) - 1;

impl IdGenerator {
    /// For a member that starts at this time in milliseconds.
    #[must_use]
    pub fn new(member: u64, started_unix_milliseconds: u64) -> Self {
        let suffix = (started_unix_milliseconds << COUNTER_BITS) & SUFFIX_MASK;
        Self { prefix: member << SUFFIX_BITS, suffix: AtomicU64::new(suffix) }
    }

    /// The next number; never 0.
    pub fn next(&self) -> u64 {
        let suffix = self.suffix.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & SUFFIX_MASK;
        (self.prefix | suffix).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_members_and_of_lives_differ() {
        let first = IdGenerator::new(0x1234, 1000);
        let (a, b) = (first.next(), first.next());
        assert_ne!(a, b);
        assert_eq!(a >> 48, 0x1234);
        assert_ne!(IdGenerator::new(0x1235, 1000).next(), a);
        assert!(IdGenerator::new(0x1234, 2000).next() > b);
    }
}
