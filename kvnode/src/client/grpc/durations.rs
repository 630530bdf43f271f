//! How long requests take, in handles that are looked up once: a label costs more to find than a key.

use std::{borrow::Cow, time::Instant};

use kvnode_proto::etcdserverpb::InternalRaftRequest;
use prometheus::{Histogram, HistogramVec};

use crate::metrics::Metrics;

/// Durations by what was asked.
pub struct Durations {
    /// Of a range as a whole, and of the reading alone.
    pub range: ByOutcome,
    pub reading: ByOutcome,
    pub read_only_txn: ByOutcome,
    put: ByOutcome,
    txn: ByOutcome,
    delete_range: ByOutcome,
    compaction: ByOutcome,
    lease_grant: ByOutcome,
    lease_revoke: ByOutcome,
    alarm: ByOutcome,
    /// Of those that come too seldom to be kept at hand.
    all: HistogramVec,
}

/// Durations of one kind.
#[derive(Clone)]
pub struct ByOutcome {
    succeeded: Histogram,
    failed: Histogram,
}

impl ByOutcome {
    fn new(seconds: &HistogramVec, kind: Option<&str>) -> Self {
        let labelled = |success| match kind {
            Some(kind) => seconds.with_label_values(&[kind, success]),
            None => seconds.with_label_values(&[success]),
        };
        Self { succeeded: labelled("true"), failed: labelled("false") }
    }

    /// Notes a request that ends now.
    pub fn observe<T, E>(&self, started: Instant, outcome: &Result<T, E>) {
        let histogram = if outcome.is_ok() { &self.succeeded } else { &self.failed };
        histogram.observe(started.elapsed().as_secs_f64());
    }
}

impl Durations {
    pub fn new(metrics: &Metrics) -> Self {
        let request = |kind| ByOutcome::new(&metrics.server.request_seconds, Some(kind));
        Self {
            range: request("Range"),
            reading: ByOutcome::new(&metrics.server.range_seconds, None),
            read_only_txn: request("ReadonlyTxn"),
            put: request("Put"),
            txn: request("Txn"),
            delete_range: request("DeleteRange"),
            compaction: request("Compaction"),
            lease_grant: request("LeaseGrant"),
            lease_revoke: request("LeaseRevoke"),
            alarm: request("Alarm"),
            all: metrics.server.request_seconds.clone(),
        }
    }

    /// Where a request that goes through raft is noted.
    pub fn of(&self, body: &InternalRaftRequest) -> Cow<'_, ByOutcome> {
        Cow::Borrowed(match body {
            InternalRaftRequest { put: Some(_), .. } => &self.put,
            InternalRaftRequest { txn: Some(_), .. } => &self.txn,
            InternalRaftRequest { delete_range: Some(_), .. } => &self.delete_range,
            InternalRaftRequest { compaction: Some(_), .. } => &self.compaction,
            InternalRaftRequest { lease_grant: Some(_), .. } => &self.lease_grant,
            InternalRaftRequest { lease_revoke: Some(_), .. } => &self.lease_revoke,
            InternalRaftRequest { alarm: Some(_), .. } => &self.alarm,
            _ => return Cow::Owned(ByOutcome::new(&self.all, Some(auth_kind(body)))),
        })
    }
}

/// What etcd calls a request about users, roles or tokens.
fn auth_kind(body: &InternalRaftRequest) -> &'static str {
    match body {
        InternalRaftRequest { authenticate: Some(_), .. } => "Authenticate",
        InternalRaftRequest { auth_enable: Some(_), .. } => "AuthEnable",
        InternalRaftRequest { auth_disable: Some(_), .. } => "AuthDisable",
        InternalRaftRequest { auth_status: Some(_), .. } => "AuthStatus",
        InternalRaftRequest { auth_user_add: Some(_), .. } => "AuthUserAdd",
        InternalRaftRequest { auth_user_delete: Some(_), .. } => "AuthUserDelete",
        InternalRaftRequest { auth_user_change_password: Some(_), .. } => "AuthUserChangePassword",
        InternalRaftRequest { auth_user_grant_role: Some(_), .. } => "AuthUserGrantRole",
        InternalRaftRequest { auth_user_get: Some(_), .. } => "AuthUserGet",
        InternalRaftRequest { auth_user_revoke_role: Some(_), .. } => "AuthUserRevokeRole",
        InternalRaftRequest { auth_role_add: Some(_), .. } => "AuthRoleAdd",
        InternalRaftRequest { auth_role_grant_permission: Some(_), .. } => "AuthRoleGrantPermission",
        InternalRaftRequest { auth_role_get: Some(_), .. } => "AuthRoleGet",
        InternalRaftRequest { auth_role_revoke_permission: Some(_), .. } => "AuthRoleRevokePermission",
        InternalRaftRequest { auth_role_delete: Some(_), .. } => "AuthRoleDelete",
        InternalRaftRequest { auth_user_list: Some(_), .. } => "AuthUserList",
        InternalRaftRequest { auth_role_list: Some(_), .. } => "AuthRoleList",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use kvnode_proto::etcdserverpb::{AuthRoleListRequest, AuthUserAddRequest, PutRequest};

    use super::*;
    use crate::flags::config::MetricsLevel;

    #[test]
    fn durations_are_told_apart_by_etcds_names() {
        let metrics = Metrics::new(MetricsLevel::Basic);
        let durations = Durations::new(&metrics);
        let empty = InternalRaftRequest::default;
        for body in [
            InternalRaftRequest { put: Some(PutRequest::default()), ..empty() },
            InternalRaftRequest { auth_user_add: Some(AuthUserAddRequest::default()), ..empty() },
            InternalRaftRequest { auth_role_list: Some(AuthRoleListRequest {}), ..empty() },
        ] {
            durations.of(&body).observe::<_, ()>(Instant::now(), &Ok(()));
        }
        durations.range.observe::<(), _>(Instant::now(), &Err(()));
        let text = String::from_utf8(metrics.render()).unwrap();
        for (success, kind) in
            [(true, "Put"), (true, "AuthUserAdd"), (true, "AuthRoleList"), (false, "Range")]
        {
            let labels = format!("{{success=\"{success}\",type=\"{kind}\"}}");
            let line = format!("etcd_server_request_duration_seconds_count{labels} 1\n");
            assert!(text.contains(&line), "{line}");
        }
    }
}
