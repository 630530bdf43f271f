//! Locks and elections that the server runs for clients.

use std::time::Duration;

use bytes::Bytes;
use kvnode_proto::{
    etcdserverpb::{
        DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, RangeRequest, kv_client::KvClient,
        lease_client::LeaseClient,
    },
    v3electionpb::{
        CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
        election_client::ElectionClient,
    },
    v3lockpb::{LockRequest, UnlockRequest, lock_client::LockClient},
};
use tonic::{Code, transport::Channel};

use crate::support::{Member, block_on};

const NAME: Bytes = Bytes::from_static(b"name");

async fn grant(channel: &Channel, id: i64) -> i64 {
    LeaseClient::new(channel.clone()).lease_grant(LeaseGrantRequest { ttl: 60, id }).await.unwrap();
    id
}

/// Waits until there are this many keys under the name.
async fn competitors(channel: &Channel, count: i64) {
    let request = RangeRequest {
        key: "name/".into(),
        range_end: "name0".into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let mut kv = KvClient::new(channel.clone());
    let wait = async {
        while kv.range(request.clone()).await.unwrap().into_inner().count != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the keys come and go");
}

#[test]
fn a_lock_goes_from_one_to_the_next_in_the_order_they_came() {
    let member = Member::start();
    block_on(async {
        let channel = member.channel();
        let mut locks = LockClient::new(channel.clone());
        for lease in 1..=3 {
            grant(&channel, lease).await;
        }
        let held = locks.lock(LockRequest { name: NAME, lease: 1 }).await.unwrap().into_inner();
        assert_eq!(held.key, "name/1");
        let again = locks.lock(LockRequest { name: NAME, lease: 1 }).await.unwrap().into_inner();
        assert_eq!(again.key, held.key, "who has it gets it again");
        let wait = |lease: i64| {
            let mut locks = locks.clone();
            tokio::spawn(async move { locks.lock(LockRequest { name: NAME, lease }).await })
        };
        let second = wait(2);
        competitors(&channel, 2).await;
        let third = wait(3);
        competitors(&channel, 3).await;
        assert!(!second.is_finished() && !third.is_finished());

        locks.unlock(UnlockRequest { key: held.key }).await.unwrap();
        assert_eq!(second.await.unwrap().unwrap().into_inner().key, "name/2");
        assert!(!third.is_finished());
        LeaseClient::new(channel.clone()).lease_revoke(LeaseRevokeRequest { id: 2 }).await.unwrap();
        let third = third.await.unwrap().unwrap().into_inner();
        assert_eq!(third.key, "name/3", "a lease that ends gives its lock back");
        assert!(third.header.unwrap().revision > 0);
    });
}

#[test]
fn who_waits_no_longer_for_a_lock_leaves_nothing_behind() {
    let member = Member::start();
    block_on(async {
        let channel = member.channel();
        let mut locks = LockClient::new(channel.clone());
        let held = locks.lock(LockRequest { name: NAME, lease: 0 }).await.unwrap().into_inner();
        grant(&channel, 2).await;
        let waiting = tokio::spawn({
            let mut locks = locks.clone();
            async move { locks.lock(LockRequest { name: NAME, lease: 2 }).await }
        });
        competitors(&channel, 2).await;
        waiting.abort();
        competitors(&channel, 1).await;
        locks.unlock(UnlockRequest { key: held.key }).await.unwrap();
        competitors(&channel, 0).await;

        let waiting = tokio::spawn({
            let mut locks = locks.clone();
            async move {
                let first = locks.lock(LockRequest { name: NAME, lease: 0 }).await.unwrap().into_inner();
                let second = locks.lock(LockRequest { name: NAME, lease: 2 }).await;
                (first, second)
            }
        });
        competitors(&channel, 2).await;
        let own = DeleteRangeRequest { key: "name/2".into(), ..DeleteRangeRequest::default() };
        KvClient::new(channel.clone()).delete_range(own).await.unwrap();
        let first =
            RangeRequest { key: "name/".into(), range_end: "name0".into(), ..RangeRequest::default() };
        let found = KvClient::new(channel.clone()).range(first).await.unwrap().into_inner();
        locks.unlock(UnlockRequest { key: found.kvs[0].key.clone() }).await.unwrap();
        let (_, second) = waiting.await.unwrap();
        let error = second.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unknown, "mutex: session is expired"));
    });
}

#[test]
fn what_is_wrong_with_a_lock_is_said_as_etcd_says_it() {
    let member = Member::start();
    block_on(async {
        let mut locks = LockClient::new(member.channel());
        let error = locks.lock(LockRequest { name: NAME, lease: 12345 }).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unknown, "etcdserver: requested lease not found"));
        let error = locks.unlock(UnlockRequest::default()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unknown, "etcdserver: key is not provided"));
        let mut elections = ElectionClient::new(member.channel());
        let text = "\"leader\" field must be provided";
        let error = elections.proclaim(ProclaimRequest::default()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unknown, text));
        let error = elections.resign(ResignRequest::default()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unknown, text));
        let error = elections.leader(LeaderRequest { name: NAME }).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unknown, "election: no leader"));
    });
}

fn campaign(lease: i64, value: &'static str) -> CampaignRequest {
    CampaignRequest { name: NAME, lease, value: value.into() }
}

#[test]
fn leaders_follow_each_other_and_are_seen_to() {
    let member = Member::start();
    block_on(async {
        let channel = member.channel();
        let mut elections = ElectionClient::new(channel.clone());
        grant(&channel, 1).await;
        grant(&channel, 2).await;
        let mut seen = elections.observe(LeaderRequest { name: NAME }).await.unwrap().into_inner();
        let first = elections.campaign(campaign(1, "one")).await.unwrap().into_inner().leader.unwrap();
        assert_eq!((&first.key[..], first.lease), (b"name/1".as_slice(), 1));
        assert_eq!(seen.message().await.unwrap().unwrap().kv.unwrap().value, "one");

        let second = tokio::spawn({
            let mut elections = elections.clone();
            async move { elections.campaign(campaign(2, "two")).await }
        });
        competitors(&channel, 2).await;
        let said = ProclaimRequest { leader: Some(first.clone()), value: "more".into() };
        elections.proclaim(said).await.unwrap();
        assert_eq!(seen.message().await.unwrap().unwrap().kv.unwrap().value, "more");
        let leader = elections.leader(LeaderRequest { name: NAME }).await.unwrap().into_inner();
        assert_eq!(leader.kv.unwrap().value, "more");
        let again = elections.campaign(campaign(1, "again")).await.unwrap().into_inner().leader.unwrap();
        assert_eq!(again.rev, first.rev);
        assert_eq!(seen.message().await.unwrap().unwrap().kv.unwrap().value, "again");
        assert!(!second.is_finished());

        let stale = LeaderKey { rev: first.rev + 1, ..first.clone() };
        elections.resign(ResignRequest { leader: Some(stale.clone()) }).await.unwrap();
        let said = ProclaimRequest { leader: Some(stale), value: "x".into() };
        let error = elections.proclaim(said).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unknown, "election: not leader"));
        assert!(!second.is_finished(), "a stale leader cannot resign");

        elections.resign(ResignRequest { leader: Some(first) }).await.unwrap();
        let second = second.await.unwrap().unwrap().into_inner().leader.unwrap();
        assert_eq!(second.key, "name/2");
        assert_eq!(seen.message().await.unwrap().unwrap().kv.unwrap().value, "two");
    });
}

#[test]
fn who_waits_no_longer_to_lead_leaves_nothing_behind() {
    let member = Member::start();
    block_on(async {
        let channel = member.channel();
        let mut elections = ElectionClient::new(channel.clone());
        elections.campaign(campaign(0, "one")).await.unwrap();
        grant(&channel, 2).await;
        let waiting = tokio::spawn(async move { elections.campaign(campaign(2, "two")).await });
        competitors(&channel, 2).await;
        waiting.abort();
        competitors(&channel, 1).await;
    });
}
