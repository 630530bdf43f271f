//! Who leads: pure. Looks at a Lease object and says what this replica should do with it.
//!
//! Another holder's silence is measured on our own monotonic clock from the moment we last saw its record change, so
//! clocks of two nodes need not agree.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

/// What to do with the Lease now.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// There is none: create this one.
    Create(Box<Lease>),
    /// It is ours or free or abandoned: replace it by this one. Its resourceVersion guards the write.
    Write(Box<Lease>),
    /// Someone else holds it: look again later.
    Wait {
        /// Who.
        holder: String,
    },
}

/// One replica's view of the competition.
#[derive(Clone, Debug)]
pub struct Election {
    name: String,
    identity: String,
    duration_seconds: i32,
    /// Another holder's record as last seen changed, and when on our clock.
    seen: Option<(Record, Duration)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Record {
    holder: Option<String>,
    renewed: Option<Timestamp>,
}

impl Election {
    /// A replica called `identity` competing for the Lease `name`.
    pub fn new(name: &str, identity: &str, duration_seconds: i32) -> Self {
        Self { name: name.to_owned(), identity: identity.to_owned(), duration_seconds, seen: None }
    }

    /// Decides on the Lease as read just now. `now` goes into the record for humans; `elapsed` is the monotonic time
    /// since this replica started and is what decides.
    pub fn step(&mut self, lease: Option<&Lease>, now: Timestamp, elapsed: Duration) -> Step {
        let Some(lease) = lease else {
            return Step::Create(Box::new(self.record(ObjectMeta::default(), None, now)));
        };
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|s| s.holder_identity.clone()).filter(|h| !h.is_empty());
        match holder {
            Some(holder) if holder != self.identity && !self.abandoned(&holder, spec, elapsed) => {
                Step::Wait { holder }
            }
            _ => Step::Write(Box::new(self.record(lease.metadata.clone(), spec, now))),
        }
    }

    /// The Lease as left behind by a holder that stops: free at once.
    pub fn release(&self, lease: &Lease, now: Timestamp) -> Option<Lease> {
        let spec = lease.spec.as_ref()?;
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return None;
        }
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(now)),
            ..spec.clone()
        };
        Some(Lease { metadata: lease.metadata.clone(), spec: Some(spec) })
    }

    /// Name of the Lease.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn abandoned(&mut self, holder: &str, spec: Option<&LeaseSpec>, elapsed: Duration) -> bool {
        let record = Record {
            holder: Some(holder.to_owned()),
            renewed: spec.and_then(|s| s.renew_time.as_ref()).map(|t| t.0),
        };
        let promised = spec.and_then(|s| s.lease_duration_seconds).unwrap_or(self.duration_seconds);
        let promised = Duration::from_secs(u64::try_from(promised).unwrap_or(0));
        match &self.seen {
            Some((seen, since)) if *seen == record => elapsed.saturating_sub(*since) > promised,
            _ => {
                self.seen = Some((record, elapsed));
                false
            }
        }
    }

    fn record(&self, metadata: ObjectMeta, before: Option<&LeaseSpec>, now: Timestamp) -> Lease {
        let ours = before.and_then(|s| s.holder_identity.as_deref()) == Some(self.identity.as_str());
        let transitions = before.and_then(|s| s.lease_transitions).unwrap_or(0);
        let spec = LeaseSpec {
            acquire_time: if ours {
                before.and_then(|s| s.acquire_time.clone())
            } else {
                Some(MicroTime(now))
            },
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(self.duration_seconds),
            lease_transitions: Some(if ours || before.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            renew_time: Some(MicroTime(now)),
            ..before.cloned().unwrap_or_default()
        };
        Lease { metadata: ObjectMeta { name: Some(self.name.clone()), ..metadata }, spec: Some(spec) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> (Timestamp, Duration) {
        (Timestamp::from_second(1_000 + seconds).unwrap(), Duration::from_secs(seconds.unsigned_abs()))
    }

    fn holder(step: &Step) -> &str {
        match step {
            Step::Create(lease) | Step::Write(lease) => {
                lease.spec.as_ref().unwrap().holder_identity.as_deref().unwrap()
            }
            Step::Wait { holder } => holder,
        }
    }

    fn written(step: Step) -> Lease {
        match step {
            Step::Create(lease) | Step::Write(lease) => *lease,
            Step::Wait { holder } => panic!("waits for {holder}"),
        }
    }

    #[test]
    fn the_first_creates_the_second_waits_and_takes_over_only_after_silence() {
        let (mut a, mut b) = (Election::new("l", "a", 15), Election::new("l", "b", 15));
        let (now, elapsed) = at(0);
        let lease = written(a.step(None, now, elapsed));
        for second in [0, 5, 15] {
            let (now, elapsed) = at(second);
            assert!(matches!(b.step(Some(&lease), now, elapsed), Step::Wait { .. }), "at {second} s");
        }
        let (now, elapsed) = at(16);
        let taken = written(b.step(Some(&lease), now, elapsed));
        assert_eq!(taken.spec.as_ref().unwrap().lease_transitions, Some(1));
        assert_eq!(taken.spec.as_ref().unwrap().holder_identity.as_deref(), Some("b"));
    }

    #[test]
    fn every_renewal_restarts_the_wait_whatever_the_holders_clock_says() {
        let (mut a, mut b) = (Election::new("l", "a", 15), Election::new("l", "b", 15));
        let mut lease = None;
        for second in (0..120).step_by(10) {
            // The holder's clock is an hour behind.
            let (now, elapsed) = at(second);
            let behind = now.checked_sub(jiff::SignedDuration::from_hours(1)).unwrap();
            lease = Some(written(a.step(lease.as_ref(), behind, elapsed)));
            assert_eq!(holder(&b.step(lease.as_ref(), now, elapsed)), "a");
            assert!(matches!(b.step(lease.as_ref(), now, elapsed), Step::Wait { .. }));
        }
    }

    #[test]
    fn renewing_keeps_the_time_of_acquisition_and_counts_no_transition() {
        let mut a = Election::new("l", "a", 15);
        let first = written(a.step(None, at(0).0, at(0).1));
        let second = written(a.step(Some(&first), at(5).0, at(5).1));
        let (first, second) = (first.spec.unwrap(), second.spec.unwrap());
        assert_eq!(first.acquire_time, second.acquire_time);
        assert_ne!(first.renew_time, second.renew_time);
        assert_eq!(second.lease_transitions, Some(0));
    }

    #[test]
    fn a_released_lease_is_taken_at_once_and_only_the_holder_releases() {
        let (mut a, mut b) = (Election::new("l", "a", 15), Election::new("l", "b", 15));
        let lease = written(a.step(None, at(0).0, at(0).1));
        assert_eq!(b.release(&lease, at(1).0), None);
        let free = a.release(&lease, at(1).0).unwrap();
        assert_eq!(holder(&Step::Write(Box::new(written(b.step(Some(&free), at(1).0, at(1).1))))), "b");
    }

    #[test]
    fn the_resource_version_travels_with_the_write() {
        let mut a = Election::new("l", "a", 15);
        let mut lease = written(a.step(None, at(0).0, at(0).1));
        lease.metadata.resource_version = Some("42".to_owned());
        let next = written(a.step(Some(&lease), at(1).0, at(1).1));
        assert_eq!(next.metadata.resource_version.as_deref(), Some("42"));
    }
}
