//! Certificates that the file of authorities holds and that are shown as they are: such a file often holds the one
//! self-signed certificate that everybody uses.
//!
//! webpki refuses an authority that speaks for itself. Go's TLS, so etcd, takes what is in the file at its word
//! (`crypto/x509: Certificate.Verify`): the handshake proves that the key is there, and dates and purpose are checked.

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{
    prelude::{ExtendedKeyUsage, FromDer as _, X509Certificate},
    time::ASN1Time,
};

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Server,
    Client,
}

/// The certificates of the file.
#[derive(Debug, Default)]
pub(super) struct Pinned(pub(super) Vec<CertificateDer<'static>>);

impl Pinned {
    /// Whether this very certificate is among them and may be used now, for that.
    pub(super) fn holds(&self, shown: &CertificateDer<'_>, purpose: Purpose, now: UnixTime) -> bool {
        self.0.iter().any(|certificate| certificate.as_ref() == shown.as_ref()) && usable(shown, purpose, now)
    }
}

fn usable(certificate: &CertificateDer<'_>, purpose: Purpose, now: UnixTime) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let now = i64::try_from(now.as_secs()).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    let valid = now.is_some_and(|now| parsed.validity().is_valid_at(now));
    let fits = |usage: &ExtendedKeyUsage<'_>| match purpose {
        Purpose::Server => usage.any || usage.server_auth,
        Purpose::Client => usage.any || usage.client_auth,
    };
    let usage = parsed.extended_key_usage();
    valid && usage.is_ok_and(|usage| usage.is_none_or(|usage| fits(usage.value)))
}
