//! A certificate authority and what it signs, as files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use super::member::wrapper;

/// A CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test ca");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `ca.crt`, `tls.crt` and `tls.key` of a leaf for localhost, each replaced in one step.
    pub fn install(&self, dir: &Path, common_name: &str) -> Files {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().pem();
        Files {
            ca: replace(dir, "ca.crt", &self.pem),
            cert: replace(dir, "tls.crt", &leaf),
            key: replace(dir, "tls.key", &key.serialize_pem()),
        }
    }
}

fn replace(dir: &Path, name: &str, text: &str) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let (aside, path) = (dir.join(format!("{name}.new")), dir.join(name));
    fs::write(&aside, text).unwrap();
    fs::rename(&aside, &path).unwrap();
    path
}

/// A script, `name` in `dir`, that runs kvnode on a system which trusts one authority alone.
pub fn trusting(dir: &Path, name: &str, authority: &Path) -> PathBuf {
    wrapper(dir, name, &format!("export SSL_CERT_FILE='{}'", authority.display()))
}

/// Where the three files are.
pub struct Files {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Files {
    /// Flags of a member that serves clients with them and demands certificates.
    pub fn client_flags(&self) -> Vec<String> {
        vec![
            format!("--cert-file={}", self.cert.display()),
            format!("--key-file={}", self.key.display()),
            format!("--trusted-ca-file={}", self.ca.display()),
            "--client-cert-auth".to_owned(),
        ]
    }

    /// Flags of a member that speaks with its peers by them and demands certificates.
    pub fn peer_flags(&self) -> Vec<String> {
        vec![
            format!("--peer-cert-file={}", self.cert.display()),
            format!("--peer-key-file={}", self.key.display()),
            format!("--peer-trusted-ca-file={}", self.ca.display()),
            "--peer-client-cert-auth".to_owned(),
        ]
    }

    /// Flags of `etcdctl`.
    pub fn etcdctl_flags(&self) -> Vec<String> {
        vec![
            format!("--cacert={}", self.ca.display()),
            format!("--cert={}", self.cert.display()),
            format!("--key={}", self.key.display()),
        ]
    }
}
