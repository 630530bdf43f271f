//! Clients of the servers that kind/clients.sh starts and names in the environment.

use std::{env, fs, time::Duration};

use etcd_client::{Certificate, Client, ConnectOptions, Error, EventType, Identity, TlsOptions, WatchStream};
use tokio::time::timeout;

/// Longer than an election, shorter than a developer's patience.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn setting(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run these tests with kind/clients.sh rust"))
}

pub async fn plain() -> Client {
    Client::connect([setting("CLIENTS_PLAIN")], None).await.unwrap()
}

fn certificate(name: &str) -> String {
    let path = format!("{}/{name}", setting("CLIENTS_CERTS"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// TLS of who knows the CA and has no certificate.
pub fn nameless() -> TlsOptions {
    TlsOptions::new().ca_certificate(Certificate::from_pem(certificate("ca.crt")))
}

/// TLS of who has a certificate.
pub fn named() -> TlsOptions {
    nameless().identity(Identity::from_pem(certificate("client.crt"), certificate("client.key")))
}

pub async fn secured(url: &str, tls: TlsOptions, user: Option<(&str, &str)>) -> Result<Client, Error> {
    let mut options = ConnectOptions::new().with_tls(tls);
    if let Some((name, password)) = user {
        options = options.with_user(name, password);
    }
    Client::connect([setting(url)], Some(options)).await
}

/// What etcd said when it refused.
pub fn refusal<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::GRpcStatus(status)) => status.message().to_owned(),
        Err(error) => panic!("refused by the client itself: {error}"),
        Ok(_) => panic!("accepted"),
    }
}

pub async fn put(client: &mut Client, key: &str, value: &str) -> i64 {
    client.put(key, value, None).await.unwrap().header().unwrap().revision()
}

/// The next `count` events, as "put key=value" and "delete key".
pub async fn events(stream: &mut WatchStream, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let answer = timeout(PATIENCE, stream.message())
            .await
            .expect("an event in time")
            .unwrap()
            .expect("an open watch");
        for event in answer.events() {
            let kv = event.kv().unwrap();
            let (key, value) = (kv.key_str().unwrap(), kv.value_str().unwrap());
            seen.push(match event.event_type() {
                EventType::Put => format!("put {key}={value}"),
                EventType::Delete => format!("delete {key}"),
            });
        }
    }
    seen
}
