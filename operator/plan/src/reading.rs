//! What a look at something yielded: a value with its age, or the fact that it cannot be reached.

use jiff::Timestamp;

/// A value that came from outside. Unknown is not healthy: the types keep the two apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// Read in this pass.
    Fresh(T),
    /// Read earlier; may be shown, must not be the ground for a change.
    Stale {
        /// The value as it was.
        value: T,
        /// When it was read.
        at: Timestamp,
    },
    /// Not readable.
    Unreachable {
        /// Why, in one line.
        error: String,
    },
}

impl<T> Reading<T> {
    /// The value, only if it was read in this pass.
    pub fn fresh(&self) -> Option<&T> {
        match self {
            Self::Fresh(value) => Some(value),
            Self::Stale { .. } | Self::Unreachable { .. } => None,
        }
    }

    /// The value for display, however old.
    pub fn latest(&self) -> Option<&T> {
        match self {
            Self::Fresh(value) | Self::Stale { value, .. } => Some(value),
            Self::Unreachable { .. } => None,
        }
    }

    /// Why there is no value, if there is none.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Unreachable { error } => Some(error),
            Self::Fresh(_) | Self::Stale { .. } => None,
        }
    }
}
