//! From what is durable to a running member: the core's threads, the peer port, and the tasks beside them.

use std::{
    sync::{Arc, atomic::AtomicBool, mpsc},
    thread,
    time::Duration,
};

use kvnode_mvcc::{Config as StoreConfig, RaftIndex, ScrubProgress, Store, lease::clock, watch::WatchLimits};
use kvnode_raft::{LogLevel, PreVote, RaftNode};
use tokio::{runtime, sync::watch};
use tracing::info;

use super::{Disk, Recovered, StartError};
use crate::{
    auth::Tokens,
    client::listen::{Expects, Listener},
    flags::config::Config,
    metrics::Metrics,
    node::{
        Identity, Node,
        apply_loop::{ApplyLoop, WatchListener},
        checkpoint::{Checkpoints, Growth},
        corruption, downgrade, hashes,
        id_gen::IdGenerator,
        identity::TokenListener,
        leases::{self, LeaseBook, LeaseListener},
        limits,
        peer_api::PeerApi,
        publish,
        raft_loop::RaftLoop,
        shared::{Leadership, Settings, Shared, SharedRef, Transport as _},
        stop::Threads,
        wal_loop::WalLoop,
    },
    peer::{self, Context, Dialer, Local, Peers},
    tls::{Acceptor, Connector, Policy, Side},
    watches::Watches,
};

/// What the state machine is told, from flags.
pub(super) fn store_config(config: &Config) -> StoreConfig {
    // Three heartbeats of an election timeout and a half, in whole seconds (etcd's `minTTL`).
    let election = config.election_timeout;
    let min_ttl = (election + election / 2).as_millis().div_ceil(1000);
    StoreConfig {
        min_lease_ttl_seconds: i64::try_from(min_ttl).unwrap_or(i64::MAX),
        max_learners: config.max_learners,
        quota_bytes: config.quota_bytes(),
    }
}

/// What the flags say about peers, found good: the ports are taken, and certificates and keys are there.
pub(super) struct PeerPort {
    listeners: Vec<Listener>,
    tls: Option<Acceptor>,
    dialer: Dialer,
}

impl PeerPort {
    /// Peers are refused until the member answers them: one that hangs would hold up others' start.
    pub(super) fn open(config: &Config) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        for url in &config.listen_peer_urls {
            listeners.push(Listener::bind("listen-peer-urls", url, config.socket)?);
        }
        let tls = match listeners.iter().all(|l| l.expects == Expects::Plain) {
            true => None,
            false => Some(Acceptor::load(Side::Peer, &config.peer_tls, &Policy::of(config))?),
        };
        Ok(Self { listeners, tls, dialer: dialer(config)? })
    }
}

/// How other members are dialled.
pub(super) fn dialer(config: &Config) -> Result<Dialer, StartError> {
    let files = &config.peer_tls;
    // A member that shows peers a certificate but names no authority trusts those of the system, as in etcd.
    let wanted = files.cert.is_some() || files.trusted_ca.is_some() || files.auto;
    let tls = match wanted {
        true => Some(Connector::load(Side::Peer, files, &Policy::of(config))?),
        false => None,
    };
    // etcd: one second and an election timeout.
    Ok(Dialer { tls, dial_timeout: Duration::from_secs(1) + config.election_timeout })
}

fn watch_limits(config: &Config) -> WatchLimits {
    let fragment_bytes = config.max_request_bytes + crate::limits::GRPC_OVERHEAD_BYTES;
    WatchLimits { fragment_bytes, ..WatchLimits::default() }
}

fn settings(config: &Config) -> Settings {
    Settings {
        tick: config.heartbeat_interval,
        election_timeout: config.election_timeout,
        request_timeout: config.request_timeout(),
        max_request_bytes: config.max_request_bytes,
        strict_reconfig_check: config.strict_reconfig_check,
        snapshot_count: config.snapshot_count,
        catchup_entries: config.snapshot_catchup_entries,
        warn_apply: config.warning_apply_duration,
    }
}

fn raft_config(config: &Config, id: u64, started: u64) -> kvnode_raft::Config {
    kvnode_raft::Config {
        id: kvnode_raft::MemberId(id),
        election_ticks: usize::try_from(config.election_ticks()).unwrap_or(usize::MAX),
        heartbeat_ticks: 1,
        pre_vote: if config.pre_vote { PreVote::On } else { PreVote::Off },
        max_message_bytes: limits::APPEND_BYTES,
        max_inflight_messages: limits::APPENDS_IN_FLIGHT,
        max_uncommitted_bytes: limits::UNCOMMITTED_BYTES,
        max_committed_bytes: limits::COMMITTED_BYTES,
        jitter_seed: id ^ started,
        log: Some(Arc::new(|level, text| match level {
            LogLevel::Error => tracing::error!("{text}"),
            LogLevel::Warning => tracing::warn!("{text}"),
            LogLevel::Info => tracing::info!("{text}"),
        })),
    }
}

/// Starts everything.
pub(super) fn assemble(
    config: &Config,
    disk: &Disk,
    port: PeerPort,
    recovered: Recovered,
    metrics: Arc<Metrics>,
    tokens: Arc<Tokens>,
) -> Result<Node, StartError> {
    let Recovered { identity, wal, raft, store, remotes } = recovered;
    let started = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    let growth = Growth::of(&raft.entries, raft.applied);
    let newest = raft.applied;
    let replayed = RaftIndex(raft.entries.last().map_or(raft.start.index, |entry| entry.index));
    let core = RaftNode::new(&raft_config(config, identity.member.0, started), raft)
        .map_err(|source| StartError::Raft { path: disk.wal_dir.clone(), source })?;
    let PeerPort { listeners, tls, dialer } = port;
    let view = store.view();
    let shared = share(config, identity, started, &store, metrics, tokens);
    let api = PeerApi::new(Arc::clone(&shared), disk.clone());
    let runtime = peer_runtime(&shared)?;
    let context = Context { local: local(config, &shared), dialer: dialer.clone(), api: Arc::clone(&api) };
    let peers = Peers::new(context, runtime.clone(), shared.stopper.token());
    peers.members_changed(&remotes, &view.removed_members());
    let threads = Threads::default();
    let node =
        Node { shared: Arc::clone(&shared), transport: peers.clone(), dialer, threads: threads.clone() };
    api.set_node(node.clone());
    for listener in listeners {
        listener.listen()?;
        info!(address = listener.address, "serving peer traffic");
        runtime.spawn(peer::listen(Arc::clone(&peers), listener, tls.clone(), shared.stopper.token()));
    }
    let apply = ApplyLoop {
        shared: Arc::clone(&shared),
        store,
        transport: peers.clone(),
        checkpoints: Checkpoints::new(
            disk.vfs.clone(),
            disk.data_dir.clone(),
            store_config(config),
            newest,
            growth,
        ),
        audience: vec![
            Box::new(LeaseListener(Arc::clone(&shared))),
            Box::new(TokenListener { shared: Arc::clone(&shared), replayed }),
            Box::new(WatchListener { shared: Arc::clone(&shared), compacted: view.compact_revision() }),
        ],
        answers: Vec::new(),
        physical: Vec::new(),
        // Whatever an earlier life left is taken up again.
        scrub: ScrubProgress::More,
        leads_from: None,
        replayed,
    };
    let log = WalLoop { shared: Arc::clone(&shared), wal, transport: peers.clone(), sync: sync_mode(config) };
    threads.spawn("wal", &shared, move || log.run());
    threads.spawn("apply", &shared, move || apply.run());
    let hasher = Arc::clone(&shared);
    threads.spawn("hash", &shared, move || hashes::run(&hasher));
    let raft_loop = RaftLoop::new(Arc::clone(&shared), core, peers.clone());
    threads.spawn("raft", &shared, move || raft_loop.run());
    spawn_tasks(config, &runtime, &node, &peers);
    Ok(node)
}

/// What all threads and tasks of the member know.
fn share(
    config: &Config,
    identity: Identity,
    started: u64,
    store: &Store,
    metrics: Arc<Metrics>,
    tokens: Arc<Tokens>,
) -> SharedRef {
    let checkpoints = match config.features.lease_checkpoint {
        true => clock::Checkpoints::On,
        false => clock::Checkpoints::Off,
    };
    let view = store.view();
    let shared = Arc::new(Shared {
        ids: IdGenerator::new(identity.member.0, started),
        settings: settings(config),
        inbox: Default::default(),
        wal: Default::default(),
        apply: Default::default(),
        waiters: Default::default(),
        applied_waiters: Default::default(),
        reader: store.reader(),
        watches: Watches::new(view.clone(), watch_limits(config)),
        hashes: Default::default(),
        leases: LeaseBook::new(view.leases(), checkpoints),
        tokens,
        metrics,
        stopper: Default::default(),
        leadership: watch::Sender::new(Leadership::default()),
        raft: Default::default(),
        ready_to_downgrade: AtomicBool::new(false),
        identity,
    });
    shared.tokens.reset(&view);
    shared.note_applied(&view);
    shared.note_membership(&view);
    shared
}

fn spawn_tasks(config: &Config, runtime: &runtime::Handle, node: &Node, peers: &Arc<Peers>) {
    let urls = config.advertise_client_urls.iter().map(ToString::to_string).collect();
    runtime.spawn(publish::attributes(node.clone(), urls));
    runtime.spawn(publish::cluster_version(node.clone()));
    runtime.spawn(downgrade::prepare(node.clone()));
    runtime.spawn(leases::drive(node.clone()));
    if !config.corrupt_check_time.is_zero() {
        runtime.spawn(corruption::periodic(node.clone(), config.corrupt_check_time));
    }
    if config.features.compact_hash_check {
        runtime.spawn(corruption::compactions(node.clone(), config.compact_hash_check_time));
    }
    if config.initial_election_tick_advance {
        let (peers, ticks) = (Arc::clone(peers), usize::try_from(config.election_ticks()).unwrap_or(1));
        runtime.spawn(publish::advance_election(
            node.clone(),
            move || peers.active(),
            ticks.saturating_sub(1),
        ));
    }
    // Whoever begins the end, the threads end in order.
    let (node, stop) = (node.clone(), node.shared.stopper.token());
    runtime.spawn(async move {
        stop.cancelled().await;
        tokio::task::spawn_blocking(move || node.threads.end(&node.shared));
    });
}

fn local(config: &Config, shared: &Shared) -> Local {
    let urls: Vec<String> = config.initial_advertise_peer_urls.iter().map(ToString::to_string).collect();
    Local { cluster: shared.identity.cluster, member: shared.identity.member, urls: urls.join(",") }
}

/// Peers get a thread with a runtime of their own, so that clients cannot hold up raft's messages.
fn peer_runtime(shared: &SharedRef) -> Result<runtime::Handle, StartError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    let handle = runtime.handle().clone();
    let (stop, (ready, started)) = (shared.stopper.token(), mpsc::channel());
    let run = move || {
        // Nobody waits for this but the line below.
        let _ = ready.send(());
        runtime.block_on(async {
            stop.cancelled().await;
            // Last messages, such as the one that hands leadership over, get out.
            tokio::time::sleep(Duration::from_millis(100)).await;
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
    };
    thread::Builder::new().name("peers".to_owned()).spawn(run).map_err(StartError::Runtime)?;
    // The thread runs from here on, or it would never have been made.
    let _ = started.recv();
    Ok(handle)
}

fn sync_mode(config: &Config) -> crate::node::wal_loop::SyncMode {
    use crate::node::wal_loop::SyncMode;
    if config.unsafe_no_fsync { SyncMode::Never } else { SyncMode::Always }
}
