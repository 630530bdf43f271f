//! Log set-up: JSON for machines by default, text for a terminal. Never: configured from anywhere but the command line.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Readable lines.
    Text,
}

/// Flags about logs, the same for every command.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// Least severe lines to write, as a tracing filter: `info`, `debug`, `operator=debug,kube=warn`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", global = true)]
    pub log_level: String,
    /// How lines look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = Format::Json, global = true)]
    pub log_format: Format,
}

/// Starts logging to standard error; lines of the process go nowhere before.
pub fn start(args: &LogArgs) {
    let (filter, refused) = match EnvFilter::try_new(&args.log_level) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let colours = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let started = match args.log_format {
        Format::Json => builder.json().flatten_event(true).try_init(),
        Format::Text => builder.try_init(),
    };
    if let Err(error) = started {
        eprintln!("logging was started twice: {error}");
    }
    if let Some(error) = refused {
        tracing::warn!(%error, log_level = args.log_level, "--log-level is not a filter; using info");
    }
}
