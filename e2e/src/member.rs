//! Speaking etcd's protocol to one member, through a port forward and the TLS material that users get.

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, ResourceExt};
use kvnode_proto::etcdserverpb::{kv_client::KvClient, maintenance_client::MaintenanceClient};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{sync::Arc, time::Duration};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// The port on which members serve clients.
const CLIENT_PORT: u16 = 2379;

/// A call that takes longer says more about the cluster than its answer would.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// TLS material for clients, as the operator's Secret holds it.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Reads `ca.crt`, `tls.crt` and `tls.key` of a Secret.
    pub async fn from_secret(secrets: &Api<Secret>, name: &str) -> Result<Self> {
        let secret = secrets.get(name).await.with_context(|| format!("get Secret {name}"))?;
        let data = secret.data.unwrap_or_default();
        let part = |key: &str| {
            data.get(key)
                .map(|bytes| bytes.0.as_slice())
                .with_context(|| format!("Secret {name} has no {key}"))
        };
        let roots = roots(part("ca.crt")?)?;
        let chain = CertificateDer::pem_slice_iter(part("tls.crt")?).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(part("tls.key")?).context("read tls.key")?;
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Trusts this authority and shows no certificate.
    pub fn anonymous(ca: &str) -> Result<Self> {
        let mut config =
            ClientConfig::builder().with_root_certificates(roots(ca.as_bytes())?).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.context("read ca.crt")?).context("trust ca.crt")?;
    }
    Ok(roots)
}

/// A connection to one member.
#[derive(Clone)]
pub struct Member {
    /// The member's pod.
    pub pod: String,
    channel: Channel,
}

impl Member {
    /// Connects to the member in a pod.
    pub async fn connect(pods: &Api<Pod>, pod: &Pod, tls: &ClientTls) -> Result<Self> {
        let name = pod.name_any();
        let mut forward = pods
            .portforward(&name, &[CLIENT_PORT])
            .await
            .with_context(|| format!("forward a port to {name}"))?;
        let stream = forward.take_stream(CLIENT_PORT).context("the forwarded stream is taken once")?;
        let server = ServerName::try_from("localhost").context("localhost is a name")?;
        let stream = TlsConnector::from(tls.0.clone())
            .connect(server, stream)
            .await
            .with_context(|| format!("TLS to {name}"))?;
        // One forwarded stream is one connection: it is handed out once, and a broken one is replaced by a new `Member`.
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_| {
            let stream =
                stream.take().ok_or_else(|| std::io::Error::other("the forwarded connection has ended"));
            async move { stream }
        });
        let endpoint = Endpoint::from_static("http://member").timeout(CALL_LIMIT);
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .with_context(|| format!("speak HTTP/2 to {name}"))?;
        Ok(Self { pod: name, channel })
    }

    /// The key-value service.
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
    }

    /// The maintenance service.
    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }
}
