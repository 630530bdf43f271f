//! Promises about the command line as a whole.

use std::time::Duration;

use super::{config::*, table::Group, *};

fn words(text: &str) -> Result<Command, ConfigError> {
    with_environment(text, &[])
}

fn with_environment(text: &str, environment: &[(&str, &str)]) -> Result<Command, ConfigError> {
    parse(
        text.split_whitespace().map(str::to_owned),
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        |path| match path.to_str() {
            Some("/etc/kv.yaml") => Ok("name: b\nlisten-client-urls: http://127.0.0.1:1\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
    )
}

fn served(text: &str) -> Config {
    match words(text) {
        Ok(Command::Serve(config)) => *config,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn bare_kvnode_is_a_single_member_on_localhost() {
    let config = served("");
    assert_eq!(config, Config::default());
    assert_eq!(config.data_dir.to_str(), Some("default.etcd"));
    assert_eq!(config.listen_client_urls[0].as_str(), "http://localhost:2379");
    assert_eq!(config.listen_peer_urls[0].as_str(), "http://localhost:2380");
    assert_eq!(config.initial_cluster["default"][0].as_str(), "http://localhost:2380");
    assert_eq!(config.quota_bytes(), Some(DEFAULT_QUOTA_BYTES));
    assert_eq!(config.request_timeout(), Duration::from_secs(7));
    assert_eq!(config.ticket_file, None);
}

#[test]
fn every_spelling_that_go_reads_is_read() {
    for text in ["--name=a --pre-vote=false", "-name a -pre-vote=0", "--name a -pre-vote=F"] {
        let config = served(text);
        assert_eq!((config.name.as_str(), config.pre_vote), ("a", false), "{text}");
    }
    assert!(served("--unsafe-no-fsync").unsafe_no_fsync);
    assert_eq!(
        served("--experimental-watch-progress-notify-interval=5s").watch_progress_notify_interval,
        Duration::from_secs(5)
    );
}

#[test]
fn an_empty_value_leaves_the_default() {
    for text in [
        "--tls-min-version= --tls-max-version=",
        "--log-format= --log-level= --metrics=",
        "--listen-peer-urls= --initial-advertise-peer-urls= --listen-metrics-urls= --listen-client-http-urls=",
        "--listen-client-urls= --advertise-client-urls=",
        "--auto-compaction-retention=",
    ] {
        let config = Config { explicit: Default::default(), ..served(text) };
        assert_eq!(config, Config::default(), "{text}");
    }
    assert_eq!(served("--tls-min-version=").tls_min_version, TlsVersion::Tls12);
    assert_eq!(served("--log-level=WARN").log.level, LogLevel::Warn);
}

#[test]
fn what_kubeadm_writes_is_understood() {
    let config = served(
        "--advertise-client-urls=https://10.0.0.1:2379 --cert-file=s.crt --client-cert-auth=true --data-dir=/var/lib/etcd \
         --feature-gates=InitialCorruptCheck=true --initial-advertise-peer-urls=https://10.0.0.1:2380 \
         --initial-cluster=a=https://10.0.0.1:2380,b=https://10.0.0.2:2380 --initial-cluster-state=existing \
         --key-file=s.key --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379 \
         --listen-metrics-urls=http://127.0.0.1:2381 --listen-peer-urls=https://10.0.0.1:2380 --name=a \
         --peer-cert-file=p.crt --peer-client-cert-auth=true --peer-key-file=p.key --peer-trusted-ca-file=ca.crt \
         --snapshot-count=10000 --trusted-ca-file=ca.crt --watch-progress-notify-interval=5s",
    );
    assert!(config.client_tls.client_cert_auth);
    assert_eq!(config.initial_cluster_state, ClusterState::Existing);
    assert_eq!(config.initial_cluster.len(), 2);
    assert_eq!(config.listen_metrics_urls[0].port(), Some(2381));
}

#[test]
fn mistakes_are_named_with_the_exit_code_of_etcd() {
    for (text, code, part) in [
        ("--compact-hash-check-time=0", 2, "must be >0"),
        ("--config-file=/nowhere", 1, "--config-file /nowhere: cannot be read"),
        ("--nonsense", 2, "flag provided but not defined: -nonsense"),
        ("--name", 2, "flag needs an argument: -name"),
        ("serve", 2, "\"serve\" is not a valid flag"),
        ("--", 2, "bad flag syntax"),
        ("--heartbeat-interval=x", 2, "-heartbeat-interval"),
        ("--pre-vote=maybe", 2, "-pre-vote"),
        ("--initial-cluster-state=old", 2, "use one of new, existing"),
        ("--v2-deprecation=gone,not-yet", 2, "for flag -v2-deprecation: invalid value \"not-yet\""),
        ("--listen-peer-urls=localhost:1", 2, "-listen-peer-urls"),
        (
            "--discovery-srv=example.org --initial-cluster=default=http://localhost:2380",
            1,
            "multiple discovery or bootstrap flags are set",
        ),
        ("--discovery-endpoints=a:1,,b:1", 2, "must not contain empty endpoints"),
        ("--discovery-token=t", 1, "both --discovery-token and --discovery-endpoints must be set"),
        (
            "--discovery-token=t --discovery-endpoints=a:1 --initial-cluster=default=http://localhost:2380",
            1,
            "multiple discovery or bootstrap flags are set",
        ),
        ("--feature-gates=Flying=true", 2, "unrecognized feature gate: Flying"),
        ("--listen-client-urls=http://0.0.0.0:1", 1, "--advertise-client-urls is required"),
        ("--listen-peer-urls=http://example.org:1", 1, "--listen-peer-urls: expected IP"),
        ("--listen-client-urls=", 1, "--advertise-client-urls is required"),
        ("--log-outputs=", 1, "--log-outputs must not be empty"),
        ("--initial-cluster-state=", 2, "use one of new, existing"),
        ("--heartbeat-interval=500", 1, "at least as 5 times"),
        ("--election-timeout=60000", 1, "too long"),
        ("--initial-cluster=a", 1, "--initial-cluster"),
        ("--auto-compaction-mode=", 1, "undefined --auto-compaction-mode"),
        ("--auto-compaction-mode=never", 1, "--auto-compaction-mode"),
        ("--auto-compaction-mode=revision --auto-compaction-retention=1h", 1, "--auto-compaction-retention"),
        ("--cert-file=a", 1, "--key-file"),
        ("--listen-peer-urls=https://127.0.0.1:1", 1, "--peer-cert-file"),
        (
            "--listen-metrics-urls=https://127.0.0.1:1",
            1,
            "--listen-metrics-urls: client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ),
        ("--tls-min-version=TLS1.3 --tls-max-version=TLS1.2", 1, "--tls-min-version"),
        ("--ticket-file=/t", 1, "--ticket-holder"),
        ("--cors=nowhere", 2, "-cors"),
        ("--log-outputs=default,stderr", 1, "--log-outputs"),
        ("--enable-log-rotation", 1, "--log-outputs requires a single file path"),
        ("--enable-log-rotation --log-outputs=a --log-rotation-config-json={", 1, "improperly formatted"),
    ] {
        let error = words(text).unwrap_err();
        assert_eq!((error.exit_code(), text), (code, text));
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert_eq!(error.to_string().lines().count(), 1, "{text}");
    }
}

#[test]
fn certificates_that_nobody_asks_for_are_told_of() {
    let notes = |text| served(text).notes;
    assert_eq!(
        notes("--client-cert-auth --peer-client-cert-auth"),
        [
            "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL: \
             http://localhost:2379",
            "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL: \
             http://localhost:2380",
        ]
    );
    let secure = "--client-cert-auth --cert-file=a --key-file=b --advertise-client-urls=https://localhost:1 \
                  --listen-client-urls=https://localhost:1";
    assert!(notes(secure).is_empty());
}

#[test]
fn the_environment_counts_where_the_flag_is_absent() {
    let Ok(Command::Serve(config)) =
        with_environment("--name=a", &[("ETCD_MAX_TXN_OPS", "7"), ("ETCD_DATA_DIR", ""), ("PATH", "/bin")])
    else {
        panic!("a member");
    };
    assert_eq!(config.max_txn_ops, 7);
    assert!(config.is_explicit("max-txn-ops") && !config.is_explicit("data-dir"));

    let bad = with_environment("", &[("ETCD_MAX_TXN_OPS", "x")]).unwrap_err();
    assert_eq!((bad.exit_code(), bad.to_string().contains("ETCD_MAX_TXN_OPS")), (1, true));
    let both = with_environment("--name=a", &[("ETCD_NAME", "b")]).unwrap_err();
    assert!(both.to_string().contains("ETCD_NAME") && both.to_string().contains("--name"), "{both}");
}

#[test]
fn a_file_stands_in_for_flags_and_environment() {
    let config = served("--name=a --config-file=/etc/kv.yaml --max-txn-ops=7");
    assert_eq!((config.name.as_str(), config.max_txn_ops), ("b", 128));
    assert_eq!(config.listen_client_urls[0].as_str(), "http://127.0.0.1:1");
    let by_variable = [("ETCD_CONFIG_FILE", "/etc/kv.yaml"), ("ETCD_NAME", "c")];
    assert!(matches!(with_environment("", &by_variable), Ok(Command::Serve(config)) if config.name == "b"));
}

#[test]
fn automatic_compaction_reads_both_ways() {
    for (text, expected) in [
        ("--auto-compaction-retention=2", AutoCompaction::Periodic(Duration::from_secs(7200))),
        ("--auto-compaction-retention=5m", AutoCompaction::Periodic(Duration::from_secs(300))),
        ("--auto-compaction-mode=revision --auto-compaction-retention=1000", AutoCompaction::Revision(1000)),
        ("--auto-compaction-mode=revision", AutoCompaction::Off),
    ] {
        assert_eq!(served(text).auto_compaction, expected, "{text}");
    }
}

#[test]
fn help_and_version_win() {
    assert!(matches!(words("--name=a --help"), Ok(Command::Help)));
    assert!(matches!(words("--version"), Ok(Command::Version)));
    assert!(usage::version().starts_with("etcd Version: 3.7."));
    assert!(usage::version().contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_flag_is_listed_once_under_one_heading() {
    let mut names = std::collections::BTreeSet::new();
    let mut last = Group::Member;
    for flag in FLAGS {
        assert!(names.insert(flag.name), "--{} twice", flag.name);
        assert!(flag.group >= last, "--{} stands apart from its group", flag.name);
        last = flag.group;
        let given = format!("--{}={}", flag.name, flag.default);
        assert!(words(&given).is_ok() || flag.name == "listen-client-urls", "{given}");
    }
}

#[test]
fn the_flag_reference_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/FLAGS.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, usage::markdown()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == usage::markdown(),
        "kvnode/FLAGS.md is stale; regenerate: UPDATE_DOCS=1 cargo test -p kvnode the_flag_reference_is_current"
    );
}
