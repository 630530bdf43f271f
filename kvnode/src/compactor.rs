//! `--auto-compaction-mode` and `--auto-compaction-retention`: the leader forgets old revisions by itself (etcd:
//! `server/etcdserver/api/v3compactor`).
//!
//! [`Schedule`] is pure and is told the time; [`run`] asks it and proposes. Every member keeps the schedule, so that a
//! new leader knows what was current an hour ago; only the leader acts on it.

use std::{collections::VecDeque, time::Duration};

use kvnode_mvcc::Revision;
use kvnode_proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use kvnode_raft::Role;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{flags::config::AutoCompaction, node::Node};

/// Longest time between two periodic compactions.
const PERIODIC_MAX: Duration = Duration::from_secs(3600);
/// Samples taken in the time between two periodic compactions.
const SAMPLES: u32 = 10;
/// Time between two looks in revision mode.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// Whether this member decides about compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Leads,
    Follows,
}

/// When to compact, and up to where.
#[derive(Debug)]
enum Schedule {
    Periodic {
        period: Duration,
        /// Time between compactions.
        every: Duration,
        /// Revisions sampled, newest last; the first is at least one period old when it is compacted at.
        samples: VecDeque<Revision>,
        /// Next compaction, as time since the start.
        due: Duration,
        last: Revision,
    },
    Revision {
        keep: i64,
        last: Revision,
    },
}

impl Schedule {
    fn new(mode: AutoCompaction) -> Option<Self> {
        match mode {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(period) => Some(Self::Periodic {
                period,
                every: period.min(PERIODIC_MAX),
                samples: VecDeque::new(),
                due: period,
                last: Revision(0),
            }),
            AutoCompaction::Revision(keep) => Some(Self::Revision { keep, last: Revision(0) }),
        }
    }

    /// Time between two calls of [`Self::look`], each with a [`Self::sample`] before the wait for it.
    fn interval(&self) -> Duration {
        match self {
            Self::Periodic { every, .. } => *every / SAMPLES,
            Self::Revision { .. } => REVISION_INTERVAL,
        }
    }

    /// Notes what is current, for [`Self::look`] a period later.
    fn sample(&mut self, current: Revision) {
        let Self::Periodic { period, every, samples, .. } = self else { return };
        samples.push_back(current);
        let kept = usize::try_from(period.as_nanos() * u128::from(SAMPLES) / every.as_nanos().max(1));
        while samples.len() > kept.unwrap_or(usize::MAX).saturating_add(1) {
            samples.pop_front();
        }
    }

    /// The revision to compact at, if it is time. `now` counts from the start.
    fn look(&mut self, now: Duration, current: Revision, part: Part) -> Option<Revision> {
        match self {
            Self::Periodic { samples, due, last, .. } => {
                let oldest = *samples.front()?;
                (now >= *due && part == Part::Leads && oldest > *last).then_some(oldest)
            }
            Self::Revision { keep, last } => {
                let oldest = Revision(current.0 - *keep);
                (part == Part::Leads && oldest.0 > 0 && oldest > *last).then_some(oldest)
            }
        }
    }

    /// Compaction at `revision` is done.
    fn done(&mut self, now: Duration, revision: Revision) {
        match self {
            Self::Periodic { every, due, last, .. } => (*due, *last) = (now + *every, revision),
            Self::Revision { last, .. } => *last = revision,
        }
    }
}

/// Compacts as configured, until the member stops.
pub async fn run(node: Node, mode: AutoCompaction) {
    let Some(mut schedule) = Schedule::new(mode) else { return };
    let started = Instant::now();
    loop {
        schedule.sample(node.reader().view().revision());
        tokio::time::sleep(schedule.interval()).await;
        let part = if node.status().role == Role::Leader { Part::Leads } else { Part::Follows };
        let now = started.elapsed();
        let Some(revision) = schedule.look(now, node.reader().view().revision(), part) else { continue };
        let compaction = Some(CompactionRequest { revision: revision.0, physical: false });
        let outcome =
            node.propose(InternalRaftRequest { compaction, ..InternalRaftRequest::default() }).await;
        let compacted = node.reader().view().compact_revision() >= revision;
        match outcome {
            Err(error) if !compacted => {
                warn!(revision = revision.0, %error, "failed auto compaction; trying again");
            }
            _ => {
                schedule.done(now, revision);
                info!(revision = revision.0, ?mode, "completed auto compaction");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Runs a schedule over time with one revision a minute, 1 at the start: when it compacted, and where.
    fn compactions(mode: AutoCompaction, minutes: u32, part: Part) -> Vec<(u64, i64)> {
        let mut schedule = Schedule::new(mode).unwrap();
        let current = |now: Duration| Revision(1 + i64::try_from(now.as_secs() / 60).unwrap());
        let mut now = Duration::ZERO;
        let mut done = Vec::new();
        while now < MINUTE * minutes {
            schedule.sample(current(now));
            now += schedule.interval();
            if let Some(revision) = schedule.look(now, current(now), part) {
                done.push((now.as_secs() / 60, revision.0));
                schedule.done(now, revision);
            }
        }
        done
    }

    #[test]
    fn a_period_is_kept_and_longer_ones_are_compacted_hourly() {
        // Whatever is compacted away is at least as old as the period, the first time, too.
        let ten = compactions(AutoCompaction::Periodic(MINUTE * 10), 40, Part::Leads);
        assert_eq!(ten, [(10, 1), (20, 10), (30, 20), (40, 30)]);
        let three_hours = compactions(AutoCompaction::Periodic(MINUTE * 180), 320, Part::Leads);
        assert_eq!(three_hours, [(180, 1), (240, 55), (300, 115)]);
    }

    #[test]
    fn a_number_of_revisions_is_kept() {
        let done = compactions(AutoCompaction::Revision(7), 20, Part::Leads);
        assert_eq!(done, [(10, 4), (15, 9), (20, 14)]);
    }

    #[test]
    fn only_the_leader_compacts() {
        assert_eq!(compactions(AutoCompaction::Revision(7), 60, Part::Follows), []);
        assert!(Schedule::new(AutoCompaction::Off).is_none());
    }
}
