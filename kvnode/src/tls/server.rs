//! The side that is dialled.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

use super::{
    Policy, Side, TlsError, auto, client_cert::ClientVerifier, files, names::AllowedNames, pinned::Pinned,
    reload::Reloading, revoked::Revoked, words,
};
use crate::{flags::config::TlsFiles, limits};

/// Accepts TLS connections with the certificate, key and CA that the files hold at that moment.
///
/// Both HTTP/2 and HTTP/1.1 are offered by ALPN. A client certificate is demanded when there is a CA to check it by, or a
/// flag demands it; then the system's CAs check it, as in etcd.
#[derive(Clone)]
pub struct Acceptor {
    side: Side,
    config: Arc<Reloading<ServerConfig>>,
}

impl Acceptor {
    /// Reads the files once, so that a member with bad ones does not start.
    ///
    /// # Errors
    /// The first file that is missing, malformed or does not match, with its flag.
    pub fn load(side: Side, tls: &TlsFiles, policy: &Policy) -> Result<Self, TlsError> {
        let self_signed = match (&tls.cert, tls.auto) {
            (None, true) => Some(Arc::new(auto::certificate(side, policy)?)),
            _ => None,
        };
        let watched =
            [&tls.cert, &tls.key, &tls.trusted_ca, &tls.crl].into_iter().flatten().cloned().collect();
        let (tls, policy) = (tls.clone(), policy.clone());
        let build = Box::new(move || build(side, &tls, &policy, self_signed.as_ref()));
        let config = Arc::new(Reloading::new(side.endpoint(), watched, build)?);
        Ok(Self { side, config })
    }

    /// Performs the handshake. A refused one is logged here; the connection is over then.
    pub async fn accept<IO>(&self, io: IO, remote: &str) -> Option<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(self.config.current()).accept(io);
        let limit = Duration::from_secs(limits::TLS_HANDSHAKE_SECONDS);
        let error = match tokio::time::timeout(limit, handshake).await {
            Ok(Ok(stream)) => return Some(stream),
            // A probe that only connects, or a client that was stopped: nothing to look into.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                debug!(remote_addr = remote, "a connection ended before its TLS handshake");
                return None;
            }
            Ok(Err(error)) => words(&error),
            Err(_) => format!("no TLS handshake within {limit:?}"),
        };
        warn!(remote_addr = remote, error, "rejected connection on {} endpoint", self.side.endpoint());
        None
    }
}

fn build(
    side: Side,
    tls: &TlsFiles,
    policy: &Policy,
    self_signed: Option<&Arc<CertifiedKey>>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(policy.provider()?);
    let certified = match (&tls.cert, &tls.key, self_signed) {
        (Some(cert), Some(key), _) => {
            Arc::new(files::key_pair(side, ("cert-file", "key-file"), cert, key, &provider)?)
        }
        (_, _, Some(made)) => Arc::clone(made),
        _ => {
            return Err(TlsError::NoCertificate { flag: side.flag("cert-file") });
        }
    };
    let setup = |source| TlsError::Setup { side: side.endpoint(), source };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&policy.versions())
        .map_err(setup)?;
    // Whoever has a certificate made has no authority for those of clients: etcd forgets that it should ask for them.
    let demanded = tls.client_cert_auth && self_signed.is_none();
    let builder = match tls.trusted_ca.is_some() || demanded {
        true => builder.with_client_cert_verifier(client_verifier(side, tls, provider)?),
        false => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Resumption would let a client in on a certificate that was checked against an earlier revocation list.
    if tls.crl.is_some() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn client_verifier(
    side: Side,
    tls: &TlsFiles,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (roots, pinned) = match &tls.trusted_ca {
        Some(ca) => files::authorities(side, ca)?,
        None => (files::system_authorities(), Pinned::default()),
    };
    if roots.is_empty() {
        return Err(TlsError::NoTrust { flag: side.flag("trusted-ca-file") });
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if tls.trusted_ca.is_none() {
        // The system's are too many to name to every client.
        builder = builder.clear_root_hint_subjects();
    }
    let chain = builder.build().map_err(|why| TlsError::Invalid {
        flag: side.flag("trusted-ca-file"),
        path: tls.trusted_ca.clone().unwrap_or_default(),
        why: why.to_string(),
    })?;
    let revoked = Revoked::read(side, tls.crl.as_deref())?;
    Ok(Arc::new(ClientVerifier { chain, pinned, names: AllowedNames::of(tls), revoked }))
}
