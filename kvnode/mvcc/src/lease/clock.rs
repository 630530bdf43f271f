//! When leases run out, as the leader sees it (etcd: `server/lease/lessor.go`).
//!
//! Only the leader lets leases expire, so this is not replicated: a new leader gives every lease its full time again, or
//! what a checkpoint left of it, and the election timeout on top. Pure: `now` is an argument, any clock that never goes
//! back, counted from any beginning. It proposes nothing itself; the caller proposes what [`LeaseClock::expired`] and
//! [`LeaseClock::due_checkpoints`] return.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kvnode_proto::etcdserverpb::LeaseCheckpoint;

use super::{Lease, LeaseChange};
use crate::{ids::LeaseId, limits::LEASE_REVOKES_PER_SECOND};

/// A revocation that was proposed but not applied is proposed again after this long.
const REVOKE_RETRY: Duration = Duration::from_secs(3);

/// How often the remaining time of a lease is written down, where that is switched on.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);

/// Whether the leader writes down remaining times (feature gate `LeaseCheckpoint`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoints {
    /// It does.
    On,
    /// It does not; etcd's default.
    Off,
}

/// Why a lease was not renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// This member is not the leader, or not yet ready to be asked: ask the leader.
    #[error("not primary lessor")]
    NotPrimary,
    /// No such lease; a client is told a TTL of 0.
    #[error("etcdserver: requested lease not found")]
    NotFound,
    /// It ran out and is about to be revoked: wait until it is, and answer as for an unknown one.
    #[error("the lease ran out and is being revoked")]
    Expired,
    /// The next leader would give it less than its full time: propose a checkpoint that says 0, then ask again.
    #[error("a checkpoint of the lease says that less time is left")]
    Checkpointed,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    lease: Lease,
    expiry: Duration,
    /// When it is looked at next: its expiry, or later if its revocation was proposed.
    due: Duration,
}

/// The leader's view of when leases run out. On other members it only remembers the leases.
#[derive(Clone, Debug)]
pub struct LeaseClock {
    checkpoints: Checkpoints,
    timers: BTreeMap<LeaseId, Timer>,
    primary: bool,
    due: BTreeSet<(Duration, LeaseId)>,
    checkpoint_due: BTreeSet<(Duration, LeaseId)>,
}

impl LeaseClock {
    /// A clock for the leases that exist, on a member that is not the leader.
    #[must_use]
    pub fn new(leases: Vec<Lease>, checkpoints: Checkpoints) -> Self {
        let forever = Duration::MAX;
        let timers =
            leases.into_iter().map(|lease| (lease.id, Timer { lease, expiry: forever, due: forever }));
        Self {
            checkpoints,
            timers: timers.collect(),
            primary: false,
            due: BTreeSet::new(),
            checkpoint_due: BTreeSet::new(),
        }
    }

    /// Whether this member decides about expiry.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.primary
    }

    /// Follows what applied entries did to leases.
    pub fn observe(&mut self, changes: &[LeaseChange], now: Duration) {
        for change in changes {
            match *change {
                LeaseChange::Granted(lease) => {
                    self.timers.insert(lease.id, Timer { lease, expiry: Duration::MAX, due: Duration::MAX });
                    if self.primary {
                        self.refresh(lease.id, now, Duration::ZERO);
                    }
                }
                LeaseChange::Revoked(id) => self.forget(id),
                LeaseChange::Checkpointed(lease) => {
                    if let Some(timer) = self.timers.get_mut(&lease.id) {
                        timer.lease = lease;
                        self.schedule_checkpoint(lease.id, now);
                    }
                }
            }
        }
    }

    /// Starts deciding: call it after an entry of the new term was applied. Every lease lives its time anew and `extend`
    /// longer, since clients could not renew while there was no leader.
    pub fn promote(&mut self, now: Duration, extend: Duration) {
        self.demote();
        self.primary = true;
        let ids: Vec<LeaseId> = self.timers.keys().copied().collect();
        ids.iter().for_each(|id| self.refresh(*id, now, extend));
        if ids.len() >= LEASE_REVOKES_PER_SECOND {
            self.spread(now, extend);
        }
    }

    /// Stops deciding.
    pub fn demote(&mut self) {
        self.primary = false;
        self.due.clear();
        self.checkpoint_due.clear();
        for timer in self.timers.values_mut() {
            (timer.expiry, timer.due) = (Duration::MAX, Duration::MAX);
        }
    }

    /// Gives a lease its full time again, and returns that in seconds.
    ///
    /// # Errors
    /// See [`RenewError`].
    pub fn renew(&mut self, id: LeaseId, now: Duration) -> Result<i64, RenewError> {
        if !self.primary {
            return Err(RenewError::NotPrimary);
        }
        let timer = self.timers.get_mut(&id).ok_or(RenewError::NotFound)?;
        if timer.expiry <= now {
            return Err(RenewError::Expired);
        }
        if self.checkpoints == Checkpoints::On && timer.lease.remaining_ttl_seconds > 0 {
            return Err(RenewError::Checkpointed);
        }
        timer.lease.remaining_ttl_seconds = 0;
        let ttl_seconds = timer.lease.ttl_seconds;
        self.refresh(id, now, Duration::ZERO);
        Ok(ttl_seconds)
    }

    /// Up to `limit` leases that ran out, to be revoked. Each is returned again after some seconds, until an applied
    /// entry revoked it.
    pub fn expired(&mut self, now: Duration, limit: usize) -> Vec<LeaseId> {
        let mut expired = Vec::new();
        while expired.len() < limit
            && let Some(&(due, id)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            if let Some(timer) = self.timers.get_mut(&id) {
                timer.due = now + REVOKE_RETRY;
                self.due.insert((timer.due, id));
                expired.push(id);
            }
        }
        expired
    }

    /// Up to `limit` remaining times to be written down.
    pub fn due_checkpoints(&mut self, now: Duration, limit: usize) -> Vec<LeaseCheckpoint> {
        let mut checkpoints = Vec::new();
        while checkpoints.len() < limit
            && let Some(&(due, id)) = self.checkpoint_due.first()
            && due <= now
        {
            self.checkpoint_due.pop_first();
            let Some(timer) = self.timers.get(&id) else { continue };
            let remaining = timer.expiry.saturating_sub(now);
            let remaining_ttl = seconds(remaining + Duration::from_nanos(999_999_999));
            if !remaining.is_zero() && remaining_ttl < timer.lease.ttl_seconds {
                checkpoints.push(LeaseCheckpoint { id: id.0, remaining_ttl });
            }
        }
        checkpoints
    }

    /// How long a lease still lives, zero if it ran out. `None` if it is unknown or this member does not decide.
    #[must_use]
    pub fn remaining(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        let timer = self.timers.get(&id).filter(|_| self.primary)?;
        Some(timer.expiry.saturating_sub(now))
    }

    /// All leases, those that run out first in front; by id where this member does not decide.
    #[must_use]
    pub fn by_expiry(&self) -> Vec<LeaseId> {
        let mut leases: Vec<_> = self.timers.iter().map(|(id, timer)| (timer.expiry, *id)).collect();
        leases.sort_unstable();
        leases.into_iter().map(|(_, id)| id).collect()
    }

    /// When [`Self::expired`] or [`Self::due_checkpoints`] may next have something to say.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let first = |queue: &BTreeSet<(Duration, LeaseId)>| queue.first().map(|(due, _)| *due);
        first(&self.due).into_iter().chain(first(&self.checkpoint_due)).min()
    }

    fn forget(&mut self, id: LeaseId) {
        if let Some(timer) = self.timers.remove(&id) {
            self.due.remove(&(timer.due, id));
        }
    }

    /// Starts the lease's time anew, with `extend` on top.
    fn refresh(&mut self, id: LeaseId, now: Duration, extend: Duration) {
        let Some(timer) = self.timers.get_mut(&id) else { return };
        self.due.remove(&(timer.due, id));
        timer.expiry = now + extend + Duration::from_secs(remaining_ttl(timer.lease));
        timer.due = timer.expiry;
        self.due.insert((timer.due, id));
        self.schedule_checkpoint(id, now);
    }

    fn schedule_checkpoint(&mut self, id: LeaseId, now: Duration) {
        let Some(timer) = self.timers.get(&id) else { return };
        let long = remaining_ttl(timer.lease) > CHECKPOINT_INTERVAL.as_secs();
        if self.primary && self.checkpoints == Checkpoints::On && long {
            self.checkpoint_due.insert((now + CHECKPOINT_INTERVAL, id));
        }
    }

    /// Moves leases that would run out together further apart, so that revoking them does not take all there is.
    fn spread(&mut self, now: Duration, extend: Duration) {
        let per_second = 3 * LEASE_REVOKES_PER_SECOND / 4;
        let second = Duration::from_secs(1);
        let order: Vec<(Duration, LeaseId)> = self.due.iter().copied().collect();
        let Some(first) = order.first() else { return };
        let (mut window, mut window_end, mut in_window) = (first.0, first.0 + second, 0);
        for (expiry, id) in order {
            if expiry > window_end {
                (window, window_end, in_window) = (expiry, expiry + second, 1);
                continue;
            }
            in_window += 1;
            if in_window <= per_second {
                continue;
            }
            let rate = f64::from(u32::try_from(in_window).unwrap_or(u32::MAX)) / per_second_f64(per_second);
            let delay = second.mul_f64(rate).saturating_sub(expiry - window);
            window_end = window + delay;
            self.refresh(id, now, delay + extend);
        }
    }
}

fn per_second_f64(per_second: usize) -> f64 {
    f64::from(u32::try_from(per_second).unwrap_or(u32::MAX))
}

/// What a checkpoint left, or all of it.
fn remaining_ttl(lease: Lease) -> u64 {
    let seconds =
        if lease.remaining_ttl_seconds > 0 { lease.remaining_ttl_seconds } else { lease.ttl_seconds };
    u64::try_from(seconds).unwrap_or(0)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: i64, ttl_seconds: i64) -> Lease {
        Lease { id: LeaseId(id), ttl_seconds, remaining_ttl_seconds: 0 }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn primary(leases: Vec<Lease>, checkpoints: Checkpoints) -> LeaseClock {
        let mut clock = LeaseClock::new(leases, checkpoints);
        clock.promote(at(0), at(0));
        clock
    }

    #[test]
    fn nothing_expires_where_nobody_decides() {
        let mut clock = LeaseClock::new(vec![lease(1, 5)], Checkpoints::Off);
        assert_eq!(clock.expired(at(1_000_000), 10), []);
        assert_eq!(clock.renew(LeaseId(1), at(0)), Err(RenewError::NotPrimary));
        assert_eq!(clock.remaining(LeaseId(1), at(0)), None);
        clock.promote(at(100), at(2));
        assert_eq!(clock.remaining(LeaseId(1), at(100)), Some(at(7)), "the election timeout is on top");
        assert_eq!(clock.expired(at(106), 10), []);
        assert_eq!(clock.expired(at(107), 10), [LeaseId(1)]);
        clock.demote();
        assert_eq!(clock.expired(at(1_000_000), 10), []);
    }

    #[test]
    fn a_renewed_lease_lives_on_and_an_expired_one_is_not_renewed() {
        let mut clock = primary(vec![lease(1, 5), lease(2, 9)], Checkpoints::Off);
        assert_eq!(clock.renew(LeaseId(1), at(4)), Ok(5));
        assert_eq!(clock.by_expiry(), [LeaseId(1), LeaseId(2)]);
        assert_eq!(clock.renew(LeaseId(1), at(5)), Ok(5));
        assert_eq!(clock.by_expiry(), [LeaseId(2), LeaseId(1)]);
        assert_eq!(clock.next_due(), Some(at(9)));
        assert_eq!(clock.expired(at(9), 10), [LeaseId(2)]);
        assert_eq!(clock.renew(LeaseId(2), at(9)), Err(RenewError::Expired));
        assert_eq!(clock.renew(LeaseId(3), at(9)), Err(RenewError::NotFound));
    }

    #[test]
    fn an_expired_lease_is_named_again_until_it_is_revoked() {
        let mut clock = primary(vec![lease(1, 5), lease(2, 5), lease(3, 5)], Checkpoints::Off);
        assert_eq!(clock.expired(at(5), 2), [LeaseId(1), LeaseId(2)]);
        assert_eq!(clock.expired(at(5), 2), [LeaseId(3)]);
        assert_eq!(clock.expired(at(7), 10), []);
        clock.observe(&[LeaseChange::Revoked(LeaseId(1))], at(7));
        assert_eq!(clock.expired(at(8), 10), [LeaseId(2), LeaseId(3)]);
    }

    #[test]
    fn long_leases_are_checkpointed_and_a_new_leader_starts_from_there() {
        let mut clock = primary(vec![lease(1, 1000), lease(2, 300)], Checkpoints::On);
        assert_eq!(clock.due_checkpoints(at(299), 10), []);
        assert_eq!(clock.due_checkpoints(at(300), 10), [LeaseCheckpoint { id: 1, remaining_ttl: 700 }]);
        let left = Lease { remaining_ttl_seconds: 700, ..lease(1, 1000) };
        clock.observe(&[LeaseChange::Checkpointed(left)], at(300));
        let mut next = LeaseClock::new(vec![left], Checkpoints::On);
        next.promote(at(0), at(0));
        assert_eq!(next.remaining(LeaseId(1), at(0)), Some(at(700)));
        // Until the others know better, it is not renewed.
        assert_eq!(next.renew(LeaseId(1), at(1)), Err(RenewError::Checkpointed));
        assert_eq!(next.remaining(LeaseId(1), at(1)), Some(at(699)));
        next.observe(&[LeaseChange::Checkpointed(lease(1, 1000))], at(1));
        assert_eq!(next.renew(LeaseId(1), at(1)), Ok(1000));
        assert_eq!(next.remaining(LeaseId(1), at(1)), Some(at(1000)));
    }

    #[test]
    fn leases_that_would_run_out_together_are_spread() {
        let leases: Vec<_> = (1..=3000).map(|id| lease(id, 10)).collect();
        let mut clock = primary(leases, Checkpoints::Off);
        let mut total = 0;
        for second in 10..20 {
            let expired = clock.expired(at(second), 10_000);
            assert!(expired.len() <= 1000, "{} leases ran out in second {second}", expired.len());
            total += expired.len();
            clock.observe(&expired.into_iter().map(LeaseChange::Revoked).collect::<Vec<_>>(), at(second));
        }
        assert_eq!(total, 3000, "but all of them do");
    }
}
