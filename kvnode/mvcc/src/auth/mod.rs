//! Users, roles and what they may do.

/// Why authentication or authorization failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The user may not do this.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
}
