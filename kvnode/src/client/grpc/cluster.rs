//! The Cluster service (etcd: `server/etcdserver/api/v3rpc/member.go`). Its headers carry no revision.

use kvnode_mvcc::{MemberId, membership};
use kvnode_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse,
};
use tonic::Status;

use super::{call::Call, convert};
use crate::{
    client::error::status,
    flags::url::Url,
    node::{MemberKind, NodeError},
};

/// Adds a member, as a voter or as a learner. It has no name until it starts.
pub async fn add(call: Call, request: MemberAddRequest) -> Result<MemberAddResponse, Status> {
    let urls = peer_urls(&request.peer_ur_ls)?;
    call.admin().await?;
    let kind = if request.is_learner { MemberKind::Learner } else { MemberKind::Voter };
    let (added, members) = call.services.node.member_add(urls, kind).await.map_err(status)?;
    Ok(MemberAddResponse {
        header: Some(call.services.header_bare()),
        member: Some(convert::member(&added)),
        members: list_of(&members),
    })
}

/// Removes a member for good.
pub async fn remove(call: Call, request: MemberRemoveRequest) -> Result<MemberRemoveResponse, Status> {
    call.admin().await?;
    let members = call.services.node.member_remove(MemberId(request.id)).await.map_err(status)?;
    Ok(MemberRemoveResponse { header: Some(call.services.header_bare()), members: list_of(&members) })
}

/// Changes the peer URLs of a member. etcd takes any text for a URL here, and fails on it when it dials.
pub async fn update(call: Call, request: MemberUpdateRequest) -> Result<MemberUpdateResponse, Status> {
    call.admin().await?;
    let id = MemberId(request.id);
    let known = call.services.node.reader().view().member(id).is_some();
    peer_urls(&request.peer_ur_ls).map_err(|e| if known { e } else { status(NodeError::MemberNotFound) })?;
    let members = call.services.node.member_update(id, request.peer_ur_ls).await.map_err(status)?;
    Ok(MemberUpdateResponse { header: Some(call.services.header_bare()), members: list_of(&members) })
}

/// Lists members; linearizable means through consensus, otherwise as this member knows them.
pub async fn list(call: Call, request: MemberListRequest) -> Result<MemberListResponse, Status> {
    if request.linearizable {
        call.services.node.linearize().await.map_err(status)?;
    }
    call.authenticated().await?;
    let members = call.services.node.reader().view().members();
    Ok(MemberListResponse { header: Some(call.services.header_bare()), members: list_of(&members) })
}

/// Makes a voter of a learner that has caught up.
pub async fn promote(call: Call, request: MemberPromoteRequest) -> Result<MemberPromoteResponse, Status> {
    call.admin().await?;
    let node = &call.services.node;
    let members = node.member_promote(MemberId(request.id), &call.credentials).await.map_err(status)?;
    Ok(MemberPromoteResponse { header: Some(call.services.header_bare()), members: list_of(&members) })
}

fn list_of(members: &[membership::Member]) -> Vec<Member> {
    members.iter().map(convert::member).collect()
}

fn peer_urls(texts: &[String]) -> Result<Vec<String>, Status> {
    let urls: Result<Vec<Url>, _> = texts.iter().map(|text| text.parse()).collect();
    match urls {
        Ok(mut urls) if !urls.is_empty() => {
            urls.sort();
            Ok(urls.iter().map(ToString::to_string).collect())
        }
        _ => Err(status(NodeError::InvalidPeerUrls)),
    }
}
