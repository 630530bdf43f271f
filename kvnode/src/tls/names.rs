//! Names that a certificate may be asked to carry: a common name, or a host name it must be valid for.

use rustls::{CertificateError, Error, client::verify_server_name, server::ParsedCertificate};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::flags::config::TlsFiles;

/// One of them must be there, if there are any.
#[derive(Debug)]
pub(super) struct AllowedNames {
    common_names: Vec<String>,
    host_names: Vec<String>,
}

impl AllowedNames {
    pub(super) fn of(tls: &TlsFiles) -> Self {
        Self { common_names: tls.allowed_cns.clone(), host_names: tls.allowed_hostnames.clone() }
    }

    /// Refuses a certificate that carries none of them.
    pub(super) fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if self.common_names.is_empty() && self.host_names.is_empty() {
            return Ok(());
        }
        if common_name(certificate).is_some_and(|name| self.common_names.contains(&name)) {
            return Ok(());
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        let mut hosts = self.host_names.iter().filter_map(|host| ServerName::try_from(host.as_str()).ok());
        match hosts.any(|host| verify_server_name(&parsed, &host).is_ok()) {
            true => Ok(()),
            // The alert of this error is "bad certificate", which is what etcd's clients and tests are used to.
            false => Err(CertificateError::NotValidForName.into()),
        }
    }
}

/// The subject's common name.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}
