//! Numbers that must not be mixed up, each in a type of its own.
//!
//! Rendered as etcd renders them: revisions in decimal, ids in lower-case hexadecimal without padding.

use std::fmt;

macro_rules! decimal {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

macro_rules! hexadecimal {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }
    };
}

decimal! {
    /// A state of the key space. The empty store is at 1; every write transaction that changes something adds 1.
    Revision(i64)
}
decimal! {
    /// Position in the raft log.
    RaftIndex(u64)
}
decimal! {
    /// Raft term.
    Term(u64)
}
hexadecimal! {
    /// A lease; 0 stands for "no lease".
    LeaseId(i64)
}
hexadecimal! {
    /// A member of the raft cluster.
    MemberId(u64)
}
hexadecimal! {
    /// The raft cluster.
    ClusterId(u64)
}

impl Revision {
    /// The revision of a store to which nothing was ever written.
    pub const FIRST: Self = Self(1);

    /// The revision that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LeaseId {
    /// What a key without a lease carries.
    pub const NONE: Self = Self(0);
}
