//! Users, roles and what they may do.

use std::sync::Arc;

use kvnode_proto::authpb::{Role, User};

/// Why authentication or authorization failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The user may not do this.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
}

/// Replicated users and roles. Cloning costs a few reference counts.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    /// `None` until authentication was first switched on or off; the file then has no such row.
    pub(crate) enabled: Option<bool>,
    /// Rises with every change of users and roles; tokens carry it.
    pub(crate) revision: u64,
    pub(crate) users: imbl::OrdMap<String, Arc<User>>,
    pub(crate) roles: imbl::OrdMap<String, Arc<Role>>,
}

impl Default for Auth {
    fn default() -> Self {
        Self { enabled: None, revision: 1, users: imbl::OrdMap::new(), roles: imbl::OrdMap::new() }
    }
}
