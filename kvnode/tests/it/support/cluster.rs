//! Several kvnode processes that form a cluster on loopback.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use kvnode_proto::etcdserverpb::{
    HashKvRequest, MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest, MoveLeaderRequest,
    PutRequest, RangeRequest, StatusRequest, cluster_client::ClusterClient, kv_client::KvClient,
    maintenance_client::MaintenanceClient,
};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

use super::{KVNODE, Member, Options, certificates::Files, free_ports, writer::retry};

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
        Self::start_mixed([Path::new(KVNODE); 3], scheme, arguments)
    }

    /// As [`Self::start_with`], each member of a program of its own; with a scheme for peers.
    pub fn start_mixed(programs: [&Path; 3], scheme: &str, arguments: &[&str]) -> Self {
        let urls = free_ports::<3>().map(|port| format!("{scheme}://127.0.0.1:{port}")).to_vec();
        let mut cluster = Self {
            members: Vec::new(),
            dir: tempfile::tempdir().unwrap(),
            peer_urls: urls.clone(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        };
        for (n, program) in programs.into_iter().enumerate() {
            let member = cluster.launch(program, n, "new", &urls);
            cluster.members.push(member);
        }
        for member in &cluster.members {
            member.wait_for_log("ready to serve client requests");
        }
        cluster
    }

    fn launch(&self, program: &Path, n: usize, state: &str, urls: &[String]) -> Member {
        let mut arguments = vec![
            format!("--name=m{n}"),
            format!("--listen-peer-urls={}", urls[n]),
            format!("--initial-advertise-peer-urls={}", urls[n]),
            format!("--initial-cluster={}", names_and_urls(urls)),
            format!("--initial-cluster-state={state}"),
        ];
        arguments.extend(self.arguments.iter().cloned());
        let options = Options { arguments, scheme_tls: false };
        Member::launch_as(program, &self.dir.path().join(format!("m{n}-{}", self.peer_port(n))), options)
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
        self.join_as(Path::new(KVNODE));
    }

    /// As [`Self::join`], with a member of another program.
    pub fn join_as(&mut self, program: &Path) {
        let n = self.peer_urls.len() - 1;
        let member = self.launch(program, n, "existing", &self.peer_urls);
        member.wait_for_log("ready to serve client requests");
        self.members.push(member);
    }

    /// Replaces member `n` by one of another program with an empty volume: as a learner first, promoted when it has caught
    /// up, by way of another member.
    pub async fn replace(&mut self, n: usize, program: &Path) {
        let id = status(&self.members[n]).await.unwrap().header.unwrap().member_id;
        let client = membership(&self.members[self.other_than(n)]);
        let removal = MemberRemoveRequest { id };
        retry("etcdserver: ", async || client.clone().member_remove(removal).await).await;
        self.members[n].kill();
        // etcd waits for ever for the outcome of a change that an old leader took with it.
        self.leader().await;
        let [port] = free_ports();
        let scheme = self.peer_urls[n].split(':').next().unwrap().to_owned();
        self.peer_urls[n] = format!("{scheme}://127.0.0.1:{port}");
        let addition = MemberAddRequest { peer_ur_ls: vec![self.peer_urls[n].clone()], is_learner: true };
        let added = retry("etcdserver: ", async || client.clone().member_add(addition.clone()).await).await;
        self.members[n] = self.launch(program, n, "existing", &self.peer_urls);
        self.members[n].wait_for_log("ready to serve client requests");
        let promotion = MemberPromoteRequest { id: added.member.unwrap().id };
        retry("in sync with leader", async || client.clone().member_promote(promotion).await).await;
        let channel = self.members[n].channel();
        // It learns of its promotion a moment after the leader.
        retry("not supported for learner", async || {
            put(&channel, "promoted", "v").await.map(tonic::Response::new)
        })
        .await;
    }

    /// Makes member `n` the leader.
    pub async fn lead(&self, n: usize) {
        let target_id = status(&self.members[n]).await.unwrap().header.unwrap().member_id;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            if leader == n {
                return;
            }
            let mut client = MaintenanceClient::new(self.members[leader].channel());
            if let Err(e) = client.move_leader(MoveLeaderRequest { target_id }).await {
                // One that has just caught up may need another try.
                assert!(Instant::now() < deadline, "{e}");
            }
        }
    }

    /// Compares the members' data at one revision that all of them have.
    pub async fn assert_equal_hashes(&self) {
        let revision = status(&self.members[0]).await.unwrap().header.unwrap().revision;
        let request = HashKvRequest { revision };
        let mut found = Vec::new();
        for member in &self.members {
            // A compaction that was answered is not told in a revision: only this waits for it here.
            keys(member, false).await.unwrap();
            let client = MaintenanceClient::new(member.channel());
            let answer =
                retry("required revision is a future", async || client.clone().hash_kv(request).await);
            let answer = answer.await;
            found.push((answer.hash, answer.compact_revision, answer.hash_revision));
        }
        assert!(found.iter().all(|hash| *hash == found[0]), "at revision {revision}: {found:?}");
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
