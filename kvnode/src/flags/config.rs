//! What a member was told to be: every flag as a typed value. Plain data; it reads no file and opens no socket.
//!
//! [`Config::default`] is what bare `kvnode` runs with. Filled by [`super::table`], judged by [`super::check`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use super::{features::Features, table, url::Url};

/// Configuration of one member. Field docs give the flag where the name differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    // Member.
    pub name: String,
    /// `--data-dir`, or `<name>.etcd`.
    pub data_dir: PathBuf,
    /// `--wal-dir`; `None` is `<data dir>/member/wal`.
    pub wal_dir: Option<PathBuf>,
    /// Applied entries after which a checkpoint is due at the latest.
    pub snapshot_count: u64,
    /// Entries kept in the log behind a checkpoint for slow followers.
    pub snapshot_catchup_entries: u64,
    /// Length of a raft tick.
    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    pub initial_election_tick_advance: bool,
    pub listen_peer_urls: Vec<Url>,
    pub listen_client_urls: Vec<Url>,
    /// HTTP without gRPC, apart from the client port; empty means both share `listen_client_urls`.
    pub listen_client_http_urls: Vec<Url>,
    /// Further listeners of metrics and health.
    pub listen_metrics_urls: Vec<Url>,
    pub socket: SocketOptions,
    /// Threads that serve clients; 0 is one per core.
    pub client_threads: usize,

    // Storage.
    /// Bytes; 0 is the default of 2 GiB, below 0 is no limit. See [`Config::quota_bytes`].
    pub quota_backend_bytes: i64,
    /// Answers before data is durable. Loses acknowledged writes.
    pub unsafe_no_fsync: bool,

    // Limits.
    pub max_txn_ops: usize,
    /// Largest proposal in bytes.
    pub max_request_bytes: usize,
    pub max_concurrent_streams: u32,
    /// Zero is never.
    pub grpc_keepalive_interval: Duration,
    pub grpc_keepalive_timeout: Duration,

    // Cluster.
    pub initial_advertise_peer_urls: Vec<Url>,
    pub advertise_client_urls: Vec<Url>,
    /// Members by name, each with its sorted peer URLs. Without `--initial-cluster`, this member alone.
    pub initial_cluster: BTreeMap<String, Vec<Url>>,
    pub initial_cluster_state: ClusterState,
    pub initial_cluster_token: String,
    pub strict_reconfig_check: bool,
    pub pre_vote: bool,
    pub max_learners: usize,
    /// Leave all other members behind.
    pub force_new_cluster: bool,
    /// Where the members of a new cluster find each other; used if it has endpoints.
    pub discovery: Discovery,
    pub discovery_srv: DiscoverySrv,
    /// Where this member's admission ticket appears; `None` is plain etcd behaviour.
    pub ticket_file: Option<PathBuf>,
    /// The holder a ticket must name: the pod's UID.
    pub ticket_holder: String,

    // Compaction.
    pub auto_compaction: AutoCompaction,

    // Security.
    pub client_tls: TlsFiles,
    pub peer_tls: TlsFiles,
    /// Go's names of TLS 1.2 suites; empty is all that rustls has.
    pub cipher_suites: Vec<String>,
    pub tls_min_version: TlsVersion,
    pub tls_max_version: TlsVersion,
    /// Years.
    pub self_signed_cert_validity: u32,
    pub host_whitelist: Vec<String>,
    /// Origins whose web pages may read answers.
    pub cors: Vec<String>,
    /// Whether HTTP with JSON is served as calls.
    pub enable_grpc_gateway: bool,

    // Auth.
    pub auth_token: AuthToken,
    /// Of simple tokens, after their last use.
    pub auth_token_ttl: Duration,
    pub bcrypt_cost: u32,

    // Observation.
    pub log: LogConfig,
    pub metrics: MetricsLevel,
    pub warning_apply_duration: Duration,
    pub warning_unary_request_duration: Duration,
    pub watch_progress_notify_interval: Duration,
    /// Between comparisons of the members' hashes; zero is never.
    pub corrupt_check_time: Duration,
    /// Between comparisons of the hashes of compactions.
    pub compact_hash_check_time: Duration,
    pub features: Features,

    /// The file that everything else was read from.
    pub config_file: Option<PathBuf>,
    /// Names of the flags that were given, on the command line, by environment or in the file.
    pub explicit: BTreeSet<&'static str>,
    /// What to warn of at start.
    pub notes: Vec<String>,
    /// `--initial-cluster` as given; parsed when every flag is known.
    pub(super) initial_cluster_text: String,
    pub(super) auto_compaction_mode: String,
    pub(super) auto_compaction_retention: String,
}

/// How listening sockets are opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// `--socket-reuse-port`: lets another process listen on the same port.
    pub reuse_port: bool,
    /// `--socket-reuse-address`.
    pub reuse_address: bool,
}

/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterState {
    #[default]
    New,
    Existing,
}

/// `--discovery-srv` and `--discovery-srv-name`: a domain whose SRV records are the members of a new cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoverySrv {
    /// Empty is none.
    pub domain: String,
    /// What distinguishes the cluster from others of the domain, as a suffix of the service; empty is none.
    pub name: String,
}

/// `--discovery-token`, `--discovery-endpoints` and more: an etcd at which the members of a new cluster find each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// URLs, or `host:port`.
    pub endpoints: Vec<String>,
    pub token: String,
    /// Zero is no limit.
    pub dial_timeout: Duration,
    pub request_timeout: Duration,
    /// Zero is never.
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
    /// No TLS, unless something else asks for it.
    pub insecure_transport: bool,
    pub insecure_skip_tls_verify: bool,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub cacert: Option<PathBuf>,
    /// Empty is nobody.
    pub user: String,
    pub password: String,
}

/// `--auto-compaction-mode` and `-retention`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    #[default]
    Off,
    /// Keep the revisions of this much time.
    Periodic(Duration),
    /// Keep this many revisions.
    Revision(i64),
}

/// The files and checks of one side's TLS: clients' or peers'. Read by [`crate::tls`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Shown when dialling, if it differs from `cert`.
    pub client_cert: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    pub trusted_ca: Option<PathBuf>,
    /// Whether the other end must show a certificate of `trusted_ca`.
    pub client_cert_auth: bool,
    /// Revoked certificates, PEM or DER.
    pub crl: Option<PathBuf>,
    /// Common names one of which a client certificate must have; empty is any.
    pub allowed_cns: Vec<String>,
    /// Host names one of which a client certificate must be valid for; empty is any.
    pub allowed_hostnames: Vec<String>,
    /// Serve with a self-signed certificate made at start.
    pub auto: bool,
}

/// `--auth-token`: how tokens stand for users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuthToken {
    /// Random letters that every member remembers.
    #[default]
    Simple,
    /// Signed, so that they are valid wherever the key is known.
    Jwt(JwtOptions),
    /// Nobody gets one; users are known by their certificates.
    None,
}

/// Options of `--auth-token=jwt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtOptions {
    /// `pub-key`.
    pub public_key: Option<PathBuf>,
    /// `priv-key`; without it tokens are verified and not given.
    pub private_key: Option<PathBuf>,
    pub sign_method: String,
    pub ttl: Duration,
}

/// A TLS protocol version bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
    /// The newest there is.
    #[default]
    Newest,
}

/// How log lines are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    pub level: LogLevel,
    pub format: LogFormat,
    /// `default`, `stderr`, `stdout` or paths of files.
    pub outputs: Vec<String>,
    /// Whether and when the file among the outputs is set aside.
    pub rotation: Option<Rotation>,
    pub(super) rotate: bool,
    pub(super) rotation_text: String,
}

impl LogConfig {
    /// Outputs that are files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let streams = ["default", "stderr", "stdout", "systemd/journal"];
        self.outputs.iter().map(String::as_str).filter(move |output| !streams.contains(output))
    }
}

/// When a log file is set aside, and what becomes of those that were (`--log-rotation-config-json`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Size that a file does not grow beyond.
    pub max_bytes: u64,
    /// Age at which one that was set aside is removed.
    pub max_age: Option<Duration>,
    /// How many are kept.
    pub max_backups: Option<usize>,
    /// Whether their names have local time instead of UTC.
    pub local_time: bool,
}

/// Lowest level written. etcd's `panic` and `fatal` are never logged, so they behave as `Error`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Json,
    Console,
}

/// `--metrics`: `Extensive` adds histograms of gRPC latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsLevel {
    #[default]
    Basic,
    Extensive,
}

/// What `--quota-backend-bytes=0` stands for, in bytes.
pub const DEFAULT_QUOTA_BYTES: u64 = 2 * 1024 * 1024 * 1024;

impl Config {
    /// The storage quota in bytes; `None` when it is switched off.
    pub fn quota_bytes(&self) -> Option<u64> {
        match self.quota_backend_bytes {
            0 => Some(DEFAULT_QUOTA_BYTES),
            bytes => u64::try_from(bytes).ok(),
        }
    }

    /// The storage quota as it is told: no limit as it was written.
    pub fn told_quota_bytes(&self) -> i64 {
        self.quota_bytes().map_or(self.quota_backend_bytes, u64::cast_signed)
    }

    /// Raft ticks in an election timeout.
    pub fn election_ticks(&self) -> u32 {
        let ticks = self.election_timeout.as_millis() / self.heartbeat_interval.as_millis().max(1);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// How long a request may wait for consensus: 5 s and two election timeouts (etcd's `ReqTimeout`).
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// Whether the user gave the flag, in any way.
    pub fn is_explicit(&self, flag: &str) -> bool {
        self.explicit.contains(flag)
    }

    /// A value that the defaults of the table are then written into.
    fn blank() -> Self {
        Self {
            name: String::new(),
            data_dir: PathBuf::new(),
            wal_dir: None,
            snapshot_count: 0,
            snapshot_catchup_entries: 0,
            heartbeat_interval: Duration::ZERO,
            election_timeout: Duration::ZERO,
            initial_election_tick_advance: false,
            listen_peer_urls: Vec::new(),
            listen_client_urls: Vec::new(),
            listen_client_http_urls: Vec::new(),
            listen_metrics_urls: Vec::new(),
            socket: SocketOptions::default(),
            client_threads: 0,
            quota_backend_bytes: 0,
            unsafe_no_fsync: false,
            max_txn_ops: 0,
            max_request_bytes: 0,
            max_concurrent_streams: 0,
            grpc_keepalive_interval: Duration::ZERO,
            grpc_keepalive_timeout: Duration::ZERO,
            initial_advertise_peer_urls: Vec::new(),
            advertise_client_urls: Vec::new(),
            initial_cluster: BTreeMap::new(),
            initial_cluster_state: ClusterState::New,
            initial_cluster_token: String::new(),
            strict_reconfig_check: false,
            pre_vote: false,
            max_learners: 0,
            force_new_cluster: false,
            discovery: Discovery::default(),
            discovery_srv: DiscoverySrv::default(),
            ticket_file: None,
            ticket_holder: String::new(),
            auto_compaction: AutoCompaction::Off,
            client_tls: TlsFiles::default(),
            peer_tls: TlsFiles::default(),
            cipher_suites: Vec::new(),
            tls_min_version: TlsVersion::Tls12,
            tls_max_version: TlsVersion::Newest,
            self_signed_cert_validity: 0,
            host_whitelist: Vec::new(),
            auth_token: AuthToken::Simple,
            auth_token_ttl: Duration::ZERO,
            bcrypt_cost: 0,
            cors: Vec::new(),
            enable_grpc_gateway: false,
            log: LogConfig::default(),
            metrics: MetricsLevel::Basic,
            warning_apply_duration: Duration::ZERO,
            warning_unary_request_duration: Duration::ZERO,
            watch_progress_notify_interval: Duration::ZERO,
            corrupt_check_time: Duration::ZERO,
            compact_hash_check_time: Duration::ZERO,
            features: Features::default(),
            config_file: None,
            explicit: BTreeSet::new(),
            notes: Vec::new(),
            initial_cluster_text: String::new(),
            auto_compaction_mode: String::new(),
            auto_compaction_retention: String::new(),
        }
    }

    /// Every flag at the default that the table gives, before values that depend on others are derived.
    pub(super) fn defaults() -> Self {
        let mut config = Self::blank();
        for flag in table::FLAGS {
            let set = (flag.set)(&mut config, flag.default);
            assert!(set.is_ok(), "the default of --{} is a valid value: {set:?}", flag.name);
        }
        config
    }
}
