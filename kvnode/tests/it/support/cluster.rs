//! Several kvnode processes that form a cluster on loopback.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kvnode_proto::etcdserverpb::{
    PutRequest, RangeRequest, StatusRequest, cluster_client::ClusterClient, kv_client::KvClient,
    maintenance_client::MaintenanceClient,
};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

use super::{Member, Options, certificates::Files, free_ports};

/// Longer than anything takes on a busy machine; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster whose members can be killed, stopped and started again one by one.
pub struct Cluster {
    pub members: Vec<Member>,
    dir: TempDir,
    peer_urls: Vec<String>,
    arguments: Vec<String>,
}

fn names_and_urls(peer_urls: &[String]) -> String {
    let pairs: Vec<String> = peer_urls.iter().zip(0..).map(|(url, n)| format!("m{n}={url}")).collect();
    pairs.join(",")
}

impl Cluster {
    /// Three members that were told of each other; returns when all of them serve.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Self::start`], with further flags for every member.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_over("http", arguments)
    }

    /// As [`Self::start`], with mutual TLS between members.
    pub fn start_secure(files: &Files) -> Self {
        let flags = files.peer_flags();
        Self::start_over("https", &flags.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn start_over(scheme: &str, arguments: &[&str]) -> Self {
        let urls = free_ports::<3>().map(|port| format!("{scheme}://127.0.0.1:{port}")).to_vec();
        let mut cluster = Self {
            members: Vec::new(),
            dir: tempfile::tempdir().unwrap(),
            peer_urls: urls.clone(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        };
        for n in 0..3 {
            let member = cluster.launch(n, "new", &urls);
            cluster.members.push(member);
        }
        for member in &cluster.members {
            member.wait_for_log("ready to serve client requests");
        }
        cluster
    }

    fn launch(&self, n: usize, state: &str, urls: &[String]) -> Member {
        let mut arguments = vec![
            format!("--name=m{n}"),
            format!("--listen-peer-urls={}", urls[n]),
            format!("--initial-advertise-peer-urls={}", urls[n]),
            format!("--initial-cluster={}", names_and_urls(urls)),
            format!("--initial-cluster-state={state}"),
        ];
        arguments.extend(self.arguments.iter().cloned());
        let options = Options { arguments, scheme_tls: false };
        Member::launch_in(&self.dir.path().join(format!("m{n}")), options)
    }

    /// Reserves a peer URL for a further member.
    pub fn new_peer_url(&mut self) -> String {
        let [port] = free_ports();
        let url = format!("http://127.0.0.1:{port}");
        self.peer_urls.push(url.clone());
        url
    }

    /// Starts a member that was added with the last reserved URL.
    pub fn join(&mut self) {
        let n = self.peer_urls.len() - 1;
        let member = self.launch(n, "existing", &self.peer_urls);
        member.wait_for_log("ready to serve client requests");
        self.members.push(member);
    }

    /// Where member `n` listens for its peers.
    pub fn peer_port(&self, n: usize) -> u16 {
        self.peer_urls[n].rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Position of the member that leads, once some member knows one that runs.
    pub async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for member in &self.members {
                let Ok(status) = status(member).await else { continue };
                for (n, other) in self.members.iter().enumerate() {
                    let Ok(other) = self::status(other).await else { continue };
                    if other.header.unwrap().member_id == status.leader && other.leader == status.leader {
                        return n;
                    }
                }
            }
            assert!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Any position but this one.
    pub fn other_than(&self, n: usize) -> usize {
        (n + 1) % self.members.len()
    }

    /// Waits until member `n` holds exactly what `expected` says, asking it alone.
    pub async fn wait_for_keys(&self, n: usize, expected: &BTreeMap<String, String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = keys(&self.members[n], true).await;
            if found.as_ref() == Ok(expected) {
                return;
            }
            assert!(Instant::now() < deadline, "member {n} holds {found:?}, not {expected:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What a member says of itself.
pub async fn status(member: &Member) -> Result<kvnode_proto::etcdserverpb::StatusResponse, Status> {
    let mut client = MaintenanceClient::new(member.channel());
    Ok(client.status(StatusRequest::default()).await?.into_inner())
}

/// All keys of a member: its own view if `serializable`, else everything committed anywhere.
pub async fn keys(member: &Member, serializable: bool) -> Result<BTreeMap<String, String>, String> {
    let request = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        serializable,
        ..RangeRequest::default()
    };
    let mut client = KvClient::new(member.channel());
    let answer = client.range(request).await.map_err(|e| e.to_string())?.into_inner();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(answer.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect())
}

/// Puts one key through one member.
pub async fn put(channel: &Channel, key: &str, value: &str) -> Result<(), Status> {
    let request =
        PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
    KvClient::new(channel.clone()).put(request).await.map(drop)
}

/// A client of the membership service.
pub fn membership(member: &Member) -> ClusterClient<Channel> {
    ClusterClient::new(member.channel())
}
