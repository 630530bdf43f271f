//! Stock `etcdctl` and `etcdutl`: named by `ETCDCTL`/`ETCDUTL`, on the `PATH`, or built by this repository's `make`.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use super::Member;

/// `etcdctl` pointed at a member.
pub struct Etcdctl {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Etcdctl {
    /// `None`, with a note, where the tool is not installed.
    pub fn new(member: &Member) -> Option<Self> {
        let program = find("etcdctl")?;
        Some(Self { program, arguments: vec![format!("--endpoints={}", member.endpoint())] })
    }

    pub fn with(mut self, arguments: &[String]) -> Self {
        self.arguments.extend_from_slice(arguments);
        self
    }

    /// Runs a command that must succeed; its stdout without the last line end.
    pub fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "etcdctl {line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Runs a command that must fail; its stderr.
    pub fn fails(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(!output.status.success(), "etcdctl {line}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(line.split_whitespace());
        command
    }
}

/// Finds one of etcd's tools.
pub fn find(tool: &str) -> Option<PathBuf> {
    let named = std::env::var_os(tool.to_uppercase()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join(tool)).find(|file| file.is_file());
    let found = named.or(on_path).or_else(|| in_cache(tool));
    if found.is_none() {
        eprintln!("skipped: {tool} is not on PATH and {} is not set", tool.to_uppercase());
    }
    found
}

fn in_cache(tool: &str) -> Option<PathBuf> {
    let cache = PathBuf::from(std::env::var_os("HOME")?).join(".cache/kvnode/tools");
    let built = std::fs::read_dir(cache).ok()?.filter_map(|entry| Some(entry.ok()?.path().join(tool)));
    built
        .filter(|file| file.is_file())
        .max_by_key(|file| file.metadata().and_then(|meta| meta.modified()).ok())
}
