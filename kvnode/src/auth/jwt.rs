//! Signed tokens (etcd: `server/auth/jwt.go`, `options.go`): they say themselves whose they are and how long they are
//! valid, so that nothing is remembered. A member that holds only the public key accepts them and gives none.

use std::{
    path::{Path, PathBuf},
    str::FromStr as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer,
    pem::{self, PemObject as _},
};
use serde::Deserialize;
use tracing::warn;
use x509_parser::{
    pem::parse_x509_pem, prelude::FromDer as _, public_key::RSAPublicKey, x509::SubjectPublicKeyInfo,
};

use super::{
    Identity,
    signature::{self, Secret},
};
use crate::flags::config::JwtOptions;

/// Why `--auth-token=jwt,...` cannot be followed. Each names the option and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    #[error(
        "--auth-token: sign-method={0} is not supported: use RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, \
         EdDSA, HS256, HS384 or HS512"
    )]
    Method(String),
    #[error("--auth-token: reading {option}={}: {source}", path.display())]
    Read { option: &'static str, path: PathBuf, source: std::io::Error },
    #[error("--auth-token: {option}={} holds no key for sign-method={method}: {why}", path.display())]
    Key { option: &'static str, path: PathBuf, method: String, why: String },
    #[error(
        "--auth-token: jwt needs priv-key, or pub-key to verify tokens of others; HS methods need priv-key"
    )]
    Missing,
    #[error("--auth-token: pub-key and priv-key do not belong together; give both halves of one pair")]
    Mismatch,
}

/// Why no token was given. The texts are etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    #[error("auth: token signing attempted with verify-only key")]
    VerifyOnly,
    #[error("signing a token failed: {0}; try again")]
    Signing(String),
    /// There are no tokens here.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    NoTokens,
}

/// Signs and verifies tokens.
pub(super) struct SignedTokens {
    algorithm: Algorithm,
    /// `None` verifies only.
    secret: Option<EncodingKey>,
    public: DecodingKey,
    validation: Validation,
    ttl: Duration,
}

/// What a token says beside what the library looks at.
#[derive(Debug, Deserialize)]
struct Claims {
    revision: u64,
    username: String,
}

impl SignedTokens {
    pub(super) fn load(options: &JwtOptions) -> Result<Self, JwtError> {
        signature::install();
        let algorithm = Algorithm::from_str(&options.sign_method)
            .ok()
            .filter(|algorithm| signature::is_supported(*algorithm))
            .ok_or_else(|| JwtError::Method(options.sign_method.clone()))?;
        let secret = options.private_key.as_deref().map(|path| read_secret(algorithm, path)).transpose()?;
        let own = secret.as_ref().map(|(bytes, secret)| secret.public().unwrap_or(bytes));
        // HMAC has no public half; etcd reads the file and does not look at it.
        let public = match &options.public_key {
            Some(path) if !is_hmac(algorithm) => Some(read_public(algorithm, path)?),
            _ => None,
        };
        let public = match (own, &public) {
            (Some(own), Some(public)) if own != public.as_slice() => return Err(JwtError::Mismatch),
            (Some(own), _) => signature::decoding_key(algorithm, own),
            (None, Some(public)) => signature::decoding_key(algorithm, public),
            (None, None) => return Err(JwtError::Missing),
        };
        Ok(Self {
            algorithm,
            secret: secret.map(|(bytes, _)| signature::encoding_key(algorithm, &bytes)),
            public,
            validation: validation(algorithm),
            ttl: options.ttl,
        })
    }

    /// A token for a user, worth what users and roles are at `revision`.
    pub(super) fn issue(&self, user: &str, revision: u64) -> Result<String, IssueError> {
        let secret = self.secret.as_ref().ok_or(IssueError::VerifyOnly)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = serde_json::json!({
            "exp": (now + self.ttl).as_secs(),
            "revision": revision,
            "username": user,
        });
        encode(&Header::new(self.algorithm), &claims, secret)
            .map_err(|error| IssueError::Signing(error.to_string()))
    }

    /// Who holds the token.
    pub(super) fn identify(&self, token: &str) -> Option<Identity> {
        match decode::<Claims>(token, &self.public, &self.validation) {
            Ok(data) => Some(Identity { user: data.claims.username, auth_revision: data.claims.revision }),
            Err(error) => {
                warn!(%error, "failed to parse a JWT token");
                None
            }
        }
    }
}

fn is_hmac(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

fn is_rsa(algorithm: Algorithm) -> bool {
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
}

/// As Go's library: what says when it ends has ended then, to the second, and nothing else is asked for.
fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.leeway = 0;
    validation.reject_tokens_expiring_in_less_than = 1;
    validation.validate_nbf = true;
    validation.validate_aud = false;
    validation
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, JwtError> {
    std::fs::read(path).map_err(|source| JwtError::Read { option, path: path.to_owned(), source })
}

fn read_secret(algorithm: Algorithm, path: &Path) -> Result<(Vec<u8>, Secret), JwtError> {
    let option = "priv-key";
    let invalid = |why: &str| JwtError::Key {
        option,
        path: path.to_owned(),
        method: format!("{algorithm:?}"),
        why: why.to_owned(),
    };
    let text = read(option, path)?;
    let bytes = if is_hmac(algorithm) {
        if text.is_empty() {
            return Err(JwtError::Missing);
        }
        text
    } else {
        match PrivateKeyDer::from_pem_slice(&text).map_err(|error| invalid(&error.to_string()))? {
            PrivateKeyDer::Sec1(key) => pkcs8_of_sec1(algorithm, key.secret_sec1_der())
                .ok_or_else(|| invalid("it is a key on a curve, which this method does not use"))?,
            key => key.secret_der().to_vec(),
        }
    };
    let secret = Secret::read(algorithm, &bytes).ok_or_else(|| invalid(UNFIT))?;
    Ok((bytes, secret))
}

/// The public key's bits, from a public key of either form or a certificate.
fn read_public(algorithm: Algorithm, path: &Path) -> Result<Vec<u8>, JwtError> {
    let option = "pub-key";
    let invalid =
        |why: String| JwtError::Key { option, path: path.to_owned(), method: format!("{algorithm:?}"), why };
    let text = read(option, path)?;
    let bits = match SubjectPublicKeyInfoDer::from_pem_slice(&text) {
        Ok(info) => public_bits(algorithm, &info),
        Err(pem::Error::NoItemsFound) => {
            if let Some(bits) = pkcs1(&text) {
                let fits = is_rsa(algorithm) && is_large(&bits);
                return fits.then_some(bits).ok_or_else(|| invalid(UNFIT.to_owned()));
            }
            let shown = CertificateDer::from_pem_slice(&text).map_err(|error| invalid(error.to_string()))?;
            let (_, certificate) = x509_parser::parse_x509_certificate(&shown)
                .map_err(|error| invalid(format!("malformed certificate: {error}")))?;
            bits_of(algorithm, certificate.public_key())
        }
        Err(error) => return Err(invalid(error.to_string())),
    };
    bits.ok_or_else(|| invalid(UNFIT.to_owned()))
}

/// An RSA key's bits in openssl's older form, which names them as what they are.
fn pkcs1(text: &[u8]) -> Option<Vec<u8>> {
    let (_, block) = parse_x509_pem(text).ok()?;
    (block.label == "RSA PUBLIC KEY").then_some(block.contents)
}

/// Whether ring takes a key of this size.
fn is_large(bits: &[u8]) -> bool {
    RSAPublicKey::from_der(bits).is_ok_and(|(_, key)| key.key_size() >= RSA_BITS_MIN)
}

fn public_bits(algorithm: Algorithm, der: &[u8]) -> Option<Vec<u8>> {
    bits_of(algorithm, &SubjectPublicKeyInfo::from_der(der).ok()?.1)
}

/// What is wrong with a key that can be read and not be used.
const UNFIT: &str = "it is of another kind, on another curve, or RSA of less than 2048 bits";

/// Smaller keys are none to ring.
const RSA_BITS_MIN: usize = 2048;

/// Bytes of an uncompressed point on the two curves.
const P256_POINT_BYTES: usize = 65;
const P384_POINT_BYTES: usize = 97;

fn bits_of(algorithm: Algorithm, info: &SubjectPublicKeyInfo<'_>) -> Option<Vec<u8>> {
    let (kind, bits) = (info.algorithm.algorithm.to_id_string(), &info.subject_public_key.data);
    let fits = match algorithm {
        Algorithm::ES256 => kind == "1.2.840.10045.2.1" && bits.len() == P256_POINT_BYTES,
        Algorithm::ES384 => kind == "1.2.840.10045.2.1" && bits.len() == P384_POINT_BYTES,
        Algorithm::EdDSA => kind == "1.3.101.112",
        _ => kind == "1.2.840.113549.1.1.1" && is_large(bits),
    };
    fits.then(|| bits.to_vec())
}

/// ring reads keys on curves as PKCS #8, in which openssl's older form is wrapped with the name of the curve.
fn pkcs8_of_sec1(algorithm: Algorithm, sec1: &[u8]) -> Option<Vec<u8>> {
    // SEQUENCE { id-ecPublicKey, the curve }
    let kind: &[u8] = match algorithm {
        Algorithm::ES256 => {
            &[0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]
        }
        Algorithm::ES384 => &[0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 34],
        _ => return None,
    };
    let version: &[u8] = &[2, 1, 0];
    let key = der_field(0x04, sec1)?;
    der_field(0x30, &[version, kind, &key].concat())
}

/// A DER element of less than 256 bytes.
fn der_field(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(content.len()).ok()?;
    let head: &[u8] = if length < 0x80 { &[tag, length] } else { &[tag, 0x81, length] };
    Some([head, content].concat())
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
