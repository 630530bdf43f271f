//! The Maintenance service, but for its snapshots (etcd: `server/etcdserver/api/v3rpc/maintenance.go`).

use std::time::Instant;

use kvnode_mvcc::{MemberId, Response, Revision};
use kvnode_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, InternalRaftRequest, MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
    alarm_request::AlarmAction, downgrade_request::DowngradeAction,
};
use tonic::Status;

use super::{call::Call, convert::wrong_answer};
use crate::{client::error::status, flags::usage::ETCD_VERSION, node::NodeError};

/// What this member knows of itself. Needs no leader.
pub async fn status_of(call: Call, _: StatusRequest) -> Result<StatusResponse, Status> {
    call.authenticated().await?;
    let services = &call.services;
    let view = services.node.reader().view();
    let raft = services.node.status();
    let mut errors = Vec::new();
    if raft.leader.0 == 0 {
        errors.push(NodeError::NoLeader.to_string());
    }
    errors.extend(view.alarms(AlarmType::None).iter().map(alarm_text));
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let downgrade = view.downgrade().and_then(|downgrade| downgrade.target_version);
    Ok(StatusResponse {
        header: Some(services.header(view.revision())),
        version: ETCD_VERSION.to_owned(),
        db_size: bytes(view.size_bytes()),
        leader: raft.leader.0,
        raft_index: raft.commit,
        raft_term: raft.term,
        raft_applied_index: raft.applied,
        errors,
        db_size_in_use: bytes(view.size_in_use_bytes()),
        is_learner: raft.learner,
        storage_version: services
            .node
            .storage_version(&view)
            .or_else(|| view.schema_version())
            .unwrap_or_default(),
        db_size_quota: services.config.told_quota_bytes(),
        downgrade_info: Some(DowngradeInfo {
            enabled: downgrade.is_some(),
            target_version: downgrade.unwrap_or_default(),
        }),
    })
}

/// As Go's protobuf prints it: without fields that are zero, and a number where it knows no name.
fn alarm_text(alarm: &AlarmMember) -> String {
    let member = (alarm.member_id != 0).then(|| format!("memberID:{}", alarm.member_id));
    let kind = AlarmType::try_from(alarm.alarm)
        .map_or(alarm.alarm.to_string(), |kind| kind.as_str_name().to_owned());
    let kind = (alarm.alarm != AlarmType::None as i32).then(|| format!("alarm:{kind}"));
    member.into_iter().chain(kind).collect::<Vec<_>>().join(" ")
}

/// Lists, raises or disarms alarms. Listing goes through raft, too: what it says holds for the cluster.
pub async fn alarm(call: Call, request: AlarmRequest) -> Result<AlarmResponse, Status> {
    if request.action == AlarmAction::Get as i32 {
        call.authenticated().await?;
    } else {
        call.admin().await?;
    }
    let body = InternalRaftRequest { alarm: Some(request), ..InternalRaftRequest::default() };
    let applied = call.propose(body).await?;
    match applied.response {
        Response::Alarm(alarms) => {
            Ok(AlarmResponse { header: Some(call.services.header(applied.revision)), alarms })
        }
        _ => Err(wrong_answer()),
    }
}

/// Gives back what the data on disk takes beyond what it needs. Blocks nobody.
pub async fn defragment(call: Call, _: DefragmentRequest) -> Result<DefragmentResponse, Status> {
    call.admin().await?;
    let disk = &call.services.metrics.disk;
    let started = Instant::now();
    let pauses = call.services.config.features.stop_grpc_service_on_defrag;
    let _pause = pauses.then(|| call.services.serving.pause());
    disk.defrag_inflight.set(1);
    let outcome = call.services.node.defragment().await;
    disk.defrag_inflight.set(0);
    disk.backend_defrag.observe(started.elapsed().as_secs_f64());
    outcome.map_err(status)?;
    Ok(DefragmentResponse { header: None })
}

/// Hashes everything stored.
pub async fn hash(call: Call, _: HashRequest) -> Result<HashResponse, Status> {
    call.admin().await?;
    let started = Instant::now();
    let view = call.services.node.reader().view();
    let revision = view.revision();
    let hash = off_thread(move || view.hash()).await?;
    call.services.metrics.mvcc.hash_seconds.observe(started.elapsed().as_secs_f64());
    Ok(HashResponse { header: Some(call.services.header(revision)), hash })
}

/// Hashes the keys at a revision; equal on all members.
pub async fn hash_kv(call: Call, request: HashKvRequest) -> Result<HashKvResponse, Status> {
    call.admin().await?;
    let started = Instant::now();
    let (result, revision) = call.services.node.hash_kv(Revision(request.revision)).await.map_err(status)?;
    call.services.metrics.mvcc.hash_rev_seconds.observe(started.elapsed().as_secs_f64());
    Ok(HashKvResponse {
        header: Some(call.services.header(revision)),
        hash: result.hash,
        compact_revision: result.compact_revision.0,
        hash_revision: result.hash_revision.0,
    })
}

/// Long work must not stop the other calls of this thread.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))
}

/// Hands leadership to another member; only the leader can.
pub async fn move_leader(call: Call, request: MoveLeaderRequest) -> Result<MoveLeaderResponse, Status> {
    call.admin().await?;
    call.services.node.move_leader(MemberId(request.target_id)).await.map_err(status)?;
    Ok(MoveLeaderResponse { header: None })
}

/// Begins or ends going back to the version before, or says whether that could be done.
pub async fn downgrade(call: Call, request: DowngradeRequest) -> Result<DowngradeResponse, Status> {
    call.admin().await?;
    let node = &call.services.node;
    let version = match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => node.validate_downgrade(&request.version).await,
        Ok(DowngradeAction::Enable) => node.enable_downgrade(&request.version).await,
        Ok(DowngradeAction::Cancel) => node.cancel_downgrade().await,
        Err(_) => return Err(Status::unknown("etcdserver: unknown method")),
    };
    let version = version.map_err(status)?;
    Ok(DowngradeResponse { header: Some(call.services.header_now()), version })
}
