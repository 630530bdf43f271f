use std::{process::Command, time::Duration};

use etcd_client::{Client, ConnectOptions, Error, GetOptions, WatchOptions};
use tokio::time::Instant;

use super::support::{PATIENCE, events, setting};

/// Repeats a call until it is answered, as applications do: it may meet the dead member, or a cluster without a leader.
async fn persist<T>(mut call: impl AsyncFnMut() -> Result<T, Error>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

/// The process of the member that leads.
async fn leader(urls: &[&str]) -> String {
    for (url, pid) in urls.iter().zip(setting("CLIENTS_PIDS").split(',')) {
        let status = Client::connect([url], None).await.unwrap().status().await.unwrap();
        if status.leader() == status.header().unwrap().member_id() {
            return pid.to_owned();
        }
    }
    panic!("no member leads");
}

#[tokio::test]
async fn client_follows_when_the_leader_is_killed() {
    let members = setting("CLIENTS_MEMBERS");
    let urls: Vec<&str> = members.split(',').collect();
    let options = ConnectOptions::new().with_timeout(Duration::from_secs(5));
    let mut client = Client::connect(&urls, Some(options)).await.unwrap();
    let begin =
        persist(async || client.put("cluster/begin", "v", None).await).await.header().unwrap().revision();
    for i in 0..20 {
        if i == 10 {
            let killed = Command::new("kill").args(["-9", &leader(&urls).await]).status().unwrap();
            assert!(killed.success());
        }
        persist(async || client.put(format!("cluster/{i:02}"), "v", None).await).await;
    }

    let count = GetOptions::new().with_prefix().with_count_only();
    let counted = persist(async || client.get("cluster/", Some(count.clone())).await).await;
    assert_eq!(counted.count(), 21);
    // A put that failed may have happened, so a key may have been written twice; the order is that of the writes.
    let history = WatchOptions::new().with_prefix().with_start_revision(begin + 1);
    let mut stream = persist(async || client.watch("cluster/", Some(history.clone())).await).await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "put cluster/19=v") {
        seen.extend(events(&mut stream, 1).await);
    }
    assert!(seen.is_sorted(), "{seen:?}");
}
