//! One member from start to end: listeners, the node, the threads that serve clients; then signals, and an orderly stop.
//!
//! Order matters. Ports are bound before anything is written, so that a wrong flag changes nothing. Metrics and health
//! are served first, so that a member waiting to be let into its cluster can say so. Clients are served last, and at the
//! end leadership is handed over before they are sent away.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    auth::{JwtError, Tokens},
    client::{
        access::Access,
        dispatch::Dispatch,
        gateway::Gateway,
        grpc::Services,
        health::Health,
        http::Endpoints,
        listen::{Accepted, Expects, ListenError, Listener},
        serve::{self, Http2, Port, Workers},
        web::Web,
    },
    compactor,
    flags::{
        Config,
        url::{Security, Url},
        usage::ETCD_VERSION,
    },
    metrics::Metrics,
    node::{self, Boot, Node, StartError, StopReason},
    open_files,
    tls::{Acceptor, Policy, Side, TlsError},
};

/// Why a member could not run. Each is one line.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Tokens(#[from] JwtError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot start: {0}; raise the limits on threads and open files")]
    System(#[from] io::Error),
}

/// Why a member that ran has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By this signal; the process should end by it too.
    Signal(i32),
    /// By itself.
    Stopped(StopReason),
}

/// Runs a member until it ends. Blocks the calling thread.
///
/// # Errors
/// The member could not start.
pub fn run(config: Config) -> Result<Ended, RunError> {
    open_files::raise_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let member = Member::prepare(config)?;
        member.run().await
    })
}

/// Everything that exists before the node does.
struct Member {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    tokens: Arc<Tokens>,
    boot: Arc<Boot>,
    health: Arc<Health>,
    endpoints: Arc<Endpoints>,
    tls: Option<Acceptor>,
    grpc: Vec<Listener>,
    http: Vec<Listener>,
    observation: Vec<Listener>,
    signals: Signals,
    /// Cancelled when clients are to be sent away.
    stop: CancellationToken,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        };
        kind.as_raw_value()
    }
}

impl Member {
    fn prepare(config: Config) -> Result<Self, RunError> {
        let bind = |flag, urls: &[Url]| -> Result<Vec<Listener>, ListenError> {
            Listener::bind_all(flag, urls, config.socket)
        };
        let tls = client_tls(&config)?;
        let grpc = bind("listen-client-urls", &config.listen_client_urls)?;
        let http = bind("listen-client-http-urls", &config.listen_client_http_urls)?;
        let observation = bind("listen-metrics-urls", &config.listen_metrics_urls)?;
        let metrics = Metrics::new(config.metrics);
        metrics.server.quota_bytes.set(config.told_quota_bytes());
        let tokens = Arc::new(Tokens::load(&config)?);
        metrics.server.go_version.with_label_values(&["none"]).set(1);
        for code in ["200", "500", "503"] {
            metrics.server.scrapes.with_label_values(&[code]);
        }
        for (name, stage, on) in config.features.list() {
            metrics.server.feature_enabled.with_label_values(&[name, stage.label()]).set(i64::from(on));
        }
        let boot = Arc::new(Boot::default());
        let health = Arc::new(Health::new(Arc::clone(&boot)));
        let endpoints = Arc::new(Endpoints::new(Arc::clone(&health), Arc::clone(&metrics), &config));
        Ok(Self {
            config: Arc::new(config),
            metrics,
            tokens,
            boot,
            health,
            endpoints,
            tls,
            grpc,
            http,
            observation,
            signals: Signals::new()?,
            stop: CancellationToken::new(),
        })
    }

    async fn run(mut self) -> Result<Ended, RunError> {
        self.announce();
        for listener in std::mem::take(&mut self.observation) {
            let web = Web { endpoints: Arc::clone(&self.endpoints), access: None, gateway: None };
            tokio::spawn(observe(listener, self.port(None, Some(Arc::new(web)))));
        }
        let starting = node::start(
            Arc::clone(&self.config),
            Arc::clone(&self.metrics),
            Arc::clone(&self.tokens),
            Arc::clone(&self.boot),
        );
        let node = tokio::select! {
            node = starting => node?,
            signal = self.signals.next() => return Ok(Ended::Signal(signal)),
        };
        self.health.serves(node.clone());
        tokio::select! {
            () = settled(&node, &self.config) => {}
            signal = self.signals.next() => {
                node.stop().await;
                return Ok(Ended::Signal(signal));
            }
            reason = node.stopped() => return Ok(Ended::Stopped(reason)),
        }
        let workers = self.serve(&node)?;
        info!("ready to serve client requests");
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            warn!(%error, "failed to tell the service manager that this member is ready");
        }
        let ended = tokio::select! {
            signal = self.signals.next() => Ended::Signal(signal),
            reason = node.stopped() => Ended::Stopped(reason),
        };
        self.end(&node, workers, &ended).await;
        Ok(ended)
    }

    fn announce(&self) {
        let config = &self.config;
        if let Some(path) = &config.config_file {
            info!(
                path = %path.display(),
                "loaded server configuration, other configuration command line flags and environment variables will be \
                 ignored if provided"
            );
        }
        config.notes.iter().for_each(|note| warn!("{note}"));
        let texts = |urls: &[Url]| urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",");
        info!(
            "etcd-version" = ETCD_VERSION,
            "kvnode-version" = env!("CARGO_PKG_VERSION"),
            name = config.name,
            "data-dir" = %config.data_dir.display(),
            "snapshot-count" = config.snapshot_count,
            "snapshot-catchup-entries" = config.snapshot_catchup_entries,
            "initial-advertise-peer-urls" = texts(&config.initial_advertise_peer_urls),
            "listen-peer-urls" = texts(&config.listen_peer_urls),
            "advertise-client-urls" = texts(&config.advertise_client_urls),
            "listen-client-urls" = texts(&config.listen_client_urls),
            "listen-metrics-urls" = texts(&config.listen_metrics_urls),
            "quota-backend-bytes" = config.told_quota_bytes(),
            "v2-deprecation" = "write-only",
            "starting an etcd server"
        );
        let plain = |url: &&Url| url.security() == Security::Plain;
        if let Some(url) = config.listen_client_urls.iter().find(plain)
            && config.client_tls.cert.is_some()
        {
            warn!(
                url = url.as_str(),
                "scheme is http or unix while cert and key files are present; ignoring cert and key files"
            );
        }
        let notes = [
            ("max-snapshots", "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8"),
            (
                "v2-deprecation",
                "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, \
                 ignoring user input",
            ),
        ];
        for (flag, note) in notes {
            if config.is_explicit(flag) {
                warn!("{note}");
            }
        }
        if config.is_explicit("bootstrap-defrag-threshold-megabytes") {
            info!(reason = "nothing is ever fragmented", "Skipping defragmentation");
        }
        if config.unsafe_no_fsync {
            warn!("--unsafe-no-fsync is set: acknowledged writes will be lost when the machine stops");
        }
    }

    fn port(&self, grpc: Option<Arc<Services>>, http: Option<Arc<Web>>) -> Port {
        Port {
            dispatch: Dispatch { grpc, http },
            tls: self.tls.clone(),
            http2: Http2::of(&self.config),
            stop: self.stop.clone(),
        }
    }

    /// HTTP as clients get it.
    fn web(&self, services: &Arc<Services>) -> Web {
        let gateway = self.config.enable_grpc_gateway.then(|| Gateway::new(Arc::clone(services)));
        let access = Access::new(&self.config, Arc::clone(&self.health));
        Web { endpoints: Arc::clone(&self.endpoints), access: Some(access), gateway }
    }

    /// Lets clients in.
    fn serve(&mut self, node: &Node) -> io::Result<Arc<Workers>> {
        let workers = Arc::new(Workers::start(self.config.client_threads, &self.stop)?);
        let services = Services::new(
            node.clone(),
            Arc::clone(&self.config),
            Arc::clone(&self.metrics),
            self.stop.clone(),
        );
        tokio::spawn(Arc::clone(&services).watch_leader());
        tokio::spawn(compactor::run(node.clone(), self.config.auto_compaction));
        let web = Arc::new(self.web(&services));
        let shared = self.http.is_empty().then(|| Arc::clone(&web));
        for listener in std::mem::take(&mut self.grpc) {
            if listener.expects != Expects::Tls {
                info!(
                    address = listener.address,
                    "serving client traffic insecurely; this is strongly discouraged!"
                );
            }
            if listener.expects != Expects::Plain {
                info!(address = listener.address, "serving client traffic securely");
            }
            let port = self.port(Some(Arc::clone(&services)), shared.clone());
            let workers = Arc::clone(&workers);
            tokio::spawn(async move { workers.accept(listener, port).await });
        }
        for listener in std::mem::take(&mut self.http) {
            let port = self.port(None, Some(Arc::clone(&web)));
            let workers = Arc::clone(&workers);
            tokio::spawn(async move { workers.accept(listener, port).await });
        }
        Ok(workers)
    }

    /// Stops in order: leadership first, while clients are still answered, then clients, then the node.
    async fn end(self, node: &Node, workers: Arc<Workers>, ended: &Ended) {
        match ended {
            Ended::Signal(signal) => {
                info!(signal, "received signal; shutting down");
                node.resign().await;
            }
            Ended::Stopped(reason) => error!(%reason, "the member has ended; shutting down"),
        }
        self.stop.cancel();
        // Accept loops hold on to the workers until they notice; they run on this thread.
        let workers = tokio::task::spawn_blocking(move || {
            while Arc::strong_count(&workers) > 1 {
                std::thread::yield_now();
            }
            if let Some(workers) = Arc::into_inner(workers) {
                workers.join();
            }
        });
        if workers.await.is_err() {
            error!("waiting for the threads that serve clients failed");
        }
        node.stop().await;
        info!("closed etcd server");
    }
}

/// Waits until the cluster knows this member, so that its first client finds it complete, and for a leader. A member
/// that was here before serves without one after two election timeouts: what needs no leader it can still do, and
/// telling that there is none is better than not answering.
async fn settled(node: &Node, config: &Config) {
    let patience = Instant::now() + 2 * config.election_timeout;
    loop {
        let view = node.reader().view();
        let published = view.member(node.member_id()).is_some_and(|member| member.is_started());
        let led = node.status().leader.0 != 0 && view.cluster_version().is_some();
        if published && (led || Instant::now() > patience) {
            return;
        }
        tokio::time::sleep(SETTLED_LOOK).await;
    }
}

/// How often a starting member looks whether it may serve. Nothing to notice for a user, nothing to feel for a core.
const SETTLED_LOOK: Duration = Duration::from_millis(5);

/// The acceptor of client ports, if one of them speaks TLS.
fn client_tls(config: &Config) -> Result<Option<Acceptor>, TlsError> {
    let secure = |url: &Url| url.security() == Security::Tls;
    let urls = [&config.listen_client_urls, &config.listen_client_http_urls, &config.listen_metrics_urls];
    if !urls.into_iter().flatten().any(secure) {
        return Ok(None);
    }
    Acceptor::load(Side::Client, &config.client_tls, &Policy::of(config)).map(Some)
}

/// Serves metrics and health on the calling runtime.
async fn observe(listener: Listener, port: Port) {
    let (expects, address) = (listener.expects, listener.address.clone());
    let port = Arc::new(port);
    let acceptance = match listener.accept() {
        Ok(acceptance) => acceptance,
        Err(error) => return error!(address, %error, "cannot accept connections for metrics"),
    };
    info!(address, "serving metrics and health");
    while let Some(accepted) = serve::next(&acceptance, &port.stop, &address).await {
        tokio::spawn(one(accepted, expects, Arc::clone(&port)));
    }
}

async fn one(accepted: Accepted, expects: Expects, port: Arc<Port>) {
    serve::serve(accepted, None, expects, port).await;
}
