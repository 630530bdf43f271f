//! Users, roles and what they may do (etcd: `server/auth/store.go`, `server/etcdserver/apply/auth.go`).
//!
//! [`state`] holds users and roles and changes them as the log says, [`permission`] decides whether granted intervals
//! cover a wanted one, [`check`] asks that for whole requests, [`tokens`] knows who holds a simple token. Passwords come in
//! hashed. The server learns from [`AuthChange`] when tokens begin and end.

pub mod check;
mod permission;
pub(crate) mod state;
pub mod tokens;

use kvnode_proto::authpb::Permission;

pub use check::{Authorizer, Requester};
pub use tokens::SimpleTokens;

/// The user, and the role, that may do everything.
pub const ROOT: &str = "root";

/// Why authentication or authorization failed. The texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Authentication cannot be switched on without the user root.
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    /// Authentication cannot be switched on while root lacks the role root.
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    /// A user of this name exists.
    #[error("etcdserver: user name already exists")]
    UserAlreadyExist,
    /// No user was named, also: the request came without authentication.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    /// No such user.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// A role of this name exists.
    #[error("etcdserver: role name already exists")]
    RoleAlreadyExist,
    /// No such role.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// No role was named.
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    /// Wrong user or password.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthFailed,
    /// A password that is not one, for or from a user without password. etcd does not translate this one.
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    /// A grant without a permission.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// The user may not do this.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    /// The user does not have the role to be taken away.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// The role does not have the permission to be taken away.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// There is nothing to authenticate for.
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,
    /// It would lock everybody out, or makes no sense.
    #[error("etcdserver: invalid auth management")]
    InvalidAuthManagement,
    /// Users or roles changed since the client authenticated; it has to do so again.
    #[error("etcdserver: revision of auth store is old")]
    OldRevision,
}

/// What an applied request about users and roles answers.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthResponse {
    /// Done.
    Done,
    /// Whether authentication is on, and its revision.
    Status {
        /// Whether it is on.
        enabled: bool,
        /// Rises with every change.
        revision: u64,
    },
    /// A simple token for the user, valid from this entry on. A server that issues signed tokens makes its own.
    Authenticated {
        /// The token.
        token: String,
    },
    /// Roles of a user.
    User {
        /// Names, sorted.
        roles: Vec<String>,
    },
    /// Names of all users, sorted.
    Users(Vec<String>),
    /// Permissions of a role.
    Role {
        /// Sorted by key.
        permissions: Vec<Permission>,
    },
    /// Names of all roles, sorted.
    Roles(Vec<String>),
}

/// What applied entries mean for tokens. Every member must follow them: a token is valid on all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthChange {
    /// Tokens are asked for from now on.
    Enabled,
    /// Nobody is asked for tokens; those given are void.
    Disabled,
    /// A user authenticated and got this simple token.
    TokenAssigned {
        /// Whose.
        user: String,
        /// The token.
        token: String,
    },
    /// Tokens of this user are void: the password changed or the user is gone.
    UserInvalidated(String),
}
