//! One kvnode process.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use super::free_ports;

/// Longer than anything takes on a busy machine; only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a member is started.
#[derive(Default)]
pub struct Options {
    /// Arguments beside names, ports and directories.
    pub arguments: Vec<String>,
    pub scheme_tls: bool,
}

impl Options {
    pub fn with(arguments: &[&str]) -> Self {
        Self { arguments: arguments.iter().map(|text| (*text).to_owned()).collect(), scheme_tls: false }
    }
}

/// A running (or ended) member; killed when dropped.
pub struct Member {
    child: Child,
    log: Arc<Log>,
    program: PathBuf,
    arguments: Vec<String>,
    pub client_port: u16,
    pub peer_port: u16,
    pub metrics_port: u16,
    pub scheme: &'static str,
    data_dir: PathBuf,
    _dir: Option<TempDir>,
}

/// Everything the process wrote to stderr so far.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

impl Log {
    fn follow(self: Arc<Self>, stderr: impl std::io::Read + Send + 'static) {
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                self.lines.lock().unwrap().0.push(line);
                self.grown.notify_all();
            }
            self.lines.lock().unwrap().1 = true;
            self.grown.notify_all();
        });
    }

    /// Waits for a line with `part`, among those from `from` on.
    fn wait(&self, part: &str, from: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.0[from..].iter().find(|line| line.contains(part)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !lines.1, "no line with {part:?} in:\n{}", lines.0.join("\n"));
            lines = self.grown.wait_timeout(lines, left).unwrap().0;
        }
    }
}

impl Member {
    /// Starts a single member and waits until it serves.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts a single member with further flags and waits until it serves.
    pub fn start_with(options: Options) -> Self {
        let member = Self::launch(options);
        member.wait_for_log("ready to serve client requests");
        member
    }

    /// Starts a single member in a fresh directory.
    pub fn launch(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let mut member = Self::launch_in(&data_dir, options);
        member._dir = Some(dir);
        member
    }

    /// Starts a single member on a given data directory.
    pub fn launch_in(data_dir: &Path, options: Options) -> Self {
        Self::launch_as(Path::new(KVNODE), data_dir, options)
    }

    /// Starts a single member of kvnode's or etcd's program on a given data directory.
    pub fn launch_as(program: &Path, data_dir: &Path, options: Options) -> Self {
        let [client_port, peer_port, metrics_port] = free_ports();
        let scheme = if options.scheme_tls { "https" } else { "http" };
        let mut arguments = vec![
            format!("--data-dir={}", data_dir.display()),
            format!("--listen-client-urls={scheme}://127.0.0.1:{client_port}"),
            format!("--advertise-client-urls={scheme}://127.0.0.1:{client_port}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}"),
            format!("--listen-metrics-urls=http://127.0.0.1:{metrics_port}"),
        ];
        let discovers = options.arguments.iter().any(|argument| argument.starts_with("--discovery-"));
        if program != Path::new(KVNODE) && !discovers {
            // etcd insists on it where nothing is as by default.
            let name = options.arguments.iter().find_map(|argument| argument.strip_prefix("--name="));
            let name = name.unwrap_or("default");
            arguments.push(format!("--initial-cluster={name}=http://127.0.0.1:{peer_port}"));
        }
        arguments.extend(options.arguments);
        let (child, log) = spawn(program, &arguments);
        Self {
            child,
            log,
            program: program.to_owned(),
            arguments,
            client_port,
            peer_port,
            metrics_port,
            scheme,
            data_dir: data_dir.to_owned(),
            _dir: None,
        }
    }

    /// Ends the process at once, as a power cut would end it, and starts it again with the same arguments.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Ends the process at once.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the ended process again with the same arguments.
    pub fn launch_again(&mut self) {
        (self.child, self.log) = spawn(&self.program, &self.arguments);
    }

    /// Lets another program go on where the ended one stopped, at the same place with the same arguments, and waits until
    /// it serves.
    pub fn restart_as(&mut self, program: &Path) {
        self.launch_again_as(program);
        self.wait_for_log("ready to serve client requests");
    }

    /// As [`Self::restart_as`], without waiting.
    pub fn launch_again_as(&mut self, program: &Path) {
        self.program = program.to_owned();
        self.launch_again();
    }

    /// Ends the process as a service manager would.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        self.wait();
    }

    /// Starts the ended process again and waits until it serves.
    pub fn restart(&mut self) {
        self.launch_again();
        self.wait_for_log("ready to serve client requests");
    }

    pub fn wait_for_log(&self, part: &str) -> String {
        self.log.wait(part, 0)
    }

    /// Lines so far; with [`Self::wait_for_log_after`] waits for what comes after this moment.
    pub fn log_position(&self) -> usize {
        self.log.lines.lock().unwrap().0.len()
    }

    pub fn wait_for_log_after(&self, position: usize, part: &str) -> String {
        self.log.wait(part, position)
    }

    pub fn log_text(&self) -> String {
        // A wait that failed has poisoned it.
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).0.join("\n")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running:\n{}", self.log_text());
            thread::yield_now();
        }
    }

    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client_port)
    }

    /// Where a single member is reached by its peers.
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A gRPC connection; plain only.
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(self.endpoint()).unwrap().connect_lazy()
    }

    /// An HTTP/1.1 GET on the client port: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(self.client_port, path)
    }

    /// An HTTP/1.1 GET on the metrics port: status and body.
    pub fn get_metrics_port(&self, path: &str) -> (u16, String) {
        get(self.metrics_port, path)
    }

    /// The value of a metric, by its name and labels as printed.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get_metrics_port("/metrics");
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("log of the member:\n{}", self.log_text());
        }
    }
}

/// The program under test.
pub const KVNODE: &str = env!("CARGO_BIN_EXE_kvnode");

/// A script, `name` in `dir`, that does `change` to the process and then is kvnode.
pub fn wrapper(dir: &Path, name: &str, change: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{change}\nexec '{KVNODE}' \"$@\"\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn spawn(program: &Path, arguments: &[String]) -> (Child, Arc<Log>) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Log::default());
    Arc::clone(&log).follow(child.stderr.take().unwrap());
    (child, log)
}

/// A plain HTTP/1.1 GET: status and body. Tries until somebody listens.
pub fn get(port: u16, path: &str) -> (u16, String) {
    use std::io::{Read, Write};
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match std::net::TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "port {port}: {error}"),
        }
        thread::yield_now();
    };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}
