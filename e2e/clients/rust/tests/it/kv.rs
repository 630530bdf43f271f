use etcd_client::{
    CompactionOptions, Compare, CompareOp, DeleteOptions, GetOptions, GetResponse, PutOptions, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse,
};

use super::support::{plain, put, refusal};

fn values(answer: &GetResponse) -> Vec<&str> {
    answer.kvs().iter().map(|kv| kv.value_str().unwrap()).collect()
}

#[tokio::test]
async fn put_counts_versions_and_revisions() {
    let mut client = plain().await;
    let first = put(&mut client, "versions/a", "1").await;
    let answer = client.put("versions/a", "2", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(answer.prev_key().unwrap().value_str().unwrap(), "1");

    let found = client.get("versions/a", None).await.unwrap();
    let kv = &found.kvs()[0];
    assert_eq!((kv.create_revision(), kv.version()), (first, 2));
    assert_eq!(kv.mod_revision(), answer.header().unwrap().revision());
}

#[tokio::test]
async fn get_by_prefix_limits_sorts_and_counts() {
    let mut client = plain().await;
    for name in ["b", "a", "d", "c"] {
        put(&mut client, &format!("pages/{name}"), name).await;
    }
    let below = || GetOptions::new().with_prefix();

    let page = client.get("pages/", Some(below().with_limit(2))).await.unwrap();
    assert_eq!((values(&page), page.more(), page.count()), (vec!["a", "b"], true, 4));
    let sorted = below().with_sort(SortTarget::Key, SortOrder::Descend);
    assert_eq!(values(&client.get("pages/", Some(sorted)).await.unwrap()), ["d", "c", "b", "a"]);
    let oldest_first = below().with_sort(SortTarget::Create, SortOrder::Ascend);
    assert_eq!(values(&client.get("pages/", Some(oldest_first)).await.unwrap()), ["b", "a", "d", "c"]);
    let keys = client.get("pages/", Some(below().with_keys_only())).await.unwrap();
    assert_eq!(values(&keys), ["", "", "", ""]);
    let counted = client.get("pages/", Some(below().with_count_only())).await.unwrap();
    assert_eq!((counted.count(), counted.kvs().len()), (4, 0));
}

#[tokio::test]
async fn get_from_the_past_and_from_this_member_alone() {
    let mut client = plain().await;
    let past = put(&mut client, "past/a", "old").await;
    put(&mut client, "past/a", "new").await;

    let old = client.get("past/a", Some(GetOptions::new().with_revision(past))).await.unwrap();
    assert_eq!(values(&old), ["old"]);
    let local = client.get("past/a", Some(GetOptions::new().with_serializable())).await.unwrap();
    assert_eq!(values(&local), ["new"]);
    let future = client.get("past/a", Some(GetOptions::new().with_revision(past + 1000))).await;
    assert_eq!(refusal(future), "etcdserver: mvcc: required revision is a future revision");
}

#[tokio::test]
async fn get_streams_a_large_range() {
    let mut client = plain().await;
    let large = "x".repeat(64 << 10);
    for i in 0..40 {
        put(&mut client, &format!("stream/{i:02}"), &large).await;
    }
    let mut stream =
        client.kv_client().get_stream("stream/", Some(GetOptions::new().with_prefix())).await.unwrap();
    let mut keys = 0;
    while let Some(chunk) = stream.message().await.unwrap() {
        keys += chunk.kvs().len();
    }
    assert_eq!(keys, 40);
}

#[tokio::test]
async fn delete_returns_what_it_removed() {
    let mut client = plain().await;
    for name in ["a", "b", "c"] {
        put(&mut client, &format!("delete/{name}"), name).await;
    }
    let removed = client.delete("delete/a", Some(DeleteOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(removed.prev_kvs()[0].value_str().unwrap(), "a");
    let below = || Some(DeleteOptions::new().with_prefix());
    assert_eq!(client.delete("delete/", below()).await.unwrap().deleted(), 2);
    assert_eq!(client.delete("delete/", below()).await.unwrap().deleted(), 0);
}

#[tokio::test]
async fn txn_chooses_a_branch() {
    let mut client = plain().await;
    let nested = Txn::new()
        .when([Compare::version("txn/b", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("txn/b", "nested", None)]);
    let create = Txn::new()
        .when([
            Compare::create_revision("txn/a", CompareOp::Equal, 0),
            Compare::version("txn/", CompareOp::Less, 1).with_prefix(),
        ])
        .and_then([TxnOp::put("txn/a", "made", None), TxnOp::txn(nested)])
        .or_else([TxnOp::get("txn/", Some(GetOptions::new().with_prefix())), TxnOp::delete("txn/b", None)]);

    assert!(client.txn(create.clone()).await.unwrap().succeeded());
    let refused = client.txn(create).await.unwrap();
    assert!(!refused.succeeded());
    match refused.op_responses().as_slice() {
        [TxnOpResponse::Get(read), TxnOpResponse::Delete(deleted)] => {
            assert_eq!((values(read), deleted.deleted()), (vec!["made", "nested"], 1));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn compaction_forgets_the_past() {
    let mut client = plain().await;
    let past = put(&mut client, "compact/a", "old").await;
    let now = put(&mut client, "compact/a", "new").await;
    client.compact(now, Some(CompactionOptions::new().with_physical())).await.unwrap();

    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let read = client.get("compact/a", Some(GetOptions::new().with_revision(past))).await;
    assert_eq!(refusal(read), compacted);
    assert_eq!(refusal(client.compact(past, None).await), compacted);
    let kept = client.get("compact/a", Some(GetOptions::new().with_revision(now))).await.unwrap();
    assert_eq!(values(&kept), ["new"]);
}

#[tokio::test]
async fn maintenance() {
    let mut client = plain().await;
    let status = client.status().await.unwrap();
    assert!(status.version().starts_with("3.7."), "{}", status.version());
    assert_eq!(status.leader(), status.header().unwrap().member_id());
    assert_eq!(client.member_list().await.unwrap().members()[0].name(), "plain");
    client.defragment().await.unwrap();

    let mut snapshot = client.snapshot().await.unwrap();
    let mut bytes = 0;
    while let Some(part) = snapshot.message().await.unwrap() {
        bytes += part.blob().len();
    }
    assert_eq!(bytes % 512, 32, "pages, then a SHA-256");
}
