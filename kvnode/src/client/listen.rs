//! Listening sockets, and the threads that serve what they accept.
//!
//! One listener a URL accepts and deals connections out, in turn, to threads that each run a single-threaded runtime:
//! nothing a connection does wakes another core, which halves CPU per request against a work-stealing runtime. Dealing
//! out from one socket, unlike one `SO_REUSEPORT` socket a thread, spreads few connections evenly and lets a second
//! process on the same port fail as it should.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    os::unix::fs::FileTypeExt,
    path::Path,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use crate::flags::{
    config::SocketOptions,
    url::{Address, Security, Url},
};

/// Why a URL cannot be listened on.
#[derive(Debug, Error)]
#[error("--{flag}: cannot listen on {url}: {source}")]
pub struct ListenError {
    flag: &'static str,
    url: String,
    source: io::Error,
}

/// What a listener's connections speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    Plain,
    Tls,
    /// Either, told apart by the first byte, where URLs of both schemes name the same address.
    Either,
}

impl From<Security> for Expects {
    fn from(security: Security) -> Self {
        match security {
            Security::Plain => Self::Plain,
            Security::Tls => Self::Tls,
        }
    }
}

/// A bound socket that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    flag: &'static str,
    socket: Bound,
    pub expects: Expects,
    /// As the URL says, for logs.
    pub address: String,
    url: String,
}

#[derive(Debug)]
enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// An accepted connection that belongs to no runtime yet.
#[derive(Debug)]
pub enum Accepted {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

/// A connection on a runtime.
pub type Stream = Either<TcpStream, UnixStream>;

impl Accepted {
    /// Hands the connection to the runtime of the calling thread; with it the other end's address.
    pub fn attach(self) -> io::Result<(Stream, String)> {
        match self {
            Self::Tcp(stream, remote) => {
                // Answers are small and wanted at once.
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
                // An IPv4 address that reached an IPv6 socket is itself again.
                let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                Ok((Either::Left(TcpStream::from_std(stream)?), remote.to_string()))
            }
            Self::Unix(stream) => Ok((Either::Right(UnixStream::from_std(stream)?), "unix".to_owned())),
        }
    }
}

/// Whether the first byte that arrives begins a TLS handshake. It stays to be read.
pub async fn begins_tls(stream: &Stream) -> io::Result<bool> {
    const HANDSHAKE: u8 = 0x16;
    let Either::Left(tcp) = stream else { return Ok(false) };
    let mut first = [0];
    Ok(tcp.peek(&mut first).await? == 1 && first[0] == HANDSHAKE)
}

/// A silent connection is asked about this often; after nine times without an answer the other end is gone (etcd's
/// `transport.NewKeepAliveListener`, Linux's count).
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(30));

/// How many connections the kernel may hold for us: Linux's default ceiling.
const BACKLOG: i32 = 4096;

impl Listener {
    /// Binds the URL that `flag` gave. Over TCP nobody can connect before [`Self::listen`].
    ///
    /// # Errors
    /// Address in use, not ours, or not permitted; names flag and URL.
    pub fn bind(flag: &'static str, url: &Url, options: SocketOptions) -> Result<Self, ListenError> {
        let socket = match url.address() {
            Address::Tcp { host, port } => bind_tcp(host, *port, options).map(Bound::Tcp),
            Address::Unix(path) => bind_unix(path).map(Bound::Unix),
        };
        let socket = socket.map_err(|source| ListenError { flag, url: url.to_string(), source })?;
        let (expects, address) = (url.security().into(), url.authority().to_owned());
        Ok(Self { flag, socket, expects, address, url: url.to_string() })
    }

    /// Binds all URLs that `flag` gave; those that differ in their scheme alone share a socket.
    ///
    /// # Errors
    /// As [`Self::bind`], for the first that cannot be bound.
    pub fn bind_all(
        flag: &'static str,
        urls: &[Url],
        options: SocketOptions,
    ) -> Result<Vec<Self>, ListenError> {
        let mut bound: Vec<(&Address, Self)> = Vec::with_capacity(urls.len());
        for url in urls {
            let other = |(address, listener): &&mut (&Address, Self)| {
                *address == url.address() && listener.expects != url.security().into()
            };
            match bound.iter_mut().find(other) {
                Some((_, listener)) if url.port() != Some(0) => listener.expects = Expects::Either,
                _ => {
                    let listener = Self::bind(flag, url, options)?;
                    listener.listen()?;
                    bound.push((url.address(), listener));
                }
            }
        }
        Ok(bound.into_iter().map(|(_, listener)| listener).collect())
    }

    /// Lets connections in, to wait until they are accepted.
    ///
    /// # Errors
    /// Another process has begun to listen at the same address since it was bound.
    pub fn listen(&self) -> Result<(), ListenError> {
        match &self.socket {
            Bound::Tcp(socket) => SockRef::from(socket).listen(BACKLOG).map_err(|source| ListenError {
                flag: self.flag,
                url: self.url.clone(),
                source,
            }),
            Bound::Unix(_) => Ok(()),
        }
    }

    /// Where a TCP listener really listens; differs from the URL when that says port 0.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Bound::Tcp(socket) => socket.local_addr().ok(),
            Bound::Unix(_) => None,
        }
    }

    /// Starts accepting on the runtime of the calling thread what [`Self::listen`] lets in.
    ///
    /// # Errors
    /// The runtime's.
    pub fn accept(self) -> io::Result<Acceptance> {
        Ok(match self.socket {
            Bound::Tcp(socket) => Acceptance::Tcp(TcpListener::from_std(socket)?),
            Bound::Unix(socket) => Acceptance::Unix(UnixListener::from_std(socket)?),
        })
    }
}

/// A listener at work.
pub enum Acceptance {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptance {
    /// The next connection. Cancel-safe.
    pub async fn next(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                Ok(Accepted::Tcp(stream.into_std()?, remote))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Unix(stream.into_std()?))
            }
        }
    }
}

fn bind_tcp(host: &str, port: u16, options: SocketOptions) -> io::Result<std::net::TcpListener> {
    let address = resolve(host, port)?;
    if address.ip() == Ipv4Addr::UNSPECIFIED {
        // All addresses are meant, as Go takes it; IPv4's alone where the system has no IPv6.
        let all = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        match bind_address(all, options) {
            Err(e) if e.kind() != io::ErrorKind::AddrInUse => {}
            outcome => return outcome,
        }
    }
    bind_address(address, options)
}

fn bind_address(address: SocketAddr, options: SocketOptions) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it a restart has to wait until connections of the last run are forgotten; Go sets it as well.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// `localhost` means the IPv4 loopback where there is one, as in Go.
fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first
        .copied()
        .or((host == "localhost").then(|| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")))
}

fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    // A socket that an earlier run left behind; a file of another kind is somebody's and stays.
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_listener_on_the_port_is_refused_by_name() {
        let options = SocketOptions::default();
        let first = Listener::bind("listen-client-urls", &"http://127.0.0.1:0".parse().unwrap(), options);
        let first = first.unwrap();
        first.listen().unwrap();
        let port = first.local_address().unwrap().port();
        let url: Url = format!("http://127.0.0.1:{port}").parse().unwrap();
        let error = Listener::bind("listen-client-urls", &url, options).unwrap_err().to_string();
        assert!(error.contains("--listen-client-urls") && error.contains(url.as_str()), "{error}");
    }

    #[test]
    fn all_addresses_are_those_of_ipv6_as_well() {
        let all = Listener::bind(
            "listen-client-urls",
            &"http://0.0.0.0:0".parse().unwrap(),
            SocketOptions::default(),
        );
        let all = all.unwrap();
        all.listen().unwrap();
        let port = all.local_address().unwrap().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        // A system without IPv6 has no such loopback.
        if std::net::TcpListener::bind("[::1]:0").is_ok() {
            std::net::TcpStream::connect(("::1", port)).unwrap();
        }
    }

    #[test]
    fn both_schemes_share_one_address() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let urls: Vec<Url> = ["http", "https"]
            .iter()
            .map(|scheme| format!("{scheme}://127.0.0.1:{free}").parse().unwrap())
            .collect();
        let bound = Listener::bind_all("listen-client-urls", &urls, SocketOptions::default()).unwrap();
        assert_eq!(bound.iter().map(|listener| listener.expects).collect::<Vec<_>>(), [Expects::Either]);
        let any: Vec<Url> = ["http", "https"].map(|s| format!("{s}://127.0.0.1:0").parse().unwrap()).to_vec();
        let bound = Listener::bind_all("listen-client-urls", &any, SocketOptions::default()).unwrap();
        assert_eq!(bound.len(), 2);
    }

    #[test]
    fn localhost_is_ipv4_and_a_stale_unix_socket_is_replaced() {
        assert_eq!(resolve("localhost", 1).unwrap().ip(), Ipv4Addr::LOCALHOST);
        let dir = tempfile::tempdir().unwrap();
        let url: Url = format!("unix://{}/kv.sock", dir.path().display()).parse().unwrap();
        for _ in 0..2 {
            Listener::bind("listen-client-urls", &url, SocketOptions::default()).unwrap();
        }
        std::fs::write(dir.path().join("file"), "precious").unwrap();
        assert!(bind_unix(&dir.path().join("file")).is_err());
        assert_eq!(std::fs::read_to_string(dir.path().join("file")).unwrap(), "precious");
    }
}
