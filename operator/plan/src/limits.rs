//! Bounds and intervals, each with its argument.

use std::time::Duration;

/// How soon to look again while something is expected to happen that no watch reports, such as a member
/// answering for the first time. Two seconds: bootstrap of seven members has about fifteen such waits, and each
/// look costs one status call a member.
pub const RECHECK_BUSY: Duration = Duration::from_secs(2);

/// How soon to look again after an action: its effect is there at once.
pub const RECHECK_AFTER_ACTION: Duration = Duration::from_millis(200);

/// How soon to look again at rest: health is only known by asking, and status must follow a lost quorum
/// within 30 s.
pub const RECHECK_REST: Duration = Duration::from_secs(15);

/// How soon to look again when only a change of an object can help.
pub const RECHECK_IDLE: Duration = Duration::from_secs(60);

/// A learner may be promoted when it lacks at most this many log entries. etcd itself demands that a learner
/// has at least 90 % of the leader's log; this is stricter for short logs and cheap to reach for a live one.
pub const LEARNER_LAG_ENTRIES: u64 = 1000;

/// Seconds a step may take before its message says that it takes too long.
pub const STEP_DEADLINE_SECONDS: i64 = 600;

/// Seconds of validity before now: clocks of nodes differ by less.
pub const CERTIFICATE_BACKDATE_SECONDS: i64 = 3600;

/// Lifetime of leaf certificates, 90 days: renewal is automatic and needs no restart, so short is cheap.
pub const LEAF_LIFETIME_SECONDS: i64 = 90 * 86_400;

/// Lifetime of a cluster's authority, ten years: replacing it takes part of every client.
pub const AUTHORITY_LIFETIME_SECONDS: i64 = 3650 * 86_400;

/// A certificate of the user's is announced as expiring this long before its end: two weeks for a human.
pub const PROVIDED_EXPIRY_WARNING_SECONDS: i64 = 14 * 86_400;

/// Failed restore Jobs are deleted and tried again after this long, so that a store that comes back heals it.
pub const RESTORE_RETRY_SECONDS: i64 = 30;

/// Seconds between trusting a new authority and showing certificates it signed: a kubelet brings a changed
/// Secret to its pods within about a minute and a half, and members re-read it at once.
pub const TRUST_SPREADS_SECONDS: i64 = 300;
