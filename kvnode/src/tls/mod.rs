//! TLS of both ports: an [`Acceptor`] for those who dial this member, a [`Connector`] for peers it dials.
//!
//! Certificates, keys, CAs and revocation lists are read again when their files change, for the next connection, without
//! a restart; a file that turned bad is reported and the last good one stays in use (see [`reload`]). rustls with ring
//! is the only provider. This module never opens a socket.

mod auto;
mod client;
mod client_cert;
mod files;
mod names;
mod pinned;
mod reload;
mod revoked;
mod server;
mod words;

use std::path::PathBuf;

use thiserror::Error;

pub use client::Connector;
pub(crate) use names::common_name;
pub use server::Acceptor;
pub(crate) use words::words;

use crate::flags::{Config, config::TlsVersion};

/// Which port a TLS configuration belongs to; decides the flags that errors name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Peer,
    /// The discovery service, which is only dialled.
    Discovery,
}

impl Side {
    fn flag(self, name: &str) -> String {
        match (self, name) {
            (Self::Client, "crl-file") => "--client-crl-file".to_owned(),
            (Self::Client, name) => format!("--{name}"),
            (Self::Peer, name) => format!("--peer-{name}"),
            (Self::Discovery, "trusted-ca-file") => "--discovery-cacert".to_owned(),
            (Self::Discovery, name) => format!("--discovery-{}", name.trim_end_matches("-file")),
        }
    }

    /// As the port is called in log lines.
    fn endpoint(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
            Self::Discovery => "discovery",
        }
    }
}

/// Why a TLS configuration cannot be used. Each message names the flag and the file.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("{flag}: cannot read {}: {source}", path.display())]
    Read { flag: String, path: PathBuf, source: std::io::Error },
    #[error("{flag}: {} holds no PEM {what}", path.display())]
    Empty { flag: String, path: PathBuf, what: &'static str },
    #[error("{flag}: {}: {why}", path.display())]
    Invalid { flag: String, path: PathBuf, why: String },
    #[error(
        "{cert_flag} {} and {key_flag} {} do not belong together: the key is of another certificate",
        cert.display(), key.display()
    )]
    Mismatch { cert_flag: String, cert: PathBuf, key_flag: String, key: PathBuf },
    #[error("{flag} is not set: a TLS listener needs a certificate and its key")]
    NoCertificate { flag: String },
    #[error("{flag} is not set: without it no TLS peer can be trusted")]
    NoTrust { flag: String },
    #[error("--cipher-suites: {0}")]
    CipherSuites(String),
    #[error("{side} TLS: cannot make a self-signed certificate: {why}")]
    SelfSigned { side: &'static str, why: String },
    #[error("{side} TLS: {source}")]
    Setup { side: &'static str, source: rustls::Error },
}

/// What both sides share: versions and suites.
#[derive(Clone, Debug)]
pub struct Policy {
    min: TlsVersion,
    max: TlsVersion,
    cipher_suites: Vec<String>,
    self_signed_years: u32,
}

impl Policy {
    pub fn of(config: &Config) -> Self {
        Self {
            min: config.tls_min_version,
            max: config.tls_max_version,
            cipher_suites: config.cipher_suites.clone(),
            self_signed_years: config.self_signed_cert_validity,
        }
    }

    fn versions(&self) -> Vec<&'static rustls::SupportedProtocolVersion> {
        let mut versions = Vec::new();
        if self.min <= TlsVersion::Tls12 {
            versions.push(&rustls::version::TLS12);
        }
        if self.max >= TlsVersion::Tls13 {
            versions.push(&rustls::version::TLS13);
        }
        versions
    }

    fn provider(&self) -> Result<rustls::crypto::CryptoProvider, TlsError> {
        let mut provider = rustls::crypto::ring::default_provider();
        if self.cipher_suites.is_empty() {
            return Ok(provider);
        }
        for name in &self.cipher_suites {
            if !name.starts_with("TLS_") {
                return Err(TlsError::CipherSuites(format!("unexpected TLS cipher suite {name:?}")));
            }
        }
        let wanted = |suite: &rustls::SupportedCipherSuite| {
            let name = format!("{:?}", suite.suite());
            let short = name.trim_end_matches("_SHA256");
            // As in Go, the list is about TLS 1.2: the suites of 1.3 cannot be chosen.
            suite.version() == &rustls::version::TLS13
                || self.cipher_suites.iter().any(|given| *given == name || given == short)
        };
        provider.cipher_suites.retain(wanted);
        if self.max == TlsVersion::Tls12
            && provider.cipher_suites.iter().all(|suite| suite.version() == &rustls::version::TLS13)
        {
            return Err(TlsError::CipherSuites(format!(
                "none of {} is available with TLS 1.2",
                self.cipher_suites.join(",")
            )));
        }
        Ok(provider)
    }
}

#[cfg(test)]
mod tests;
