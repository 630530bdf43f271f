//! Promises about files that change, and about who gets in.

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::ProtocolVersion;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tempfile::TempDir;

use super::*;
use crate::flags::config::TlsFiles;

/// A CA with leaves in a directory.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "ca");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn leaf(&self, common_name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn write(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    // Written aside and renamed, as whoever rotates certificates should.
    let path = dir.path().join(name);
    let aside = dir.path().join(format!("{name}.new"));
    fs::write(&aside, text).unwrap();
    fs::rename(&aside, &path).unwrap();
    path
}

fn install(dir: &TempDir, authority: &Authority, common_name: &str) -> TlsFiles {
    let (cert, key) = authority.leaf(common_name);
    TlsFiles {
        cert: Some(write(dir, "tls.crt", &cert)),
        key: Some(write(dir, "tls.key", &key)),
        trusted_ca: Some(write(dir, "ca.crt", &authority.pem)),
        client_cert_auth: true,
        ..TlsFiles::default()
    }
}

fn policy() -> Policy {
    Policy::of(&Config::default())
}

/// Dials and says one byte each way; the server's certificate's common name, or what failed.
async fn shake(acceptor: &Acceptor, connector: &Connector) -> Result<String, String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (near, far) = tokio::io::duplex(16 * 1024);
    let serve = async {
        if let Some(mut stream) = acceptor.accept(far, "test").await {
            let _ = stream.write_all(b"!").await;
            let _ = stream.shutdown().await;
        }
    };
    let dial = async {
        let mut stream = connector.connect("localhost", near).await.map_err(|error| words(&error))?;
        // In TLS 1.3 the refusal of a client certificate only shows on the first read.
        stream.read_u8().await.map_err(|error| words(&error))?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Ok(chain.first().and_then(common_name).unwrap_or_default())
    };
    tokio::join!(serve, dial).1
}

#[tokio::test]
async fn a_rotated_certificate_and_ca_serve_the_next_connection() {
    let dir = TempDir::new().unwrap();
    let first = Authority::new();
    let files = install(&dir, &first, "one");
    let acceptor = Acceptor::load(Side::Peer, &files, &policy()).unwrap();
    let connector = Connector::load(Side::Peer, &files, &policy()).unwrap();
    assert_eq!(shake(&acceptor, &connector).await, Ok("one".to_owned()));

    install(&dir, &first, "two");
    assert_eq!(shake(&acceptor, &connector).await, Ok("two".to_owned()));

    install(&dir, &Authority::new(), "three");
    assert_eq!(shake(&acceptor, &connector).await, Ok("three".to_owned()));
}

#[tokio::test]
async fn a_bad_new_file_leaves_the_last_good_one_in_use() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let files = install(&dir, &authority, "one");
    let acceptor = Acceptor::load(Side::Client, &files, &policy()).unwrap();
    let connector = Connector::load(Side::Client, &files, &policy()).unwrap();

    write(&dir, "tls.key", &authority.leaf("other").1);
    assert_eq!(shake(&acceptor, &connector).await, Ok("one".to_owned()));
    fs::remove_file(dir.path().join("ca.crt")).unwrap();
    assert_eq!(shake(&acceptor, &connector).await, Ok("one".to_owned()));
    install(&dir, &authority, "two");
    assert_eq!(shake(&acceptor, &connector).await, Ok("two".to_owned()));
}

#[tokio::test]
async fn only_allowed_names_of_the_own_ca_get_in() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let mut files = install(&dir, &authority, "member");
    let connector = Connector::load(Side::Peer, &files, &policy()).unwrap();
    let accepts = async |files: &TlsFiles| {
        shake(&Acceptor::load(Side::Peer, files, &policy()).unwrap(), &connector).await
    };

    files.allowed_cns = vec!["other".to_owned()];
    assert_eq!(accepts(&files).await.unwrap_err(), "remote error: tls: bad certificate");
    files.allowed_cns = vec!["other".to_owned(), "member".to_owned()];
    assert_eq!(accepts(&files).await, Ok("member".to_owned()));
    files.allowed_cns.clear();
    files.allowed_hostnames = vec!["example.org".to_owned()];
    assert_eq!(accepts(&files).await.unwrap_err(), "remote error: tls: bad certificate");
    files.allowed_hostnames = vec!["localhost".to_owned()];
    assert_eq!(accepts(&files).await, Ok("member".to_owned()));

    let strangers = TempDir::new().unwrap();
    let mut strange = install(&strangers, &Authority::new(), "member");
    strange.trusted_ca = files.trusted_ca.clone();
    let stranger = Connector::load(Side::Peer, &strange, &policy()).unwrap();
    let acceptor = Acceptor::load(Side::Peer, &files, &policy()).unwrap();
    assert!(shake(&acceptor, &stranger).await.is_err());
}

/// The serial number of a certificate in PEM.
fn serial(pem: &str) -> SerialNumber {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    SerialNumber::from_slice(parsed.raw_serial())
}

/// A list that names one serial number.
fn revocation_list(signer: &Authority, serial_number: SerialNumber) -> String {
    let revoked = RevokedCertParams {
        serial_number,
        revocation_time: rcgen::date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2024, 1, 1),
        next_update: rcgen::date_time_ymd(2124, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&signer.issuer).unwrap().pem().unwrap()
}

#[tokio::test]
async fn a_listed_certificate_is_refused_anywhere_in_a_chain_whoever_signed_the_list() {
    let dir = TempDir::new().unwrap();
    let (root, other, mut between) = (Authority::new(), Authority::new(), Authority::new());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "between");
    let key = KeyPair::generate().unwrap();
    between.pem = params.signed_by(&key, &root.issuer).unwrap().pem();
    between.issuer = Issuer::new(params, key);
    let (leaf, key) = between.leaf("member");
    let mut files = TlsFiles {
        cert: Some(write(&dir, "tls.crt", &format!("{leaf}{}", between.pem))),
        key: Some(write(&dir, "tls.key", &key)),
        trusted_ca: Some(write(&dir, "ca.crt", &root.pem)),
        client_cert_auth: true,
        ..TlsFiles::default()
    };
    let connector = Connector::load(Side::Peer, &files, &policy()).unwrap();
    for (signer, listed, is_let_in) in [
        (&between, serial(&other.pem), true),
        (&between, serial(&leaf), false),
        (&other, serial(&leaf), false),
        (&root, serial(&between.pem), false),
    ] {
        files.crl = Some(write(&dir, "crl.pem", &revocation_list(signer, listed)));
        let acceptor = Acceptor::load(Side::Peer, &files, &policy()).unwrap();
        assert_eq!(shake(&acceptor, &connector).await.is_ok(), is_let_in);
    }
}

#[tokio::test]
async fn a_peer_without_an_allowed_name_is_not_dialled_either() {
    let dir = TempDir::new().unwrap();
    let mut files = install(&dir, &Authority::new(), "member");
    let acceptor = Acceptor::load(Side::Peer, &files, &policy()).unwrap();
    for (name, is_dialled) in [("member", true), ("other", false)] {
        files.allowed_cns = vec![name.to_owned()];
        let connector = Connector::load(Side::Peer, &files, &policy()).unwrap();
        assert_eq!(shake(&acceptor, &connector).await.is_ok(), is_dialled);
    }
}

/// One certificate that is its own authority, or a leaf, in all three places.
fn alone(dir: &TempDir, change: impl FnOnce(&mut CertificateParams)) -> TlsFiles {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "alone");
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let cert = write(dir, "tls.crt", &params.self_signed(&key).unwrap().pem());
    TlsFiles {
        trusted_ca: Some(cert.clone()),
        cert: Some(cert),
        key: Some(write(dir, "tls.key", &key.serialize_pem())),
        client_cert_auth: true,
        ..TlsFiles::default()
    }
}

async fn shake_alone(change: impl FnOnce(&mut CertificateParams)) -> Result<String, String> {
    let dir = TempDir::new().unwrap();
    let files = alone(&dir, change);
    let connector = Connector::load(Side::Peer, &files, &policy()).unwrap();
    shake(&Acceptor::load(Side::Peer, &files, &policy()).unwrap(), &connector).await
}

#[tokio::test]
async fn a_trusted_certificate_speaks_for_itself_while_it_is_valid_and_for_what_it_is_meant() {
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(shake_alone(authority).await, Ok("alone".to_owned()));
    assert_eq!(shake_alone(|_| {}).await, Ok("alone".to_owned()));
    let past = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    assert!(shake_alone(past).await.is_err());
    for usage in [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth] {
        let half = |params: &mut CertificateParams| params.extended_key_usages = vec![usage];
        assert!(shake_alone(half).await.is_err(), "both ends show it");
    }
    let elsewhere = |params: &mut CertificateParams| {
        params.subject_alt_names =
            CertificateParams::new(vec!["elsewhere".to_owned()]).unwrap().subject_alt_names;
    };
    assert!(shake_alone(elsewhere).await.is_err());

    // It vouches for nobody else.
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (files, mut stranger) = (alone(&dir, authority), alone(&other, authority));
    let acceptor = Acceptor::load(Side::Peer, &files, &policy()).unwrap();
    stranger.trusted_ca = files.trusted_ca;
    assert!(shake(&acceptor, &Connector::load(Side::Peer, &stranger, &policy()).unwrap()).await.is_err());
}

#[tokio::test]
async fn auto_tls_needs_no_files() {
    for client_cert_auth in [false, true] {
        let files = TlsFiles { auto: true, client_cert_auth, ..TlsFiles::default() };
        let acceptor = Acceptor::load(Side::Peer, &files, &policy()).unwrap();
        let connector = Connector::load(Side::Peer, &files, &policy()).unwrap();
        assert!(shake(&acceptor, &connector).await.is_ok());
    }
}

#[test]
fn bad_files_are_named_with_their_flag_in_one_line() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let good = install(&dir, &authority, "one");
    let missing = dir.path().join("missing");
    let other_key = write(&dir, "other.key", &authority.leaf("x").1);
    let empty = write(&dir, "empty", "");
    let garbled = write(&dir, "garbled", "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n");
    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = good.clone();
        change(&mut files);
        files
    };
    for (files, flag, part) in [
        (with(&|f| f.cert = Some(missing.clone())), "--peer-cert-file", "missing"),
        (with(&|f| f.key = Some(missing.clone())), "--peer-key-file", "missing"),
        (with(&|f| f.key = Some(other_key.clone())), "--peer-key-file", "do not belong together"),
        (with(&|f| f.key = Some(empty.clone())), "--peer-key-file", "no PEM private key"),
        (with(&|f| f.cert = Some(garbled.clone())), "--peer-cert-file", "garbled"),
        (with(&|f| f.trusted_ca = Some(empty.clone())), "--peer-trusted-ca-file", "no PEM certificate"),
        (with(&|f| f.crl = Some(garbled.clone())), "--peer-crl-file", "garbled"),
        (TlsFiles::default(), "--peer-cert-file", "is not set"),
    ] {
        let error = Acceptor::load(Side::Peer, &files, &policy()).err().map(|error| error.to_string());
        let error = error.unwrap_or_else(|| panic!("{flag} {part} is refused"));
        assert!(error.contains(flag) && error.contains(part) && error.lines().count() == 1, "{error}");
    }
    for (files, flag) in [
        (with(&|f| f.cert = Some(missing.clone())), "--discovery-cert"),
        (with(&|f| f.key = Some(missing.clone())), "--discovery-key"),
        (with(&|f| f.trusted_ca = Some(missing.clone())), "--discovery-cacert"),
    ] {
        let error = Connector::load(Side::Discovery, &files, &policy()).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.starts_with(&format!("{flag}: "))), "{error:?}");
    }
}

#[tokio::test]
async fn version_bounds_and_suites_hold() {
    let dir = TempDir::new().unwrap();
    let files = install(&dir, &Authority::new(), "one");
    let mut old = policy();
    old.max = TlsVersion::Tls12;
    let mut new = policy();
    new.min = TlsVersion::Tls13;
    let acceptor = Acceptor::load(Side::Client, &files, &new).unwrap();
    assert!(shake(&acceptor, &Connector::load(Side::Client, &files, &old).unwrap()).await.is_err());
    assert!(shake(&acceptor, &Connector::load(Side::Client, &files, &new).unwrap()).await.is_ok());
    assert_eq!(new.versions()[0].version, ProtocolVersion::TLSv1_3);

    old.cipher_suites = vec!["TLS_RSA_WITH_AES_128_CBC_SHA".to_owned()];
    assert!(Acceptor::load(Side::Client, &files, &old).is_err());
    old.cipher_suites = vec!["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".to_owned()];
    let acceptor = Acceptor::load(Side::Client, &files, &old).unwrap();
    assert!(shake(&acceptor, &Connector::load(Side::Client, &files, &policy()).unwrap()).await.is_ok());
    old.cipher_suites = vec!["AES".to_owned()];
    assert!(matches!(old.provider(), Err(TlsError::CipherSuites(_))));
}
