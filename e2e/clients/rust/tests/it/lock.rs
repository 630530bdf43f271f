use etcd_client::{Client, LockOptions, ProclaimOptions, ResignOptions};
use tokio::time::timeout;

use super::support::{PATIENCE, plain, refusal};

async fn lease(client: &mut Client) -> i64 {
    client.lease_grant(30, None).await.unwrap().id()
}

#[tokio::test]
async fn lock_passes_from_hand_to_hand() {
    let mut client = plain().await;
    let first = lease(&mut client).await;
    let held = client.lock("lock", Some(LockOptions::new().with_lease(first))).await.unwrap();
    let second = lease(&mut client).await;
    let mut other = plain().await;
    let waits =
        tokio::spawn(async move { other.lock("lock", Some(LockOptions::new().with_lease(second))).await });
    assert_eq!(client.get(held.key(), None).await.unwrap().count(), 1);
    assert!(!waits.is_finished());

    client.unlock(held.key()).await.unwrap();
    let passed = timeout(PATIENCE, waits).await.unwrap().unwrap().unwrap();
    assert_eq!(passed.key(), format!("lock/{second:x}").as_bytes());
    client.unlock(passed.key()).await.unwrap();
}

#[tokio::test]
async fn lock_ends_with_its_lease() {
    let mut client = plain().await;
    let mortal = lease(&mut client).await;
    client.lock("mortal", Some(LockOptions::new().with_lease(mortal))).await.unwrap();
    let mut other = plain().await;
    let waits = tokio::spawn(async move { other.lock("mortal", None).await });
    client.lease_revoke(mortal).await.unwrap();
    timeout(PATIENCE, waits).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn election_has_one_leader_at_a_time() {
    let mut client = plain().await;
    assert_eq!(refusal(client.leader("election").await), "election: no leader");
    let first_lease = lease(&mut client).await;
    let first = client.campaign("election", "one", first_lease).await.unwrap();
    let leader = first.leader().unwrap().clone();
    // Without a leader the call itself would wait: the server has nothing to send yet, not even headers.
    let mut observed = client.observe("election").await.unwrap();
    let seen = |answer: etcd_client::LeaderResponse| answer.kv().unwrap().value_str().unwrap().to_owned();
    assert_eq!(seen(observed.message().await.unwrap().unwrap()), "one");

    let proclaim = Some(ProclaimOptions::new().with_leader(leader.clone()));
    client.proclaim("one, again", proclaim).await.unwrap();
    assert_eq!(seen(observed.message().await.unwrap().unwrap()), "one, again");

    let second_lease = lease(&mut client).await;
    let mut other = plain().await;
    let waits = tokio::spawn(async move { other.campaign("election", "two", second_lease).await });
    client.resign(Some(ResignOptions::new().with_leader(leader))).await.unwrap();
    timeout(PATIENCE, waits).await.unwrap().unwrap().unwrap();
    assert_eq!(seen(observed.message().await.unwrap().unwrap()), "two");
    assert_eq!(seen(client.leader("election").await.unwrap()), "two");
}
