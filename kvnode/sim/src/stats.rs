//! What happened, to see that a run tested something.

use std::ops::AddAssign;

/// Counts of events of one run or many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Writes acknowledged to clients.
    pub writes: u64,
    /// Linearizable reads answered.
    pub reads: u64,
    /// Operations given up without knowing their outcome.
    pub unknown: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// Processes killed, their machine staying on.
    pub kills: u64,
    /// Machines that lost power between two events.
    pub power_cuts: u64,
    /// Machines that lost power in the middle of a write or sync.
    pub cuts_in_write: u64,
    /// Members that stopped for good with their disk.
    pub lost_members: u64,
    /// Starts after any of these.
    pub restarts: u64,
    /// Starts that found an interrupted write.
    pub torn_tails: u64,
    /// Partitions begun.
    pub partitions: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Snapshots that took the place of a member's state.
    pub snapshots: u64,
    /// Snapshots put in place by a start after a crash.
    pub snapshots_recovered: u64,
    /// Membership changes applied by some member first.
    pub conf_changes: u64,
    /// Leaderships handed over on request.
    pub transfers: u64,
    /// Leaders that stepped down because their disk hung.
    pub stepped_down: u64,
    /// Rejects that reached a leader late: of entries it already knew to match.
    pub stale_rejects: u64,
    /// Messages lost.
    pub dropped: u64,
    /// Messages delivered twice.
    pub duplicated: u64,
    /// Equal hashes compared at equal indexes.
    pub hashes_compared: u64,
    /// Compactions applied by some member first.
    pub compactions: u64,
    /// Runs that ended without a quorum of any membership that somebody knows.
    pub quorums_gone: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.writes += other.writes;
        self.reads += other.reads;
        self.unknown += other.unknown;
        self.elections += other.elections;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.cuts_in_write += other.cuts_in_write;
        self.lost_members += other.lost_members;
        self.restarts += other.restarts;
        self.torn_tails += other.torn_tails;
        self.partitions += other.partitions;
        self.checkpoints += other.checkpoints;
        self.snapshots += other.snapshots;
        self.snapshots_recovered += other.snapshots_recovered;
        self.conf_changes += other.conf_changes;
        self.transfers += other.transfers;
        self.stepped_down += other.stepped_down;
        self.stale_rejects += other.stale_rejects;
        self.dropped += other.dropped;
        self.duplicated += other.duplicated;
        self.hashes_compared += other.hashes_compared;
        self.compactions += other.compactions;
        self.quorums_gone += other.quorums_gone;
    }
}
