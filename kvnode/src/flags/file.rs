//! The configuration file (`--config-file`): YAML with etcd's keys, which are the flags' names. Where there is a file, flags
//! and `ETCD_*` variables do not count, as in etcd (`ConfigFromFile` in `server/embed/config.go`).
//!
//! A value goes the way of the flag's text, so both are checked alike. Pure: it is given the file's text.

use std::path::Path;

use serde_json::{Map, Value};

use super::{ConfigError, config::Config, value};

/// Reads one key of a group.
type ReadKey = fn(&mut Config, &str, &Value) -> Result<(), String>;

/// Keys that etcd knows and that have no flag: one key for what several flags say.
const GROUPS: &[(&str, ReadKey)] = &[
    ("client-transport-security", |config, key, value| security(config, Side::Client, key, value)),
    ("peer-transport-security", |config, key, value| security(config, Side::Peer, key, value)),
    ("socket-options", |config, key, value| set(config, &format!("socket-{key}"), value)),
    ("discovery-config", |config, key, value| discovery(config, key, value)),
];

/// Keys of former versions that many files still have, since etcd's sample has them. None of them means anything now.
const FORMER: &[&str] = &[
    "debug",
    "discovery",
    "discovery-fallback",
    "discovery-proxy",
    "enable-v2",
    "log-package-levels",
    "proxy",
    "proxy-dial-timeout",
    "proxy-failure-wait",
    "proxy-read-timeout",
    "proxy-refresh-interval",
    "proxy-write-timeout",
];

/// Writes what a file says into a configuration that holds the defaults.
pub(super) fn read(config: &mut Config, path: &Path, text: &str) -> Result<(), ConfigError> {
    let error = |why: String| ConfigError::File { path: path.to_owned(), why };
    // An empty file says nothing, which YAML has as null.
    let file: Option<Map<String, Value>> =
        serde_saphyr::from_str(text).map_err(|fault| error(one_line(&fault.to_string())))?;
    for (key, value) in file.iter().flatten().filter(|(key, _)| !FORMER.contains(&key.as_str())) {
        match GROUPS.iter().find(|(name, _)| name == key) {
            Some((_, read)) => {
                for (inner, value) in entries(value).map_err(|why| error(format!("{key}: {why}")))? {
                    read(config, inner, value).map_err(|why| error(format!("{key}.{inner}: {why}")))?;
                }
            }
            None => set(config, key, value).map_err(|why| error(format!("{key}: {why}")))?,
        }
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn entries(value: &Value) -> Result<Vec<(&str, &Value)>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Object(map) => Ok(map.iter().map(|(key, value)| (key.as_str(), value)).collect()),
        _ => Err("expected a mapping".to_owned()),
    }
}

/// Sets what the flag of that name sets.
fn set(config: &mut Config, name: &str, value: &Value) -> Result<(), String> {
    let Some(flag) = super::find(name).filter(|flag| flag.name != "config-file") else {
        return Err("unknown key".to_owned());
    };
    let Some(text) = text(value)? else { return Ok(()) };
    (flag.set)(config, &text).or_else(|why| match value {
        // A number where a duration belongs: Go's count of nanoseconds.
        Value::Number(number) => (flag.set)(config, &format!("{number}ns")).map_err(|_| why),
        _ => Err(why),
    })?;
    config.explicit.insert(flag.name);
    Ok(())
}

/// What would stand on the command line; `None` for nothing.
fn text(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(on) => Ok(Some(on.to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(items) => {
            let items: Result<Vec<Option<String>>, String> = items.iter().map(text).collect();
            Ok(Some(items?.into_iter().flatten().collect::<Vec<_>>().join(",")))
        }
        Value::Object(_) => Err("expected a value, not a mapping".to_owned()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Peer,
}

fn security(config: &mut Config, side: Side, key: &str, value: &Value) -> Result<(), String> {
    let flag = match (side, key) {
        // There is no flag for it.
        (Side::Client, "allowed-cn") => {
            config.client_tls.allowed_cns = value::strings(&text(value)?.unwrap_or_default());
            return Ok(());
        }
        // etcd compares the addresses of peers only.
        (Side::Client, "skip-client-san-verification") => return Ok(()),
        (Side::Client, "allowed-hostname") => "client-cert-allowed-hostname".to_owned(),
        (
            Side::Client,
            "cert-file" | "key-file" | "client-cert-file" | "client-key-file" | "client-cert-auth"
            | "trusted-ca-file" | "auto-tls",
        ) => key.to_owned(),
        (Side::Peer, "allowed-cn" | "allowed-hostname") => format!("peer-cert-{key}"),
        (Side::Peer, _) => format!("peer-{key}"),
        (Side::Client, _) => return Err("unknown key".to_owned()),
    };
    set(config, &flag, value)
}

/// Below `client` the keys are those of etcd's client library; only those that flags exist for can matter here.
fn discovery(config: &mut Config, key: &str, value: &Value) -> Result<(), String> {
    if key != "client" {
        return set(config, &format!("discovery-{key}"), value);
    }
    for (key, value) in entries(value)? {
        match (key, value) {
            ("secure" | "auth", _) => {
                for (key, value) in entries(value)? {
                    let key = if key == "username" { "user" } else { key };
                    set(config, &format!("discovery-{key}"), value).map_err(|why| format!("{key}: {why}"))?;
                }
            }
            _ => set(config, &format!("discovery-{key}"), value).map_err(|why| format!("{key}: {why}"))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::flags::config::{AutoCompaction, ClusterState, TlsVersion};

    fn read(text: &str) -> Result<Config, ConfigError> {
        let mut config = Config::defaults();
        super::read(&mut config, Path::new("/etc/kv.yaml"), text)?;
        super::super::check::complete(&mut config)?;
        Ok(config)
    }

    #[test]
    fn the_keys_are_etcds() {
        let config = read(
            "name: a\n\
             data-dir: /var/lib/etcd\n\
             snapshot-count: 100\n\
             heartbeat-interval: 50\n\
             quota-backend-bytes: 4294967296\n\
             listen-client-urls: https://10.0.0.1:2379,https://127.0.0.1:2379\n\
             advertise-client-urls: https://10.0.0.1:2379\n\
             initial-cluster: a=http://localhost:2380\n\
             initial-cluster-state: existing\n\
             strict-reconfig-check: false\n\
             auto-compaction-retention: \"5m\"\n\
             watch-progress-notify-interval: 5000000000\n\
             grpc-keepalive-timeout: 3s\n\
             cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n\
             tls-min-version: TLS1.2\n\
             host-whitelist: a,b\n\
             feature-gates: LeaseCheckpoint=true\n\
             discovery-srv:\n\
             discovery-fallback: proxy\n\
             experimental-max-learners: 2\n\
             socket-options: {reuse-port: true}\n\
             client-transport-security:\n  cert-file: s.crt\n  key-file: s.key\n  client-cert-auth: true\n  \
               trusted-ca-file: ca.crt\n  allowed-cn: [joe, ann]\n\
             peer-transport-security:\n  auto-tls: true\n  allowed-hostname: [h]\n  skip-client-san-verification: true\n",
        )
        .unwrap();
        assert_eq!((config.name.as_str(), config.snapshot_count, config.max_learners), ("a", 100, 2));
        assert_eq!(config.heartbeat_interval, Duration::from_millis(50));
        assert_eq!(config.quota_backend_bytes, 1 << 32);
        assert_eq!(config.listen_client_urls.len(), 2);
        assert_eq!(config.initial_cluster_state, ClusterState::Existing);
        assert!(
            !config.strict_reconfig_check && config.socket.reuse_port && config.features.lease_checkpoint
        );
        assert_eq!(config.auto_compaction, AutoCompaction::Periodic(Duration::from_secs(300)));
        assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
        assert_eq!(config.grpc_keepalive_timeout, Duration::from_secs(3));
        assert_eq!((config.cipher_suites.len(), config.tls_min_version), (1, TlsVersion::Tls12));
        assert_eq!(config.host_whitelist, ["a", "b"]);
        assert_eq!(config.client_tls.cert.as_deref(), Some(Path::new("s.crt")));
        assert_eq!(config.client_tls.allowed_cns, ["joe", "ann"]);
        assert!(config.client_tls.client_cert_auth && config.peer_tls.auto);
        assert_eq!(config.peer_tls.allowed_hostnames, ["h"]);
        assert!(config.is_explicit("snapshot-count") && !config.is_explicit("discovery-srv"));
    }

    #[test]
    fn discovery_has_the_keys_of_etcds_client() {
        let config = read(
            "discovery-config:\n  token: t\n  client:\n    endpoints: [a:1, b:1]\n    dial-timeout: 3000000000\n    \
               secure: {cacert: ca.crt, insecure-transport: false}\n    auth: {username: ann, password: pw}\n",
        )
        .unwrap();
        let discovery = config.discovery;
        assert_eq!(
            (discovery.token.as_str(), discovery.endpoints),
            ("t", vec!["a:1".to_owned(), "b:1".into()])
        );
        assert_eq!(discovery.dial_timeout, Duration::from_secs(3));
        assert_eq!(discovery.request_timeout, Duration::from_secs(5));
        assert_eq!(discovery.cacert.as_deref(), Some(Path::new("ca.crt")));
        assert!(!discovery.insecure_transport);
        assert_eq!((discovery.user.as_str(), discovery.password.as_str()), ("ann", "pw"));
        assert_eq!(config.initial_cluster_token, "t");
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        for text in ["", "# nothing\n", "---\n"] {
            assert_eq!(read(text).unwrap(), Config::default(), "{text:?}");
        }
    }

    #[test]
    fn mistakes_name_file_and_key() {
        for (text, part) in [
            ("nmae: a", "nmae: unknown key"),
            ("config-file: b", "config-file: unknown key"),
            ("peer-transport-security:\n  cret-file: a", "peer-transport-security.cret-file: unknown key"),
            ("client-transport-security: yes", "client-transport-security: expected a mapping"),
            ("heartbeat-interval: fast", "heartbeat-interval: parse error"),
            ("snapshot-count: -1", "snapshot-count: "),
            ("name: {a: b}", "name: expected a value"),
            ("pre-vote: maybe", "pre-vote: parse error"),
            ("name: a\nname: b", "name"),
            ("name: [a", "/etc/kv.yaml"),
        ] {
            let error = read(text).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(part) && said.contains("/etc/kv.yaml"), "{text}: {said}");
            assert_eq!((error.exit_code(), said.lines().count()), (1, 1), "{text}: {said}");
        }
    }
}
