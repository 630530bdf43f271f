//! May this user do that? For whole requests, and for all the API has to ask besides.

use bytes::Bytes;
use kvnode_proto::{
    authpb::User,
    etcdserverpb::{
        DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        WatchCreateRequest, request_op::Request,
    },
};

use super::{
    AuthError, ROOT,
    permission::Access,
    state::{Auth, has_root_role},
};
use crate::{ids::LeaseId, key_range::KeyRange, lease::Leases, state::View};

/// Who asks, and the auth revision at which that was found out. Both are empty without authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requester<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The auth revision that the token or certificate was accepted at; 0 for nobody.
    pub auth_revision: u64,
}

/// Answers what users may do, by the state of one moment. Everything is allowed while authentication is off.
#[derive(Clone, Copy, Debug)]
pub struct Authorizer<'a> {
    pub(crate) auth: &'a Auth,
    pub(crate) leases: &'a Leases,
}

impl View {
    /// What users may do in this state.
    #[must_use]
    pub fn authorizer(&self) -> Authorizer<'_> {
        Authorizer { auth: &self.0.auth, leases: &self.0.leases }
    }
}

impl<'a> Authorizer<'a> {
    /// Whether authentication is on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.auth.is_enabled()
    }

    /// Rises with every change of users and roles.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.auth.revision
    }

    /// A user as stored, with the hash of the password.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&'a User> {
        self.auth.users.get(name).map(AsRef::as_ref)
    }

    /// Who the server itself is, for what it proposes on nobody's behalf, such as revoking expired leases.
    #[must_use]
    pub fn server(&self) -> Requester<'static> {
        Requester { user: ROOT, auth_revision: self.revision() }
    }

    /// The hash that a user's password must match, before a token may be proposed.
    ///
    /// # Errors
    /// Authentication is off, or the user does not exist or has no password.
    pub fn password_hash(&self, name: &str) -> Result<&'a [u8], AuthError> {
        if !self.is_enabled() {
            return Err(AuthError::AuthNotEnabled);
        }
        let user = self.user(name).ok_or(AuthError::AuthFailed)?;
        if user.options.is_some_and(|options| options.no_password) {
            return Err(AuthError::NoPasswordUser);
        }
        Ok(&user.password)
    }

    /// Whether `who` may do what only root may.
    ///
    /// # Errors
    /// Nobody, nobody known, or somebody else.
    pub fn admin(&self, who: Requester<'_>) -> Result<(), AuthError> {
        if !self.is_enabled() {
            return Ok(());
        }
        if who.user.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        let user = self.user(who.user).ok_or(AuthError::UserNotFound)?;
        if has_root_role(user) { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// Whether `who` is anybody at all: enough for listing members, status and alarms. As in etcd, a verified certificate
    /// without a name is somebody.
    ///
    /// # Errors
    /// [`AuthError::UserEmpty`].
    pub fn authenticated(&self, who: Requester<'_>) -> Result<(), AuthError> {
        if self.is_enabled() && who == Requester::default() { Err(AuthError::UserEmpty) } else { Ok(()) }
    }

    /// Whether what was found out about `who` still holds: users and roles have not changed since. Asked after a read, so
    /// that nobody is sent what was taken from him meanwhile (etcd: `doSerialize`).
    ///
    /// # Errors
    /// [`AuthError::OldRevision`].
    pub fn still(&self, who: Requester<'_>) -> Result<(), AuthError> {
        let changed = who.auth_revision != 0 && who.auth_revision != self.revision();
        if changed { Err(AuthError::OldRevision) } else { Ok(()) }
    }

    /// Whether `who` may read all of `range`.
    ///
    /// # Errors
    /// Why not.
    pub fn read(&self, who: Requester<'_>, range: &KeyRange) -> Result<(), AuthError> {
        self.access(who, Access::Read, range)
    }

    /// Whether `who` may make this range.
    ///
    /// # Errors
    /// Why not.
    pub fn range(&self, who: Requester<'_>, request: &RangeRequest) -> Result<(), AuthError> {
        if !self.is_enabled() {
            return Ok(());
        }
        self.read(who, &KeyRange::new(&request.key, &request.range_end))
    }

    /// Whether `who` may watch this: read all of it. Like the watcher, an empty key stands for the smallest one.
    ///
    /// # Errors
    /// Why not.
    pub fn watch(&self, who: Requester<'_>, request: &WatchCreateRequest) -> Result<(), AuthError> {
        if !self.is_enabled() {
            return Ok(());
        }
        let smallest = Bytes::from_static(b"\0");
        let key = if request.key.is_empty() { &smallest } else { &request.key };
        self.read(who, &KeyRange::new(key, &request.range_end))
    }

    /// Whether `who` may write all of `range`.
    ///
    /// # Errors
    /// Why not.
    pub fn write(&self, who: Requester<'_>, range: &KeyRange) -> Result<(), AuthError> {
        self.access(who, Access::Write, range)
    }

    /// Whether `who` may make this put: write the key, and every key of the lease it is hung on; read the key, if the old
    /// one is asked for.
    ///
    /// # Errors
    /// Why not.
    pub fn put(&self, who: Requester<'_>, request: &PutRequest) -> Result<(), AuthError> {
        let key = KeyRange::single(request.key.clone());
        self.write(who, &key)?;
        self.lease_write(who, LeaseId(request.lease))?;
        if request.prev_kv { self.read(who, &key) } else { Ok(()) }
    }

    /// Whether `who` may make this deletion; reading too, if the old keys are asked for.
    ///
    /// # Errors
    /// Why not.
    pub fn delete_range(&self, who: Requester<'_>, request: &DeleteRangeRequest) -> Result<(), AuthError> {
        let range = KeyRange::new(&request.key, &request.range_end);
        self.write(who, &range)?;
        if request.prev_kv { self.read(who, &range) } else { Ok(()) }
    }

    /// Whether `who` may make this transaction: everything in it, on either branch, however deep.
    ///
    /// # Errors
    /// Why not.
    pub fn txn(&self, who: Requester<'_>, request: &TxnRequest) -> Result<(), AuthError> {
        if !self.is_enabled() {
            return Ok(());
        }
        for compare in &request.compare {
            self.read(who, &KeyRange::new(&compare.key, &compare.range_end))?;
        }
        request.success.iter().chain(&request.failure).try_for_each(|op| self.operation(who, op))
    }

    fn operation(&self, who: Requester<'_>, op: &RequestOp) -> Result<(), AuthError> {
        match &op.request {
            Some(Request::RequestRange(range)) => self.range(who, range),
            Some(Request::RequestPut(put)) => self.put(who, put),
            Some(Request::RequestDeleteRange(delete)) => self.delete_range(who, delete),
            Some(Request::RequestTxn(txn)) => self.txn(who, txn),
            None => Ok(()),
        }
    }

    /// Whether `who` may revoke a lease, renew it or hang keys on it: write all of its keys.
    ///
    /// # Errors
    /// Why not.
    pub fn lease_write(&self, who: Requester<'_>, lease: LeaseId) -> Result<(), AuthError> {
        self.lease_keys(who, lease, Access::Write)
    }

    /// Whether `who` may be told the keys of a lease.
    ///
    /// # Errors
    /// Why not.
    pub fn lease_read(&self, who: Requester<'_>, lease: LeaseId) -> Result<(), AuthError> {
        self.lease_keys(who, lease, Access::Read)
    }

    /// Whether `who` may read each of these keys.
    ///
    /// # Errors
    /// Why not.
    pub fn read_keys(&self, who: Requester<'_>, keys: &[Bytes]) -> Result<(), AuthError> {
        if self.admin(who).is_ok() {
            return Ok(());
        }
        keys.iter().try_for_each(|key| self.read(who, &KeyRange::single(key.clone())))
    }

    fn lease_keys(&self, who: Requester<'_>, lease: LeaseId, access: Access) -> Result<(), AuthError> {
        let Some(lease) = self.leases.get(lease) else { return Ok(()) };
        if self.admin(who).is_ok() {
            return Ok(());
        }
        lease.keys.iter().try_for_each(|key| self.access(who, access, &KeyRange::single(key.clone())))
    }

    fn access(&self, who: Requester<'_>, access: Access, range: &KeyRange) -> Result<(), AuthError> {
        if !self.is_enabled() {
            return Ok(());
        }
        if who.auth_revision == 0 {
            return Err(AuthError::UserEmpty);
        }
        if who.auth_revision < self.auth.revision {
            return Err(AuthError::OldRevision);
        }
        let user = self.user(who.user).ok_or(AuthError::PermissionDenied)?;
        let granted =
            has_root_role(user) || self.auth.granted(who.user).is_some_and(|g| g.covers(access, range));
        if granted { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// Whether the proposer of a replicated request may make it. Checked when it is applied, since rights may have
    /// changed since it was proposed; and by the server before it proposes.
    ///
    /// # Errors
    /// Why not.
    pub fn request(&self, who: Requester<'_>, request: &InternalRaftRequest) -> Result<(), AuthError> {
        if !self.is_enabled() {
            Ok(())
        } else if needs_admin(request) {
            self.admin(who)
        } else if let Some(put) = &request.put {
            self.put(who, put)
        } else if let Some(txn) = &request.txn {
            self.txn(who, txn)
        } else if let Some(delete) = &request.delete_range {
            self.delete_range(who, delete)
        } else if let Some(range) = &request.range {
            self.range(who, range)
        } else if let Some(revoke) = &request.lease_revoke {
            self.lease_write(who, LeaseId(revoke.id))
        } else if let Some(get) = &request.auth_user_get {
            self.admin(who).or_else(|error| if get.name == who.user { Ok(()) } else { Err(error) })
        } else if let Some(get) = &request.auth_role_get {
            let has_role = self.user(who.user).is_some_and(|user| user.roles.contains(&get.role));
            self.admin(who).or_else(|error| if has_role { Ok(()) } else { Err(error) })
        } else {
            Ok(())
        }
    }
}

fn needs_admin(request: &InternalRaftRequest) -> bool {
    request.auth_enable.is_some()
        || request.auth_disable.is_some()
        || request.auth_user_add.is_some()
        || request.auth_user_delete.is_some()
        || request.auth_user_change_password.is_some()
        || request.auth_user_grant_role.is_some()
        || request.auth_user_revoke_role.is_some()
        || request.auth_role_add.is_some()
        || request.auth_role_grant_permission.is_some()
        || request.auth_role_revoke_permission.is_some()
        || request.auth_role_delete.is_some()
        || request.auth_user_list.is_some()
        || request.auth_role_list.is_some()
}

/// Who made a replicated request.
pub(crate) fn requester(request: &InternalRaftRequest) -> Requester<'_> {
    request.header.as_ref().map_or_else(Requester::default, |header| Requester {
        user: &header.username,
        auth_revision: header.auth_revision,
    })
}
