//! URLs as etcd's flags take them: `http`, `https`, `unix` or `unixs`, a `host:port`, and no path.
//!
//! The text is kept exactly as given, because member ids are hashes of it (etcd's `client/pkg/types/urls.go`). This
//! module resolves no name and opens no socket; [`super::check`] judges where a URL may be listened on.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    str::FromStr,
};

use thiserror::Error;

/// How to reach the other end of a [`Url`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A host, without the brackets of an IPv6 literal, and a port.
    Tcp { host: String, port: u16 },
    /// The path of a unix-domain socket.
    Unix(PathBuf),
}

/// Whether the traffic to a [`Url`] is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Security {
    Plain,
    Tls,
}

/// One URL of a listening or advertised address. Ordered and compared by its text, as etcd does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Url {
    text: String,
    security: Security,
    address: Address,
}

/// Why a text is not a usable URL.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UrlError {
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    #[error("URL address does not have the form \"host:port\": {0}")]
    Address(String),
    #[error("URL must not contain a path: {0}")]
    Path(String),
    #[error("no valid URLs given")]
    Empty,
}

impl Url {
    /// A URL without TLS.
    pub fn plain(host: Ipv4Addr, port: u16) -> Self {
        Self {
            text: format!("http://{host}:{port}"),
            security: Security::Plain,
            address: Address::Tcp { host: host.to_string(), port },
        }
    }

    /// The text as given, without surrounding white space.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn security(&self) -> Security {
        self.security
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The host without brackets; empty for `http://:2379` and for unix sockets.
    pub fn host(&self) -> &str {
        match &self.address {
            Address::Tcp { host, .. } => host,
            Address::Unix(_) => "",
        }
    }

    /// The port; `None` for unix sockets.
    pub fn port(&self) -> Option<u16> {
        match &self.address {
            Address::Tcp { port, .. } => Some(*port),
            Address::Unix(_) => None,
        }
    }

    /// `host:port` as written in the URL, or the socket's path.
    pub fn authority(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, rest)| rest)
    }

    /// The IP address, where the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let text = text.trim().to_owned();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(UrlError::Scheme(text));
        };
        let (security, address) = match scheme {
            "http" => (Security::Plain, tcp(&text, rest)?),
            "https" => (Security::Tls, tcp(&text, rest)?),
            "unix" => (Security::Plain, Address::Unix(rest.into())),
            "unixs" => (Security::Tls, Address::Unix(rest.into())),
            _ => return Err(UrlError::Scheme(text)),
        };
        Ok(Self { text, security, address })
    }
}

fn tcp(text: &str, rest: &str) -> Result<Address, UrlError> {
    let malformed = || UrlError::Address(text.to_owned());
    if rest.contains('/') {
        let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
        split(authority).ok_or_else(malformed)?;
        return Err(UrlError::Path(text.to_owned()));
    }
    let (host, port) = split(rest).ok_or_else(malformed)?;
    Ok(Address::Tcp { host: host.to_owned(), port })
}

/// Splits `host:port`; an IPv6 host needs brackets. As in Go, a host has neither white space nor control characters.
fn split(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = authority.rsplit_once(':')?;
    if host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port.parse().ok()?))
}

/// Reads a comma-separated list; the result is sorted and without duplicates. An empty text is an empty list.
pub fn list(text: &str) -> Result<Vec<Url>, UrlError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut urls = text.split(',').map(str::parse).collect::<Result<Vec<Url>, _>>()?;
    urls.sort();
    urls.dedup();
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_text_and_splits_the_address() {
        let url: Url = " https://[::1]:2379 ".parse().unwrap();
        assert_eq!(url.as_str(), "https://[::1]:2379");
        assert_eq!((url.host(), url.port(), url.security()), ("::1", Some(2379), Security::Tls));
        assert_eq!(url.authority(), "[::1]:2379");
        let url: Url = "unix:///run/kv.sock".parse().unwrap();
        assert_eq!(url.address(), &Address::Unix("/run/kv.sock".into()));
    }

    #[test]
    fn a_url_of_an_address_is_what_its_text_says() {
        let url = Url::plain(Ipv4Addr::new(10, 9, 8, 7), 2380);
        assert_eq!(url.as_str().parse(), Ok(url));
    }

    #[test]
    fn refuses_what_etcd_refuses() {
        for (text, part) in [
            ("localhost:2379", "scheme must be"),
            ("ftp://a:1", "scheme must be"),
            ("http://localhost", "host:port"),
            ("http://::1:2379", "host:port"),
            ("http://a b:2379", "host:port"),
            ("http://a:99999", "host:port"),
            ("http://a:2379/v3", "must not contain a path"),
        ] {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_list_is_sorted_and_unique() {
        let urls = list("http://b:1,http://a:1,http://b:1").unwrap();
        assert_eq!(urls.iter().map(Url::as_str).collect::<Vec<_>>(), ["http://a:1", "http://b:1"]);
        assert_eq!(list("").unwrap(), []);
    }
}
