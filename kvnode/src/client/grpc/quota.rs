//! The storage quota, before anything is proposed (etcd: `server/etcdserver/api/v3rpc/quota.go`).

use kvnode_mvcc::{ApplyError, quota};
use kvnode_proto::etcdserverpb::InternalRaftRequest;
use tonic::Status;

use super::call::Call;
use crate::{client::error::status, node::no_space};

impl Call {
    /// Whether the store has room for `cost_bytes` more. Comes before any other question, as in etcd.
    ///
    /// # Errors
    /// It has not. This member's alarm stands by then, unless it could not be raised.
    pub(super) async fn has_room(&self, cost_bytes: u64) -> Result<(), Status> {
        let node = &self.services.node;
        let view = node.reader().view();
        if quota::fits(self.services.config.quota_bytes(), view.size_bytes(), cost_bytes) {
            return Ok(());
        }
        let alarm = Some(no_space::alarm(&view, node.member_id()));
        // The request is refused whether or not anybody hears of it.
        let _ = self.propose(InternalRaftRequest { alarm, ..InternalRaftRequest::default() }).await;
        Err(status(ApplyError::NoSpace))
    }
}
