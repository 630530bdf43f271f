//! Keys: through stock `etcdctl` and through generated clients.

use kvnode_proto::etcdserverpb::{
    CompactionRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, kv_client::KvClient,
    range_request, request_op,
};
use tonic::{Code, Request};

use crate::support::{Etcdctl, Member, Options, block_on};

#[test]
fn etcdctl_puts_gets_deletes_and_compares() {
    let member = Member::start();
    let Some(etcdctl) = Etcdctl::new(&member) else { return };
    assert_eq!(etcdctl.ok("put a 1"), "OK");
    assert_eq!(etcdctl.ok("put ab 2"), "OK");
    assert_eq!(etcdctl.ok("get a --prefix"), "a\n1\nab\n2");
    assert_eq!(etcdctl.ok("get a --prefix --consistency=s --keys-only"), "a\n\nab");
    assert_eq!(etcdctl.ok("put a 3 --prev-kv"), "OK\na\n1");
    assert_eq!(etcdctl.ok("get a --rev=2 --print-value-only"), "1");
    assert_eq!(
        etcdctl.ok("get --from-key a --count-only --write-out=fields").lines().last(),
        Some("\"Count\" : 2")
    );
    assert_eq!(etcdctl.ok("del a --prefix"), "2");
    assert_eq!(etcdctl.ok("del a"), "0");
    assert!(etcdctl.fails("get a --rev=99").contains("required revision is a future revision"));
}

#[test]
fn a_transaction_is_one_revision() {
    let member = Member::start();
    block_on(async {
        let mut kv = KvClient::new(member.channel());
        let put = |key: &str, value: &str| RequestOp {
            request: Some(request_op::Request::RequestPut(PutRequest {
                key: key.to_owned().into(),
                value: value.to_owned().into(),
                ..PutRequest::default()
            })),
        };
        let compare = kvnode_proto::etcdserverpb::Compare {
            result: compare::CompareResult::Equal as i32,
            target: compare::CompareTarget::Version as i32,
            key: "a".into(),
            target_union: Some(compare::TargetUnion::Version(0)),
            ..Default::default()
        };
        let txn = TxnRequest {
            compare: vec![compare],
            success: vec![put("a", "1"), put("b", "2")],
            failure: vec![put("c", "3")],
        };
        let first = kv.txn(txn.clone()).await.unwrap().into_inner();
        assert!(first.succeeded);
        assert_eq!((first.responses.len(), first.header.unwrap().revision), (2, 2));
        let second = kv.txn(txn).await.unwrap().into_inner();
        assert!(!second.succeeded);
        let all = RangeRequest { key: "a".into(), range_end: "z".into(), ..RangeRequest::default() };
        let all = kv.range(all).await.unwrap().into_inner();
        let seen: Vec<_> = all.kvs.iter().map(|kv| (kv.key.as_ref(), kv.mod_revision)).collect();
        assert_eq!(seen, [(&b"a"[..], 2), (&b"b"[..], 2), (&b"c"[..], 3)]);

        let twice = TxnRequest { success: vec![put("a", "1"), put("a", "2")], ..TxnRequest::default() };
        let error = kv.txn(twice).await.unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::InvalidArgument, "etcdserver: duplicate key given in txn request")
        );
    });
}

/// Their answers are short: what was asked so deep is not done.
#[test]
fn a_member_lives_on_after_transactions_deep_within_each_other() {
    let member = Member::start();
    block_on(async {
        let mut kv = KvClient::new(member.channel());
        let never = kvnode_proto::etcdserverpb::Compare {
            result: compare::CompareResult::Less as i32,
            key: "a".into(),
            ..Default::default()
        };
        for depth in [48, 49, 50, 128, 129, 300, 3000] {
            let mut txn = TxnRequest::default();
            for _ in 0..depth {
                let request = Some(request_op::Request::RequestTxn(txn));
                txn = TxnRequest { success: vec![RequestOp { request }], ..TxnRequest::default() };
            }
            txn.compare.push(never.clone());
            match kv.txn(txn).await {
                Ok(answer) => assert!(depth <= 128 && !answer.into_inner().succeeded),
                Err(refused) => {
                    assert!(depth > 128, "{depth}: {refused}");
                    assert_eq!(refused.message(), "etcdserver: too many operations in txn request");
                }
            }
            let put = PutRequest { key: "a".into(), ..PutRequest::default() };
            kv.put(put).await.unwrap();
        }
    });
}

#[test]
fn errors_carry_etcds_codes_and_texts() {
    let member = Member::start_with(Options::with(&["--max-request-bytes=2000", "--max-txn-ops=1"]));
    block_on(async {
        let mut kv = KvClient::new(member.channel());
        for _ in 0..3 {
            kv.put(PutRequest { key: "k".into(), ..PutRequest::default() }).await.unwrap();
        }
        let range = |revision| RangeRequest { key: "k".into(), revision, ..RangeRequest::default() };
        kv.compact(CompactionRequest { revision: 3, physical: true }).await.unwrap();
        let large = PutRequest { key: "k".into(), value: vec![0; 2000].into(), ..PutRequest::default() };
        let leased = PutRequest { key: "k".into(), lease: 7, ..PutRequest::default() };
        let unsortable = RangeRequest { sort_target: 9, ..range(0) };
        for (outcome, code, text) in [
            (
                kv.range(range(2)).await.map(drop),
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (
                kv.range(range(99)).await.map(drop),
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (kv.range(unsortable).await.map(drop), Code::InvalidArgument, "etcdserver: invalid sort option"),
            (
                kv.put(PutRequest::default()).await.map(drop),
                Code::InvalidArgument,
                "etcdserver: key is not provided",
            ),
            (kv.put(large).await.map(drop), Code::InvalidArgument, "etcdserver: request is too large"),
            (kv.put(leased).await.map(drop), Code::NotFound, "etcdserver: requested lease not found"),
            (
                kv.txn(TxnRequest { success: vec![RequestOp::default(); 2], ..TxnRequest::default() })
                    .await
                    .map(drop),
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
            ),
        ] {
            let error = outcome.unwrap_err();
            assert_eq!((error.code(), error.message()), (code, text));
        }
        let huge = PutRequest { key: "k".into(), value: vec![0; 1 << 20].into(), ..PutRequest::default() };
        let error = kv.put(huge).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert!(error.message().starts_with("grpc: received message larger than max"), "{error}");
    });
}

#[test]
fn a_streamed_range_equals_the_range() {
    let member = Member::start();
    block_on(async {
        let mut kv = KvClient::new(member.channel());
        for n in 0..100 {
            let key = format!("key-{n:03}");
            kv.put(PutRequest { key: key.into(), value: vec![b'v'; n].into(), ..PutRequest::default() })
                .await
                .unwrap();
        }
        for limit in [0, 1, 10, 35, 100, 200] {
            let request =
                RangeRequest { key: "key".into(), range_end: "kez".into(), limit, ..RangeRequest::default() };
            let whole = kv.range(request.clone()).await.unwrap().into_inner();
            let mut stream = kv.range_stream(request).await.unwrap().into_inner();
            let (mut kvs, mut last, mut pieces) = (Vec::new(), None, 0);
            while let Some(piece) = stream.message().await.unwrap() {
                let piece = piece.range_response.unwrap();
                kvs.extend(piece.kvs.clone());
                last = Some(piece);
                pieces += 1;
            }
            let last = last.unwrap();
            assert_eq!(kvs, whole.kvs, "limit {limit}");
            assert_eq!(
                (last.header, last.more, last.count),
                (whole.header, whole.more, whole.count),
                "limit {limit}"
            );
            assert!(limit != 0 || pieces > 2, "{pieces} pieces");
        }
        let sorted = RangeRequest {
            key: "key".into(),
            sort_target: range_request::SortTarget::Value as i32,
            sort_order: range_request::SortOrder::Descend as i32,
            ..RangeRequest::default()
        };
        let error = kv.range_stream(sorted).await.unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::Unimplemented, "RangeStream does not support custom sort orders")
        );
    });
}

#[test]
fn calls_are_counted_under_etcds_names() {
    let member = Member::start();
    block_on(async {
        let mut kv = KvClient::new(member.channel());
        let mut request = Request::new(PutRequest { key: "k".into(), ..PutRequest::default() });
        request.metadata_mut().insert("client-api-version", "3.7".parse().unwrap());
        kv.put(request).await.unwrap();
        kv.put(PutRequest::default()).await.unwrap_err();
        kv.range(RangeRequest { key: "k".into(), ..RangeRequest::default() }).await.unwrap();
        kv.txn(TxnRequest::default()).await.unwrap();
    });
    let put = |code: &str| {
        member.metric(&format!(
            "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}}"
        ))
    };
    assert_eq!((put("OK"), put("InvalidArgument")), (Some(1.0), Some(1.0)));
    for (series, value) in [
        ("etcd_server_client_requests_total{client_api_version=\"3.7\",type=\"unary\"}", 1.0),
        ("etcd_server_client_requests_total{client_api_version=\"unknown\",type=\"unary\"}", 3.0),
        ("etcd_mvcc_put_total", 1.0),
        ("etcd_debugging_mvcc_keys_total", 1.0),
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_quota_backend_bytes", 2147483648.0),
        ("etcd_server_request_duration_seconds_count{success=\"true\",type=\"Put\"}", 1.0),
        ("etcd_server_request_duration_seconds_count{success=\"true\",type=\"Range\"}", 1.0),
        ("etcd_server_request_duration_seconds_count{success=\"true\",type=\"ReadonlyTxn\"}", 1.0),
    ] {
        assert_eq!(member.metric(series), Some(value), "{series}");
    }
    assert!(member.metric("etcd_disk_wal_fsync_duration_seconds_count").unwrap() > 0.0);
    assert!(member.metric("etcd_network_client_grpc_sent_bytes_total").unwrap() > 0.0);
}

#[test]
fn unknown_methods_are_named_as_grpc_go_names_them() {
    let member = Member::start();
    block_on(async {
        let mut astray = KvClient::with_origin(member.channel(), "http://localhost/prefix".parse().unwrap());
        let error = astray.put(PutRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
        assert!(error.message().starts_with("unknown service"), "{error}");
    });
}

#[test]
fn a_large_range_is_whole_and_does_not_stop_other_calls() {
    let member = Member::start_with(Options::with(&["--client-threads=1", "--max-txn-ops=2000"]));
    block_on(async {
        let mut kv = KvClient::new(member.channel()).max_decoding_message_size(64 << 20);
        for batch in 0..6 {
            let put = |n: i32| RequestOp {
                request: Some(request_op::Request::RequestPut(PutRequest {
                    key: format!("k{:06}", batch * 1000 + n).into(),
                    value: vec![b'v'; 100].into(),
                    ..PutRequest::default()
                })),
            };
            kv.txn(TxnRequest { success: (0..1000).map(put).collect(), ..TxnRequest::default() })
                .await
                .unwrap();
        }
        let all = RangeRequest { key: "k".into(), range_end: "l".into(), ..RangeRequest::default() };
        let one = RangeRequest { key: "k000001".into(), ..RangeRequest::default() };
        let mut other = kv.clone();
        let (all, one) = tokio::join!(kv.range(all), other.range(one));
        let all = all.unwrap().into_inner();
        assert_eq!((all.kvs.len(), all.count, all.more), (6000, 6000, false));
        assert!(all.kvs.is_sorted_by(|a, b| a.key < b.key));
        assert_eq!(one.unwrap().into_inner().count, 1);
    });
}
