//! The Auth service (etcd: `server/etcdserver/api/v3rpc/auth.go`, `v3_server.go`): users, roles, and tokens for passwords.
//!
//! Everything goes through raft, questions too. Passwords do not: they are hashed and compared here (CVE-2021-28235), and
//! only then anything is proposed.

use kvnode_mvcc::{Response, auth::AuthResponse};
use kvnode_proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest,
    AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse, AuthRoleGetRequest,
    AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse,
    AuthRoleListRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
    AuthRoleRevokePermissionResponse, AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest,
    AuthUserAddResponse, AuthUserChangePasswordRequest, AuthUserChangePasswordResponse,
    AuthUserDeleteRequest, AuthUserDeleteResponse, AuthUserGetRequest, AuthUserGetResponse,
    AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest, AuthUserListResponse,
    AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse, AuthenticateRequest, AuthenticateResponse,
    InternalAuthenticateRequest, InternalRaftRequest, ResponseHeader,
};
use tonic::Status;
use tracing::{info, warn};

use super::{call::Call, convert::wrong_answer};
use crate::client::error::status;

/// A method whose request is proposed as it is, and what its answer is made of.
macro_rules! proposed {
    ($($(#[$doc:meta])* $name:ident $field:ident: $request:ident -> $response:ident {
        $answer:pat => { $($part:ident),* }
    })*) => {
        $($(#[$doc])* pub async fn $name(call: Call, request: $request) -> Result<$response, Status> {
            let body = InternalRaftRequest { $field: Some(request), ..InternalRaftRequest::default() };
            match call.propose_auth(body).await? {
                (header, $answer) => Ok($response { header: Some(header), $($part),* }),
                _ => Err(wrong_answer()),
            }
        })*
    };
}

proposed! {
    /// Asks everybody who they are from now on.
    enable auth_enable: AuthEnableRequest -> AuthEnableResponse { AuthResponse::Done => {} }
    /// Asks nobody any more.
    disable auth_disable: AuthDisableRequest -> AuthDisableResponse { AuthResponse::Done => {} }
    /// Deletes a user.
    user_delete auth_user_delete: AuthUserDeleteRequest -> AuthUserDeleteResponse { AuthResponse::Done => {} }
    /// Gives a user a role.
    user_grant_role auth_user_grant_role: AuthUserGrantRoleRequest -> AuthUserGrantRoleResponse {
        AuthResponse::Done => {}
    }
    /// Takes a role from a user.
    user_revoke_role auth_user_revoke_role: AuthUserRevokeRoleRequest -> AuthUserRevokeRoleResponse {
        AuthResponse::Done => {}
    }
    /// Tells a user's roles.
    user_get auth_user_get: AuthUserGetRequest -> AuthUserGetResponse { AuthResponse::User { roles } => { roles } }
    /// Tells all users.
    user_list auth_user_list: AuthUserListRequest -> AuthUserListResponse { AuthResponse::Users(users) => { users } }
    /// Adds a role.
    role_add auth_role_add: AuthRoleAddRequest -> AuthRoleAddResponse { AuthResponse::Done => {} }
    /// Deletes a role, also from those who have it.
    role_delete auth_role_delete: AuthRoleDeleteRequest -> AuthRoleDeleteResponse { AuthResponse::Done => {} }
    /// Tells all roles.
    role_list auth_role_list: AuthRoleListRequest -> AuthRoleListResponse { AuthResponse::Roles(roles) => { roles } }
    /// Gives a role a permission, or changes one it has.
    role_grant_permission auth_role_grant_permission:
        AuthRoleGrantPermissionRequest -> AuthRoleGrantPermissionResponse { AuthResponse::Done => {} }
    /// Takes a permission from a role.
    role_revoke_permission auth_role_revoke_permission:
        AuthRoleRevokePermissionRequest -> AuthRoleRevokePermissionResponse { AuthResponse::Done => {} }
}

/// Tells whether authentication is on.
pub async fn status_of(call: Call, request: AuthStatusRequest) -> Result<AuthStatusResponse, Status> {
    let body = InternalRaftRequest { auth_status: Some(request), ..InternalRaftRequest::default() };
    match call.propose_auth(body).await? {
        (header, AuthResponse::Status { enabled, revision }) => {
            Ok(AuthStatusResponse { header: Some(header), enabled, auth_revision: revision })
        }
        _ => Err(wrong_answer()),
    }
}

/// Tells a role's permissions.
pub async fn role_get(call: Call, request: AuthRoleGetRequest) -> Result<AuthRoleGetResponse, Status> {
    let body = InternalRaftRequest { auth_role_get: Some(request), ..InternalRaftRequest::default() };
    match call.propose_auth(body).await? {
        (header, AuthResponse::Role { permissions }) => {
            Ok(AuthRoleGetResponse { header: Some(header), perm: permissions })
        }
        _ => Err(wrong_answer()),
    }
}

/// Adds a user.
pub async fn user_add(call: Call, mut request: AuthUserAddRequest) -> Result<AuthUserAddResponse, Status> {
    let password = std::mem::take(&mut request.password);
    if !request.options.is_some_and(|options| options.no_password) {
        request.hashed_password = call.hash(password).await?;
    }
    let body = InternalRaftRequest { auth_user_add: Some(request), ..InternalRaftRequest::default() };
    match call.propose_auth(body).await? {
        (header, AuthResponse::Done) => Ok(AuthUserAddResponse { header: Some(header) }),
        _ => Err(wrong_answer()),
    }
}

/// Gives a user another password.
pub async fn user_change_password(
    call: Call,
    mut request: AuthUserChangePasswordRequest,
) -> Result<AuthUserChangePasswordResponse, Status> {
    let password = std::mem::take(&mut request.password);
    if !password.is_empty() {
        request.hashed_password = call.hash(password).await?;
    }
    let body =
        InternalRaftRequest { auth_user_change_password: Some(request), ..InternalRaftRequest::default() };
    match call.propose_auth(body).await? {
        (header, AuthResponse::Done) => Ok(AuthUserChangePasswordResponse { header: Some(header) }),
        _ => Err(wrong_answer()),
    }
}

/// Gives a token for a password. If users or roles change while the password is compared, it is compared once more: the
/// token will be worth what they are when it is given.
pub async fn authenticate(call: Call, request: AuthenticateRequest) -> Result<AuthenticateResponse, Status> {
    let services = &call.services;
    services.node.linearize().await.map_err(status)?;
    loop {
        let revision = call.check_password(&request).await?;
        let asked = InternalAuthenticateRequest {
            name: request.name.clone(),
            password: String::new(),
            simple_token: services.node.tokens().letters(),
        };
        let body = InternalRaftRequest { authenticate: Some(asked), ..InternalRaftRequest::default() };
        let (header, AuthResponse::Authenticated { token }) = call.propose_auth(body).await? else {
            return Err(wrong_answer());
        };
        if services.node.reader().view().authorizer().revision() == revision {
            let token = services.node.tokens().issue(token, &request.name, revision).map_err(status)?;
            return Ok(AuthenticateResponse { header: Some(header), token });
        }
        info!("revision when password checked became stale; retrying");
    }
}

impl Call {
    /// Compares a password; the auth revision at which it was right.
    async fn check_password(&self, request: &AuthenticateRequest) -> Result<u64, Status> {
        let view = self.services.node.reader().view();
        let authorizer = view.authorizer();
        let refused = |error: kvnode_mvcc::auth::AuthError| {
            warn!(user = request.name, %error, "invalid authentication was requested");
            status(error)
        };
        if !authorizer.is_enabled() {
            return Err(status(kvnode_mvcc::auth::AuthError::AuthNotEnabled));
        }
        let hash = bytes::Bytes::copy_from_slice(authorizer.password_hash(&request.name).map_err(refused)?);
        let matches = self.services.passwords.matches(request.password.clone(), hash).await;
        if matches.map_err(status)? {
            Ok(authorizer.revision())
        } else {
            Err(refused(kvnode_mvcc::auth::AuthError::AuthFailed))
        }
    }

    /// Hashes a password for whoever may set one; nobody else is worth the time.
    async fn hash(&self, password: String) -> Result<String, Status> {
        self.admin().await?;
        self.services.passwords.hash(password).await.map_err(status)
    }

    async fn propose_auth(
        &self,
        body: InternalRaftRequest,
    ) -> Result<(ResponseHeader, AuthResponse), Status> {
        let applied = self.propose(body).await?;
        match applied.response {
            Response::Auth(response) => Ok((self.services.header(applied.revision), response)),
            _ => Err(wrong_answer()),
        }
    }
}
