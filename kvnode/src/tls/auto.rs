//! A self-signed certificate for `--auto-tls` and `--peer-auto-tls`, made anew at each start and kept in memory.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;

use super::{Policy, Side, TlsError};

pub(super) fn certificate(side: Side, policy: &Policy) -> Result<CertifiedKey, TlsError> {
    let failed = |why: String| TlsError::SelfSigned { side: side.endpoint(), why };
    let key = KeyPair::generate().map_err(|why| failed(why.to_string()))?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut params = CertificateParams::new(names).map_err(|why| failed(why.to_string()))?;
    let year = Duration::from_secs(365 * 24 * 3600);
    let now = SystemTime::now();
    params.not_before = now.into();
    params.not_after = (now + year * policy.self_signed_years.max(1)).into();
    let signed = params.self_signed(&key).map_err(|why| failed(why.to_string()))?;
    let secret = PrivateKeyDer::try_from(key.serialize_der()).map_err(|why| failed(why.to_owned()))?;
    CertifiedKey::from_der(vec![signed.der().clone()], secret, &policy.provider()?)
        .map_err(|why| failed(why.to_string()))
}
