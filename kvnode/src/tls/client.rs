//! The side that dials: this member towards its peers.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    sign::SingleCertAndKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Policy, Side, TlsError, files, reload::Reloading};
use crate::flags::config::TlsFiles;

/// Dials TLS connections, showing and trusting what the files hold at that moment. Speaks HTTP/1.1, as etcd's peers do.
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
    let builder = match (&tls.trusted_ca, tls.auto) {
        (Some(ca), _) => builder.with_root_certificates(files::authorities(side, ca)?),
        (None, true) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::clone(&provider)))),
        (None, false) => {
            return Err(TlsError::NoTrust { flag: side.flag("trusted-ca-file") });
        }
    };
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
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Trusts whoever answers: what `--peer-auto-tls` asks for. Traffic is encrypted, nobody is authenticated.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
