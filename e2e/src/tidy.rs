//! Rules about the source that a machine can check better than a reviewer.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A longer file must say in its first lines why it is one thing, with this word.
const LINES_MAX: usize = 800;
const LONG_FILE_REASON: &str = "One file because";

/// Longer functions are split.
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// Files that git knows or would add, with their text. Binary files are left out.
fn files() -> Vec<(String, String)> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("list files with git");
    let names = String::from_utf8(listing.stdout).expect("file names are UTF-8");
    names
        .lines()
        .filter_map(|name| Some((name.to_owned(), fs::read_to_string(root().join(name)).ok()?)))
        .collect()
}

fn rust_files() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter(|(name, _)| name.ends_with(".rs"))
}

fn report(rule: &str, mut offences: Vec<String>) {
    offences.sort();
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

#[test]
fn files_are_short_or_say_why_not() {
    let long = rust_files().filter(|(_, text)| text.lines().count() > LINES_MAX);
    let offences = long
        .filter(|(_, text)| !text.lines().take(30).any(|line| line.contains(LONG_FILE_REASON)))
        .map(|(name, text)| format!("{name}: {} lines", text.lines().count()))
        .collect();
    report(
        &format!("files have at most {LINES_MAX} lines, or say `{LONG_FILE_REASON} ...` at their head"),
        offences,
    );
}

#[test]
fn functions_are_short() {
    let mut offences = Vec::new();
    for (name, text) in rust_files() {
        for (line, length) in functions(&text) {
            if length > FUNCTION_LINES_MAX {
                offences.push(format!("{name}:{line}: {length} lines"));
            }
        }
    }
    report(&format!("functions have at most {FUNCTION_LINES_MAX} lines"), offences);
}

/// First line and length of each function, by the indentation that rustfmt guarantees.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim_start();
        let scoped = code.strip_prefix("pub(").and_then(|rest| rest.split_once(") "));
        let declares = scoped.map_or(code, |(_, rest)| rest).split('(').next().is_some_and(|head| {
            let mut words = head.split_whitespace();
            words.any(|word| word == "fn") && !code.starts_with("//") && !head.contains('"')
        });
        if declares && !code.ends_with(';') && !code.ends_with('}') {
            open.push((number + 1, indent));
        } else if code == "}"
            && let Some(&(start, at)) = open.last()
            && at == indent
        {
            open.pop();
            found.push((start, number + 2 - start));
        }
    }
    found
}

#[test]
fn modules_say_what_they_are() {
    let offences = rust_files()
        .filter(|(name, _)| !name.contains("/tests/it/") || name.ends_with("main.rs"))
        .filter(|(_, text)| !text.trim_start().starts_with("//!"))
        .map(|(name, _)| name)
        .collect();
    report("every Rust file opens with a `//!` comment that says what it is", offences);
}

#[test]
fn nothing_unfinished_is_committed() {
    // Spelled in pieces, so that this file does not offend against itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("#[ig", "nore")];
    let mut offences = Vec::new();
    for (name, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                offences.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report("unfinished work is finished or left out", offences);
}

#[test]
fn pure_crates_cannot_reach_the_world() {
    let bans: [(&str, &[&str]); 5] = [
        ("crds", &["tokio", "tonic"]),
        ("operator/plan", &["tokio", "tonic", "kube", "rand"]),
        ("kvnode/raft", &["tokio", "tonic", "kube"]),
        ("kvnode/mvcc", &["tokio", "tonic", "kube", "rand"]),
        ("kvnode/storage", &["tokio", "tonic", "kube", "raft"]),
    ];
    let mut offences = Vec::new();
    for (krate, banned) in bans {
        let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("read a manifest");
        let runtime = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for name in banned {
            let depends = |line: &str| line.split(['.', ' ', '=']).next() == Some(name);
            if runtime.lines().any(depends) {
                offences.push(format!("{krate}/Cargo.toml names {name}"));
            }
        }
    }
    report("a pure crate's manifest names no crate that does IO", offences);
}

#[test]
fn markdown_links_lead_somewhere() {
    let mut offences = Vec::new();
    for (name, text) in files().into_iter().filter(|(name, _)| name.ends_with(".md")) {
        let folder = root().join(&name).parent().expect("a file lies in a folder").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !elsewhere && !folder.join(path).exists() {
                offences.push(format!("{name}: {target}"));
            }
        }
    }
    report("links in documents lead to files that exist", offences);
}
