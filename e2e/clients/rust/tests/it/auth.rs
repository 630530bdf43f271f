use etcd_client::{Client, Permission};

use super::support::{events, nameless, put, refusal, secured};

async fn log_in(user: &str, password: &str) -> Client {
    secured("CLIENTS_AUTH", nameless(), Some((user, password))).await.unwrap()
}

#[tokio::test]
async fn user_does_what_its_role_permits() {
    let (mut root, mut alice) = (log_in("root", "root").await, log_in("alice", "secret").await);
    put(&mut root, "public/rust", "1").await;
    assert_eq!(alice.get("public/rust", None).await.unwrap().count(), 1);
    assert_eq!(refusal(alice.put("public/rust", "2", None).await), "etcdserver: permission denied");
    assert_eq!(refusal(alice.get("private", None).await), "etcdserver: permission denied");

    let mut stream = alice.watch("public/rust", None).await.unwrap();
    put(&mut root, "public/rust", "3").await;
    assert_eq!(events(&mut stream, 1).await, ["put public/rust=3"]);
}

#[tokio::test]
async fn strangers_are_refused() {
    let wrong = secured("CLIENTS_AUTH", nameless(), Some(("alice", "wrong"))).await;
    assert_eq!(refusal(wrong), "etcdserver: authentication failed, invalid user ID or password");
    let mut nobody = secured("CLIENTS_AUTH", nameless(), None).await.unwrap();
    assert_eq!(refusal(nobody.get("public/rust", None).await), "etcdserver: user name is empty");
}

#[tokio::test]
async fn users_and_roles_are_managed() {
    let mut root = log_in("root", "root").await;
    root.role_add("writer").await.unwrap();
    assert_eq!(refusal(root.role_add("writer").await), "etcdserver: role name already exists");
    let writers = Permission::read_write("writers/").with_prefix();
    root.role_grant_permission("writer", writers.clone()).await.unwrap();
    root.user_add("bob", "hunter2", None).await.unwrap();
    root.user_grant_role("bob", "writer").await.unwrap();
    assert_eq!(root.user_get("bob").await.unwrap().roles(), ["writer"]);
    assert_eq!(root.role_get("writer").await.unwrap().permissions(), [writers]);
    assert_eq!(root.user_list().await.unwrap().users(), ["alice", "bob", "root"]);

    root.user_change_password("bob", "hunter3").await.unwrap();
    put(&mut log_in("bob", "hunter3").await, "writers/a", "1").await;
    root.user_delete("bob").await.unwrap();
    root.role_delete("writer").await.unwrap();
    assert_eq!(refusal(root.user_get("bob").await), "etcdserver: user name not found");
}
