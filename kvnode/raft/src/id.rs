//! The identity of a member inside raft.

use std::fmt;

/// A member's ID: etcd's 64-bit number, shown as lower-case hex without padding. Zero means nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MemberId(pub u64);

impl MemberId {
    /// Nobody: no leader, no vote, no transferee.
    pub const NONE: Self = Self(0);

    /// Whether this names a member at all.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl From<u64> for MemberId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}
