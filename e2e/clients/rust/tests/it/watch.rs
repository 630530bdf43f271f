use etcd_client::{WatchFilterType, WatchOptions};

use super::support::{events, plain, put};

#[tokio::test]
async fn replays_history_then_follows() {
    let mut client = plain().await;
    let begin = put(&mut client, "history/a", "1").await;
    client.delete("history/a", None).await.unwrap();

    let options = WatchOptions::new().with_prefix().with_start_revision(begin);
    let mut stream = client.watch("history/", Some(options)).await.unwrap();
    assert_eq!(events(&mut stream, 2).await, ["put history/a=1", "delete history/a"]);
    put(&mut client, "history/b", "2").await;
    assert_eq!(events(&mut stream, 1).await, ["put history/b=2"]);
}

#[tokio::test]
async fn shows_what_was_there_before() {
    let mut client = plain().await;
    put(&mut client, "before", "1").await;
    let begin = put(&mut client, "before", "2").await;
    let options = WatchOptions::new().with_start_revision(begin).with_prev_key();
    let mut stream = client.watch("before", Some(options)).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    let answer = stream.message().await.unwrap().unwrap();
    assert_eq!(answer.events()[0].prev_kv().unwrap().value_str().unwrap(), "1");
}

#[tokio::test]
async fn filters() {
    let mut client = plain().await;
    let begin = put(&mut client, "filtered", "1").await;
    client.delete("filtered", None).await.unwrap();
    let options = WatchOptions::new().with_start_revision(begin).with_filters([WatchFilterType::NoPut]);
    let mut stream = client.watch("filtered", Some(options)).await.unwrap();
    assert_eq!(events(&mut stream, 1).await, ["delete filtered"]);
}

#[tokio::test]
async fn tells_how_far_it_is() {
    let mut client = plain().await;
    let now = put(&mut client, "progress/elsewhere", "").await;

    // Without being asked, at the interval that the server was given.
    let notified = WatchOptions::new().with_progress_notify();
    let mut idle = client.watch("progress/a", Some(notified)).await.unwrap();
    assert!(idle.message().await.unwrap().unwrap().created());
    let told = idle.message().await.unwrap().unwrap();
    assert!(told.events().is_empty() && told.header().unwrap().revision() >= now);

    // When asked; the answer is about all watches of the stream.
    let mut asked = client.watch("progress/b", None).await.unwrap();
    assert!(asked.message().await.unwrap().unwrap().created());
    asked.request_progress().await.unwrap();
    let told = asked.message().await.unwrap().unwrap();
    assert_eq!((told.watch_id(), told.events().len()), (-1, 0));
    assert!(told.header().unwrap().revision() >= now);
}

#[tokio::test]
async fn many_on_a_stream_of_which_one_is_canceled() {
    let mut client = plain().await;
    let mut stream = client.watch("many/a", Some(WatchOptions::new().with_watch_id(7))).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().watch_id(), 7);
    stream.watch("many/b", Some(WatchOptions::new().with_watch_id(8))).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().watch_id(), 8);

    stream.cancel(7).await.unwrap();
    let gone = stream.message().await.unwrap().unwrap();
    assert!(gone.canceled() && gone.watch_id() == 7);
    put(&mut client, "many/a", "1").await;
    put(&mut client, "many/b", "1").await;
    assert_eq!(events(&mut stream, 1).await, ["put many/b=1"]);
}

#[tokio::test]
async fn of_the_compacted_past() {
    let mut client = plain().await;
    let past = put(&mut client, "compacted/watch", "1").await;
    let now = put(&mut client, "compacted/watch", "2").await;
    client.compact(now, None).await.unwrap();

    let options = WatchOptions::new().with_start_revision(past);
    let mut stream = client.watch("compacted/watch", Some(options)).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    let refused = stream.message().await.unwrap().unwrap();
    assert!(refused.canceled());
    assert_eq!(refused.compact_revision(), now);
}
