//! Signatures of tokens, computed by ring: the one thing that computes with keys in this process. `jsonwebtoken` brings
//! the format and leaves the choice; its own providers would be a second one.

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::ErrorKind,
    signature::{self, Signer, Verifier},
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        self as curves, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding,
        RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
    },
};

/// Makes `jsonwebtoken` compute with ring. May be called any number of times.
pub(super) fn install() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| {
            let secret = Secret::read(*algorithm, key.as_bytes()).ok_or(ErrorKind::InvalidKeyFormat)?;
            Ok(Box::new(RingSigner(*algorithm, secret)))
        },
        verifier_factory: |algorithm, key| {
            let check =
                Check::read(*algorithm, key.try_get_as_bytes()?).ok_or(ErrorKind::InvalidAlgorithm)?;
            Ok(Box::new(RingVerifier(*algorithm, check)))
        },
        // For keys in JSON, of which there are none.
        key_utils: KeyUtils::new_unimplemented(),
    };
    // Whoever was first installed the same.
    let _ = PROVIDER.install_default();
}

/// Whether a token with this signature can be read.
pub(super) fn is_supported(algorithm: Algorithm) -> bool {
    hash_of(algorithm).is_some() || scheme_of(algorithm).is_some()
}

/// What signs.
pub(super) enum Secret {
    Hmac(hmac::Key),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Secret {
    /// Reads a secret: raw for HMAC, else PKCS #8, or PKCS #1 for RSA.
    pub(super) fn read(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        if let Some(hash) = hash_of(algorithm) {
            return Some(Self::Hmac(hmac::Key::new(hash, bytes)));
        }
        let rsa = |encoding| {
            let pair = RsaKeyPair::from_pkcs8(bytes).or_else(|_| RsaKeyPair::from_der(bytes)).ok()?;
            Some(Self::Rsa(pair, encoding))
        };
        let ec = |curve: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::from_pkcs8(curve, bytes, &SystemRandom::new()).ok().map(Self::Ec)
        };
        match algorithm {
            Algorithm::RS256 => rsa(&curves::RSA_PKCS1_SHA256),
            Algorithm::RS384 => rsa(&curves::RSA_PKCS1_SHA384),
            Algorithm::RS512 => rsa(&curves::RSA_PKCS1_SHA512),
            Algorithm::PS256 => rsa(&curves::RSA_PSS_SHA256),
            Algorithm::PS384 => rsa(&curves::RSA_PSS_SHA384),
            Algorithm::PS512 => rsa(&curves::RSA_PSS_SHA512),
            Algorithm::ES256 => ec(&curves::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => ec(&curves::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::EdDSA => Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).ok().map(Self::Ed),
            _ => None,
        }
    }

    /// What verifies; `None` for HMAC, where that is the secret itself.
    pub(super) fn public(&self) -> Option<&[u8]> {
        match self {
            Self::Hmac(_) => None,
            Self::Rsa(pair, _) => Some(pair.public_key().as_ref()),
            Self::Ec(pair) => Some(pair.public_key().as_ref()),
            Self::Ed(pair) => Some(pair.public_key().as_ref()),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)?;
                Ok(signature)
            }
            Self::Ec(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Self::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// What verifies.
enum Check {
    Hmac(hmac::Key),
    Public(UnparsedPublicKey<Vec<u8>>),
}

impl Check {
    fn read(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        if let Some(hash) = hash_of(algorithm) {
            return Some(Self::Hmac(hmac::Key::new(hash, bytes)));
        }
        Some(Self::Public(UnparsedPublicKey::new(scheme_of(algorithm)?, bytes.to_vec())))
    }
}

fn hash_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn scheme_of(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::RS256 => Some(&curves::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&curves::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&curves::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&curves::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&curves::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&curves::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => Some(&curves::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&curves::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&curves::ED25519),
        _ => None,
    }
}

struct RingSigner(Algorithm, Secret);

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        self.1.sign(message).map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.0
    }
}

struct RingVerifier(Algorithm, Check);

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let outcome = match &self.1 {
            Check::Hmac(key) => hmac::verify(key, message, signature),
            Check::Public(key) => key.verify(message, signature),
        };
        outcome.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.0
    }
}

/// The keys as the library holds them.
pub(super) fn encoding_key(algorithm: Algorithm, secret: &[u8]) -> EncodingKey {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => EncodingKey::from_secret(secret),
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(secret),
        Algorithm::EdDSA => EncodingKey::from_ed_der(secret),
        _ => EncodingKey::from_rsa_der(secret),
    }
}

/// See [`encoding_key`].
pub(super) fn decoding_key(algorithm: Algorithm, public: &[u8]) -> DecodingKey {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => DecodingKey::from_secret(public),
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_der(public),
        Algorithm::EdDSA => DecodingKey::from_ed_der(public),
        _ => DecodingKey::from_rsa_der(public),
    }
}
