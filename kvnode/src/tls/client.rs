//! The side that dials: this member towards its peers.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
    sign::SingleCertAndKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Policy, Side, TlsError, files,
    names::AllowedNames,
    pinned::{Pinned, Purpose},
    reload::Reloading,
};
use crate::flags::config::TlsFiles;

/// Dials TLS connections, showing and trusting what the files hold at that moment. Speaks HTTP/1.1 to peers, as etcd does,
/// and HTTP/2 to others.
#[derive(Clone)]
pub struct Connector {
    config: Arc<Reloading<ClientConfig>>,
}

impl Connector {
    /// Reads the files once, so that a member with bad ones does not start.
    ///
    /// # Errors
    /// The first file that is missing, malformed or does not match, with its flag.
    pub fn load(side: Side, tls: &TlsFiles, policy: &Policy) -> Result<Self, TlsError> {
        let watched = [&tls.cert, &tls.key, &tls.client_cert, &tls.client_key, &tls.trusted_ca]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let (tls, policy) = (tls.clone(), policy.clone());
        let build = Box::new(move || build(side, &tls, &policy));
        Ok(Self { config: Arc::new(Reloading::new(side.endpoint(), watched, build)?) })
    }

    /// Performs the handshake with `host`, a DNS name or an IP address.
    ///
    /// # Errors
    /// A host that is neither, or what went wrong in the handshake.
    pub async fn connect<IO>(&self, host: &str, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no host name")))?;
        TlsConnector::from(self.config.current()).connect(name, io).await
    }
}

fn build(side: Side, tls: &TlsFiles, policy: &Policy) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(policy.provider()?);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&policy.versions())
        .map_err(|source| TlsError::Setup { side: side.endpoint(), source })?;
    let trust = match (&tls.trusted_ca, tls.auto) {
        (Some(ca), _) => authorities(side, ca, &provider)?,
        (None, true) => Trust::Anybody,
        (None, false) => system(side, &provider)?,
    };
    let names = AllowedNames::of(tls);
    let verifier = ServerVerifier { trust, names, provider: Arc::clone(&provider) };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let shown = match (&tls.client_cert, &tls.client_key, &tls.cert, &tls.key) {
        (Some(cert), Some(key), ..) => {
            let names = ("client-cert-file", "client-key-file");
            Some(files::key_pair(side, names, cert, key, &provider)?)
        }
        (_, _, Some(cert), Some(key)) => {
            Some(files::key_pair(side, ("cert-file", "key-file"), cert, key, &provider)?)
        }
        _ => None,
    };
    let mut config = match shown {
        Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
        None => builder.with_no_client_auth(),
    };
    let protocol: &[u8] = if side == Side::Peer { b"http/1.1" } else { b"h2" };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

fn authorities(side: Side, ca: &Path, provider: &Arc<CryptoProvider>) -> Result<Trust, TlsError> {
    let (roots, pinned) = files::authorities(side, ca)?;
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let chain = builder.build().map_err(|why| TlsError::Invalid {
        flag: side.flag("trusted-ca-file"),
        path: ca.to_owned(),
        why: why.to_string(),
    })?;
    Ok(Trust::Authorities(chain, pinned))
}

/// As Go does where no authority is named, and therefore etcd. There is none on a system without a file of them.
fn system(side: Side, provider: &Arc<CryptoProvider>) -> Result<Trust, TlsError> {
    let roots = Arc::new(files::system_authorities());
    let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|_| TlsError::NoTrust { flag: side.flag("trusted-ca-file") })?;
    Ok(Trust::Authorities(chain, Pinned::default()))
}

/// Whom a member believes that it is the one it dialled.
#[derive(Debug)]
enum Trust {
    /// Whoever answers: what `--peer-auto-tls` asks for. Traffic is encrypted, nobody is authenticated.
    Anybody,
    /// Whoever shows a certificate of an authority, or one that is trusted as it is.
    Authorities(Arc<WebPkiServerVerifier>, Pinned),
}

#[derive(Debug)]
struct ServerVerifier {
    trust: Trust,
    names: AllowedNames,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Authorities(chain, pinned) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let verified = verified.or_else(|why| {
            if !pinned.holds(end_entity, Purpose::Server, now) {
                return Err(why);
            }
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            Ok(ServerCertVerified::assertion())
        })?;
        // Whoever may not dial may not be dialled, either.
        self.names.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
