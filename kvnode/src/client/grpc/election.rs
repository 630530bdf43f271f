//! `v3electionpb.Election`: one leader among clients (etcd: `server/etcdserver/api/v3election`).

use bytes::Bytes;
use futures::Stream;
use kvnode_mvcc::{ChangeKind, Record};
use kvnode_proto::{
    etcdserverpb::{ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest, response_op::Response},
    v3electionpb::{
        CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
        ProclaimResponse, ResignRequest, ResignResponse,
    },
};
use tonic::Status;
use tracing::{debug, warn};

use super::{
    call::Call,
    convert::wrong_answer,
    kv,
    recipe::{Contest, Follower, Happened, OnLeave, created_at, delete, failed, get, inner, put},
};

/// What etcd says to a request without a leader.
const NO_LEADER_KEY: &str = "\"leader\" field must be provided";
const NOT_LEADER: &str = "election: not leader";
const NO_LEADER: &str = "election: no leader";

/// Waits until the lease leads, and tells the key that means so.
pub async fn campaign(call: Call, request: CampaignRequest) -> Result<CampaignResponse, Status> {
    let lease = call.session(request.lease).await?;
    let contest = Contest::new(&request.name);
    let key = contest.key(lease);
    let answer = candidate(&call, &key, &request.value, lease).await?;
    let header = answer.header;
    let mut leader = LeaderKey {
        name: request.name.clone(),
        key: key.clone(),
        rev: header.as_ref().map_or(0, |header| header.revision),
        lease,
    };
    if !answer.succeeded {
        let Some(Response::ResponseRange(found)) =
            answer.responses.first().and_then(|op| op.response.as_ref())
        else {
            return Err(wrong_answer());
        };
        let own = found.kvs.first().ok_or_else(wrong_answer)?;
        leader.rev = own.create_revision;
        if own.value != request.value
            && let Err(error) = write(&call, &leader, &request.value).await
        {
            step_down(call, leader).await;
            return Err(error);
        }
    }
    let leave = OnLeave::new(step_down(call.clone(), leader.clone()));
    let outcome = call.outlive(&contest, leader.rev - 1).await;
    leave.forget();
    outcome.map(|()| CampaignResponse { header, leader: Some(leader) })
}

/// Changes what the leader says.
pub async fn proclaim(call: Call, request: ProclaimRequest) -> Result<ProclaimResponse, Status> {
    let mut leader = request.leader.ok_or_else(|| failed(NO_LEADER_KEY))?;
    leader.lease = call.session(leader.lease).await?;
    write(&call, &leader, &request.value).await.map(|header| ProclaimResponse { header })
}

/// Gives leadership up, so that the next one has it.
pub async fn resign(call: Call, request: ResignRequest) -> Result<ResignResponse, Status> {
    let mut leader = request.leader.ok_or_else(|| failed(NO_LEADER_KEY))?;
    leader.lease = call.session(leader.lease).await?;
    let request = TxnRequest {
        compare: vec![created_at(&leader.key, leader.rev)],
        success: vec![delete(&leader.key)],
        failure: Vec::new(),
    };
    let answer = kv::txn(call, request).await.map_err(inner)?;
    Ok(ResignResponse { header: answer.header })
}

/// Tells who leads.
pub async fn leader(call: Call, request: LeaderRequest) -> Result<LeaderResponse, Status> {
    let found = call.read_keys(Contest::new(&request.name).first()).await?;
    let first = found.kvs.first().ok_or_else(|| failed(NO_LEADER))?;
    Ok(LeaderResponse { header: found.header, kv: Some(first.to_key_value()) })
}

/// Tells who leads, and what he says, whenever that changes. Ends, as etcd's does, without a word about why: for whoever
/// may not read, for instance.
pub async fn observe(
    call: Call,
    request: LeaderRequest,
) -> Result<impl Stream<Item = Result<LeaderResponse, Status>>, Status> {
    let contest = Contest::new(&request.name);
    let observer = Observer { call, contest, leader: None };
    Ok(futures::stream::unfold(observer, |mut observer| async move {
        let seen = observer.next().await;
        let seen =
            seen.inspect_err(|error| debug!(error = error.message(), "an observer of an election ends"));
        Some((Ok(seen.ok()?), observer))
    }))
}

async fn candidate(call: &Call, key: &Bytes, value: &Bytes, lease: i64) -> Result<TxnResponse, Status> {
    let request = TxnRequest {
        compare: vec![created_at(key, 0)],
        success: vec![put(key, value, lease)],
        failure: vec![get(key)],
    };
    kv::txn(call.clone(), request).await.map_err(inner)
}

async fn write(call: &Call, leader: &LeaderKey, value: &Bytes) -> Result<Option<ResponseHeader>, Status> {
    let request = TxnRequest {
        compare: vec![created_at(&leader.key, leader.rev)],
        success: vec![put(&leader.key, value, leader.lease)],
        failure: Vec::new(),
    };
    let answer = kv::txn(call.clone(), request).await.map_err(inner)?;
    if answer.succeeded { Ok(answer.header) } else { Err(failed(NOT_LEADER)) }
}

/// Gives up a candidacy that nobody waits for any longer.
async fn step_down(call: Call, leader: LeaderKey) {
    if let Err(error) = resign(call, ResignRequest { leader: Some(leader) }).await {
        warn!(error = error.message(), "failed to take back a candidacy; its lease will");
    }
}

/// Sees leaders come and go.
struct Observer {
    call: Call,
    contest: Contest,
    /// The current one, and what he said that was not passed on yet.
    leader: Option<Leader>,
}

struct Leader {
    follower: Follower,
    said: std::collections::VecDeque<LeaderResponse>,
    gone: bool,
}

impl Observer {
    async fn next(&mut self) -> Result<LeaderResponse, Status> {
        loop {
            let Some(leader) = &mut self.leader else {
                let (elected, seen) = self.elected().await?;
                self.leader = Some(elected);
                return Ok(seen);
            };
            if let Some(said) = leader.said.pop_front() {
                return Ok(said);
            }
            if leader.gone {
                self.leader = None;
                continue;
            }
            match leader.follower.next().await? {
                Happened::Changes(header, events) => {
                    let puts = events.iter().take_while(|event| event.kind == ChangeKind::Put);
                    leader.said.extend(puts.map(|event| seen(Some(header), &event.kv)));
                    leader.gone = leader.said.len() < events.len();
                }
                Happened::TooMuch => leader.gone = true,
            }
        }
    }

    /// The one that leads, or the next that does.
    async fn elected(&self) -> Result<(Leader, LeaderResponse), Status> {
        let found = self.call.read_keys(self.contest.first()).await?;
        let current = found.header.as_ref().map_or(0, |header| header.revision);
        let first = match found.kvs.first() {
            Some(first) => seen(found.header, first),
            None => self.first_from(current).await?,
        };
        let request = WatchCreateRequest {
            key: first.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default(),
            start_revision: first.header.as_ref().map_or(0, |header| header.revision) + 1,
            ..WatchCreateRequest::default()
        };
        let follower = Follower::new(&self.call, &request).await?;
        Ok((Leader { follower, said: Default::default(), gone: false }, first))
    }

    /// The first key that is put from `revision` on.
    async fn first_from(&self, revision: i64) -> Result<LeaderResponse, Status> {
        let mut follower = Follower::new(&self.call, &self.contest.watch(revision)).await?;
        loop {
            if let Happened::Changes(header, events) = follower.next().await?
                && let Some(event) = events.iter().find(|event| event.kind == ChangeKind::Put)
            {
                let mut first = seen(Some(header), &event.kv);
                // There may be later ones, which are still to be looked at.
                if let (Some(header), Some(kv)) = (&mut first.header, &first.kv) {
                    header.revision = kv.mod_revision;
                }
                return Ok(first);
            }
        }
    }
}

fn seen(header: Option<ResponseHeader>, record: &Record) -> LeaderResponse {
    LeaderResponse { header, kv: Some(record.to_key_value()) }
}
