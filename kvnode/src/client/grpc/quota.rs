//! The storage quota, before anything is proposed (etcd: `server/etcdserver/api/v3rpc/quota.go`).

use kvnode_mvcc::{ApplyError, quota};
use kvnode_proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest, alarm_request::AlarmAction};
use tonic::Status;
use tracing::warn;

use super::call::Call;
use crate::client::error::status;

impl Call {
    /// Whether the store has room for `cost_bytes` more. Comes before any other question, as in etcd.
    ///
    /// # Errors
    /// It has not. This member's alarm stands by then, unless it could not be raised.
    pub(super) async fn has_room(&self, cost_bytes: u64) -> Result<(), Status> {
        let view = self.services.node.reader().view();
        if quota::fits(self.services.config.quota_bytes(), view.size_bytes(), cost_bytes) {
            return Ok(());
        }
        if view.alarms(AlarmType::Nospace).is_empty() {
            warn!(
                alarm = "NOSPACE",
                "the database is full: raising an alarm; compact, defragment and disarm it, or raise \
                 --quota-backend-bytes"
            );
        }
        // The request is refused whether or not anybody hears of it.
        let _ = self.propose(self.no_space()).await;
        Err(status(ApplyError::NoSpace))
    }

    fn no_space(&self) -> InternalRaftRequest {
        let alarm = AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: self.services.node.member_id().0,
            alarm: AlarmType::Nospace as i32,
        };
        InternalRaftRequest { alarm: Some(alarm), ..InternalRaftRequest::default() }
    }
}
