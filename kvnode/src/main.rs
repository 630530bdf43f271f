//! The `kvnode` program: reads the command line and does what it says.

use std::process::ExitCode;

use kvnode::{
    default_host,
    flags::{self, Command, Config, ConfigError, advertise, snapshot, usage},
    log,
    node::StopReason,
    run::{self, Ended},
    snapshot_cli,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    match flags::parse(arguments, environment, |path| std::fs::read_to_string(path)) {
        Ok(Command::Serve(config)) => serve(*config),
        Ok(Command::Snapshot(command)) => snapshot_cli::run(&command),
        Ok(Command::Version) => print(&usage::version()),
        Ok(Command::Help) => print(&usage::help()),
        Err(error) => refuse(&error),
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    // A reader that has gone away has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("{error}");
    let about_snapshots = std::env::args().nth(1).is_some_and(|first| first == "snapshot");
    if error.exit_code() == 2 {
        eprint!("{}", if about_snapshots { snapshot::USAGE } else { usage::USAGE });
    }
    ExitCode::from(error.exit_code())
}

fn serve(mut config: Config) -> ExitCode {
    let host = advertise::this_machine(&mut config, default_host::find);
    if let Err(error) = log::install(&config.log) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    match host {
        Ok(Some(host)) => tracing::info!(%host, "detected default host for advertise"),
        Ok(None) => {}
        Err(error) => tracing::info!(%error, "failed to detect default host"),
    }
    match run::run(config) {
        Ok(Ended::Signal(signal)) => end_by(signal),
        // The cluster does not want this member back: starting again would not help.
        Ok(Ended::Stopped(StopReason::Asked | StopReason::Removed)) => ExitCode::SUCCESS,
        Ok(Ended::Stopped(StopReason::Fatal(_))) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(%error, "failed to start");
            ExitCode::FAILURE
        }
    }
}

/// Ends the process the way the signal would have, so that whoever sent it sees that it did; an init process of a
/// container cannot be ended by a signal and leaves in peace.
fn end_by(signal: i32) -> ExitCode {
    if std::process::id() != 1 {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    ExitCode::SUCCESS
}
