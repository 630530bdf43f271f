//! Runs the scripts in `testdata/`: commands, a line of four dashes, and what they must print.
//!
//! To accept new output after reading it: `REWRITE=1 cargo test -p kvnode-mvcc --test it`, then review the diff.

use std::{fmt::Write, fs, path::Path};

use crate::command::World;

#[test]
fn scripts_print_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let script = fs::read_to_string(&path).unwrap();
        let printed = run(&script);
        if std::env::var_os("REWRITE").is_some() {
            fs::write(&path, printed).unwrap();
        } else {
            assert_eq!(script, printed, "{}: rerun with REWRITE=1 and review the diff", path.display());
        }
    }
}

/// Runs a script and returns it with what its commands really print.
fn run(script: &str) -> String {
    let mut world = World::default();
    let mut printed = String::new();
    for block in script.trim_end().split("\n\n") {
        let commands = block.split("\n----").next().unwrap_or_default();
        let is_comment = commands.lines().all(|line| line.starts_with('#'));
        writeln!(printed, "{commands}").unwrap();
        if !is_comment {
            printed.push_str("----\n");
            for command in split(commands) {
                printed.push_str(&world.run(&command));
            }
        }
        printed.push('\n');
    }
    format!("{}\n", printed.trim_end())
}

/// A command is a line with the indented lines that follow it.
fn split(commands: &str) -> Vec<Vec<&str>> {
    let mut all: Vec<Vec<&str>> = Vec::new();
    for line in commands.lines().filter(|line| !line.starts_with('#')) {
        match all.last_mut() {
            Some(command) if line.starts_with(' ') => command.push(line),
            _ => all.push(vec![line]),
        }
    }
    all
}
