//! Calls to a discovery service, which is an etcd: a connection, a login where one is wanted, and a try again later.

use std::{io, time::Duration};

use hyper_util::rt::TokioIo;
use kvnode_proto::{
    etcdserverpb::{
        AuthenticateRequest, PutRequest, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest,
        auth_client::AuthClient, kv_client::KvClient, watch_client::WatchClient, watch_request::RequestUnion,
    },
    mvccpb::KeyValue,
};
use tokio::time;
use tokio_stream::{StreamExt as _, once, pending};
use tokio_util::either::Either;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tower::service_fn;
use tracing::warn;

use super::DiscoveryError;
use crate::{
    flags::{
        config::{Config, Discovery, TlsFiles},
        url::{Address, Security, Url},
    },
    node::start::StartError,
    peer,
    tls::{Connector, Policy, Side},
};

/// etcd's client pings no more often either: its server ends connections that ping more.
const KEEPALIVE_MIN: Duration = Duration::from_secs(10);

/// After so many failures the time between attempts grows no more.
const BACKOFF_STEPS: u32 = 8;

/// What an etcd without users answers to a login.
const NO_USERS: &str = "etcdserver: authentication is not enabled";

/// A discovery service at its endpoints.
pub(super) struct Service<'a> {
    settings: &'a Discovery,
    endpoints: Vec<Url>,
    tls: Option<Connector>,
}

/// A connection to one endpoint.
pub(super) struct Session {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    timeout: Duration,
}

impl<'a> Service<'a> {
    /// Reads the endpoints and what TLS needs; connects to nothing.
    pub(super) fn new(config: &'a Config) -> Result<Self, StartError> {
        let settings = &config.discovery;
        let scheme = if wants_tls(settings) { "https" } else { "http" };
        let endpoints = settings
            .endpoints
            .iter()
            .map(|text| endpoint(text, scheme))
            .collect::<Result<Vec<Url>, DiscoveryError>>()?;
        let secure = endpoints.iter().any(|url| url.security() == Security::Tls);
        let tls = match secure {
            true => Some(Connector::load(Side::Discovery, &tls_files(settings), &Policy::of(config))?),
            false => None,
        };
        Ok(Self { settings, endpoints, tls })
    }

    /// Makes a call until it is answered, at one endpoint after the other, waiting longer after each round.
    pub(super) async fn persist<T>(
        &self,
        what: &str,
        call: impl AsyncFn(Session) -> Result<T, Status>,
    ) -> Result<T, DiscoveryError> {
        let mut rounds = 0;
        loop {
            for url in &self.endpoints {
                let outcome = match self.connect(url).await? {
                    Ok(session) => call(session).await,
                    Err(status) => Err(status),
                };
                match outcome {
                    Ok(answer) => return Ok(answer),
                    Err(status) => {
                        warn!(endpoint = url.as_str(), error = status.message(), "failed to {what}");
                    }
                }
            }
            rounds = BACKOFF_STEPS.min(rounds + 1);
            let backoff = Duration::from_secs(1 << rounds);
            warn!(reason = what, ?backoff, "retry connecting to discovery service");
            time::sleep(backoff).await;
        }
    }

    /// Connects and logs in. The outer error is one that no other attempt would change.
    async fn connect(&self, url: &Url) -> Result<Result<Session, Status>, DiscoveryError> {
        let limit =
            Some(self.settings.dial_timeout).filter(|limit| !limit.is_zero()).unwrap_or(Duration::MAX);
        let channel = match time::timeout(limit, self.dial(url)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Ok(Err(Status::unavailable(crate::tls::words(&error)))),
            Err(_) => return Ok(Err(Status::deadline_exceeded("no connection in time"))),
        };
        let mut session = Session { channel, token: None, timeout: self.settings.request_timeout };
        let Discovery { user, password, .. } = self.settings;
        if user.is_empty() || password.is_empty() {
            return Ok(Ok(session));
        }
        match session.log_in(user, password).await {
            Ok(token) => session.token = Some(token),
            Err(status) if status.message() == NO_USERS => {}
            Err(status) if status.code() == Code::InvalidArgument => {
                return Err(DiscoveryError::Login { user: user.clone(), why: status.message().to_owned() });
            }
            Err(status) => return Ok(Err(status)),
        }
        Ok(Ok(session))
    }

    async fn dial(&self, url: &Url) -> Result<Channel, tonic::transport::Error> {
        let host = match url.address() {
            Address::Tcp { .. } => url.authority(),
            Address::Unix(_) => "localhost",
        };
        let mut endpoint = Endpoint::from_shared(format!("http://{host}"))?;
        if !self.settings.keepalive_time.is_zero() {
            endpoint = endpoint
                .http2_keep_alive_interval(KEEPALIVE_MIN.max(self.settings.keepalive_time))
                .keep_alive_timeout(self.settings.keepalive_timeout);
        }
        let tls = self.tls.clone().filter(|_| url.security() == Security::Tls);
        let url = url.clone();
        let connect = service_fn(move |_| {
            let (url, tls) = (url.clone(), tls.clone());
            async move {
                let stream = peer::connect(&url).await?;
                let stream = match tls {
                    Some(tls) => Either::Left(tls.connect(url.host(), stream).await?),
                    None => Either::Right(stream),
                };
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        endpoint.connect_with_connector(connect).await
    }
}

impl Session {
    async fn log_in(&self, user: &str, password: &str) -> Result<MetadataValue<Ascii>, Status> {
        let login = AuthenticateRequest { name: user.to_owned(), password: password.to_owned() };
        let mut client = AuthClient::new(self.channel.clone());
        let answer = client.authenticate(self.request(login, true)).await?.into_inner();
        answer.token.parse().map_err(|_| Status::internal("the token cannot be sent"))
    }

    /// All keys with the prefix, and the revision at which they were read.
    pub(super) async fn list(&self, prefix: &str) -> Result<(Vec<KeyValue>, i64), Status> {
        let answer = self.range(prefix, &end_of(prefix)).await?;
        Ok((answer.kvs, answer.header.map_or(0, |header| header.revision)))
    }

    /// The key, if it exists.
    pub(super) async fn get(&self, key: &str) -> Result<Vec<KeyValue>, Status> {
        Ok(self.range(key, &[]).await?.kvs)
    }

    async fn range(&self, key: &str, range_end: &[u8]) -> Result<RangeResponse, Status> {
        let range = RangeRequest {
            key: key.to_owned().into(),
            range_end: range_end.to_vec().into(),
            ..RangeRequest::default()
        };
        Ok(KvClient::new(self.channel.clone()).range(self.request(range, true)).await?.into_inner())
    }

    pub(super) async fn put(&self, key: &str, value: &str) -> Result<(), Status> {
        let put = PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        };
        KvClient::new(self.channel.clone()).put(self.request(put, true)).await.map(drop)
    }

    /// Returns when one of the keys with the prefix has changed after the revision.
    pub(super) async fn changed(&self, prefix: &str, revision: i64) -> Result<(), Status> {
        let create = WatchCreateRequest {
            key: prefix.to_owned().into(),
            range_end: end_of(prefix).into(),
            start_revision: revision + 1,
            ..WatchCreateRequest::default()
        };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let requests = once(create).chain(pending());
        let mut client = WatchClient::new(self.channel.clone());
        let mut answers = client.watch(self.request(requests, false)).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if !answer.events.is_empty() {
                return Ok(());
            }
            if answer.canceled {
                return Err(Status::aborted(format!("the watch was canceled: {}", answer.cancel_reason)));
            }
        }
        Err(Status::aborted("the watch ended"))
    }

    fn request<T>(&self, message: T, bounded: bool) -> Request<T> {
        let mut request = Request::new(message);
        if bounded {
            request.set_timeout(self.timeout);
        }
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

/// Whether endpoints that do not say it by a scheme are dialled over TLS.
fn wants_tls(settings: &Discovery) -> bool {
    let files = settings.cert.is_some() || settings.key.is_some() || settings.cacert.is_some();
    files || !settings.insecure_transport || settings.insecure_skip_tls_verify
}

/// What the flags mean in terms of the others' TLS: to trust anybody goes before a CA.
fn tls_files(settings: &Discovery) -> TlsFiles {
    let any = settings.insecure_skip_tls_verify;
    TlsFiles {
        cert: settings.cert.clone(),
        key: settings.key.clone(),
        trusted_ca: settings.cacert.clone().filter(|_| !any),
        auto: any,
        ..TlsFiles::default()
    }
}

/// Reads `host:port`, which takes the given scheme, or a URL.
fn endpoint(text: &str, scheme: &str) -> Result<Url, DiscoveryError> {
    let full = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
    full.parse().map_err(|error| DiscoveryError::Endpoint { endpoint: text.to_owned(), source: error })
}

/// The end of the range of all keys with the prefix, which ends with a letter.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(text: &str, settings: &Discovery) -> Security {
        let scheme = if wants_tls(settings) { "https" } else { "http" };
        endpoint(text, scheme).unwrap().security()
    }

    #[test]
    fn the_scheme_decides_about_tls_and_the_flags_where_there_is_none() {
        let plain = Discovery { insecure_transport: true, ..Discovery::default() };
        assert_eq!(security("a:1", &plain), Security::Plain);
        assert_eq!(security("https://a:1", &plain), Security::Tls);
        for secure in [
            Discovery { insecure_transport: false, ..plain.clone() },
            Discovery { insecure_skip_tls_verify: true, ..plain.clone() },
            Discovery { cacert: Some("ca".into()), ..plain.clone() },
        ] {
            assert_eq!(security("a:1", &secure), Security::Tls, "{secure:?}");
            assert_eq!(security("http://a:1", &secure), Security::Plain, "{secure:?}");
        }
        assert!(endpoint("a", "http").unwrap_err().to_string().contains("--discovery-endpoints"));
    }
}
