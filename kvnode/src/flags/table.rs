//! The flags: name, default, meaning, and how each fills [`Config`]. The single place a flag is written down; parsing,
//! defaults, usage and `FLAGS.md` all come from it. Names and defaults are etcd 3.7's (`server/embed/config.go`).
//!
//! A long file because it is one table.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    config::{AuthToken, ClusterState, Config, JwtOptions, LogFormat, LogLevel, MetricsLevel, TlsVersion},
    features::Features,
    url,
    value::{boolean, duration, number, one_of, strings},
};

/// One flag.
pub struct Flag {
    pub name: &'static str,
    pub group: Group,
    pub kind: Kind,
    /// As it would be written on the command line; empty where there is none.
    pub default: &'static str,
    pub effect: Effect,
    pub help: &'static str,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

/// What may be written after the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--flag` alone is `true`; a value needs `=`.
    Switch,
    /// `--flag=value` or `--flag value`.
    Value,
}

/// Whether the flag does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Works,
    /// Accepted and checked, without effect, for this reason.
    Ignored(&'static str),
}

/// The heading a flag stands under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Member,
    Limits,
    Clustering,
    Compaction,
    Security,
    Auth,
    Logging,
    Observation,
    Checks,
    Misc,
    Own,
}

impl Group {
    pub fn title(self) -> &'static str {
        match self {
            Self::Member => "Member",
            Self::Limits => "Limits",
            Self::Clustering => "Clustering",
            Self::Compaction => "Compaction",
            Self::Security => "Security",
            Self::Auth => "Auth",
            Self::Logging => "Logging",
            Self::Observation => "Metrics, profiling and tracing",
            Self::Checks => "Consistency checks",
            Self::Misc => "Miscellaneous",
            Self::Own => "kvnode's own",
        }
    }
}

const NO_BBOLT: &str = "state is kept in memory; the database file is written as a whole";
const NO_TRACING: &str = "kvnode exports no traces";
const PEER_TIMEOUTS: &str = "peer connections have fixed timeouts";
const COMPACTION_STEPS: &str = "compaction goes in steps that delay nobody";
const NO_GO: &str = "there is no Go runtime to profile; use perf";

macro_rules! flag {
    ($group:ident $kind:ident $name:literal = $default:literal, $help:literal, $set:expr) => {
        Flag {
            name: $name,
            group: Group::$group,
            kind: Kind::$kind,
            default: $default,
            effect: Effect::Works,
            help: $help,
            set: $set,
        }
    };
    ($group:ident $kind:ident $name:literal = $default:literal, ignored $why:expr, $check:expr) => {
        Flag {
            name: $name,
            group: Group::$group,
            kind: Kind::$kind,
            default: $default,
            effect: Effect::Ignored($why),
            help: "",
            set: $check,
        }
    };
}

/// Writes a parsed value into a field.
macro_rules! into {
    ($($field:ident).+, $parse:expr) => {
        |c, v| {
            c.$($field).+ = $parse(v)?;
            Ok(())
        }
    };
}

/// Writes URLs into a field. As in etcd, nothing given leaves those that stand there.
macro_rules! urls {
    ($field:ident) => {
        |c, v| {
            if !v.is_empty() {
                c.$field = url::list(v).map_err(|error| error.to_string())?;
            }
            Ok(())
        }
    };
}

pub(super) static FLAGS: &[Flag] = &[
    // Member.
    flag!(Member Value "name" = "default", "Human-readable name of this member.", into!(name, text)),
    flag!(Member Value "data-dir" = "", "Data directory; <name>.etcd when empty.", into!(data_dir, path)),
    flag!(Member Value "wal-dir" = "", "Directory of the write-ahead log, if apart from the data directory.", into!(wal_dir, some_path)),
    flag!(Member Value "snapshot-count" = "10000", "Applied entries after which a checkpoint is due.", into!(snapshot_count, number)),
    flag!(Member Value "snapshot-catchup-entries" = "5000", "Entries kept behind a checkpoint for slow followers.", into!(snapshot_catchup_entries, number)),
    flag!(Member Value "heartbeat-interval" = "100", "Milliseconds of a heartbeat interval.", into!(heartbeat_interval, milliseconds)),
    flag!(Member Value "election-timeout" = "1000", "Milliseconds after which an election begins.", into!(election_timeout, milliseconds)),
    flag!(Member Switch "initial-election-tick-advance" = "true", "Shorten the wait for the first election.", into!(initial_election_tick_advance, boolean)),
    flag!(Member Value "listen-peer-urls" = "http://localhost:2380", "URLs to listen on for peers.", urls!(listen_peer_urls)),
    flag!(Member Value "listen-client-urls" = "http://localhost:2379", "URLs to listen on for clients.", urls!(listen_client_urls)),
    flag!(Member Value "listen-client-http-urls" = "", "URLs for HTTP alone; then --listen-client-urls serve gRPC alone.", urls!(listen_client_http_urls)),
    flag!(Member Switch "socket-reuse-port" = "false", "Set SO_REUSEPORT on listeners.", into!(socket.reuse_port, boolean)),
    flag!(Member Switch "socket-reuse-address" = "false", "Set SO_REUSEADDR on listeners.", into!(socket.reuse_address, boolean)),
    flag!(Member Value "quota-backend-bytes" = "0", "Bytes the data may take before writes are refused; 0 is 2 GiB, below 0 is no limit.", into!(quota_backend_bytes, number)),
    flag!(Member Value "max-snapshots" = "5", ignored "one checkpoint is kept", |_, v| number::<u64>(v).map(drop)),
    flag!(Member Value "max-wals" = "5", ignored "log files go as soon as a checkpoint covers them", |_, v| number::<u64>(v).map(drop)),
    flag!(Member Value "backend-bbolt-freelist-type" = "map", ignored NO_BBOLT, |_, v| one_of(v, &["map", "array"])),
    flag!(Member Value "backend-batch-interval" = "0s", ignored NO_BBOLT, |_, v| duration(v).map(drop)),
    flag!(Member Value "backend-batch-limit" = "0", ignored NO_BBOLT, |_, v| number::<i64>(v).map(drop)),
    flag!(Member Switch "memory-mlock" = "false", ignored NO_BBOLT, |_, v| boolean(v).map(drop)),
    flag!(Member Value "bootstrap-defrag-threshold-megabytes" = "0", ignored NO_BBOLT, |_, v| number::<u64>(v).map(drop)),
    flag!(Member Switch "unsafe-no-fsync" = "false", "Answer before data is on disk. Loses data.", into!(unsafe_no_fsync, boolean)),
    // Limits.
    flag!(Limits Value "max-txn-ops" = "128", "Operations allowed in a transaction, at most 256 of them one within the other.", into!(max_txn_ops, number)),
    flag!(Limits Value "max-request-bytes" = "1572864", "Largest client request in bytes.", into!(max_request_bytes, number)),
    flag!(Limits Value "max-concurrent-streams" = "4294967295", "Streams a client may have open on a connection.", into!(max_concurrent_streams, number)),
    flag!(Limits Value "grpc-keepalive-min-time" = "5s", ignored "clients may ping as often as they like", |_, v| duration(v).map(drop)),
    flag!(Limits Value "grpc-keepalive-interval" = "2h0m0s", "Time between pings to a client; 0 is none.", into!(grpc_keepalive_interval, duration)),
    flag!(Limits Value "grpc-keepalive-timeout" = "20s", "Time a client has to answer a ping.", into!(grpc_keepalive_timeout, duration)),
    flag!(Limits Value "raft-read-timeout" = "5s", ignored PEER_TIMEOUTS, |_, v| duration(v).map(drop)),
    flag!(Limits Value "raft-write-timeout" = "5s", ignored PEER_TIMEOUTS, |_, v| duration(v).map(drop)),
    // Clustering.
    flag!(Clustering Value "initial-advertise-peer-urls" = "http://localhost:2380", "This member's peer URLs as told to the others; the default gives way to this machine's address if it listens on 0.0.0.0.", urls!(initial_advertise_peer_urls)),
    flag!(Clustering Value "initial-cluster" = "", "Members of a new cluster, as name=url,name=url; this member alone when empty.", into!(initial_cluster_text, text)),
    flag!(Clustering Value "initial-cluster-state" = "new", "'new' to form a cluster, 'existing' to join one; ignored once data exists.", cluster_state),
    flag!(Clustering Value "initial-cluster-token" = "etcd-cluster", "Token that tells this cluster from others with the same URLs.", into!(initial_cluster_token, text)),
    flag!(Clustering Value "advertise-client-urls" = "http://localhost:2379", "This member's client URLs as told to clients; the default gives way to this machine's address if it listens on 0.0.0.0.", urls!(advertise_client_urls)),
    flag!(Clustering Switch "strict-reconfig-check" = "true", "Refuse membership changes that would lose quorum.", into!(strict_reconfig_check, boolean)),
    flag!(Clustering Switch "pre-vote" = "true", "Ask before an election whether it could be won.", into!(pre_vote, boolean)),
    flag!(Clustering Value "max-learners" = "1", "Learners allowed at a time.", into!(max_learners, number)),
    flag!(Clustering Switch "force-new-cluster" = "false", "Go on alone with this member's data, as a cluster of one.", into!(force_new_cluster, boolean)),
    flag!(Clustering Value "discovery-endpoints" = "", "Endpoints of an etcd at which the members of a new cluster find each other.", into!(discovery.endpoints, endpoints)),
    flag!(Clustering Value "discovery-token" = "", "Token of the new cluster; its size stands there at /_etcd/registry/<token>/_config/size.", into!(discovery.token, text)),
    flag!(Clustering Value "discovery-srv" = "", "Domain whose SRV records are the members of a new cluster.", into!(discovery_srv.domain, text)),
    flag!(Clustering Value "discovery-srv-name" = "", "Suffix of the services to look up: _etcd-server-ssl-<name>._tcp and _etcd-server-<name>._tcp.", into!(discovery_srv.name, text)),
    flag!(Clustering Value "discovery-fallback" = "exit", ignored "there is no proxy to fall back to", |_, v| one_of(v, &["exit"])),
    flag!(Clustering Value "discovery-dial-timeout" = "2s", "Time for a connection to --discovery-endpoints.", into!(discovery.dial_timeout, duration)),
    flag!(Clustering Value "discovery-request-timeout" = "5s", "Time for an answer of --discovery-endpoints.", into!(discovery.request_timeout, duration)),
    flag!(Clustering Value "discovery-keepalive-time" = "2s", "Time between pings to --discovery-endpoints, at least 10s; 0 is none.", into!(discovery.keepalive_time, duration)),
    flag!(Clustering Value "discovery-keepalive-timeout" = "6s", "Time that --discovery-endpoints have to answer a ping.", into!(discovery.keepalive_timeout, duration)),
    flag!(Clustering Switch "discovery-insecure-transport" = "true", "Dial --discovery-endpoints without TLS where neither a scheme nor a file asks for it.", into!(discovery.insecure_transport, boolean)),
    flag!(Clustering Switch "discovery-insecure-skip-tls-verify" = "false", "Trust whoever answers at --discovery-endpoints.", into!(discovery.insecure_skip_tls_verify, boolean)),
    flag!(Clustering Value "discovery-cert" = "", "Certificate shown to --discovery-endpoints.", into!(discovery.cert, some_path)),
    flag!(Clustering Value "discovery-key" = "", "Key of --discovery-cert.", into!(discovery.key, some_path)),
    flag!(Clustering Value "discovery-cacert" = "", "CA of --discovery-endpoints; those of the system when empty.", into!(discovery.cacert, some_path)),
    flag!(Clustering Value "discovery-user" = "", "User at --discovery-endpoints.", into!(discovery.user, text)),
    flag!(Clustering Value "discovery-password" = "", "Password of --discovery-user.", into!(discovery.password, text)),
    // Compaction.
    flag!(Compaction Value "auto-compaction-mode" = "periodic", "'periodic' or 'revision'.", into!(auto_compaction_mode, text)),
    flag!(Compaction Value "auto-compaction-retention" = "0", "Time ('5m'; '1' is an hour) or number of revisions to keep; 0 is everything.", into!(auto_compaction_retention, retention)),
    flag!(Compaction Value "compaction-batch-limit" = "0", ignored COMPACTION_STEPS, |_, v| number::<i64>(v).map(drop)),
    flag!(Compaction Value "compaction-sleep-interval" = "0s", ignored COMPACTION_STEPS, |_, v| duration(v).map(drop)),
    // Security.
    flag!(Security Value "cert-file" = "", "Certificate shown to clients.", into!(client_tls.cert, some_path)),
    flag!(Security Value "key-file" = "", "Key of --cert-file.", into!(client_tls.key, some_path)),
    flag!(Security Value "client-cert-file" = "", "Certificate shown when dialling a client port.", into!(client_tls.client_cert, some_path)),
    flag!(Security Value "client-key-file" = "", "Key of --client-cert-file.", into!(client_tls.client_key, some_path)),
    flag!(Security Switch "client-cert-auth" = "false", "Require client certificates.", into!(client_tls.client_cert_auth, boolean)),
    flag!(Security Value "client-crl-file" = "", "Revoked client certificates.", into!(client_tls.crl, some_path)),
    flag!(Security Value "client-cert-allowed-hostname" = "", "Host names one of which a client certificate must carry.", into!(client_tls.allowed_hostnames, list)),
    flag!(Security Value "trusted-ca-file" = "", "CA of client certificates, of which it demands one; those of the system when empty.", into!(client_tls.trusted_ca, some_path)),
    flag!(Security Switch "auto-tls" = "false", "Serve clients with a self-signed certificate.", into!(client_tls.auto, boolean)),
    flag!(Security Value "peer-cert-file" = "", "Certificate shown to peers.", into!(peer_tls.cert, some_path)),
    flag!(Security Value "peer-key-file" = "", "Key of --peer-cert-file.", into!(peer_tls.key, some_path)),
    flag!(Security Value "peer-client-cert-file" = "", "Certificate shown when dialling peers, if it differs.", into!(peer_tls.client_cert, some_path)),
    flag!(Security Value "peer-client-key-file" = "", "Key of --peer-client-cert-file.", into!(peer_tls.client_key, some_path)),
    flag!(Security Switch "peer-client-cert-auth" = "false", "Require certificates of peers that dial.", into!(peer_tls.client_cert_auth, boolean)),
    flag!(Security Value "peer-trusted-ca-file" = "", "CA of peers' certificates; those of the system when empty.", into!(peer_tls.trusted_ca, some_path)),
    flag!(Security Value "peer-crl-file" = "", "Revoked peer certificates.", into!(peer_tls.crl, some_path)),
    flag!(Security Value "peer-cert-allowed-cn" = "", "Common names one of which a peer's certificate must carry.", into!(peer_tls.allowed_cns, list)),
    flag!(Security Value "peer-cert-allowed-hostname" = "", "Host names one of which a peer's certificate must carry.", into!(peer_tls.allowed_hostnames, list)),
    flag!(Security Switch "peer-auto-tls" = "false", "Speak to peers with a self-signed certificate.", into!(peer_tls.auto, boolean)),
    flag!(Security Switch "peer-skip-client-san-verification" = "false", ignored "a dialling peer's certificate is not compared with its address", |_, v| boolean(v).map(drop)),
    flag!(Security Value "self-signed-cert-validity" = "1", "Years a self-signed certificate lasts.", into!(self_signed_cert_validity, number)),
    flag!(Security Value "cipher-suites" = "", "TLS 1.2 cipher suites by Go's names; all when empty.", into!(cipher_suites, list)),
    flag!(Security Value "tls-min-version" = "TLS1.2", "Oldest TLS version spoken.", into!(tls_min_version, oldest_tls_version)),
    flag!(Security Value "tls-max-version" = "", "Newest TLS version spoken; the newest known when empty.", into!(tls_max_version, tls_version)),
    flag!(Security Value "cors" = "*", "Origins whose web pages may read answers to HTTP requests.", into!(cors, origins)),
    flag!(Security Value "host-whitelist" = "*", "Host names accepted in plain HTTP requests.", into!(host_whitelist, list)),
    // Auth.
    flag!(Auth Value "auth-token" = "simple", "How tokens stand for users: 'simple', 'jwt,sign-method=M,priv-key=FILE,pub-key=FILE,ttl=5m', or '' for none. M is not ES512, and RSA keys have 2048 bits or more.", into!(auth_token, auth_token)),
    flag!(Auth Value "auth-token-ttl" = "300", "Seconds a simple token lives after its last use; 0 is 300.", into!(auth_token_ttl, token_ttl)),
    flag!(Auth Value "bcrypt-cost" = "10", "Cost of hashing passwords, from 4 to 31; each step doubles it.", into!(bcrypt_cost, number)),
    // Logging.
    flag!(Logging Value "logger" = "zap", ignored "there is one logger", |_, v| one_of(v, &["zap"])),
    flag!(Logging Value "log-outputs" = "default", "stderr, stdout, or paths of files.", into!(log.outputs, list)),
    flag!(Logging Value "log-level" = "info", "debug, info, warn, error, panic or fatal.", into!(log.level, log_level)),
    flag!(Logging Value "log-format" = "json", "json or console.", into!(log.format, log_format)),
    flag!(Logging Switch "enable-log-rotation" = "false", "Set the file that --log-outputs names aside when it has grown.", into!(log.rotate, boolean)),
    flag!(Logging Value "log-rotation-config-json" = r#"{"maxsize":100,"maxage":0,"maxbackups":0,"localtime":false,"compress":false}"#, "Megabytes of a log file, days and number of those kept; 0 is no limit. Files are not compressed.", into!(log.rotation_text, text)),
    // Observation.
    flag!(Observation Value "metrics" = "basic", "'extensive' adds histograms of request latency.", into!(metrics, metrics_level)),
    flag!(Observation Value "listen-metrics-urls" = "", "Further URLs for metrics and health.", urls!(listen_metrics_urls)),
    flag!(Observation Switch "enable-pprof" = "false", ignored NO_GO, |_, v| boolean(v).map(drop)),
    flag!(Observation Switch "enable-distributed-tracing" = "false", ignored NO_TRACING, |_, v| boolean(v).map(drop)),
    flag!(Observation Value "distributed-tracing-address" = "localhost:4317", ignored NO_TRACING, anything),
    flag!(Observation Value "distributed-tracing-service-name" = "etcd", ignored NO_TRACING, anything),
    flag!(Observation Value "distributed-tracing-instance-id" = "", ignored NO_TRACING, anything),
    flag!(Observation Value "distributed-tracing-sampling-rate" = "0", ignored NO_TRACING, |_, v| number::<i64>(v).map(drop)),
    flag!(Observation Value "warning-apply-duration" = "100ms", "Applying longer than this is logged.", into!(warning_apply_duration, duration)),
    flag!(Observation Value "warning-unary-request-duration" = "300ms", "Requests longer than this are logged.", into!(warning_unary_request_duration, duration)),
    // Checks.
    flag!(Checks Value "corrupt-check-time" = "0s", "Time between comparisons of the members' data by the leader; 0 is never.", into!(corrupt_check_time, duration)),
    flag!(Checks Value "compact-hash-check-time" = "1m0s", "Time between comparisons of compacted data, with CompactHashCheck.", into!(compact_hash_check_time, above_zero)),
    flag!(Checks Value "watch-progress-notify-interval" = "0s", "Time after which an idle watch is told where it is; 0 is 10 minutes.", into!(watch_progress_notify_interval, progress_interval)),
    flag!(Checks Value "downgrade-check-time" = "5s", ignored "the members of the older version end a downgrade, when they lead", |_, v| duration(v).map(drop)),
    flag!(Checks Value "feature-gates" = "", "Comma-separated Name=true|false, as etcd's; /metrics lists them.", into!(features, Features::read)),
    // Misc.
    flag!(Misc Value "config-file" = "", "YAML file with the flags' names as keys, of which unknown ones are skipped; where given, flags and variables do not count.", into!(config_file, some_path)),
    flag!(Misc Switch "enable-grpc-gateway" = "true", "Serve the API as HTTP with JSON, too.", into!(enable_grpc_gateway, boolean)),
    flag!(Misc Value "v2-deprecation" = "write-only", ignored "there is no v2 store", v2_deprecation),
    // Own.
    flag!(Own Value "ticket-file" = "", "File in which this member's ticket to a cluster appears; without it members start as etcd's do.", into!(ticket_file, some_path)),
    flag!(Own Value "ticket-holder" = "", "Holder a ticket must name to be accepted: the pod's UID.", into!(ticket_holder, text)),
    flag!(Own Value "client-threads" = "0", "Threads serving clients; 0 is one per core.", into!(client_threads, number)),
];

fn text(v: &str) -> Result<String, String> {
    Ok(v.to_owned())
}

fn path(v: &str) -> Result<PathBuf, String> {
    Ok(v.into())
}

fn some_path(v: &str) -> Result<Option<PathBuf>, String> {
    Ok((!v.is_empty()).then(|| v.into()))
}

fn list(v: &str) -> Result<Vec<String>, String> {
    Ok(strings(v))
}

/// URLs without a path, or `*`.
fn origins(v: &str) -> Result<Vec<String>, String> {
    let origins = strings(v);
    for origin in origins.iter().filter(|origin| *origin != "*") {
        origin.parse::<url::Url>().map_err(|error| error.to_string())?;
    }
    Ok(origins)
}

fn milliseconds(v: &str) -> Result<Duration, String> {
    number::<u32>(v).map(|n| Duration::from_millis(n.into()))
}

/// etcd's default of ten minutes stands for zero.
fn progress_interval(v: &str) -> Result<Duration, String> {
    let interval = duration(v)?;
    Ok(if interval.is_zero() { Duration::from_secs(600) } else { interval })
}

fn anything(_: &mut Config, _: &str) -> Result<(), String> {
    Ok(())
}

fn endpoints(v: &str) -> Result<Vec<String>, String> {
    let given = v.split(',').filter(|item| !item.trim().is_empty()).count();
    match given == v.split(',').count() || v.is_empty() {
        true => list(v),
        false => Err("must not contain empty endpoints".to_owned()),
    }
}

fn above_zero(v: &str) -> Result<Duration, String> {
    duration(v).and_then(|d| if d.is_zero() { Err("must be >0".to_owned()) } else { Ok(d) })
}

/// Takes a list, as etcd does, and words what it refuses as etcd does.
fn v2_deprecation(_: &mut Config, text: &str) -> Result<(), String> {
    let stages = ["write-only", "write-only-skip-check", "write-only-drop-data", "gone"];
    let refused = |stage: &str, why: String| format!("invalid value {stage:?}: {why}");
    text.split(',').try_for_each(|stage| one_of(stage, &stages).map_err(|why| refused(stage, why)))
}

fn cluster_state(c: &mut Config, v: &str) -> Result<(), String> {
    one_of(v, &["new", "existing"])?;
    c.initial_cluster_state = if v == "new" { ClusterState::New } else { ClusterState::Existing };
    Ok(())
}

fn retention(v: &str) -> Result<String, String> {
    text(if v.is_empty() { "0" } else { v })
}

/// Empty leaves it to Go, whose oldest is TLS 1.2.
fn oldest_tls_version(v: &str) -> Result<TlsVersion, String> {
    if v.is_empty() { Ok(TlsVersion::Tls12) } else { tls_version(v) }
}

fn tls_version(v: &str) -> Result<TlsVersion, String> {
    match v {
        "TLS1.2" => Ok(TlsVersion::Tls12),
        "TLS1.3" => Ok(TlsVersion::Tls13),
        "" => Ok(TlsVersion::Newest),
        _ => Err(format!("unexpected TLS version {v:?}, use TLS1.2 or TLS1.3")),
    }
}

fn auth_token(v: &str) -> Result<AuthToken, String> {
    match v {
        "simple" => Ok(AuthToken::Simple),
        "" => Ok(AuthToken::None),
        _ => match v.strip_prefix("jwt") {
            Some(options) if options.is_empty() || options.starts_with(',') => {
                jwt_options(options).map(AuthToken::Jwt)
            }
            _ => Err("use simple, jwt with options, or nothing".to_owned()),
        },
    }
}

/// Reads `,name=value,...`. As in etcd, names that it does not know are let through.
fn jwt_options(v: &str) -> Result<JwtOptions, String> {
    let mut given = BTreeMap::new();
    for pair in v.split(',').skip(1) {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not name=value"))?;
        if given.insert(name, value).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    let get = |name| given.get(name).copied().filter(|value| !value.is_empty());
    Ok(JwtOptions {
        public_key: get("pub-key").map(PathBuf::from),
        private_key: get("priv-key").map(PathBuf::from),
        sign_method: get("sign-method").ok_or("jwt needs sign-method")?.to_owned(),
        ttl: get("ttl").map_or(Ok(Duration::from_secs(300)), duration)?,
    })
}

fn token_ttl(v: &str) -> Result<Duration, String> {
    number(v).map(|seconds| Duration::from_secs(if seconds == 0 { 300 } else { seconds }))
}

fn log_level(v: &str) -> Result<LogLevel, String> {
    match v.to_lowercase().as_str() {
        "debug" => Ok(LogLevel::Debug),
        "info" | "" => Ok(LogLevel::Info),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "error" | "dpanic" | "panic" | "fatal" => Ok(LogLevel::Error),
        _ => Err("use debug, info, warn, error, panic or fatal".to_owned()),
    }
}

fn log_format(v: &str) -> Result<LogFormat, String> {
    match v {
        "json" | "" => Ok(LogFormat::Json),
        "console" => Ok(LogFormat::Console),
        _ => Err("use json or console".to_owned()),
    }
}

fn metrics_level(v: &str) -> Result<MetricsLevel, String> {
    match v {
        "basic" | "" => Ok(MetricsLevel::Basic),
        "extensive" => Ok(MetricsLevel::Extensive),
        _ => Err("use basic or extensive".to_owned()),
    }
}
