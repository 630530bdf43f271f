//! The writer: turns committed raft entries into state, one after the other, on one thread.
//!
//! Deterministic: members that apply the same entries hold the same state and compute the same hashes. It reads no clock
//! and rolls no dice. Nothing it does is seen by readers before [`Store::publish`].

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use kvnode_proto::{
    etcdserverpb::{
        AlarmMember, AlarmType, CompactionRequest, DeleteRangeRequest, InternalRaftRequest,
        LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, TxnRequest,
    },
    raftpb::{ConfChange, ConfState},
};

use crate::{
    auth::{AuthChange, AuthError, AuthResponse, Authorizer, check::requester},
    error::ApplyError,
    hash::PastCompaction,
    ids::{LeaseId, RaftIndex, Revision, Term},
    kv::{
        compact::Scrub,
        range::RangeResult,
        txn::TxnResult,
        write::{Change, DeleteRangeResult, PutResult, WriteTxn},
    },
    lease::{Lease, LeaseChange},
    membership::{ConfChangeOutcome, MembershipError},
    quota,
    state::{Reader, State, View},
};

/// What the state machine must be told beside the log. Members of a cluster should be configured alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Shorter leases are granted with this time to live, in seconds: etcd's is the election timeout times 1.5, rounded
    /// up.
    pub min_lease_ttl_seconds: i64,
    /// `--max-learners`.
    pub max_learners: usize,
    /// `--quota-backend-bytes`; `None` for no limit.
    pub quota_bytes: Option<u64>,
}

impl Default for Config {
    /// etcd's defaults: 2 s, one learner, 2 GiB.
    fn default() -> Self {
        Self { min_lease_ttl_seconds: 2, max_learners: 1, quota_bytes: Some(2 << 30) }
    }
}

/// What an applied request answers. Headers of those without a revision of their own carry [`Store::revision`].
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// A range.
    Range(RangeResult),
    /// A put.
    Put(PutResult),
    /// A deletion.
    DeleteRange(DeleteRangeResult),
    /// A transaction.
    Txn(TxnResult),
    /// A compaction: reads below are refused from now on, what is dropped goes in steps of [`Store::scrub`].
    Compact,
    /// A new lease.
    LeaseGrant(Lease),
    /// A lease and its keys are gone.
    LeaseRevoke,
    /// Remaining times were noted.
    LeaseCheckpoint,
    /// The alarms concerned.
    Alarm(Vec<AlarmMember>),
    /// What users, roles or authentication answer.
    Auth(AuthResponse),
    /// A replicated fact that nobody waits for an answer to: cluster version, attributes of a member, downgrade.
    Noted,
}

/// What one batch of applied entries changed.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The state after the batch, which readers see from now on.
    pub view: View,
    /// Changes of keys in the order of their revisions, for watchers.
    pub changes: Vec<Change>,
    /// Changes of leases, for the [`crate::lease::clock::LeaseClock`].
    pub lease_changes: Vec<LeaseChange>,
    /// What the batch means for tokens.
    pub auth_changes: Vec<AuthChange>,
    /// Compactions of the batch, whose hashes members compare.
    pub compactions: Vec<PastCompaction>,
}

/// The state machine. See the module's documentation.
#[derive(Debug)]
pub struct Store {
    config: Config,
    state: State,
    shared: Arc<ArcSwap<State>>,
    /// Changes since the last [`Store::publish`].
    changes: Vec<Change>,
    lease_changes: Vec<LeaseChange>,
    auth_changes: Vec<AuthChange>,
    compactions: Vec<PastCompaction>,
    scrub: Option<Scrub>,
    /// Where small records are encoded.
    chunk: BytesMut,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with_state(config, State::default())
    }

    pub(crate) fn with_state(config: Config, mut state: State) -> Self {
        let unfinished = state.kv.scrubbed < state.kv.compacted;
        let scrub = unfinished.then(|| state.kv.begin_scrub());
        let shared = Arc::new(ArcSwap::from_pointee(state.clone()));
        Self {
            config,
            state,
            shared,
            changes: Vec::new(),
            lease_changes: Vec::new(),
            auth_changes: Vec::new(),
            compactions: Vec::new(),
            scrub,
            chunk: BytesMut::new(),
        }
    }

    /// Goes on from another store's state, as when a snapshot of the leader was received. Readers keep their handles and see
    /// it after the next [`Store::publish`].
    pub fn replace(&mut self, other: Store) {
        let shared = self.shared.clone();
        *self = Self { shared, ..other };
    }

    /// A handle for readers on other threads.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { shared: self.shared.clone() }
    }

    /// Shows readers what was applied since the last call, and hands out the changes of keys for watchers. Call it after
    /// each batch of entries and before anybody is told that they are done.
    pub fn publish(&mut self) -> Batch {
        let view = self.view();
        self.shared.store(view.0.clone());
        Batch {
            view,
            changes: std::mem::take(&mut self.changes),
            lease_changes: std::mem::take(&mut self.lease_changes),
            auth_changes: std::mem::take(&mut self.auth_changes),
            compactions: std::mem::take(&mut self.compactions),
        }
    }

    /// The state right now, published or not.
    #[must_use]
    pub fn view(&self) -> View {
        View(Arc::new(self.state.clone()))
    }

    /// The last applied entry.
    #[must_use]
    pub fn applied(&self) -> (RaftIndex, Term) {
        (self.state.applied, self.state.term)
    }

    /// Revision of the last transaction that changed something.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.state.kv.revision
    }

    /// Raft's configuration after a membership change; files carry it.
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.state.conf_state = Some(Arc::new(conf_state));
    }

    /// Version of the storage schema, `major.minor.patch`; files carry it.
    pub fn set_storage_version(&mut self, version: &str) {
        self.state.storage_version = Some(version.into());
    }

    /// Counts an entry that changes nothing, such as the one a new leader starts with.
    pub fn apply_empty(&mut self, index: RaftIndex, term: Term) {
        assert!(
            index > self.state.applied,
            "entry {index} was applied before; {} was the last",
            self.state.applied
        );
        (self.state.applied, self.state.term) = (index, term);
    }

    /// Applies a membership change. The caller then tells raft and calls [`Self::set_conf_state`].
    ///
    /// # Errors
    /// The change is not valid (any more); nothing changed, and raft must be given a change of node 0 instead.
    pub fn apply_conf_change(
        &mut self,
        index: RaftIndex,
        term: Term,
        change: &ConfChange,
    ) -> Result<ConfChangeOutcome, MembershipError> {
        self.apply_empty(index, term);
        self.state.membership.apply(change, self.config.max_learners)
    }

    /// Applies the request in a committed entry.
    ///
    /// # Errors
    /// Why it changed nothing ([`ApplyError::NoSpace`] may also mean that it did, but was one too many). The entry counts
    /// as applied either way.
    pub fn apply(
        &mut self,
        index: RaftIndex,
        term: Term,
        request: &InternalRaftRequest,
    ) -> Result<Response, ApplyError> {
        self.apply_empty(index, term);
        if let Some(response) = self.apply_cluster_fact(request) {
            return Ok(response);
        }
        self.check_alarms(request)?;
        let authorizer = Authorizer { auth: &self.state.auth, leases: &self.state.leases };
        authorizer.request(requester(request), request)?;
        self.dispatch(request)
    }

    /// Forgets compacted revisions for about as long as looking at `budget` keys takes. Returns whether more is to do;
    /// call it between batches until it says no.
    pub fn scrub(&mut self, budget: usize) -> ScrubProgress {
        self.scrub = self.scrub.take().and_then(|scrub| self.state.kv.scrub(scrub, budget));
        if self.scrub.is_some() { ScrubProgress::More } else { ScrubProgress::Done }
    }

    /// These are applied whatever alarms say.
    fn apply_cluster_fact(&mut self, request: &InternalRaftRequest) -> Option<Response> {
        let membership = &mut self.state.membership;
        if let Some(request) = &request.cluster_version_set {
            membership.cluster_version = Some(request.ver.clone());
        } else if let Some(request) = &request.cluster_member_attr_set {
            membership.set_attributes(request);
        } else if let Some(request) = &request.downgrade_info_set {
            membership.set_downgrade(request);
        } else if request.downgrade_version_test.is_none() {
            return None;
        }
        Some(Response::Noted)
    }

    /// Users, roles and tokens.
    fn apply_auth(&mut self, request: &InternalRaftRequest) -> Option<Result<AuthResponse, AuthError>> {
        let (auth, changes, index) = (&mut self.state.auth, &mut self.auth_changes, self.state.applied);
        let r = request;
        None.or_else(|| r.auth_enable.as_ref().map(|_| auth.enable(changes)))
            .or_else(|| r.auth_disable.as_ref().map(|_| auth.disable(changes)))
            .or_else(|| r.auth_status.as_ref().map(|_| Ok(auth.status())))
            .or_else(|| r.authenticate.as_ref().map(|r| auth.authenticate(r, index, changes)))
            .or_else(|| r.auth_user_add.as_ref().map(|r| auth.user_add(r)))
            .or_else(|| r.auth_user_delete.as_ref().map(|r| auth.user_delete(r, changes)))
            .or_else(|| r.auth_user_change_password.as_ref().map(|r| auth.user_change_password(r, changes)))
            .or_else(|| r.auth_user_grant_role.as_ref().map(|r| auth.user_grant_role(r)))
            .or_else(|| r.auth_user_revoke_role.as_ref().map(|r| auth.user_revoke_role(r)))
            .or_else(|| r.auth_user_get.as_ref().map(|r| auth.user_get(&r.name)))
            .or_else(|| r.auth_user_list.as_ref().map(|_| Ok(auth.user_list())))
            .or_else(|| r.auth_role_add.as_ref().map(|r| auth.role_add(r)))
            .or_else(|| r.auth_role_delete.as_ref().map(|r| auth.role_delete(r)))
            .or_else(|| r.auth_role_get.as_ref().map(|r| auth.role_get(&r.role)))
            .or_else(|| r.auth_role_list.as_ref().map(|_| Ok(auth.role_list())))
            .or_else(|| r.auth_role_grant_permission.as_ref().map(|r| auth.role_grant_permission(r)))
            .or_else(|| r.auth_role_revoke_permission.as_ref().map(|r| auth.role_revoke_permission(r)))
    }

    /// What raised alarms refuse (etcd: `capped.go`, `corrupt.go`).
    fn check_alarms(&self, request: &InternalRaftRequest) -> Result<(), ApplyError> {
        let writes_keys = request.put.is_some() || request.txn.is_some() || request.lease_grant.is_some();
        let touches_keys = writes_keys
            || request.range.is_some()
            || request.delete_range.is_some()
            || request.compaction.is_some()
            || request.lease_revoke.is_some();
        if touches_keys && self.state.alarms.any(AlarmType::Corrupt) {
            return Err(ApplyError::Corrupt);
        }
        let costs = request.put.is_some()
            || request.lease_grant.is_some()
            || request.txn.as_ref().is_some_and(|txn| quota::txn_cost_bytes(txn) > 0);
        if costs && self.state.alarms.any(AlarmType::Nospace) {
            return Err(ApplyError::NoSpace);
        }
        Ok(())
    }

    fn dispatch(&mut self, request: &InternalRaftRequest) -> Result<Response, ApplyError> {
        if let Some(request) = &request.put {
            let fits = self.fits(quota::put_cost_bytes(request));
            self.put(request).and_then(|response| fits.map(|()| response))
        } else if let Some(request) = &request.txn {
            let fits = self.fits(quota::txn_cost_bytes(request));
            self.txn(request).and_then(|response| fits.map(|()| response))
        } else if let Some(request) = &request.delete_range {
            Ok(self.delete_range(request))
        } else if let Some(request) = &request.range {
            Ok(Response::Range(self.state.kv.range(request, self.revision())?))
        } else if let Some(request) = &request.compaction {
            self.compact(request)
        } else if let Some(request) = &request.lease_grant {
            let fits = self.fits(quota::QUOTA_LEASE_BYTES);
            self.lease_grant(request).and_then(|response| fits.map(|()| response))
        } else if let Some(request) = &request.lease_revoke {
            self.lease_revoke(request)
        } else if let Some(request) = &request.lease_checkpoint {
            Ok(self.lease_checkpoint(request))
        } else if let Some(request) = &request.alarm {
            Ok(Response::Alarm(self.state.alarms.apply(request)))
        } else {
            let outcome = self.apply_auth(request).ok_or(ApplyError::UnknownRequest)?;
            Ok(Response::Auth(outcome?))
        }
    }

    /// Whether `cost_bytes` more stay within the quota. Services refuse what does not; what was proposed meanwhile is, as
    /// in etcd, applied, answers [`ApplyError::NoSpace`], and thereby raises the alarm.
    fn fits(&self, cost_bytes: u64) -> Result<(), ApplyError> {
        let fits = quota::fits(self.config.quota_bytes, self.state.size_bytes(), cost_bytes);
        if fits { Ok(()) } else { Err(ApplyError::NoSpace) }
    }

    fn write(&mut self) -> WriteTxn<'_> {
        WriteTxn::begin(&mut self.state.kv, &mut self.state.leases, &mut self.chunk, &mut self.changes)
    }

    fn put(&mut self, request: &PutRequest) -> Result<Response, ApplyError> {
        self.state.kv.check_put(request, &self.state.leases)?;
        let mut txn = self.write();
        let result = txn.put(request);
        txn.finish();
        Ok(Response::Put(result))
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> Response {
        let mut txn = self.write();
        let result = txn.delete_range(request);
        txn.finish();
        Response::DeleteRange(result)
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<Response, ApplyError> {
        let plan = self.state.kv.plan(request);
        plan.check(&self.state.kv, &self.state.leases)?;
        let mut txn = self.write();
        let mut result = plan.run(&mut txn);
        result.revision = Some(txn.finish());
        Ok(Response::Txn(result))
    }

    fn compact(&mut self, request: &CompactionRequest) -> Result<Response, ApplyError> {
        let (before, revision) = (self.view(), Revision(request.revision));
        let mut scrub = self.state.kv.compact(revision)?;
        self.compactions.push(PastCompaction { before, index: self.state.applied, revision });
        if let Some(earlier) = self.scrub.take() {
            scrub.absorb(earlier);
        }
        self.scrub = Some(scrub);
        Ok(Response::Compact)
    }

    fn lease_grant(&mut self, request: &LeaseGrantRequest) -> Result<Response, ApplyError> {
        let min_ttl_seconds = self.config.min_lease_ttl_seconds;
        let lease = self.state.leases.grant(LeaseId(request.id), request.ttl, min_ttl_seconds)?;
        self.lease_changes.push(LeaseChange::Granted(lease));
        Ok(Response::LeaseGrant(lease))
    }

    /// Deletes the keys of a lease, in order and at one revision, and the lease itself.
    fn lease_revoke(&mut self, request: &LeaseRevokeRequest) -> Result<Response, ApplyError> {
        let id = LeaseId(request.id);
        let keys = self.state.leases.get(id).ok_or(ApplyError::LeaseNotFound)?.keys.clone();
        let mut txn = self.write();
        for key in &keys {
            txn.delete(key);
        }
        txn.finish();
        self.state.leases.remove(id);
        self.lease_changes.push(LeaseChange::Revoked(id));
        Ok(Response::LeaseRevoke)
    }

    fn lease_checkpoint(&mut self, request: &LeaseCheckpointRequest) -> Response {
        for checkpoint in &request.checkpoints {
            let lease = self.state.leases.checkpoint(LeaseId(checkpoint.id), checkpoint.remaining_ttl);
            self.lease_changes.extend(lease.map(LeaseChange::Checkpointed));
        }
        Response::LeaseCheckpoint
    }
}

/// Whether forgetting goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubProgress {
    /// There is more to do.
    More,
    /// Everything compacted is gone.
    Done,
}
