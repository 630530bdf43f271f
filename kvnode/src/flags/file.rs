//! The configuration file (`--config-file`): YAML with etcd's keys, which are the flags' names. Where there is a file, flags
//! and `ETCD_*` variables do not count, as in etcd (`ConfigFromFile` in `server/embed/config.go`).
//!
//! A value goes the way of the flag's text, so both are checked alike. Pure: it is given the file's text.

use std::path::Path;

use serde_json::{Map, Value};
use serde_saphyr::DuplicateKeyPolicy;

use super::{ConfigError, config::Config, value};

/// Writes what a file says into a configuration that holds the defaults. What means nothing is skipped, as etcd skips it,
/// but noted.
pub(super) fn read(config: &mut Config, path: &Path, text: &str) -> Result<(), ConfigError> {
    let error = |why: String| ConfigError::File { path: path.to_owned(), why };
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    // An empty file says nothing, which YAML has as null.
    let file: Option<Map<String, Value>> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|fault| error(one_line(&fault.to_string())))?;
    let mut reader = Reader { config, skipped: Vec::new() };
    reader.entries("", &file.unwrap_or_default(), top).map_err(error)?;
    if !reader.skipped.is_empty() {
        let note =
            format!("--config-file {}: skipped unknown keys: {}", path.display(), reader.skipped.join(", "));
        config.notes.push(note);
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Keys of which an empty text says nothing, while their flags refuse one.
const NEED_NO_TEXT: &[&str] = &["backend-bbolt-freelist-type", "initial-cluster-state", "v2-deprecation"];

/// Reads one entry: where it stands, its key in lower case, its value.
type ReadEntry = fn(&mut Reader<'_>, &str, &str, &Value) -> Result<(), String>;

struct Reader<'a> {
    config: &'a mut Config,
    /// Where keys stand that nothing knows.
    skipped: Vec<String>,
}

impl Reader<'_> {
    /// Reads the entries of a mapping. Keys differ in case as they like, as in Go's JSON.
    fn entries(&mut self, path: &str, entries: &Map<String, Value>, read: ReadEntry) -> Result<(), String> {
        for (key, value) in entries {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            read(self, &path, &key.to_lowercase(), value)?;
        }
        Ok(())
    }

    /// Reads one key for what several flags say.
    fn group(&mut self, path: &str, value: &Value, read: ReadEntry) -> Result<(), String> {
        match value {
            Value::Null => Ok(()),
            Value::Object(entries) => self.entries(path, entries, read),
            _ => Err(format!("{path}: expected a mapping")),
        }
    }

    fn skip(&mut self, path: &str) -> Result<(), String> {
        self.skipped.push(path.to_owned());
        Ok(())
    }

    /// Sets what the flag of that name sets.
    fn set(&mut self, path: &str, flag: &str, value: &Value) -> Result<(), String> {
        let Some(flag) = super::find(flag) else { return self.skip(path) };
        let said = |why| format!("{path}: {why}");
        let Some(text) = text(value).map_err(said)? else { return Ok(()) };
        if text.is_empty() && NEED_NO_TEXT.contains(&flag.name) {
            return Ok(());
        }
        let set = (flag.set)(self.config, &text).or_else(|why| match value {
            // A number where a duration belongs: Go's count of nanoseconds.
            Value::Number(number) => (flag.set)(self.config, &format!("{number}ns")).map_err(|_| why),
            _ => Err(why),
        });
        set.map_err(said)?;
        self.config.explicit.insert(flag.name);
        Ok(())
    }
}

/// What would stand on the command line; `None` for nothing.
fn text(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Array(items) if items.is_empty() => Ok(None),
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

fn top(file: &mut Reader<'_>, path: &str, key: &str, value: &Value) -> Result<(), String> {
    match key {
        "client-transport-security" => file.group(path, value, client_security),
        "peer-transport-security" => file.group(path, value, peer_security),
        "socket-options" => file.group(path, value, socket_option),
        "discovery-config" => file.group(path, value, discovery),
        // These are flags only.
        "config-file" | "discovery-fallback" => file.skip(path),
        _ => file.set(path, key, value),
    }
}

fn client_security(file: &mut Reader<'_>, path: &str, key: &str, value: &Value) -> Result<(), String> {
    match key {
        // There is no flag for it.
        "allowed-cn" => {
            let names = text(value).map_err(|why| format!("{path}: {why}"))?;
            file.config.client_tls.allowed_cns = value::strings(&names.unwrap_or_default());
            Ok(())
        }
        // etcd compares the addresses of peers only.
        "skip-client-san-verification" => Ok(()),
        "allowed-hostname" => file.set(path, "client-cert-allowed-hostname", value),
        "cert-file" | "key-file" | "client-cert-file" | "client-key-file" | "client-cert-auth"
        | "trusted-ca-file" | "auto-tls" => file.set(path, key, value),
        _ => file.skip(path),
    }
}

fn peer_security(file: &mut Reader<'_>, path: &str, key: &str, value: &Value) -> Result<(), String> {
    match key {
        "allowed-cn" | "allowed-hostname" => file.set(path, &format!("peer-cert-{key}"), value),
        _ => file.set(path, &format!("peer-{key}"), value),
    }
}

fn socket_option(file: &mut Reader<'_>, path: &str, key: &str, value: &Value) -> Result<(), String> {
    file.set(path, &format!("socket-{key}"), value)
}

fn discovery(file: &mut Reader<'_>, path: &str, key: &str, value: &Value) -> Result<(), String> {
    match key {
        "client" => file.group(path, value, discovery_client),
        _ => file.set(path, &format!("discovery-{key}"), value),
    }
}

/// The keys of etcd's client library; only those that flags exist for can matter here.
fn discovery_client(file: &mut Reader<'_>, path: &str, key: &str, value: &Value) -> Result<(), String> {
    match key {
        "secure" | "auth" => file.group(path, value, discovery_credential),
        _ => file.set(path, &format!("discovery-{key}"), value),
    }
}

fn discovery_credential(file: &mut Reader<'_>, path: &str, key: &str, value: &Value) -> Result<(), String> {
    match key {
        "username" => file.set(path, "discovery-user", value),
        // The token of a user, not that of the new cluster.
        "token" => file.skip(path),
        _ => file.set(path, &format!("discovery-{key}"), value),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::flags::config::{AutoCompaction, ClusterState, TlsVersion};

    fn read(text: &str) -> Result<Config, ConfigError> {
        let mut config = Config::defaults();
        super::read(&mut config, Path::new("/etc/kv.yaml"), text)?;
        config.config_file = Some("/etc/kv.yaml".into());
        super::super::check::complete(&mut config)?;
        Ok(Config { config_file: None, ..config })
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
    fn an_empty_value_leaves_the_default() {
        let keys = [
            "auto-compaction-retention",
            "advertise-client-urls",
            "backend-bbolt-freelist-type",
            "feature-gates",
            "initial-advertise-peer-urls",
            "initial-cluster-state",
            "listen-client-http-urls",
            "listen-client-urls",
            "listen-metrics-urls",
            "listen-peer-urls",
            "log-format",
            "log-level",
            "metrics",
            "tls-max-version",
            "tls-min-version",
            "v2-deprecation",
        ];
        for line in keys.map(|key| format!("{key}: \"\"")).into_iter().chain(["log-outputs: []".to_owned()]) {
            let config = read(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(Config { explicit: Default::default(), ..config }, Config::default(), "{line}");
        }
        for key in ["log-outputs", "auto-compaction-mode"] {
            let error = read(&format!("{key}: \"\"")).unwrap_err().to_string();
            assert!(error.contains(&format!("--{key}")), "{error}");
        }
    }

    #[test]
    fn keys_that_nothing_knows_are_skipped_and_told_of() {
        let config = read(
            "nmae: a\nproxy: \"off\"\ndiscovery-fallback: proxy\nconfig-file: b\n1: c\nname: d\n\
             peer-transport-security: {cret-file: e, auto-tls: true}\nclient-transport-security: {crt: f}\n\
             discovery-config: {client: {auth: {token: g}, max-recv-bytes: 1}}\n",
        )
        .unwrap();
        assert_eq!((config.name.as_str(), config.peer_tls.auto), ("d", true));
        assert_eq!(config.discovery.token, "");
        let [note] = &config.notes[..] else { panic!("{:?}", config.notes) };
        let (file, keys) = note.split_once(": skipped unknown keys: ").unwrap();
        assert_eq!(file, "--config-file /etc/kv.yaml");
        let keys: std::collections::BTreeSet<_> = keys.split(", ").collect();
        let expected = [
            "1",
            "client-transport-security.crt",
            "config-file",
            "discovery-config.client.auth.token",
            "discovery-config.client.max-recv-bytes",
            "discovery-fallback",
            "nmae",
            "peer-transport-security.cret-file",
            "proxy",
        ];
        assert_eq!(keys, expected.into());
        assert!(read("name: d").unwrap().notes.is_empty());
    }

    #[test]
    fn keys_may_differ_in_case_and_the_last_of_equal_ones_counts() {
        let config = read("NAME: b\nPeer-Transport-Security: {Auto-TLS: true}\n").unwrap();
        assert_eq!((config.name.as_str(), config.peer_tls.auto), ("b", true));
        assert_eq!(read("name: a\nname: b").unwrap().name, "b");
    }

    #[test]
    fn mistakes_name_file_and_key() {
        for (text, part) in [
            ("client-transport-security: yes", "client-transport-security: expected a mapping"),
            ("heartbeat-interval: fast", "heartbeat-interval: parse error"),
            ("snapshot-count: -1", "snapshot-count: "),
            ("name: {a: b}", "name: expected a value"),
            ("pre-vote: maybe", "pre-vote: parse error"),
            ("name: [a", "/etc/kv.yaml"),
        ] {
            let error = read(text).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(part) && said.contains("/etc/kv.yaml"), "{text}: {said}");
            assert_eq!((error.exit_code(), said.lines().count()), (1, 1), "{text}: {said}");
        }
    }
}
