//! Flags that depend on each other: derives what was left out and refuses what cannot work, with one line that names
//! the flags. The order of the checks and most texts are etcd's (`Config.Validate` in `server/embed/config.go`).

use std::{collections::BTreeMap, time::Duration};

use super::{
    ConfigError,
    config::{AutoCompaction, Config, LogConfig, TlsVersion},
    url::{Address, Security, Url},
    value,
};
use crate::log::rotation;

/// Longest election timeout that etcd accepts.
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(50_000);

/// Derives the dependent values and checks the whole.
pub(super) fn complete(config: &mut Config) -> Result<(), ConfigError> {
    if config.data_dir.as_os_str().is_empty() {
        config.data_dir = format!("{}.etcd", config.name).into();
    }
    // In a file etcd lets the default stand.
    let told = config.config_file.is_none() && config.is_explicit("listen-client-urls");
    if told && !config.is_explicit("advertise-client-urls") {
        return refuse("--advertise-client-urls is required when --listen-client-urls is set explicitly");
    }
    bindable("listen-peer-urls", &config.listen_peer_urls)?;
    bindable("listen-client-urls", &config.listen_client_urls)?;
    bindable("listen-client-http-urls", &config.listen_client_http_urls)?;
    bindable("listen-metrics-urls", &config.listen_metrics_urls)?;
    reachable("initial-advertise-peer-urls", &config.initial_advertise_peer_urls)?;
    reachable("advertise-client-urls", &config.advertise_client_urls)?;
    discovery(config)?;
    config.initial_cluster = initial_cluster(config)?;
    timing(config)?;
    config.auto_compaction =
        auto_compaction(&config.auto_compaction_mode, &config.auto_compaction_retention)?;
    if config.features.lease_checkpoint_persist && !config.features.lease_checkpoint {
        return refuse("--feature-gates: LeaseCheckpointPersist requires LeaseCheckpoint");
    }
    tls(config)?;
    config.notes.extend(unauthenticated(config));
    log(&mut config.log)?;
    if config.ticket_file.is_some() && config.ticket_holder.is_empty() {
        return refuse("--ticket-file needs --ticket-holder, the pod UID that a ticket must name");
    }
    Ok(())
}

fn refuse<T>(why: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Conflict(why.into()))
}

fn bindable(flag: &str, urls: &[Url]) -> Result<(), ConfigError> {
    for url in urls {
        let named = matches!(url.address(), Address::Tcp { host, .. } if host != "localhost");
        if named && url.ip().is_none() {
            return refuse(format!("--{flag}: expected IP in URL for binding ({url})"));
        }
    }
    Ok(())
}

fn reachable(flag: &str, urls: &[Url]) -> Result<(), ConfigError> {
    for url in urls {
        if matches!(url.address(), Address::Tcp { host, .. } if host.is_empty()) {
            return refuse(format!("--{flag} {url:?} must be \"host:port\" (unexpected empty host)"));
        }
    }
    Ok(())
}

/// The members are told, or found in one of two places. A discovery service's token is the cluster's.
fn discovery(config: &mut Config) -> Result<(), ConfigError> {
    let (token, endpoints) = (&config.discovery.token, &config.discovery.endpoints);
    let told = !config.initial_cluster_text.is_empty();
    let (asked, listed) = (!endpoints.is_empty(), !config.discovery_srv.domain.is_empty());
    if [told, asked, listed].into_iter().filter(|&given| given).count() > 1 {
        return refuse(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        );
    }
    if token.is_empty() == asked {
        return refuse("both --discovery-token and --discovery-endpoints must be set");
    }
    if config.ticket_file.is_some() && (asked || listed) {
        return refuse("--ticket-file and discovery flags exclude each other");
    }
    if !asked {
        return Ok(());
    }
    if config.discovery.cert.is_some() != config.discovery.key.is_some() {
        return refuse("--discovery-cert and --discovery-key must both be present or both absent");
    }
    config.initial_cluster_token.clone_from(token);
    Ok(())
}

/// The members at bootstrap: as told, or this member alone.
fn initial_cluster(config: &Config) -> Result<BTreeMap<String, Vec<Url>>, ConfigError> {
    if config.initial_cluster_text.is_empty() {
        return Ok(alone(config));
    }
    members("initial-cluster", &config.initial_cluster_text)
}

/// This member, where it was not told of any.
pub(super) fn alone(config: &Config) -> BTreeMap<String, Vec<Url>> {
    BTreeMap::from([(config.name.clone(), config.initial_advertise_peer_urls.clone())])
}

/// Reads `name=url,name=url`; a name may come more than once.
pub(super) fn members(flag: &str, text: &str) -> Result<BTreeMap<String, Vec<Url>>, ConfigError> {
    let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    for pair in text.split(',') {
        let Some((name, url)) = pair.split_once('=') else {
            return refuse(format!("--{flag}: {pair:?} is not name=url"));
        };
        let url = url.parse().map_err(|error| ConfigError::Conflict(format!("--{flag}: {error}")))?;
        members.entry(name.trim().to_owned()).or_default().push(url);
    }
    for urls in members.values_mut() {
        urls.sort();
    }
    Ok(members)
}

fn timing(config: &Config) -> Result<(), ConfigError> {
    let heartbeat = config.heartbeat_interval.as_millis();
    let election = config.election_timeout.as_millis();
    if heartbeat == 0 {
        return refuse("--heartbeat-interval must be >0 (set to 0ms)");
    }
    if election == 0 {
        return refuse("--election-timeout must be >0 (set to 0ms)");
    }
    if 5 * heartbeat > election {
        return refuse(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if config.election_timeout > ELECTION_TIMEOUT_MAX {
        return refuse(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {}ms",
            ELECTION_TIMEOUT_MAX.as_millis()
        ));
    }
    Ok(())
}

fn log(config: &mut LogConfig) -> Result<(), ConfigError> {
    if config.outputs.is_empty() {
        return refuse("--log-outputs must not be empty");
    }
    if config.outputs.len() > 1 && config.outputs.iter().any(|output| output == "default") {
        return refuse("--log-outputs: multi logoutput for \"default\" is not supported yet");
    }
    if config.rotate {
        if config.files().count() != 1 {
            return refuse(
                "--log-outputs requires a single file path when --log-rotation-config-json is defined",
            );
        }
        config.rotation = Some(rotation::read(&config.rotation_text).map_err(ConfigError::Conflict)?);
    }
    Ok(())
}

fn auto_compaction(mode: &str, retention: &str) -> Result<AutoCompaction, ConfigError> {
    let bad = |why| ConfigError::Conflict(format!("--auto-compaction-retention {retention:?}: {why}"));
    let count = retention.parse::<u32>().ok();
    match (mode, count) {
        ("periodic" | "revision", Some(0)) => Ok(AutoCompaction::Off),
        ("periodic", Some(hours)) => Ok(AutoCompaction::Periodic(Duration::from_secs(3600) * hours)),
        ("periodic", None) => match value::duration(retention).map_err(bad)? {
            Duration::ZERO => Ok(AutoCompaction::Off),
            period => Ok(AutoCompaction::Periodic(period)),
        },
        ("revision", Some(revisions)) => Ok(AutoCompaction::Revision(revisions.into())),
        ("revision", None) => Err(bad("revision mode takes a number of revisions".to_owned())),
        ("", _) => refuse("undefined --auto-compaction-mode, use periodic or revision"),
        _ => refuse(format!("unknown --auto-compaction-mode {mode:?}, use periodic or revision")),
    }
}

/// Notes of URLs at which no certificate is asked for, though one should be. The words are etcd's.
fn unauthenticated(config: &Config) -> Vec<String> {
    let clients = config.listen_client_urls.iter().chain(&config.listen_client_http_urls);
    let clients = clients.map(|url| (url, &config.client_tls, "http or unix", "--client-cert-auth"));
    let peers = config.listen_peer_urls.iter();
    let peers = peers.map(|url| (url, &config.peer_tls, "HTTP", "--peer-client-cert-auth"));
    clients
        .chain(peers)
        .filter(|(url, files, ..)| files.client_cert_auth && url.security() == Security::Plain)
        .map(|(url, _, schemes, flag)| {
            format!(
                "scheme is {schemes} while {flag} is enabled; ignoring client cert auth for this URL: {url}"
            )
        })
        .collect()
}

fn tls(config: &Config) -> Result<(), ConfigError> {
    if config.tls_min_version > config.tls_max_version {
        return refuse("--tls-min-version is greater than --tls-max-version");
    }
    if config.tls_min_version == TlsVersion::Tls13 && !config.cipher_suites.is_empty() {
        return refuse("--cipher-suites cannot be configured when only TLS1.3 is enabled");
    }
    for (prefix, files) in [("", &config.client_tls), ("peer-", &config.peer_tls)] {
        if files.cert.is_some() != files.key.is_some() {
            return refuse(format!(
                "--{prefix}cert-file and --{prefix}key-file must both be present or both absent"
            ));
        }
        if files.client_cert.is_some() != files.client_key.is_some() {
            let prefix = if prefix.is_empty() { "client-" } else { "peer-client-" };
            return refuse(format!(
                "--{prefix}cert-file and --{prefix}key-file must both be present or both absent"
            ));
        }
        if !files.allowed_cns.is_empty() && !files.allowed_hostnames.is_empty() {
            return refuse(format!(
                "--{prefix}cert-allowed-cn and --{prefix}cert-allowed-hostname exclude each other"
            ));
        }
    }
    let listeners = [
        ("listen-client-urls", "cert-file", &config.listen_client_urls, &config.client_tls),
        ("listen-client-http-urls", "cert-file", &config.listen_client_http_urls, &config.client_tls),
        ("listen-metrics-urls", "cert-file", &config.listen_metrics_urls, &config.client_tls),
        ("listen-peer-urls", "peer-cert-file", &config.listen_peer_urls, &config.peer_tls),
    ];
    for (flag, cert_flag, urls, files) in listeners {
        let secure = urls.iter().find(|url| url.security() == Security::Tls);
        if let Some(url) = secure
            && files.cert.is_none()
            && !files.auto
        {
            return refuse(match flag {
                "listen-metrics-urls" => format!(
                    "--{flag}: client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url {url}"
                ),
                _ => format!("--{flag}: TLS key/cert must be provided for {url}: set --{cert_flag}"),
            });
        }
    }
    Ok(())
}
