//! Is a Secret's certificate good for its purpose? Answered before anything mounts it.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{CA_CRT, TLS_CRT, TLS_KEY};

/// What a certificate has to be good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purpose {
    /// DNS names it must cover.
    pub dns_names: Vec<String>,
    /// IP addresses it must cover.
    pub ip_addresses: Vec<IpAddr>,
    /// Usages it must have.
    pub usages: Vec<Usage>,
}

/// A use of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Shown by servers.
    Server,
    /// Shown by clients.
    Client,
}

/// A good certificate's dates and authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Begin of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// The trusted authorities, DER.
    pub trusted: Vec<Vec<u8>>,
    /// The one of them that vouches for the certificate, DER.
    pub anchor: Vec<u8>,
}

/// Why a Secret is not good, told without its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// A key is not there or empty.
    #[error("key {0} is missing")]
    MissingKey(&'static str),
    /// A key does not parse.
    #[error("key {key} is not {expected}")]
    Malformed {
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Certificate and private key do not belong together.
    #[error("tls.key is not the key of the certificate in tls.crt")]
    KeyMismatch,
    /// No authority in `ca.crt` signed it.
    #[error("the certificate in tls.crt is not signed by an authority in ca.crt")]
    Untrusted,
    /// Too late.
    #[error("the certificate in tls.crt expired at {0}")]
    Expired(Timestamp),
    /// Too early.
    #[error("the certificate in tls.crt is not valid before {0}")]
    NotYetValid(Timestamp),
    /// A name is not covered.
    #[error("the certificate in tls.crt does not cover the name {0}")]
    MissingName(String),
    /// A use is not allowed.
    #[error("the certificate in tls.crt lacks the extended key usage {0}")]
    MissingUsage(&'static str),
}

impl SecretProblem {
    /// True if the Secret does not hold what it should, false if the certificate itself is the problem.
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::MissingKey(_) | Self::Malformed { .. } | Self::KeyMismatch)
    }
}

/// Checks a Secret with `ca.crt`, `tls.crt` and `tls.key` for a purpose at a moment.
///
/// # Errors
/// The first thing that makes it unusable.
pub fn check(secret: &Secret, purpose: &Purpose, now: Timestamp) -> Result<Chain, SecretProblem> {
    let trusted = certificates(secret, CA_CRT)?;
    let shown = certificates(secret, TLS_CRT)?;
    let (leaf_der, intermediates) = shown
        .split_first()
        .ok_or(SecretProblem::Malformed { key: TLS_CRT, expected: "a PEM certificate" })?;
    let leaf = parse(leaf_der, TLS_CRT)?;
    check_key(secret, &leaf)?;
    let (not_before, not_after) = validity(&leaf)?;
    if now > not_after {
        return Err(SecretProblem::Expired(not_after));
    }
    if now < not_before {
        return Err(SecretProblem::NotYetValid(not_before));
    }
    let anchor = anchor(&leaf, &trusted, intermediates)?.to_vec();
    check_names(&leaf, purpose)?;
    check_usages(&leaf, purpose)?;
    Ok(Chain { not_before, not_after, trusted: trusted.iter().map(|c| c.to_vec()).collect(), anchor })
}

fn bytes<'a>(secret: &'a Secret, key: &'static str) -> Result<&'a [u8], SecretProblem> {
    let data = secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.as_slice());
    data.filter(|b| !b.is_empty()).ok_or(SecretProblem::MissingKey(key))
}

fn certificates(secret: &Secret, key: &'static str) -> Result<Vec<CertificateDer<'static>>, SecretProblem> {
    let malformed = SecretProblem::Malformed { key, expected: "a PEM certificate" };
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes(secret, key)?).collect();
    match list {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) | Err(_) => Err(malformed),
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>, key: &'static str) -> Result<X509Certificate<'a>, SecretProblem> {
    let parsed = X509Certificate::from_der(der.as_ref());
    parsed.map(|(_, c)| c).map_err(|_| SecretProblem::Malformed { key, expected: "an X.509 certificate" })
}

fn check_key(secret: &Secret, leaf: &X509Certificate<'_>) -> Result<(), SecretProblem> {
    let malformed = SecretProblem::Malformed { key: TLS_KEY, expected: "a PEM private key" };
    let key = PrivateKeyDer::from_pem_slice(bytes(secret, TLS_KEY)?).map_err(|_| malformed)?;
    // Only PKCS#8 keys of kinds ring knows can be compared; the members refuse the rest themselves.
    if let Ok(pair) = rcgen::KeyPair::try_from(&key)
        && pair.public_key_raw() != leaf.public_key().subject_public_key.data.as_ref()
    {
        return Err(SecretProblem::KeyMismatch);
    }
    Ok(())
}

fn validity(leaf: &X509Certificate<'_>) -> Result<(Timestamp, Timestamp), SecretProblem> {
    let malformed = || SecretProblem::Malformed { key: TLS_CRT, expected: "a certificate with usable dates" };
    let validity = leaf.validity();
    let from = Timestamp::from_second(validity.not_before.timestamp()).map_err(|_| malformed())?;
    let until = Timestamp::from_second(validity.not_after.timestamp()).map_err(|_| malformed())?;
    Ok((from, until))
}

/// The authority at the end of the chain from the leaf over the intermediates.
fn anchor<'a>(
    leaf: &X509Certificate<'_>,
    trusted: &'a [CertificateDer<'_>],
    intermediates: &'a [CertificateDer<'_>],
) -> Result<&'a CertificateDer<'a>, SecretProblem> {
    let mut candidates: Vec<(&CertificateDer<'_>, bool)> = trusted.iter().map(|c| (c, true)).collect();
    candidates.extend(intermediates.iter().map(|c| (c, false)));
    let mut subject = leaf.clone();
    // As many hops as there are certificates: more would be a loop.
    for _ in 0..=intermediates.len() {
        let signer = candidates.iter().find_map(|(der, trusted)| {
            let (_, issuer) = X509Certificate::from_der(der.as_ref()).ok()?;
            let named = issuer.subject() == subject.issuer();
            let signed = named && subject.verify_signature(Some(issuer.public_key())).is_ok();
            signed.then_some((issuer, *der, *trusted))
        });
        match signer {
            Some((_, der, true)) => return Ok(der),
            Some((issuer, _, false)) => subject = issuer,
            None => return Err(SecretProblem::Untrusted),
        }
    }
    Err(SecretProblem::Untrusted)
}

fn check_names(leaf: &X509Certificate<'_>, purpose: &Purpose) -> Result<(), SecretProblem> {
    let extension = leaf.subject_alternative_name().ok().flatten();
    let names = extension.map(|e| e.value.general_names.as_slice()).unwrap_or_default();
    let dns: Vec<String> = names
        .iter()
        .filter_map(
            |n| if let GeneralName::DNSName(name) = n { Some(name.to_ascii_lowercase()) } else { None },
        )
        .collect();
    for wanted in &purpose.dns_names {
        if !dns.iter().any(|have| covers(have, wanted)) {
            return Err(SecretProblem::MissingName(wanted.clone()));
        }
    }
    for wanted in &purpose.ip_addresses {
        let octets = match wanted {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let have = names.iter().any(|n| matches!(n, GeneralName::IPAddress(ip) if *ip == octets.as_slice()));
        if !have {
            return Err(SecretProblem::MissingName(wanted.to_string()));
        }
    }
    Ok(())
}

/// Whether a name in a certificate covers a wanted one; a wildcard stands for exactly one label.
fn covers(have: &str, wanted: &str) -> bool {
    if have == wanted {
        return true;
    }
    match (have.strip_prefix("*."), wanted.split_once('.')) {
        (Some(parent), Some((label, rest))) => label != "*" && !label.is_empty() && parent == rest,
        _ => false,
    }
}

fn check_usages(leaf: &X509Certificate<'_>, purpose: &Purpose) -> Result<(), SecretProblem> {
    // Without the extension every use is allowed.
    let Some(extension) = leaf.extended_key_usage().ok().flatten() else { return Ok(()) };
    for usage in &purpose.usages {
        let (allowed, name) = match usage {
            Usage::Server => (extension.value.server_auth, "serverAuth"),
            Usage::Client => (extension.value.client_auth, "clientAuth"),
        };
        if !allowed && !extension.value.any {
            return Err(SecretProblem::MissingUsage(name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_one_label() {
        assert!(covers("*.core-peers.db.svc", "core-0.core-peers.db.svc"));
        assert!(covers("*.core-peers.db.svc", "*.core-peers.db.svc"));
        assert!(!covers("*.db.svc", "core-0.core-peers.db.svc"));
        assert!(!covers("*.core-peers.db.svc", "core-peers.db.svc"));
        assert!(!covers("core-0.core-peers.db.svc", "*.core-peers.db.svc"));
    }
}
