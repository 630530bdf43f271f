//! Server processes: a cluster of one or more members of etcd or of kvnode on loopback, with data in a directory that goes
//! with them. Both are started with the same arguments, but for ports and directories.

use std::{
    fs::File,
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::case::{End, Setup};

/// Longer than a start takes on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// Lines of a log that are shown when a start fails.
const LOG_LINES: usize = 10;

/// How often a condition is looked at again.
pub const POLL: Duration = Duration::from_millis(2);

/// Longest time from the end of a connection to that of its process.
const CRASH_MAX: Duration = Duration::from_millis(300);

/// The programs that are compared, and where their data lies meanwhile.
#[derive(Clone, Debug)]
pub struct Programs {
    pub etcd: PathBuf,
    pub kvnode: PathBuf,
    pub scratch: PathBuf,
}

/// Members of one cluster.
pub struct Cluster {
    members: Vec<Member>,
    /// Removed with the cluster.
    dir: TempDir,
}

struct Member {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl Cluster {
    /// Starts all members, without waiting for them.
    pub fn launch(program: &Path, setup: &Setup, scratch: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("differential-").tempdir_in(scratch)?;
        let ports = free_ports(setup.members * 2)?;
        let peers: Vec<String> = (0..setup.members).map(|n| peer_url(&ports, setup.members, n)).collect();
        let initial: Vec<String> = peers.iter().enumerate().map(|(n, url)| format!("m{n}={url}")).collect();
        let mut members = Vec::new();
        for (n, peer) in peers.iter().enumerate() {
            let (client_port, peer_port) = (ports[2 * n], ports[2 * n + 1]);
            let mut arguments = vec![
                format!("--name=m{n}"),
                format!("--data-dir={}", dir.path().join(format!("m{n}")).display()),
                format!("--listen-client-urls=http://127.0.0.1:{client_port}"),
                // Told to clients alone, so it may as well be the same on both sides.
                format!("--advertise-client-urls=http://m{n}.test:2379"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", initial.join(",")),
                "--log-level=warn".to_owned(),
            ];
            arguments.extend_from_slice(&setup.flags);
            let log = dir.path().join(format!("m{n}.log"));
            let mut member =
                Member { program: program.to_owned(), arguments, log, client_port, peer_port, child: None };
            member.launch()?;
            members.push(member);
        }
        Ok(Self { members, dir })
    }

    /// A place for files of this cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn client_port(&self, n: usize) -> u16 {
        self.members[n].client_port
    }

    pub fn peer_port(&self, n: usize) -> u16 {
        self.members[n].peer_port
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn runs(&self, n: usize) -> bool {
        self.members[n].child.is_some()
    }

    /// Waits until every member that runs serves linearizable reads.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.wait_until_ready().await?;
        }
        Ok(())
    }

    pub async fn stop(&mut self, n: usize, how: End) -> Result<()> {
        self.members[n].stop(how).await
    }

    /// Whether a member ended that nobody stopped, or is about to: connections end before their process does.
    pub async fn crashed(&mut self) -> Result<bool> {
        let deadline = Instant::now() + CRASH_MAX;
        while Instant::now() < deadline {
            for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
                if child.try_wait()?.is_some() {
                    return Ok(true);
                }
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    pub fn start(&mut self, n: usize) -> Result<()> {
        self.members[n].launch()
    }
}

/// A single member never dials itself, so both sides can be given the same URL and have the same ids.
fn peer_url(ports: &[u16], members: usize, n: usize) -> String {
    if members == 1 {
        "http://m0.test:2380".to_owned()
    } else {
        format!("http://127.0.0.1:{}", ports[2 * n + 1])
    }
}

/// Below those that outgoing connections get, as one of them could take a member's port while it is down.
const PORTS: Range<u16> = 10_000..32_000;

fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: Vec<TcpListener> = (0..1000)
        .filter_map(|_| TcpListener::bind(("127.0.0.1", rand::random_range(PORTS))).ok())
        .take(count)
        .collect();
    ensure!(held.len() == count, "find {count} free ports in {PORTS:?}: too many are in use");
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

impl Member {
    fn launch(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    async fn stop(&mut self, how: End) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        match how {
            End::Kill => child.kill()?,
            End::Term => {
                let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has a number")?;
                kill_process(pid, Signal::TERM)?;
            }
        }
        let deadline = Instant::now() + START_MAX;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
                bail!("{} does not stop", self.program.display());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        while self.child.is_some() && !self.serves().await {
            let ended = self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let tail = log.lines().rev().take(LOG_LINES).collect::<Vec<_>>().join("\n  ");
                bail!("{} does not serve; its log, newest first:\n  {tail}", self.program.display());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether it answers reads and the cluster has agreed on its version.
    async fn serves(&self) -> bool {
        let health = get(self.client_port, "/readyz?exclude=data_corruption").await;
        let version = get(self.client_port, "/version").await;
        matches!((health, version), (Ok(health), Ok(version))
            if health.starts_with("HTTP/1.1 200") && version.contains("\"etcdcluster\":\"3."))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; there is nobody to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
