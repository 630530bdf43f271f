use etcd_client::{LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions};

use super::support::{events, plain, refusal};

#[tokio::test]
async fn knows_its_keys_and_takes_them_along() {
    let mut client = plain().await;
    let lease = client.lease_grant(60, None).await.unwrap().id();
    client.put("lease/a", "1", Some(PutOptions::new().with_lease(lease))).await.unwrap();

    let options = LeaseTimeToLiveOptions::new().with_keys();
    let info = client.lease_time_to_live(lease, Some(options)).await.unwrap();
    assert_eq!((info.granted_ttl(), info.keys()), (60, [b"lease/a".to_vec()].as_slice()));
    assert!((51..=60).contains(&info.ttl()));
    assert!(client.leases().await.unwrap().leases().iter().any(|listed| listed.id() == lease));

    client.lease_revoke(lease).await.unwrap();
    assert_eq!(client.get("lease/a", None).await.unwrap().count(), 0);
    assert_eq!(client.lease_time_to_live(lease, None).await.unwrap().ttl(), -1);
    assert_eq!(refusal(client.lease_revoke(lease).await), "etcdserver: requested lease not found");
}

#[tokio::test]
async fn expires() {
    let mut client = plain().await;
    let lease = client.lease_grant(1, None).await.unwrap().id();
    let answer = client.put("lease/mortal", "1", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    let begin = answer.header().unwrap().revision();
    let options = WatchOptions::new().with_start_revision(begin);
    let mut stream = client.watch("lease/mortal", Some(options)).await.unwrap();
    assert_eq!(events(&mut stream, 2).await, ["put lease/mortal=1", "delete lease/mortal"]);
}

#[tokio::test]
async fn lives_while_it_is_kept_alive() {
    let mut client = plain().await;
    let chosen = LeaseGrantOptions::new().with_id(0x5eed);
    assert_eq!(client.lease_grant(60, Some(chosen.clone())).await.unwrap().id(), 0x5eed);
    assert_eq!(refusal(client.lease_grant(60, Some(chosen)).await), "etcdserver: lease already exists");

    let (mut keeper, mut alive) = client.lease_keep_alive(0x5eed).await.unwrap();
    for _ in 0..3 {
        keeper.keep_alive().await.unwrap();
        assert_eq!(alive.message().await.unwrap().unwrap().ttl(), 60);
    }
    client.lease_revoke(0x5eed).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(alive.message().await.unwrap().unwrap().ttl(), 0);
}
