//! Usage, help, and `FLAGS.md`, all printed from [`super::table`].

use std::fmt::Write;

use super::{
    table::{Effect, FLAGS, Flag, Kind},
    variable,
};

/// The version of etcd that kvnode stands for: clients choose features by it.
pub const ETCD_VERSION: &str = "3.7.3";

/// What goes to stderr after a wrong command line.
pub const USAGE: &str = "Usage:

  kvnode [flags]
    Run a member. Without flags: a single member on http://localhost:2379, data in default.etcd.

  kvnode snapshot status|restore FILE [flags]
    Look at a snapshot file, or make a data directory of it.

  kvnode --version
    Show the versions.

  kvnode -h | --help
    Show all flags. Each can also be given as an environment variable: --data-dir as ETCD_DATA_DIR.
";

/// What `--version` prints: etcd's lines, which tools parse, then kvnode's own.
pub fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: Not provided (use ./build instead of go build)\nGo Version: none\n\
         Go OS/Arch: {}/{}\nkvnode Version: {}\n",
        std::env::consts::OS,
        go_arch(),
        env!("CARGO_PKG_VERSION"),
    )
}

/// Go's name of this machine's architecture.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What `--help` prints.
pub fn help() -> String {
    let mut text = USAGE.to_owned();
    let mut group = None;
    for flag in FLAGS {
        if group.replace(flag.group) != Some(flag.group) {
            let _ = write!(text, "\n{}:\n", flag.group.title());
        }
        let _ = writeln!(text, "  --{} '{}'\n    {}", flag.name, flag.default, meaning(flag));
    }
    text
}

fn meaning(flag: &Flag) -> String {
    match flag.effect {
        Effect::Works => flag.help.to_owned(),
        Effect::Ignored(why) => format!("Accepted without effect: {why}."),
    }
}

/// The whole of `kvnode/FLAGS.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Flags of kvnode\n\nNames and defaults are etcd's. A switch takes a value only after `=`. A variable counts where its flag is not\n\
         given; giving both is refused. Spellings with `experimental-` are understood.\n",
    );
    let mut group = None;
    for flag in FLAGS {
        if group.replace(flag.group) != Some(flag.group) {
            let _ = write!(
                text,
                "\n## {}\n\n| flag | default | meaning | variable |\n|---|---|---|---|\n",
                flag.group.title()
            );
        }
        let kind = if flag.kind == Kind::Switch { " (switch)" } else { "" };
        let default = if flag.default.is_empty() { String::new() } else { format!("`{}`", flag.default) };
        let _ = writeln!(
            text,
            "| `--{}`{kind} | {default} | {} | `{}` |",
            flag.name,
            meaning(flag).replace('|', "\\|"),
            variable(flag.name)
        );
    }
    text
}
