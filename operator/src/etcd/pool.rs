//! Connections to members, kept between passes so that a probe costs no handshake, and forgotten when idle or broken.
//!
//! One HTTP/2 connection serves all calls to a member. Never: more than a bounded number, or one with old certificates.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::error::{EtcdError, innermost};
use super::member::MemberClient;
use crate::limits;

/// Certificates for the members of one cluster, in PEM.
#[derive(Clone)]
pub struct TlsMaterial {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
    host: Option<String>,
    fingerprint: [u8; 32],
}

impl TlsMaterial {
    /// Material from the three keys of a TLS Secret: `ca.crt`, `tls.crt`, `tls.key`.
    pub fn new(ca: Vec<u8>, certificate: Vec<u8>, key: Vec<u8>) -> Self {
        let mut hash = Sha256::new();
        for part in [&ca, &certificate, &key] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self { ca, certificate, key, host: None, fingerprint: hash.finalize().into() }
    }

    /// The same material for a member whose certificate is for `host`, when its URL holds an address.
    pub fn for_host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    fn config(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.certificate, &self.key));
        match &self.host {
            Some(host) => config.domain_name(host),
            None => config,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    endpoint: String,
    /// Addresses are reused by other pods, so the name belongs to the key.
    host: Option<String>,
    fingerprint: Option<[u8; 32]>,
}

struct Entry {
    channel: Channel,
    used: Instant,
}

/// The cache of connections.
#[derive(Default)]
pub struct Pool {
    entries: Mutex<HashMap<Key, Entry>>,
}

impl Pool {
    /// A client of the member at `endpoint`. Nothing is sent: a member that is down shows in the first call.
    pub fn member(&self, endpoint: &str, tls: Option<&TlsMaterial>) -> Result<MemberClient, EtcdError> {
        let key = Key {
            endpoint: endpoint.to_owned(),
            host: tls.and_then(|t| t.host.clone()),
            fingerprint: tls.map(|t| t.fingerprint),
        };
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&key) {
            entry.used = now;
            return Ok(MemberClient::new(endpoint, entry.channel.clone()));
        }
        forget_idle(&mut entries, now, limits::CONNECTION_IDLE);
        let channel = connect(endpoint, tls)?;
        entries.insert(key, Entry { channel: channel.clone(), used: now });
        Ok(MemberClient::new(endpoint, channel))
    }

    /// Forgets every connection to `endpoint`: the next call makes a new one, with a fresh DNS lookup.
    pub fn forget(&self, endpoint: &str) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|key, _| key.endpoint != endpoint);
    }

    /// Number of connections kept.
    pub fn len(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True if no connection is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn forget_idle(entries: &mut HashMap<Key, Entry>, now: Instant, idle: Duration) {
    entries.retain(|_, entry| now.saturating_duration_since(entry.used) < idle);
    while entries.len() >= limits::CONNECTIONS_MAX {
        let Some(idlest) = entries.iter().min_by_key(|(_, e)| e.used).map(|(key, _)| key.clone()) else {
            return;
        };
        entries.remove(&idlest);
    }
}

fn connect(endpoint: &str, tls: Option<&TlsMaterial>) -> Result<Channel, EtcdError> {
    let refused = |error: tonic::transport::Error| EtcdError::Settings {
        endpoint: endpoint.to_owned(),
        cause: innermost(&error),
    };
    let mut builder = Endpoint::from_shared(endpoint.to_owned())
        .map_err(refused)?
        .connect_timeout(limits::CONNECT_DEADLINE)
        .tcp_nodelay(true)
        // A member whose node vanished never closes its connection; a ping during a long call notices.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5));
    if let Some(tls) = tls {
        builder = builder.tls_config(tls.config()).map_err(refused)?;
    }
    Ok(builder.connect_lazy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_are_shared_and_do_not_pile_up() {
        let pool = Pool::default();
        for _ in 0..10_000 {
            pool.member("http://core-0:2379", None).unwrap();
        }
        assert_eq!(pool.len(), 1);
        pool.member("http://core-1:2379", None).unwrap();
        tokio::time::advance(limits::CONNECTION_IDLE + Duration::from_secs(1)).await;
        pool.member("http://core-2:2379", None).unwrap();
        assert_eq!(pool.len(), 1, "idle connections go when a new one comes");
        pool.forget("http://core-2:2379");
        assert!(pool.is_empty());
    }

    #[tokio::test]
    async fn new_certificates_make_a_new_connection() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pool = Pool::default();
        let pair = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let cert =
                rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
            TlsMaterial::new(cert.pem().into(), cert.pem().into(), key.serialize_pem().into())
        };
        pool.member("https://core-0:2379", Some(&pair("a"))).unwrap();
        pool.member("https://core-0:2379", Some(&pair("b"))).unwrap();
        assert_eq!(pool.len(), 2);
        let broken = TlsMaterial::new(b"no".to_vec(), b"pem".to_vec(), b"here".to_vec());
        assert!(matches!(pool.member("https://core-0:2379", Some(&broken)), Err(EtcdError::Settings { .. })));
    }
}
