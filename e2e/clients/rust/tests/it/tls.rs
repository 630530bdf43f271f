use super::support::{events, named, nameless, put, secured};

#[tokio::test]
async fn serves_who_has_a_certificate() {
    let mut client = secured("CLIENTS_TLS", named(), None).await.unwrap();
    let mut stream = client.watch("tls", None).await.unwrap();
    put(&mut client, "tls", "1").await;
    assert_eq!(events(&mut stream, 1).await, ["put tls=1"]);
}

#[tokio::test]
async fn refuses_who_has_none() {
    let mut client = secured("CLIENTS_TLS", nameless(), None).await.unwrap();
    client.put("tls", "1", None).await.unwrap_err();
}
