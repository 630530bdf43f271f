//! Reading certificates, keys and revocation lists from PEM files, with errors that name the flag.

use std::path::Path;

use rustls::{RootCertStore, crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use super::{Side, TlsError, pinned::Pinned};

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        flag: flag.to_owned(),
        path: path.to_owned(),
        source,
    })
}

pub(super) fn invalid(flag: &str, path: &Path, why: impl Into<String>) -> TlsError {
    TlsError::Invalid { flag: flag.to_owned(), path: path.to_owned(), why: why.into() }
}

fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(&read(flag, path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| invalid(flag, path, format!("malformed PEM: {why}")))?;
    if certificates.is_empty() {
        return Err(TlsError::Empty { flag: flag.to_owned(), path: path.to_owned(), what: "certificate" });
    }
    Ok(certificates)
}

fn private_key(flag: &str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(flag, path)?).map_err(|why| match why {
        pem::Error::NoItemsFound => {
            TlsError::Empty { flag: flag.to_owned(), path: path.to_owned(), what: "private key" }
        }
        why => invalid(flag, path, format!("malformed PEM: {why}")),
    })
}

/// A certificate chain and its key, proven to belong together.
pub(super) fn key_pair(
    side: Side,
    names: (&str, &str),
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let (cert_flag, key_flag) = (side.flag(names.0), side.flag(names.1));
    let chain = certificates(&cert_flag, cert)?;
    let secret = private_key(&key_flag, key)?;
    CertifiedKey::from_der(chain, secret, provider).map_err(|why| match why {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { cert_flag, cert: cert.to_owned(), key_flag, key: key.to_owned() }
        }
        why @ rustls::Error::InvalidCertificate(_) => invalid(&cert_flag, cert, why.to_string()),
        why => invalid(&key_flag, key, why.to_string()),
    })
}

/// Every CA certificate of a bundle: as authorities, and as themselves.
pub(super) fn authorities(side: Side, path: &Path) -> Result<(RootCertStore, Pinned), TlsError> {
    let flag = side.flag("trusted-ca-file");
    let mut roots = RootCertStore::empty();
    let certificates = certificates(&flag, path)?;
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|why| invalid(&flag, path, why.to_string()))?;
    }
    Ok((roots, Pinned(certificates)))
}

/// The CA certificates of the system; those that cannot be read are left out.
pub(super) fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Revocation lists, as PEM or as one DER.
pub(super) fn revocations(
    side: Side,
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let flag = side.flag("crl-file");
    let bytes = read(&flag, path)?;
    let lists = CertificateRevocationListDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| invalid(&flag, path, format!("malformed PEM: {why}")))?;
    Ok(if lists.is_empty() { vec![CertificateRevocationListDer::from(bytes)] } else { lists })
}
