//! Metrics that mirror the member's state, set when somebody scrapes.

use kvnode_mvcc::membership::Member;
use kvnode_proto::etcdserverpb::AlarmType;
use kvnode_raft::Role;

use super::health::Health;
use crate::{
    flags::usage::ETCD_VERSION,
    metrics::Metrics,
    node::{Node, NodeStatus},
};

/// Reads the member, if it serves yet.
pub(super) fn observe(health: &Health, metrics: &Metrics) {
    metrics.server.version.with_label_values(&[ETCD_VERSION]).set(1);
    let Some(node) = health.node() else { return };
    raft(node, &node.status(), metrics);
    state(node, metrics);
}

fn raft(node: &Node, status: &NodeStatus, metrics: &Metrics) {
    let server = &metrics.server;
    server.has_leader.set(i64::from(status.leader.0 != 0));
    server.is_leader.set(i64::from(status.role == Role::Leader));
    server.is_learner.set(i64::from(status.learner));
    server.proposals_committed.set(signed(status.commit));
    server.proposals_applied.set(signed(status.applied));
    server.proposals_pending.set(i64::try_from(status.pending).unwrap_or(i64::MAX));
    server.id.with_label_values(&[&node.member_id().to_string()]).set(1);
}

fn state(node: &Node, metrics: &Metrics) {
    let view = node.reader().view();
    let mvcc = &metrics.mvcc;
    mvcc.db_total_size.set(signed(view.size_bytes()));
    mvcc.db_in_use.set(signed(view.size_in_use_bytes()));
    mvcc.compaction_keys.inc_by(view.forgotten_count().saturating_sub(mvcc.compaction_keys.get()));
    mvcc.keys.set(signed(view.key_count()));
    mvcc.current_revision.set(view.revision().0);
    mvcc.compact_revision.set(view.compact_revision().0);
    let server = &metrics.server;
    server.auth_revision.set(signed(view.authorizer().revision()));
    server.cluster_version.reset();
    if let Some(version) = view.cluster_version() {
        server.cluster_version.with_label_values(&[short(&version)]).set(1);
    }
    server.alarms.reset();
    for alarm in view.alarms(AlarmType::None) {
        let member = format!("{:x}", alarm.member_id);
        server.alarms.with_label_values(&[&member, alarm.alarm().as_str_name()]).set(1);
    }
    let own = node.member_id();
    let known = &metrics.network.known_peers;
    known.reset();
    // As in etcd, a member knows itself, too.
    for Member { id, .. } in view.members().iter() {
        known.with_label_values(&[&own.to_string(), &id.to_string()]).set(1);
    }
}

/// `major.minor` of a version.
fn short(version: &str) -> &str {
    version.match_indices('.').nth(1).map_or(version, |(at, _)| &version[..at])
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
