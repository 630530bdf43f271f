//! Arguments of `kvnode snapshot status|restore`, named as `etcdutl`'s. Pure.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    ConfigError,
    url::{self, Url},
    value,
};

/// One of the sub-commands on snapshot files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    Status(Status),
    Restore(Restore),
}

/// `snapshot status FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub file: PathBuf,
    pub output: Output,
}

/// `-w`, `--write-out`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    #[default]
    Simple,
    Json,
    Table,
}

/// `snapshot restore FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    pub file: PathBuf,
    /// `<name>.etcd` when not given.
    pub data_dir: PathBuf,
    pub name: String,
    pub initial_cluster: BTreeMap<String, Vec<Url>>,
    pub initial_cluster_token: String,
    pub initial_advertise_peer_urls: Vec<Url>,
    /// Do not insist on the SHA-256 at the file's end.
    pub skip_hash_check: bool,
    /// A data directory that an earlier run of the same command made is a success. Not one of etcdutl's.
    pub unless_restored: bool,
}

/// What is printed when the arguments cannot be understood.
pub const USAGE: &str = "Usage:

  kvnode snapshot status FILE [-w simple|json|table]
    Check a snapshot file and show its hash, revision, keys and size.

  kvnode snapshot restore FILE --data-dir DIR [--name NAME] [--initial-cluster NAME=URL,...]
      [--initial-cluster-token TOKEN] [--initial-advertise-peer-urls URL,...] [--skip-hash-check]
      [--unless-restored]
    Make a data directory of a snapshot file, as member NAME of a new cluster. With --unless-restored it is no error
    if the same command made it before; then nothing is read or changed.
";

/// Reads what follows `kvnode snapshot`.
pub(super) fn parse(arguments: &[String]) -> Result<Snapshot, ConfigError> {
    let (verb, rest) = arguments.split_first().ok_or_else(|| usage("snapshot: status or restore?"))?;
    let given = Given::read(rest, verb)?;
    match verb.as_str() {
        "status" => status(given).map(Snapshot::Status),
        "restore" => restore(given).map(Snapshot::Restore),
        other => Err(usage(&format!("snapshot {other}: use status or restore"))),
    }
}

fn usage(why: &str) -> ConfigError {
    ConfigError::Usage(why.to_owned())
}

const SWITCHES: &[&str] = &["skip-hash-check", "unless-restored"];
const STATUS_FLAGS: &[&str] = &["write-out"];
const RESTORE_FLAGS: &[&str] = &[
    "data-dir",
    "name",
    "initial-cluster",
    "initial-cluster-token",
    "initial-advertise-peer-urls",
    "skip-hash-check",
    "unless-restored",
];

/// Flags and the one file name, in any order.
struct Given {
    file: PathBuf,
    flags: BTreeMap<String, String>,
}

impl Given {
    fn read(arguments: &[String], verb: &str) -> Result<Self, ConfigError> {
        let known = if verb == "status" { STATUS_FLAGS } else { RESTORE_FLAGS };
        let mut files = Vec::new();
        let mut flags = BTreeMap::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                files.push(PathBuf::from(argument));
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let name = if name == "w" { "write-out" } else { name };
            if !known.contains(&name) {
                return Err(usage(&format!("unknown flag: --{name}")));
            }
            let value = match value {
                Some(value) => value,
                None if SWITCHES.contains(&name) => "true".to_owned(),
                None => arguments
                    .next()
                    .cloned()
                    .ok_or_else(|| usage(&format!("flag needs an argument: --{name}")))?,
            };
            flags.insert(name.to_owned(), value);
        }
        let [file] = <[PathBuf; 1]>::try_from(files)
            .map_err(|files| usage(&format!("snapshot {verb} takes one file, {} given", files.len())))?;
        Ok(Self { file, flags })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.flags.remove(name)
    }

    fn switch(&mut self, name: &str) -> Result<bool, ConfigError> {
        self.take(name)
            .map_or(Ok(false), |text| value::boolean(&text).map_err(|why| invalid(name, &text, &why)))
    }
}

fn invalid(name: &str, value: &str, why: &str) -> ConfigError {
    usage(&format!("invalid value {value:?} for flag --{name}: {why}"))
}

fn status(mut given: Given) -> Result<Status, ConfigError> {
    let output = match given.take("write-out").as_deref() {
        None | Some("simple") => Output::Simple,
        Some("json") => Output::Json,
        Some("table") => Output::Table,
        Some(other) => return Err(invalid("write-out", other, "use simple, json or table")),
    };
    Ok(Status { file: given.file, output })
}

fn restore(mut given: Given) -> Result<Restore, ConfigError> {
    let urls = |name: &str, text: &str| url::list(text).map_err(|why| invalid(name, text, &why.to_string()));
    let name = given.take("name").unwrap_or_else(|| "default".to_owned());
    let peers =
        given.take("initial-advertise-peer-urls").unwrap_or_else(|| "http://localhost:2380".to_owned());
    let peers = urls("initial-advertise-peer-urls", &peers)?;
    let cluster = match given.take("initial-cluster") {
        Some(text) => super::check::members("initial-cluster", &text)?,
        None => BTreeMap::from([(name.clone(), peers.clone())]),
    };
    if cluster.get(&name) != Some(&peers) {
        return Err(ConfigError::Conflict(format!(
            "--initial-cluster must name {name} with the URLs of --initial-advertise-peer-urls"
        )));
    }
    Ok(Restore {
        data_dir: given.take("data-dir").map_or_else(|| format!("{name}.etcd").into(), Into::into),
        initial_cluster: cluster,
        initial_cluster_token: given
            .take("initial-cluster-token")
            .unwrap_or_else(|| "etcd-cluster".to_owned()),
        initial_advertise_peer_urls: peers,
        skip_hash_check: given.switch("skip-hash-check")?,
        unless_restored: given.switch("unless-restored")?,
        file: given.file,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Snapshot, ConfigError> {
        parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_restore_needs_little() {
        let Ok(Snapshot::Restore(restore)) = words("restore a.db --name=core-0 --initial-cluster-token t")
        else {
            panic!("a restore");
        };
        assert_eq!(restore.data_dir, PathBuf::from("core-0.etcd"));
        assert_eq!(restore.initial_cluster.keys().collect::<Vec<_>>(), ["core-0"]);
        assert_eq!(restore.initial_cluster_token, "t");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("", "status or restore"),
            ("status", "takes one file, 0 given"),
            ("status a b", "takes one file, 2 given"),
            ("status a --data-dir x", "unknown flag: --data-dir"),
            ("status a -w yaml", "--write-out"),
            ("restore a --name x --initial-cluster y=http://h:1", "must name x"),
            ("restore a --initial-advertise-peer-urls h:1", "scheme must be"),
        ] {
            let error = words(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
