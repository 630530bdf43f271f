//! The calls the operator makes to one member. Each has a deadline; none is retried here.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use kvnode_proto::etcdserverpb::cluster_client::ClusterClient;
use kvnode_proto::etcdserverpb::kv_client::KvClient;
use kvnode_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use kvnode_proto::etcdserverpb::{
    DefragmentRequest, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberRemoveRequest, MoveLeaderRequest, RangeRequest, SnapshotRequest,
    SnapshotResponse, StatusRequest, StatusResponse,
};
use operator_plan::observed::ReadAnswer;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::error::EtcdError;
use crate::limits;

/// The key `etcdctl endpoint health` reads: it need not exist, the answer alone counts.
const HEALTH_KEY: &[u8] = b"health";

/// A client of one member.
#[derive(Clone)]
pub struct MemberClient {
    endpoint: String,
    channel: Channel,
}

impl MemberClient {
    pub(super) fn new(endpoint: &str, channel: Channel) -> Self {
        Self { endpoint: endpoint.to_owned(), channel }
    }

    /// URL of the member.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What the member says of itself; local, so it answers without quorum too.
    pub async fn status(&self) -> Result<StatusResponse, EtcdError> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        self.within("Status", limits::PROBE_DEADLINE, async move { client.status(StatusRequest {}).await })
            .await
    }

    /// The member list after a round through the leader. A learner refuses this.
    pub async fn member_list(&self) -> Result<MemberListResponse, EtcdError> {
        let mut client = ClusterClient::new(self.channel.clone());
        let request = MemberListRequest { linearizable: true };
        self.within("MemberList", limits::PROBE_DEADLINE, async move { client.member_list(request).await })
            .await
    }

    /// One linearizable read: the proof that the cluster has quorum and serves, also if the value is not for us.
    pub async fn linearizable_read(&self) -> Result<ReadAnswer, EtcdError> {
        let mut client = KvClient::new(self.channel.clone());
        let request = RangeRequest {
            key: Bytes::from_static(HEALTH_KEY),
            limit: 1,
            keys_only: true,
            ..Default::default()
        };
        let range = async move { client.range(request).await };
        match self.within("Range", limits::PROBE_DEADLINE, range).await {
            Ok(_) => Ok(ReadAnswer::Value),
            Err(error) if error.is_denied() => Ok(ReadAnswer::Denied),
            Err(error) => Err(error),
        }
    }

    /// Adds a learner that will be reached at `peer_urls`.
    pub async fn add_learner(&self, peer_urls: Vec<String>) -> Result<MemberAddResponse, EtcdError> {
        let mut client = ClusterClient::new(self.channel.clone());
        let request = MemberAddRequest { peer_ur_ls: peer_urls, is_learner: true };
        self.within("MemberAdd", limits::CHANGE_DEADLINE, async move { client.member_add(request).await })
            .await
    }

    /// Gives a learner its vote; refused by etcd until it has caught up.
    pub async fn promote(&self, id: u64) -> Result<(), EtcdError> {
        let mut client = ClusterClient::new(self.channel.clone());
        let request = MemberPromoteRequest { id };
        self.within(
            "MemberPromote",
            limits::CHANGE_DEADLINE,
            async move { client.member_promote(request).await },
        )
        .await
        .map(|_| ())
    }

    /// Removes a member for good.
    pub async fn remove(&self, id: u64) -> Result<(), EtcdError> {
        let mut client = ClusterClient::new(self.channel.clone());
        let request = MemberRemoveRequest { id };
        self.within(
            "MemberRemove",
            limits::CHANGE_DEADLINE,
            async move { client.member_remove(request).await },
        )
        .await
        .map(|_| ())
    }

    /// Hands leadership over; only the leader accepts this.
    pub async fn move_leader(&self, target_id: u64) -> Result<(), EtcdError> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        let request = MoveLeaderRequest { target_id };
        self.within("MoveLeader", limits::CHANGE_DEADLINE, async move { client.move_leader(request).await })
            .await
            .map(|_| ())
    }

    /// Gives unused space of this member back.
    pub async fn defragment(&self, deadline: Duration) -> Result<(), EtcdError> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        self.within("Defragment", deadline, async move { client.defragment(DefragmentRequest {}).await })
            .await
            .map(|_| ())
    }

    /// Starts streaming a snapshot.
    pub async fn snapshot(&self) -> Result<Streaming<SnapshotResponse>, EtcdError> {
        let mut client = MaintenanceClient::new(self.channel.clone())
            .max_decoding_message_size(limits::SNAPSHOT_MESSAGE_BYTES);
        self.within(
            "Snapshot",
            limits::SNAPSHOT_STALL,
            async move { client.snapshot(SnapshotRequest {}).await },
        )
        .await
    }

    /// The next part of a snapshot, or the end.
    pub async fn next_blob(
        &self,
        stream: &mut Streaming<SnapshotResponse>,
    ) -> Result<Option<SnapshotResponse>, EtcdError> {
        let waited = limits::SNAPSHOT_STALL;
        match tokio::time::timeout(waited, stream.message()).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(status)) => Err(EtcdError::from_status(&self.endpoint, "Snapshot", &status)),
            Err(_) => Err(EtcdError::TimedOut { endpoint: self.endpoint.clone(), call: "Snapshot", waited }),
        }
    }

    async fn within<T>(
        &self,
        call: &'static str,
        waited: Duration,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, EtcdError> {
        match tokio::time::timeout(waited, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(EtcdError::from_status(&self.endpoint, call, &status)),
            Err(_) => Err(EtcdError::TimedOut { endpoint: self.endpoint.clone(), call, waited }),
        }
    }
}
