//! From the state machine's results to etcd's messages, and the headers in front of them.

use kvnode_mvcc::{
    DeleteRangeResult, OpResult, PutResult, RangeResult, Record, Revision, TxnResult, membership,
};
use kvnode_proto::etcdserverpb::{
    DeleteRangeResponse, Member, PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse,
    response_op,
};
use tonic::Status;

use super::Services;

impl Services {
    /// A header at `revision`.
    pub(super) fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.node.cluster_id().0,
            member_id: self.node.member_id().0,
            revision: revision.0,
            raft_term: self.node.term(),
        }
    }

    /// A header at the current revision.
    pub(super) fn header_now(&self) -> ResponseHeader {
        self.header(self.node.reader().view().revision())
    }

    /// A header without a revision, as the Cluster service gives.
    pub(super) fn header_bare(&self) -> ResponseHeader {
        self.header(Revision(0))
    }
}

/// The answer of an applied request is not the kind that belongs to the request.
pub(super) fn wrong_answer() -> Status {
    Status::internal("etcdserver: the state machine answered another question; this is a defect, report it")
}

fn revision_only(revision: Revision) -> ResponseHeader {
    ResponseHeader { revision: revision.0, ..ResponseHeader::default() }
}

pub(super) fn put(header: ResponseHeader, result: &PutResult) -> PutResponse {
    PutResponse { header: Some(header), prev_kv: result.prev_kv.as_ref().map(Record::to_key_value) }
}

pub(super) fn delete_range(header: ResponseHeader, result: &DeleteRangeResult) -> DeleteRangeResponse {
    DeleteRangeResponse {
        header: Some(header),
        deleted: result.deleted,
        prev_kvs: result.prev_kvs.iter().map(Record::to_key_value).collect(),
    }
}

fn range(header: ResponseHeader, result: &RangeResult) -> RangeResponse {
    RangeResponse {
        header: Some(header),
        kvs: result.kvs.iter().map(Record::to_key_value).collect(),
        more: result.more,
        count: result.count,
    }
}

/// A transaction's answer. Inner headers carry a revision and nothing else.
pub(super) fn txn(header: Option<ResponseHeader>, result: &TxnResult) -> TxnResponse {
    let responses = result.responses.iter().map(|op| ResponseOp { response: response(op) }).collect();
    TxnResponse { header, succeeded: result.succeeded, responses }
}

fn response(op: &OpResult) -> Option<response_op::Response> {
    use response_op::Response;
    match op {
        OpResult::Range(result) => {
            Some(Response::ResponseRange(range(revision_only(result.revision), result)))
        }
        OpResult::Put(result) => Some(Response::ResponsePut(put(revision_only(result.revision), result))),
        OpResult::DeleteRange(result) => {
            Some(Response::ResponseDeleteRange(delete_range(revision_only(result.revision), result)))
        }
        OpResult::Txn(result) => {
            let header = result.revision.map(revision_only).unwrap_or_default();
            Some(Response::ResponseTxn(txn(Some(header), result)))
        }
        OpResult::Empty => None,
    }
}

pub(super) fn member(member: &membership::Member) -> Member {
    Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
