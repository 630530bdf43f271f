//! Leases as every member knows them: granted time, what a checkpoint left of it, and the keys that hang on them (etcd:
//! `server/lease/lessor.go`). When a lease runs out is known to the leader alone, see [`clock`].

pub mod clock;

use std::sync::Arc;

use bytes::Bytes;

use crate::{error::ApplyError, ids::LeaseId, limits::LEASE_TTL_SECONDS_MAX};

/// All leases. Cloning costs a reference count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    by_id: imbl::OrdMap<LeaseId, Arc<LeaseState>>,
}

/// A lease without its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which.
    pub id: LeaseId,
    /// Time to live as granted, in seconds.
    pub ttl_seconds: i64,
    /// What a checkpoint said was left, in seconds; 0 when none was made since the last renewal.
    pub remaining_ttl_seconds: i64,
}

/// What an applied entry did to leases, for [`clock::LeaseClock::observe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A lease came into being.
    Granted(Lease),
    /// A lease is gone.
    Revoked(LeaseId),
    /// Its remaining time was noted.
    Checkpointed(Lease),
}

#[derive(Clone, Debug)]
pub(crate) struct LeaseState {
    pub(crate) lease: Lease,
    pub(crate) keys: imbl::OrdSet<Bytes>,
}

impl Leases {
    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&LeaseState> {
        self.by_id.get(&id).map(Arc::as_ref)
    }

    /// All leases, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &LeaseState> {
        self.by_id.values().map(Arc::as_ref)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Grants a lease of at least `min_ttl_seconds`.
    pub(crate) fn grant(
        &mut self,
        id: LeaseId,
        ttl_seconds: i64,
        min_ttl_seconds: i64,
    ) -> Result<Lease, ApplyError> {
        if id == LeaseId::NONE {
            return Err(ApplyError::LeaseNotFound);
        }
        if ttl_seconds > LEASE_TTL_SECONDS_MAX {
            return Err(ApplyError::LeaseTtlTooLarge);
        }
        if self.contains(id) {
            return Err(ApplyError::LeaseExists);
        }
        let lease = Lease { id, ttl_seconds: ttl_seconds.max(min_ttl_seconds), remaining_ttl_seconds: 0 };
        self.insert(lease);
        Ok(lease)
    }

    /// Adds a lease that was granted earlier.
    pub(crate) fn insert(&mut self, lease: Lease) {
        self.by_id.insert(lease.id, Arc::new(LeaseState { lease, keys: imbl::OrdSet::new() }));
    }

    /// Forgets a lease; its keys are the caller's to delete first.
    pub(crate) fn remove(&mut self, id: LeaseId) {
        self.by_id.remove(&id);
    }

    /// Notes how long a lease still had; the next leader starts from there. Unknown leases are passed over.
    pub(crate) fn checkpoint(&mut self, id: LeaseId, remaining_ttl_seconds: i64) -> Option<Lease> {
        let state = Arc::make_mut(self.by_id.get_mut(&id)?);
        state.lease.remaining_ttl_seconds = remaining_ttl_seconds;
        Some(state.lease)
    }

    /// Hangs `key` on a lease, if it exists.
    pub(crate) fn attach(&mut self, id: LeaseId, key: &[u8]) {
        if id != LeaseId::NONE
            && let Some(state) = self.by_id.get_mut(&id)
        {
            // A copy: a slice would keep the whole raft entry alive for as long as the lease lives.
            Arc::make_mut(state).keys.insert(Bytes::copy_from_slice(key));
        }
    }

    /// Takes `key` off a lease.
    pub(crate) fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if id != LeaseId::NONE
            && let Some(state) = self.by_id.get_mut(&id)
        {
            Arc::make_mut(state).keys.remove(key);
        }
    }
}
