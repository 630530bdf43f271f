//! Client certificates: issued by an authority or trusted as they are, and, where that is asked for, restricted by name: a
//! common name, or a host name they must be valid for.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::{danger::HandshakeSignatureValid, verify_server_name},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::pinned::{Pinned, Purpose};

/// Checks names after the chain, or the certificate itself, was found good.
#[derive(Debug)]
pub(super) struct AllowedNames {
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) pinned: Pinned,
    pub(super) common_names: Vec<String>,
    pub(super) host_names: Vec<String>,
}

impl AllowedNames {
    fn allows(&self, certificate: &CertificateDer<'_>) -> Result<bool, Error> {
        if self.common_names.is_empty() && self.host_names.is_empty() {
            return Ok(true);
        }
        if common_name(certificate).is_some_and(|name| self.common_names.contains(&name)) {
            return Ok(true);
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        Ok(self.host_names.iter().any(|host| {
            ServerName::try_from(host.as_str()).is_ok_and(|host| verify_server_name(&parsed, &host).is_ok())
        }))
    }
}

/// The subject's common name.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

impl ClientCertVerifier for AllowedNames {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now).or_else(|why| {
            let pinned = self.pinned.holds(end_entity, Purpose::Client, now);
            if pinned { Ok(ClientCertVerified::assertion()) } else { Err(why) }
        })?;
        if self.allows(end_entity)? {
            return Ok(verified);
        }
        // The alert of this error is "bad certificate", which is what etcd's clients and tests are used to.
        Err(CertificateError::NotValidForName.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
