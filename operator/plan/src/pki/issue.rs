//! Signing: from a request and a key pair to the Secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use super::{CA_CRT, IssueRequest, Role, TLS_CRT, TLS_KEY};

/// A certificate could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A leaf needs the authority's Secret.
    #[error("cannot issue {secret}: the Secret with the cluster's authority was not given")]
    NoAuthority {
        /// Secret to be issued.
        secret: String,
    },
    /// The authority's Secret does not read.
    #[error("cannot issue {secret}: key {key} of the authority's Secret does not read: {error}")]
    Authority {
        /// Secret to be issued.
        secret: String,
        /// Key of the authority's Secret.
        key: &'static str,
        /// What is wrong.
        error: String,
    },
    /// The request cannot be turned into a certificate.
    #[error("cannot issue {secret}: {error}")]
    Request {
        /// Secret to be issued.
        secret: String,
        /// What is wrong.
        error: String,
    },
}

/// Issues a certificate for `key` and returns the Secret to apply. `authority` is Secret `<cluster>-ca`, and
/// is not needed for the authority itself.
///
/// # Errors
/// If the authority is missing or malformed, or the request does not make a certificate.
pub fn issue(
    request: &IssueRequest,
    key: &KeyPair,
    authority: Option<&Secret>,
) -> Result<Secret, IssueError> {
    let name = request.metadata.name.clone().unwrap_or_default();
    let failed = |error: String| IssueError::Request { secret: name.clone(), error };
    let params = params(request).map_err(&failed)?;
    if let Some(kept) = &request.kept {
        let authority = authority.ok_or_else(|| IssueError::NoAuthority { secret: name.clone() })?;
        let trusted = trust(request, &text(authority, TLS_CRT, &name)?);
        return Ok(secret(request, trusted, kept.certificate.clone(), kept.key.clone()));
    }
    let (certificate, trusted) = if request.role == Role::Authority {
        let certificate = params.self_signed(key).map_err(|e| failed(e.to_string()))?.pem();
        (certificate.clone(), certificate)
    } else {
        let authority = authority.ok_or_else(|| IssueError::NoAuthority { secret: name.clone() })?;
        let certificate_pem = text(authority, TLS_CRT, &name)?;
        let malformed = |key: &'static str, error: rcgen::Error| IssueError::Authority {
            secret: name.clone(),
            key,
            error: error.to_string(),
        };
        let authority_key =
            KeyPair::from_pem(&text(authority, TLS_KEY, &name)?).map_err(|e| malformed(TLS_KEY, e))?;
        let issuer =
            Issuer::from_ca_cert_pem(&certificate_pem, authority_key).map_err(|e| malformed(TLS_CRT, e))?;
        let leaf = params.signed_by(key, &issuer).map_err(|e| failed(e.to_string()))?;
        (leaf.pem(), trust(request, &certificate_pem))
    };
    Ok(secret(request, trusted, certificate.into_bytes(), key.serialize_pem().into_bytes()))
}

/// The bundle of `ca.crt`: the present authority and those that are still to be trusted.
fn trust(request: &IssueRequest, authority: &str) -> String {
    if request.carried_trust.contains(authority.trim()) {
        return request.carried_trust.clone();
    }
    format!("{authority}{}", request.carried_trust)
}

fn secret(request: &IssueRequest, trusted: String, certificate: Vec<u8>, key: Vec<u8>) -> Secret {
    Secret {
        metadata: request.metadata.clone(),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(BTreeMap::from([
            (CA_CRT.to_owned(), ByteString(trusted.into_bytes())),
            (TLS_CRT.to_owned(), ByteString(certificate)),
            (TLS_KEY.to_owned(), ByteString(key)),
        ])),
        ..Secret::default()
    }
}

fn text(authority: &Secret, key: &'static str, name: &str) -> Result<String, IssueError> {
    let bytes = authority.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.clone()).unwrap_or_default();
    let error = |error: &str| IssueError::Authority { secret: name.to_owned(), key, error: error.to_owned() };
    if bytes.is_empty() {
        return Err(error("it is missing"));
    }
    String::from_utf8(bytes).map_err(|_| error("it is not text"))
}

fn params(request: &IssueRequest) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::new(request.dns_names.clone()).map_err(|e| e.to_string())?;
    params.subject_alt_names.extend(request.ip_addresses.iter().map(|ip| SanType::IpAddress(*ip)));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, request.common_name.clone());
    params.not_before = moment(request.not_before)?;
    params.not_after = moment(request.not_after)?;
    if request.role == Role::Authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    } else {
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match request.role {
            // A member shows its server certificate as a client too: to itself, and to its peers.
            Role::Server | Role::Peer => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Role::Client | Role::Operator | Role::Authority => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
    }
    Ok(params)
}

fn moment(at: Timestamp) -> Result<OffsetDateTime, String> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|e| e.to_string())
}
