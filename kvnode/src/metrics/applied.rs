//! Counting what was applied, as etcd's `metrics_txn.go` does: operations, not keys.

use kvnode_mvcc::{OpResult, Response, TxnResult};
use kvnode_proto::etcdserverpb::{
    InternalRaftRequest, PutRequest, RequestOp, TxnRequest, request_op::Request,
};

use super::{Metrics, families::Mvcc};

/// Operations of one request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ops {
    ranges: u64,
    puts: u64,
    put_bytes: usize,
    deletes: u64,
}

impl Metrics {
    /// Counts a request that was applied with this response.
    pub fn applied(&self, request: &InternalRaftRequest, response: &Response) {
        match response {
            Response::LeaseGrant(lease) => {
                self.lease.granted.inc();
                let seconds = i32::try_from(lease.ttl_seconds).unwrap_or(i32::MAX);
                self.lease.ttl.observe(seconds.into());
            }
            Response::LeaseRevoke => self.lease.revoked.inc(),
            Response::Compact => self.mvcc.compaction_last.set(jiff::Timestamp::now().as_second()),
            _ => self.mvcc.applied(request, response),
        }
    }
}

impl Mvcc {
    fn applied(&self, request: &InternalRaftRequest, response: &Response) {
        let mut ops = Ops::default();
        match (request, response) {
            (InternalRaftRequest { put: Some(put), .. }, Response::Put(_)) => ops.put(put),
            (_, Response::DeleteRange(_)) => ops.deletes += 1,
            (_, Response::Range(_)) => ops.ranges += 1,
            (InternalRaftRequest { txn: Some(txn), .. }, Response::Txn(result)) => ops.txn(txn, result),
            _ => return,
        }
        self.range_total.inc_by(ops.ranges);
        self.put_total.inc_by(ops.puts);
        self.put_size.add(i64::try_from(ops.put_bytes).unwrap_or(i64::MAX));
        self.delete_total.inc_by(ops.deletes);
        if ops.ranges + ops.puts + ops.deletes > 1 {
            self.txn_total.inc();
        }
    }
}

impl Ops {
    fn put(&mut self, put: &PutRequest) {
        self.puts += 1;
        self.put_bytes += put.key.len() + put.value.len();
    }

    fn txn(&mut self, request: &TxnRequest, result: &TxnResult) {
        let branch = if result.succeeded { &request.success } else { &request.failure };
        for (RequestOp { request }, result) in branch.iter().zip(&result.responses) {
            match (request, result) {
                (Some(Request::RequestPut(put)), OpResult::Put(_)) => self.put(put),
                (Some(Request::RequestTxn(nested)), OpResult::Txn(result)) => self.txn(nested, result),
                (_, OpResult::DeleteRange(_)) => self.deletes += 1,
                (_, OpResult::Range(_)) => self.ranges += 1,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kvnode_mvcc::{Config, RaftIndex, Store, Term};

    use super::*;
    use crate::flags::config::MetricsLevel;

    #[test]
    fn operations_of_the_branch_that_ran_are_counted() {
        let metrics = Metrics::new(MetricsLevel::Basic);
        let mut store = Store::new(Config::default());
        let put =
            |key: &'static str| PutRequest { key: key.into(), value: "v".into(), ..PutRequest::default() };
        let op = |request| RequestOp { request: Some(request) };
        let txn = TxnRequest {
            success: vec![op(Request::RequestPut(put("a"))), op(Request::RequestPut(put("bc")))],
            failure: vec![op(Request::RequestPut(put("never")))],
            ..TxnRequest::default()
        };
        let requests = [
            InternalRaftRequest { put: Some(put("k")), ..InternalRaftRequest::default() },
            InternalRaftRequest { txn: Some(txn), ..InternalRaftRequest::default() },
        ];
        for (index, request) in (1..).zip(&requests) {
            let response = store.apply(RaftIndex(index), Term(1), request).unwrap();
            metrics.applied(request, &response);
        }
        let mvcc = &metrics.mvcc;
        assert_eq!((mvcc.put_total.get(), mvcc.txn_total.get(), mvcc.delete_total.get()), (3, 1, 0));
        assert_eq!(mvcc.put_size.get(), 2 + 2 + 3);
    }
}
