//! The Lease service (etcd: `server/etcdserver/api/v3rpc/lease.go`).

use futures::Stream;
use kvnode_mvcc::{LeaseId, Response, auth::Authorizer, quota};
use kvnode_proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use tonic::{Status, Streaming};

use super::{call::Call, convert::wrong_answer};
use crate::{auth::Identity, client::error::status};

/// Grants a lease; the id is the client's choice or, for 0, ours.
pub async fn grant(call: Call, mut request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Status> {
    call.has_room(quota::QUOTA_LEASE_BYTES).await?;
    while request.id == 0 {
        request.id = id_from(call.services.node.next_id());
    }
    call.authenticated().await?;
    let body = InternalRaftRequest { lease_grant: Some(request), ..InternalRaftRequest::default() };
    let applied = call.propose(body).await?;
    match applied.response {
        Response::LeaseGrant(lease) => Ok(LeaseGrantResponse {
            header: Some(call.services.header(applied.revision)),
            id: lease.id.0,
            ttl: lease.ttl_seconds,
            error: String::new(),
        }),
        _ => Err(wrong_answer()),
    }
}

/// A lease's ID from a number that nobody else has: not negative, and different where the numbers differ below the sign.
fn id_from(number: u64) -> i64 {
    number.cast_signed() & i64::MAX
}

/// Ends a lease, and with it its keys.
pub async fn revoke(call: Call, request: LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Status> {
    call.authenticated().await?;
    let body = InternalRaftRequest { lease_revoke: Some(request), ..InternalRaftRequest::default() };
    let applied = call.propose(body).await?;
    match applied.response {
        Response::LeaseRevoke => {
            Ok(LeaseRevokeResponse { header: Some(call.services.header(applied.revision)) })
        }
        _ => Err(wrong_answer()),
    }
}

/// Renews leases as long as the client asks. A lease that does not exist (any more) has 0 seconds to live.
pub async fn keep_alive(
    call: Call,
    requests: Streaming<LeaseKeepAliveRequest>,
) -> Result<impl Stream<Item = Result<LeaseKeepAliveResponse, Status>>, Status> {
    Ok(futures::stream::try_unfold((call, requests), |(call, mut requests)| async move {
        let Some(request) = requests.message().await? else {
            return Ok(None);
        };
        call.services.methods.metrics(super::rpc::Rpc::LeaseKeepAlive).received.inc();
        call.may_renew(LeaseId(request.id)).await?;
        // Before the renewal, so that a client that reads at this revision sees what held when it was renewed.
        let header = call.services.header_now();
        let ttl = call.services.node.lease_renew(LeaseId(request.id)).await.map_err(status)?;
        let answer = LeaseKeepAliveResponse { header: Some(header), id: request.id, ttl };
        Ok(Some((answer, (call, requests))))
    }))
}

/// How long a lease still lives; -1 for one that does not exist.
pub async fn time_to_live(
    call: Call,
    request: LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse, Status> {
    let who = call.permit(|may, who| may.authenticated(who.requester())).await?.who;
    let found = call.services.node.lease_time_to_live(LeaseId(request.id)).await.map_err(status)?;
    if let Some(lease) = &found
        && request.keys
    {
        // The leader's list; what this member knows of the lease may be older.
        let view = call.services.node.reader().view();
        view.authorizer().read_keys(who.requester(), &lease.keys).map_err(status)?;
    }
    let header = Some(call.services.header_now());
    match found {
        Some(lease) => Ok(LeaseTimeToLiveResponse {
            header,
            id: request.id,
            ttl: lease.ttl_seconds,
            granted_ttl: lease.granted_seconds,
            keys: if request.keys { lease.keys } else { Vec::new() },
        }),
        None => {
            Ok(LeaseTimeToLiveResponse { header, id: request.id, ttl: -1, granted_ttl: 0, keys: Vec::new() })
        }
    }
}

/// All leases, those that expire first in front.
pub async fn leases(call: Call, _: LeaseLeasesRequest) -> Result<LeaseLeasesResponse, Status> {
    let leases = call.services.node.leases_by_expiry();
    call.permit(|may, who| {
        may.authenticated(who.requester())?;
        leases.iter().try_for_each(|id| may.lease_read(who.requester(), *id))
    })
    .await?;
    let leases = leases.iter().map(|id| LeaseStatus { id: id.0 }).collect();
    Ok(LeaseLeasesResponse { header: Some(call.services.header_now()), leases })
}

impl Call {
    /// Whether the caller may renew a lease: write all of its keys (etcd: `checkLeaseRenew`).
    async fn may_renew(&self, lease: LeaseId) -> Result<(), Status> {
        let node = &self.services.node;
        if !node.auth_enabled() {
            return Ok(());
        }
        if node.reader().view().lease(lease).is_none() {
            // The leader may know a lease, and keys on it, of which this member has not heard yet.
            node.linearize().await.map_err(status)?;
        }
        let may = |may: &Authorizer<'_>, who: &Identity| {
            may.authenticated(who.requester())?;
            may.lease_write(who.requester(), lease)
        };
        self.permit(may).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_each_other_are_different_leases() {
        assert!(id_from(6) != id_from(7) && id_from(7) != id_from(8));
        assert_eq!(id_from(u64::MAX), i64::MAX);
    }
}
