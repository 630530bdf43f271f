//! The operator's IO shell: it observes clusters, applies what `operator-plan` decided, performs one action at a time
//! and reports. The Jobs that move snapshots run the same binary with another sub-command.
//!
//! What it never does: decide. What should exist and which step comes next is the plan's word; this crate only finds
//! out what is, carries out, and says what happened.
//!
//! Read next: [`cli`] for the commands, [`controller`] for one pass over a cluster, [`jobs`] for backup and restore.

use std::process::ExitCode;

use clap::Parser;

#[cfg(test)]
mod artifacts;
pub mod cli;
pub mod controller;
pub mod etcd;
pub mod http;
pub mod jobs;
pub mod kubernetes;
pub mod lease;
pub mod limits;
pub mod logging;
pub mod metrics;
mod run;
pub mod store;

use cli::{Cli, Command};

/// Parses the command line and runs it to its end.
///
/// Exit codes: 0 done, 1 failed (one line says why), 2 a bad command line.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    logging::start(&cli.log);
    // Two libraries below could each bring a TLS provider; naming one keeps rustls from refusing to choose.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(limits::WORKER_THREADS)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "starting the runtime failed; check the container's limits on threads and memory");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(dispatch(cli.command));
    // A probe that hangs in the kernel must not keep a stopping process alive.
    runtime.shutdown_timeout(limits::SHUTDOWN_GRACE);
    code
}

async fn dispatch(command: Command) -> ExitCode {
    match command {
        Command::Run(args) => run::main(args).await,
        Command::Backup(args) => jobs::finish(&args.termination_log.clone(), jobs::backup::run(args).await),
        Command::FetchBackup(args) => {
            jobs::finish(&args.termination_log.clone(), jobs::fetch::run(args).await)
        }
        Command::DeleteBackup(args) => {
            jobs::finish(&args.termination_log.clone(), jobs::delete::run(args).await)
        }
    }
}
