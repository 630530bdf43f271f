//! The command line and the `ETCD_*` environment: what etcd takes, kvnode takes.
//!
//! Parsing follows Go's `flag` package (`-f v`, `--f v`, `--f=v`; a switch takes a value only after `=`). It is pure:
//! arguments, environment and a way to read the configuration file come in, a [`Command`] or an error comes out; `main`
//! prints and exits. [`table`] lists the flags, [`file`] reads them from a file, [`config`] holds their values, [`check`]
//! judges them together, [`advertise`] replaces defaults that nobody else could use, [`usage`] prints them.

pub mod advertise;
mod check;
pub mod config;
pub mod features;
mod file;
pub mod snapshot;
pub mod table;
pub mod url;
pub mod usage;
pub mod value;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

pub use config::Config;
use table::{FLAGS, Flag, Kind};

/// What the user asked for.
#[derive(Debug)]
pub enum Command {
    /// Run a member.
    Serve(Box<Config>),
    /// `--version`.
    Version,
    /// `--help`.
    Help,
    /// `snapshot status|restore`.
    Snapshot(snapshot::Snapshot),
}

/// Why the command line cannot be followed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The command line itself is wrong: exit code 2, with usage.
    #[error("{0}")]
    Usage(String),
    /// A variable of the environment is wrong: exit code 1.
    #[error("invalid value {value:?} for {variable}: {why}")]
    Environment { variable: String, value: String, why: String },
    /// The configuration file cannot be read or followed: exit code 1.
    #[error("--config-file {}: {why}", path.display())]
    File { path: PathBuf, why: String },
    /// Values that do not go together, or that no member can run with: exit code 1.
    #[error("{0}")]
    Conflict(String),
}

impl ConfigError {
    /// The exit code that etcd gives.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Environment { .. } | Self::File { .. } | Self::Conflict(_) => 1,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Self::defaults();
        let checked = check::complete(&mut config);
        assert!(checked.is_ok(), "the defaults make a working member: {checked:?}");
        config
    }
}

/// Reads arguments (without the program's name) and environment or, where they name one, the configuration file.
pub fn parse<A, E>(
    arguments: A,
    environment: E,
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<Command, ConfigError>
where
    A: IntoIterator<Item = String>,
    E: IntoIterator<Item = (String, String)>,
{
    let arguments: Vec<String> = arguments.into_iter().collect();
    if arguments.first().is_some_and(|first| first == "snapshot") {
        return snapshot::parse(&arguments[1..]).map(Command::Snapshot);
    }
    let mut config = Config::defaults();
    match command_line(&mut config, arguments)? {
        Asked::Help => return Ok(Command::Help),
        Asked::Version => return Ok(Command::Version),
        Asked::Serve => {}
    }
    let environment: BTreeMap<_, _> = environment.into_iter().collect();
    let named = environment.get(&variable("config-file")).filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = config.config_file.take().or(named) {
        config = Config::defaults();
        let text = read(&path).map_err(|error| ConfigError::File {
            path: path.clone(),
            why: format!("cannot be read: {error}"),
        })?;
        file::read(&mut config, &path, &text)?;
        config.config_file = Some(path);
    } else {
        environment_variables(&mut config, &environment)?;
    }
    check::complete(&mut config)?;
    Ok(Command::Serve(Box::new(config)))
}

/// Reads `name=url,name=url` that another member wrote.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn members(text: &str) -> Result<BTreeMap<String, Vec<url::Url>>, ConfigError> {
    check::members("initial-cluster", text)
}

/// The environment variable of a flag.
pub fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_uppercase().replace('-', "_"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Serve,
    Version,
    Help,
}

fn command_line(config: &mut Config, arguments: Vec<String>) -> Result<Asked, ConfigError> {
    let mut asked = Asked::Serve;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some((name, value)) = split(&argument)? else {
            return Err(ConfigError::Usage(format!("{argument:?} is not a valid flag")));
        };
        if name == "help" || name == "h" {
            return Ok(Asked::Help);
        }
        if name == "version" {
            let on = value.map_or(Ok(true), value::boolean).map_err(|why| invalid(name, "", &why))?;
            if on {
                asked = Asked::Version;
            }
            continue;
        }
        let flag = find(name)
            .ok_or_else(|| ConfigError::Usage(format!("flag provided but not defined: -{name}")))?;
        let value = match (value, flag.kind) {
            (Some(value), _) => value.to_owned(),
            (None, Kind::Switch) => "true".to_owned(),
            (None, Kind::Value) => arguments
                .next()
                .ok_or_else(|| ConfigError::Usage(format!("flag needs an argument: -{name}")))?,
        };
        (flag.set)(config, &value).map_err(|why| invalid(name, &value, &why))?;
        config.explicit.insert(flag.name);
    }
    Ok(asked)
}

/// Splits `-name`, `--name` or `--name=value`; `None` for anything that is not a flag.
fn split(argument: &str) -> Result<Option<(&str, Option<&str>)>, ConfigError> {
    let Some(rest) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
        return Ok(None);
    };
    if rest.is_empty() || rest.starts_with(['-', '=']) {
        return Err(ConfigError::Usage(format!("bad flag syntax: {argument}")));
    }
    Ok(Some(match rest.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (rest, None),
    }))
}

fn invalid(name: &str, value: &str, why: &str) -> ConfigError {
    ConfigError::Usage(format!("invalid value {value:?} for flag -{name}: {why}"))
}

/// The flag of that name. Spellings of etcd 3.5 (`--experimental-x`) are taken for `--x`.
fn find(name: &str) -> Option<&'static Flag> {
    let name = name.strip_prefix("experimental-").unwrap_or(name);
    FLAGS.iter().find(|flag| flag.name == name)
}

fn environment_variables(
    config: &mut Config,
    environment: &BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    for flag in FLAGS {
        let variable = variable(flag.name);
        let Some(value) = environment.get(&variable).filter(|value| !value.is_empty()) else {
            continue;
        };
        if config.explicit.contains(flag.name) {
            // Two places that say where data is or who the members are is a mistake, and etcd stops at it too.
            return Err(ConfigError::Conflict(format!(
                "conflicting environment variable {variable} is shadowed by corresponding command-line flag \
                 --{} (either unset environment variable or disable flag)",
                flag.name
            )));
        }
        (flag.set)(config, value).map_err(|why| ConfigError::Environment {
            variable,
            value: value.clone(),
            why,
        })?;
        config.explicit.insert(flag.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
