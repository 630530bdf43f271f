//! Users and roles as replicated, and the requests that change them.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use kvnode_proto::{
    authpb::{Permission, Role, User, UserAddOptions, permission::Type},
    etcdserverpb::{
        AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
        AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
        AuthUserDeleteRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
        InternalAuthenticateRequest,
    },
};

use super::{
    AuthChange, AuthError, AuthResponse, ROOT,
    permission::{self, Granted},
};
use crate::ids::RaftIndex;

/// Replicated users and roles. Cloning costs a few reference counts.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    /// `None` until authentication was first switched on or off; the file then has no such row.
    pub(crate) enabled: Option<bool>,
    /// Rises with every change of users and roles; tokens carry it.
    pub(crate) revision: u64,
    pub(crate) users: imbl::OrdMap<String, Arc<User>>,
    pub(crate) roles: imbl::OrdMap<String, Arc<Role>>,
    /// What each user may do; made anew with every change.
    granted: imbl::OrdMap<String, Arc<Granted>>,
}

impl Default for Auth {
    fn default() -> Self {
        let (users, roles, granted) = Default::default();
        Self { enabled: None, revision: 1, users, roles, granted }
    }
}

type Outcome = Result<AuthResponse, AuthError>;

impl Auth {
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled == Some(true)
    }

    pub(super) fn granted(&self, user: &str) -> Option<&Granted> {
        self.granted.get(user).map(Arc::as_ref)
    }

    /// Works out what users may do, after users or roles changed.
    pub(crate) fn refresh(&mut self) {
        let of = |user: &User| {
            let roles = user.roles.iter().filter_map(|name| self.roles.get(name));
            Arc::new(Granted::new(&roles.flat_map(|role| role.key_permission.iter()).collect::<Vec<_>>()))
        };
        self.granted = self.users.iter().map(|(name, user)| (name.clone(), of(user))).collect();
    }

    fn changed(&mut self) -> Outcome {
        self.revision += 1;
        self.refresh();
        Ok(AuthResponse::Done)
    }

    pub(crate) fn enable(&mut self, changes: &mut Vec<AuthChange>) -> Outcome {
        if !self.is_enabled() {
            let root = self.users.get(ROOT).ok_or(AuthError::RootUserNotExist)?;
            if !has_root_role(root) {
                return Err(AuthError::RootRoleNotExist);
            }
            self.enabled = Some(true);
            changes.push(AuthChange::Enabled);
        }
        Ok(AuthResponse::Done)
    }

    pub(crate) fn disable(&mut self, changes: &mut Vec<AuthChange>) -> Outcome {
        if self.is_enabled() {
            self.enabled = Some(false);
            self.revision += 1;
            changes.push(AuthChange::Disabled);
        }
        Ok(AuthResponse::Done)
    }

    /// Gives a simple token to a user whose password the API has checked.
    pub(crate) fn authenticate(
        &self,
        request: &InternalAuthenticateRequest,
        index: RaftIndex,
        changes: &mut Vec<AuthChange>,
    ) -> Outcome {
        if !self.is_enabled() {
            return Err(AuthError::AuthNotEnabled);
        }
        let user = self.users.get(&request.name).ok_or(AuthError::AuthFailed)?;
        if has_no_password(user) {
            return Err(AuthError::AuthFailed);
        }
        let token = format!("{}.{index}", request.simple_token);
        changes.push(AuthChange::TokenAssigned { user: request.name.clone(), token: token.clone() });
        Ok(AuthResponse::Authenticated { token })
    }

    pub(crate) fn user_add(&mut self, request: &AuthUserAddRequest) -> Outcome {
        if request.name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        if self.users.contains_key(&request.name) {
            return Err(AuthError::UserAlreadyExist);
        }
        let options = request.options.unwrap_or(UserAddOptions { no_password: false });
        let password = if options.no_password {
            Bytes::new()
        } else {
            password(&request.password, &request.hashed_password)?
        };
        let name = Bytes::from(request.name.clone());
        self.put_user(User { name, password, roles: Vec::new(), options: Some(options) });
        self.changed()
    }

    pub(crate) fn user_delete(
        &mut self,
        request: &AuthUserDeleteRequest,
        changes: &mut Vec<AuthChange>,
    ) -> Outcome {
        if self.is_enabled() && request.name == ROOT {
            return Err(AuthError::InvalidAuthManagement);
        }
        self.users.remove(&request.name).ok_or(AuthError::UserNotFound)?;
        changes.push(AuthChange::UserInvalidated(request.name.clone()));
        self.changed()
    }

    pub(crate) fn user_change_password(
        &mut self,
        request: &AuthUserChangePasswordRequest,
        changes: &mut Vec<AuthChange>,
    ) -> Outcome {
        let mut user = self.user(&request.name)?.clone();
        user.password = if has_no_password(&user) {
            Bytes::new()
        } else {
            password(&request.password, &request.hashed_password)?
        };
        self.put_user(user);
        changes.push(AuthChange::UserInvalidated(request.name.clone()));
        self.changed()
    }

    pub(crate) fn user_grant_role(&mut self, request: &AuthUserGrantRoleRequest) -> Outcome {
        let mut user = self.user(&request.user)?.clone();
        if request.role != ROOT {
            self.role(&request.role)?;
        }
        if let Err(at) = user.roles.binary_search(&request.role) {
            user.roles.insert(at, request.role.clone());
            self.put_user(user);
            return self.changed();
        }
        Ok(AuthResponse::Done)
    }

    pub(crate) fn user_revoke_role(&mut self, request: &AuthUserRevokeRoleRequest) -> Outcome {
        if self.is_enabled() && request.name == ROOT && request.role == ROOT {
            return Err(AuthError::InvalidAuthManagement);
        }
        let user = self.user(&request.name)?;
        if !user.roles.contains(&request.role) {
            return Err(AuthError::RoleNotGranted);
        }
        let user = without_role(user, &request.role);
        self.put_user(user);
        self.changed()
    }

    pub(crate) fn role_add(&mut self, request: &AuthRoleAddRequest) -> Outcome {
        if request.name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        if self.roles.contains_key(&request.name) {
            return Err(AuthError::RoleAlreadyExist);
        }
        self.put_role(Role { name: Bytes::from(request.name.clone()), key_permission: Vec::new() });
        self.changed()
    }

    pub(crate) fn role_delete(&mut self, request: &AuthRoleDeleteRequest) -> Outcome {
        if self.is_enabled() && request.role == ROOT {
            return Err(AuthError::InvalidAuthManagement);
        }
        self.roles.remove(&request.role).ok_or(AuthError::RoleNotFound)?;
        let having: Vec<User> = self
            .users
            .values()
            .filter(|user| user.roles.contains(&request.role))
            .map(|u| (**u).clone())
            .collect();
        having.iter().for_each(|user| self.put_user(without_role(user, &request.role)));
        self.changed()
    }

    /// etcd looks for a grant to replace only at the first one with the same key; another one with the same interval
    /// further on stays beside the new one.
    pub(crate) fn role_grant_permission(&mut self, request: &AuthRoleGrantPermissionRequest) -> Outcome {
        let wanted = request.perm.as_ref().ok_or(AuthError::PermissionNotGiven)?;
        if !permission::is_valid(&wanted.key, &wanted.range_end) {
            return Err(AuthError::InvalidAuthManagement);
        }
        let mut role = self.role(&request.name)?.clone();
        let grants = &mut role.key_permission;
        let at = grants.partition_point(|grant| grant.key < wanted.key);
        match grants.get_mut(at) {
            Some(grant) if grant.key == wanted.key && grant.range_end == wanted.range_end => {
                grant.perm_type = wanted.perm_type;
            }
            _ => {
                grants.push(wanted.clone());
                grants.sort_by(|a, b| a.key.cmp(&b.key));
            }
        }
        self.put_role(role);
        self.changed()
    }

    pub(crate) fn role_revoke_permission(&mut self, request: &AuthRoleRevokePermissionRequest) -> Outcome {
        let mut role = self.role(&request.role)?.clone();
        let before = role.key_permission.len();
        role.key_permission.retain(|grant| grant.key != request.key || grant.range_end != request.range_end);
        if role.key_permission.len() == before {
            return Err(AuthError::PermissionNotGranted);
        }
        self.put_role(role);
        self.changed()
    }

    pub(crate) fn status(&self) -> AuthResponse {
        AuthResponse::Status { enabled: self.is_enabled(), revision: self.revision }
    }

    pub(crate) fn user_get(&self, name: &str) -> Outcome {
        Ok(AuthResponse::User { roles: self.user(name)?.roles.clone() })
    }

    pub(crate) fn user_list(&self) -> AuthResponse {
        AuthResponse::Users(self.users.keys().cloned().collect())
    }

    pub(crate) fn role_get(&self, name: &str) -> Outcome {
        let role = self.role(name)?;
        let everything = Permission {
            perm_type: Type::Readwrite as i32,
            key: Bytes::new(),
            range_end: Bytes::from_static(b"\0"),
        };
        let permissions = if name == ROOT { vec![everything] } else { role.key_permission.clone() };
        Ok(AuthResponse::Role { permissions })
    }

    pub(crate) fn role_list(&self) -> AuthResponse {
        AuthResponse::Roles(self.roles.keys().cloned().collect())
    }

    fn user(&self, name: &str) -> Result<&User, AuthError> {
        self.users.get(name).map(Arc::as_ref).ok_or(AuthError::UserNotFound)
    }

    fn role(&self, name: &str) -> Result<&Role, AuthError> {
        self.roles.get(name).map(Arc::as_ref).ok_or(AuthError::RoleNotFound)
    }

    fn put_user(&mut self, user: User) {
        self.users.insert(String::from_utf8_lossy(&user.name).into_owned(), user.into());
    }

    fn put_role(&mut self, role: Role) {
        self.roles.insert(String::from_utf8_lossy(&role.name).into_owned(), role.into());
    }
}

pub(super) fn has_root_role(user: &User) -> bool {
    user.roles.iter().any(|role| role == ROOT)
}

fn has_no_password(user: &User) -> bool {
    user.options.is_some_and(|options| options.no_password)
}

fn without_role(user: &User, role: &str) -> User {
    let roles = user.roles.iter().filter(|other| *other != role).cloned().collect();
    User { roles, ..user.clone() }
}

/// The hash of a password. Entries of etcd before 3.5 hold passwords in the clear, which every member hashed to something
/// else; they are refused.
fn password(plain: &str, hashed: &str) -> Result<Bytes, AuthError> {
    if !plain.is_empty() && hashed.is_empty() {
        return Err(AuthError::NoPasswordUser);
    }
    BASE64_STANDARD.decode(hashed).map(Bytes::from).map_err(|_| AuthError::NoPasswordUser)
}
