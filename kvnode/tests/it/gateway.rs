//! The JSON gateway and its neighbours on the client port: scripts of requests with the answers that etcd 3.7.3 gives.
//!
//! Each script in `tests/testdata` runs against kvnode, and against etcd itself where that is installed; both must answer
//! as written. Lines of a script: a request (`POST /path {body}`; `POST*2` reads two lines of a stream and leaves), its
//! headers (`+ Name: value`), its answer (`= ...`). `UPDATE_TESTDATA=1` writes down what etcd answers.

use std::{
    fmt::Write as _,
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::support::{
    Member, Options, block_on, etcdctl, free_ports,
    http::{Answer, Until, send},
    member::get,
};

/// What differs from run to run or, as sizes do, from implementation to implementation.
const MASKED: &[&str] = &[
    "cluster_id",
    "member_id",
    "raft_term",
    "raftIndex",
    "raftTerm",
    "raftAppliedIndex",
    "leader",
    "dbSize",
    "dbSizeInUse",
    "token",
];

/// Headers of an answer that clients may look at.
const SHOWN: &[&str] = &[
    "access-control-allow-origin",
    "allow",
    "content-type",
    "grpc-metadata-content-type",
    "www-authenticate",
    "x-content-type-options",
];

struct Step {
    /// As it stands in the script, without the answer.
    text: String,
    method: Method,
    path: String,
    body: String,
    headers: Vec<(HeaderName, String)>,
    until: Until,
    expected: String,
}

fn parse(script: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut comment = String::new();
    for line in script.lines() {
        if let Some(answer) = line.strip_prefix("= ") {
            let step = steps.last_mut().unwrap();
            step.expected += answer;
            step.expected.push('\n');
        } else if let Some(header) = line.strip_prefix("+ ") {
            let (name, value) = header.split_once(": ").unwrap();
            let step = steps.last_mut().unwrap();
            step.headers.push((HeaderName::try_from(name).unwrap(), value.to_owned()));
            writeln!(step.text, "{line}").unwrap();
        } else if line.is_empty() || line.starts_with('#') {
            writeln!(comment, "{line}").unwrap();
        } else {
            steps.push(request(&std::mem::take(&mut comment), line));
        }
    }
    steps
}

fn request(comment: &str, line: &str) -> Step {
    let mut words = line.splitn(3, ' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let (method, until) = match method.split_once('*') {
        Some((method, lines)) => (method, Until::Lines(lines.parse().unwrap())),
        None => (method, Until::End),
    };
    Step {
        text: format!("{comment}{line}\n"),
        method: method.parse().unwrap(),
        path: path.to_owned(),
        body: words.next().unwrap_or_default().replace("{2MiB}", &"A".repeat(2 << 20)),
        headers: Vec::new(),
        until,
        expected: String::new(),
    }
}

/// The script with the answers of whoever listens on the port.
fn played(steps: &[Step], port: u16) -> String {
    let (mut text, mut token) = (String::new(), String::new());
    for step in steps {
        text += &step.text;
        let value = |value: &String| HeaderValue::try_from(value.replace("{token}", &token)).unwrap();
        let headers: HeaderMap =
            step.headers.iter().map(|(name, text)| (name.clone(), value(text))).collect();
        let answer = block_on(send(port, &step.method, &step.path, &headers, &step.body, step.until));
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(&answer.body)
            && let Some(given) = json["token"].as_str()
        {
            token = given.to_owned();
        }
        for line in rendered(&answer).lines() {
            text += "= ";
            text += line;
            text.push('\n');
        }
    }
    text
}

fn rendered(answer: &Answer) -> String {
    let mut text = answer.status.to_string();
    for name in SHOWN {
        if let Some(value) = answer.headers.get(*name) {
            write!(text, " [{name}: {}]", value.to_str().unwrap()).unwrap();
        }
    }
    text.push('\n');
    for line in answer.body.lines() {
        let line = if line.starts_with('{') { masked(&compact(line)) } else { line.to_owned() };
        text += &line;
        text.push('\n');
    }
    text
}

/// Without the white space that Go's encoder strews between tokens at random, per build.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |character: &char| {
        if in_string {
            in_string = escaped || *character != '"';
            escaped = *character == '\\' && !escaped;
            return true;
        }
        in_string = *character == '"';
        !character.is_whitespace()
    };
    json.chars().filter(keep).collect::<String>().replace("proto:\u{a0}", "proto: ")
}

fn masked(json: &str) -> String {
    // What kvnode says beyond etcd.
    let mut text = json.replace(concat!(",\"kvnode\":\"", env!("CARGO_PKG_VERSION"), "\""), "");
    for key in MASKED {
        let before = format!("\"{key}\":\"");
        let mut from = 0;
        while let Some(at) = text[from..].find(&before) {
            let start = from + at + before.len();
            let end = start + text[start..].find('"').unwrap();
            text.replace_range(start..end, "?");
            from = start;
        }
    }
    text
}

/// etcd on free ports.
struct Etcd {
    process: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Etcd {
    fn start(flags: &[&str]) -> Option<Self> {
        let program = etcdctl::find("etcd")?;
        let dir = tempfile::tempdir().unwrap();
        let [port, peer] = free_ports();
        let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
        let process = Command::new(program)
            .arg(format!("--data-dir={}", dir.path().display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .arg(format!("--initial-cluster=default={peer}"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let etcd = Self { process, port, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        while get(port, "/readyz").0 != 200 {
            assert!(Instant::now() < deadline, "etcd does not become ready");
        }
        Some(etcd)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn plays(name: &str, flags: &[&str]) {
    let path = format!("{}/tests/testdata/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let mut script = fs::read_to_string(&path).unwrap();
    let steps = parse(&script);
    if let Some(etcd) = Etcd::start(flags) {
        let answered = played(&steps, etcd.port);
        if std::env::var_os("UPDATE_TESTDATA").is_some() {
            fs::write(&path, &answered).unwrap();
            script = answered;
        } else {
            same(&script, &answered, "etcd");
        }
    }
    let member = Member::start_with(Options::with(flags));
    same(&script, &played(&steps, member.client_port), "kvnode");
}

fn same(script: &str, answered: &str, who: &str) {
    let mut asked = "";
    for (number, (expected, found)) in (1..).zip(script.lines().zip(answered.lines())) {
        if !found.starts_with('=') {
            asked = found;
        }
        assert!(expected == found, "line {number}, after {asked}\nscript: {expected}\n{who}: {found}");
    }
    assert_eq!(script.lines().count(), answered.lines().count(), "{who} said more, or less");
}

#[test]
fn json_is_answered_as_by_etcd() {
    plays("gateway", &[]);
}

#[test]
fn users_are_known_by_their_tokens() {
    plays("gateway_auth", &[]);
}

#[test]
fn locks_and_elections_are_reached() {
    plays("gateway_lock", &[]);
}

#[test]
fn without_the_gateway_its_paths_are_unknown() {
    plays(
        "no_gateway",
        &[
            "--enable-grpc-gateway=false",
            "--cors=https://a.example:8443",
            "--host-whitelist=127.0.0.1,localhost",
        ],
    );
}
