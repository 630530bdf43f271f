//! Certificates that a revocation list names.
//!
//! As in etcd (`checkCRL` in `client/pkg/transport/listener_tls.go`) a serial number on the list refuses every certificate
//! that has it, of whatever authority and anywhere in the chain that was shown; who signed the list is not asked.

use std::{collections::HashSet, path::Path};

use rustls::{CertificateError, Error};
use rustls_pki_types::CertificateDer;
use x509_parser::{
    parse_x509_certificate,
    prelude::{CertificateRevocationList, FromDer as _},
};

use super::{Side, TlsError, files};

/// Serial numbers, as they are written in certificates.
#[derive(Debug, Default)]
pub(super) struct Revoked(HashSet<Vec<u8>>);

impl Revoked {
    /// Reads the list, if there is one.
    pub(super) fn read(side: Side, path: Option<&Path>) -> Result<Self, TlsError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let mut serials = HashSet::new();
        for list in files::revocations(side, path)? {
            let (_, list) = CertificateRevocationList::from_der(&list)
                .map_err(|why| files::invalid(&side.flag("crl-file"), path, why.to_string()))?;
            serials.extend(list.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec()));
        }
        Ok(Self(serials))
    }

    /// Refuses certificates of which one is on the list.
    pub(super) fn check<'a, 'b: 'a>(
        &self,
        mut shown: impl Iterator<Item = &'a CertificateDer<'b>>,
    ) -> Result<(), Error> {
        let is_listed = |certificate: &CertificateDer<'_>| {
            parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| self.0.contains(parsed.raw_serial()))
        };
        match !self.0.is_empty() && shown.any(is_listed) {
            true => Err(CertificateError::Revoked.into()),
            false => Ok(()),
        }
    }
}
