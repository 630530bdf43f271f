//! What locks and elections are made of (etcd: `client/v3/concurrency`, which its server runs against itself): keys
//! `<name>/<lease>`, of which the one created first wins, and waiting for those before one's own to go.
//!
//! Everything is done by the calls that a client would make, in the caller's name, so that permissions hold here too.

use bytes::Bytes;
use kvnode_mvcc::{
    ChangeKind, Record,
    watch::{AnswerKind, WatchAnswer, WatchEvent},
};
use kvnode_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader,
    WatchCreateRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};
use tonic::{Code, Status};

use super::{call::Call, codec::RangeAnswer, kv, lease};
use crate::{client::error, watches::Watching};

/// Time to live of a lease that a client left to the server, in seconds (etcd's `defaultSessionTTL`).
const SESSION_TTL_SECONDS: i64 = 60;

/// A failure as etcd's server hands it on: its inner client has taken the code off.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` wants")]
pub(super) fn inner(status: Status) -> Status {
    Status::new(Code::Unknown, status.message())
}

/// A failure of a recipe.
pub(super) fn failed(text: &str) -> Status {
    Status::new(Code::Unknown, text)
}

/// The keys that compete for a name.
#[derive(Clone, Debug)]
pub(super) struct Contest {
    prefix: Bytes,
}

impl Contest {
    pub(super) fn new(name: &[u8]) -> Self {
        Self { prefix: [name, b"/"].concat().into() }
    }

    /// The key of a lease, as Go prints it in hexadecimal.
    pub(super) fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        let lease = format!("{sign}{:x}", lease.unsigned_abs());
        [&self.prefix, lease.as_bytes()].concat().into()
    }

    /// Behind the last key: the slash's successor in the slash's place.
    fn end(&self) -> Bytes {
        let name = self.prefix.strip_suffix(b"/").unwrap_or_default();
        [name, b"0"].concat().into()
    }

    /// Asks for the key that was created first.
    pub(super) fn first(&self) -> RangeRequest {
        RangeRequest {
            key: self.prefix.clone(),
            range_end: self.end(),
            limit: 1,
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            ..RangeRequest::default()
        }
    }

    /// Asks for the key that was created last, but not after `revision`.
    fn last_until(&self, revision: i64) -> RangeRequest {
        let sort_order = SortOrder::Descend as i32;
        RangeRequest { sort_order, max_create_revision: revision, ..self.first() }
    }

    /// Follows all keys from `revision` on.
    pub(super) fn watch(&self, revision: i64) -> WatchCreateRequest {
        WatchCreateRequest {
            key: self.prefix.clone(),
            range_end: self.end(),
            start_revision: revision,
            ..WatchCreateRequest::default()
        }
    }
}

/// Holds for a key that was created at `revision`; at 0, for one that does not exist.
pub(super) fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

pub(super) fn get(key: &Bytes) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestRange(RangeRequest { key: key.clone(), ..RangeRequest::default() })),
    }
}

pub(super) fn range(request: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestRange(request)) }
}

pub(super) fn put(key: &Bytes, value: &Bytes, lease: i64) -> RequestOp {
    let (key, value) = (key.clone(), value.clone());
    RequestOp {
        request: Some(Request::RequestPut(PutRequest { key, value, lease, ..PutRequest::default() })),
    }
}

pub(super) fn delete(key: &Bytes) -> RequestOp {
    let request = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    RequestOp { request: Some(Request::RequestDeleteRange(request)) }
}

/// Follows keys on behalf of a caller.
pub(super) struct Follower {
    call: Call,
    watching: Watching,
}

/// What happened to followed keys.
pub(super) enum Happened {
    /// These changes.
    Changes(ResponseHeader, Vec<WatchEvent>),
    /// More than is remembered: look again.
    TooMuch,
}

impl Follower {
    pub(super) async fn new(call: &Call, request: &WatchCreateRequest) -> Result<Self, Status> {
        call.permit(|may, who| may.watch(who.requester(), request)).await.map_err(inner)?;
        let mut watching = call.services.node.watches().open();
        watching.with(|stream, hub| stream.create(hub, request, Ok(())));
        Ok(Self { call: call.clone(), watching })
    }

    pub(super) async fn next(&mut self) -> Result<Happened, Status> {
        loop {
            let answer = tokio::select! {
                answer = self.watching.answer() => answer,
                () = self.call.services.stop.cancelled() => None,
            };
            let Some(WatchAnswer { revision, kind, events, .. }) = answer else {
                return Err(inner(error::stopped()));
            };
            match kind {
                AnswerKind::Events => {
                    return Ok(Happened::Changes(self.call.services.header(revision), events));
                }
                AnswerKind::Compacted(_) => return Ok(Happened::TooMuch),
                AnswerKind::Refused(reason) => return Err(failed(&reason)),
                AnswerKind::Created | AnswerKind::Canceled => {}
            }
        }
    }

    /// Waits until a followed key is deleted, or there is too much to say so.
    async fn deletion(mut self) -> Result<(), Status> {
        loop {
            match self.next().await? {
                Happened::Changes(_, events) if events.iter().all(|event| event.kind == ChangeKind::Put) => {}
                Happened::Changes(..) | Happened::TooMuch => return Ok(()),
            }
        }
    }
}

impl Call {
    /// The lease of a session: the client's, or a new one.
    pub(super) async fn session(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = LeaseGrantRequest { ttl: SESSION_TTL_SECONDS, id: 0 };
        lease::grant(self.clone(), request).await.map(|granted| granted.id).map_err(inner)
    }

    pub(super) async fn read_keys(&self, request: RangeRequest) -> Result<RangeAnswer, Status> {
        kv::range(self.clone(), request).await.map_err(inner)
    }

    /// Waits until every key of the contest that was created at `revision` or before is gone. Each waits for the one
    /// before it, so that a deletion wakes one and not all.
    pub(super) async fn outlive(&self, contest: &Contest, revision: i64) -> Result<(), Status> {
        loop {
            let found = self.read_keys(contest.last_until(revision)).await?;
            let Some(before) = found.kvs.first().map(Record::to_key_value) else {
                return Ok(());
            };
            let request = WatchCreateRequest {
                key: before.key,
                start_revision: found.header.map_or(0, |header| header.revision),
                ..WatchCreateRequest::default()
            };
            Follower::new(self, &request).await?.deletion().await?;
        }
    }
}

/// Does something when dropped, unless it is told that there is no need: the caller of a waiting method may leave at any
/// moment, and what he put down must not stay.
pub(super) struct OnLeave<F: Future<Output = ()> + Send + 'static>(Option<F>);

impl<F: Future<Output = ()> + Send + 'static> OnLeave<F> {
    pub(super) fn new(work: F) -> Self {
        Self(Some(work))
    }

    pub(super) fn forget(mut self) {
        self.0 = None;
    }
}

impl<F: Future<Output = ()> + Send + 'static> Drop for OnLeave<F> {
    fn drop(&mut self) {
        // Without a runtime the process ends, and the lease does the rest.
        if let (Some(work), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_go_names_them() {
        let contest = Contest::new(b"lock");
        assert_eq!(contest.key(0x13b0_a214), "lock/13b0a214");
        assert_eq!(contest.key(-1), "lock/-1");
        assert_eq!(contest.key(i64::MIN), "lock/-8000000000000000");
        assert_eq!(contest.first().range_end, "lock0");
        assert_eq!(Contest::new(b"").first().key, "/");
    }
}
