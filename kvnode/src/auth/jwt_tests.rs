//! Tokens are valid where their key is known, for as long as they say, and nowhere else.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use tempfile::TempDir;

use super::*;

/// Keys in the forms in which openssl writes them.
const RSA: &str = include_str!("testdata/rsa.pem");
const RSA_PKCS1: &str = include_str!("testdata/rsa-pkcs1.pem");
const RSA_PUBLIC: &str = include_str!("testdata/rsa-public.pem");
const RSA_PUBLIC_PKCS1: &str = include_str!("testdata/rsa-public-pkcs1.pem");
const RSA_1024_PUBLIC: &str = include_str!("testdata/rsa-1024-public.pem");
const P256_SEC1: &str = include_str!("testdata/p256-sec1.pem");
const P384_SEC1: &str = include_str!("testdata/p384-sec1.pem");

struct Keys(TempDir);

impl Keys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> Option<PathBuf> {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    }

    fn options(&self, method: &str, private: Option<&str>, public: Option<&str>) -> JwtOptions {
        JwtOptions {
            private_key: private.and_then(|text| self.write("private", text)),
            public_key: public.and_then(|text| self.write("public", text)),
            sign_method: method.to_owned(),
            ttl: Duration::from_secs(60),
        }
    }

    fn load(
        &self,
        method: &str,
        private: Option<&str>,
        public: Option<&str>,
    ) -> Result<SignedTokens, JwtError> {
        SignedTokens::load(&self.options(method, private, public))
    }
}

fn alice(revision: u64) -> Option<Identity> {
    Some(Identity { user: "alice".to_owned(), auth_revision: revision })
}

#[test]
fn every_method_verifies_what_it_signed_and_no_other_does() {
    let keys = Keys::new();
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
    let methods = [
        ("RS256", RSA),
        ("RS384", RSA_PKCS1),
        ("RS512", RSA),
        ("PS256", RSA),
        ("PS384", RSA),
        ("PS512", RSA),
        ("ES256", &p256),
        ("ES384", &p384),
        ("EdDSA", &ed),
        ("HS256", "any bytes"),
        ("HS384", "any bytes"),
        ("HS512", "any bytes"),
    ];
    let all: Vec<SignedTokens> =
        methods.map(|(method, key)| keys.load(method, Some(key), None).unwrap()).into();
    for (n, signer) in all.iter().enumerate() {
        let token = signer.issue("alice", 7).unwrap();
        for (m, verifier) in all.iter().enumerate() {
            let expected = if n == m { alice(7) } else { None };
            assert_eq!(verifier.identify(&token), expected, "{} by {}", methods[n].0, methods[m].0);
        }
    }
}

#[test]
fn keys_of_openssls_older_forms_are_the_same_keys() {
    let keys = Keys::new();
    let token = keys.load("RS256", Some(RSA_PKCS1), Some(RSA_PUBLIC)).unwrap().issue("alice", 7).unwrap();
    assert_eq!(keys.load("RS256", Some(RSA), None).unwrap().identify(&token), alice(7));
    assert_eq!(keys.load("RS256", None, Some(RSA_PUBLIC_PKCS1)).unwrap().identify(&token), alice(7));
    for (method, key) in [("ES256", P256_SEC1), ("ES384", P384_SEC1)] {
        let tokens = keys.load(method, Some(key), None).unwrap();
        assert_eq!(tokens.identify(&tokens.issue("alice", 7).unwrap()), alice(7), "{method}");
    }
}

#[test]
fn the_public_half_or_a_certificate_verifies_and_does_not_sign() {
    let keys = Keys::new();
    for (method, kind) in [("ES256", &PKCS_ECDSA_P256_SHA256), ("EdDSA", &PKCS_ED25519)] {
        let pair = KeyPair::generate_for(kind).unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&pair).unwrap().pem();
        let token = keys.load(method, Some(&pair.serialize_pem()), None).unwrap().issue("alice", 7).unwrap();
        for public in [pair.public_key_pem(), certificate] {
            let verifier = keys.load(method, None, Some(&public)).unwrap();
            assert_eq!(verifier.identify(&token), alice(7), "{method}");
            assert_eq!(verifier.issue("alice", 7), Err(IssueError::VerifyOnly));
        }
    }
}

#[test]
fn a_token_ends_and_cannot_be_changed() {
    let keys = Keys::new();
    let options = JwtOptions { ttl: Duration::ZERO, ..keys.options("HS256", Some("secret"), None) };
    let tokens = SignedTokens::load(&options).unwrap();
    assert_eq!(tokens.identify(&tokens.issue("alice", 7).unwrap()), None, "it has ended");
    let tokens = keys.load("HS256", Some("secret"), None).unwrap();
    let (token, other) = (tokens.issue("alice", 7).unwrap(), tokens.issue("root", 7).unwrap());
    let (part, other): (Vec<&str>, Vec<&str>) = (token.split('.').collect(), other.split('.').collect());
    assert_eq!(tokens.identify(&[part[0], other[1], part[2]].join(".")), None);
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    for forged in [[none, other[1], ""].join("."), String::new(), "..".to_owned(), "letters.7".to_owned()] {
        assert_eq!(tokens.identify(&forged), None, "{forged}");
    }
}

#[test]
fn what_is_wrong_with_the_keys_is_said_at_the_start() {
    let keys = Keys::new();
    let refused = |method, private, public| keys.load(method, private, public).err().unwrap().to_string();
    assert!(refused("ES512", Some(P256_SEC1), None).contains("sign-method=ES512 is not supported"));
    assert!(refused("RS256", None, None).contains("needs priv-key"));
    assert!(refused("HS256", None, Some("x")).contains("needs priv-key"));
    assert!(refused("RS256", Some(P256_SEC1), None).contains("holds no key for sign-method=RS256"));
    assert!(refused("ES256", Some(P384_SEC1), None).contains("holds no key for sign-method=ES256"));
    assert!(refused("ES256", None, Some(RSA_PUBLIC)).contains("holds no key for sign-method=ES256"));
    assert!(refused("ES256", None, Some(RSA_PUBLIC_PKCS1)).contains("holds no key for sign-method=ES256"));
    assert!(refused("RS256", None, Some(RSA_1024_PUBLIC)).contains("RSA of less than 2048 bits"));
    assert!(refused("RS256", Some("no pem"), None).contains("priv-key="));
    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().public_key_pem();
    assert!(refused("ES256", Some(P256_SEC1), Some(&other)).contains("do not belong together"));
    let missing = JwtOptions { public_key: Some("/nowhere".into()), ..keys.options("RS256", None, None) };
    assert!(SignedTokens::load(&missing).err().unwrap().to_string().contains("pub-key=/nowhere"));
}
