//! Runs `testdata/*.txt`: commands to a small cluster in memory and what it answers.
//!
//! A case is a line of commands, `----`, and the expected lines up to an empty line. `REWRITE=1 cargo test -p kvnode-raft`
//! writes what the cluster answers now; commit only differences you understand. The commands are in [`Cluster::run`].

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    fs,
    path::Path,
};

use bytes::Bytes;
use kvnode_proto::raftpb::{self, ConfChangeType, EntryType, MessageType};
use kvnode_raft::{
    Config, DurableState, LogStart, MemberId, PreVote, RaftNode, ReadIndex, Ready, ReplicationState, Role,
    SnapshotOutcome, conf_change,
};

/// One member: its core and what its disk holds.
struct Member {
    core: RaftNode,
    disk: DurableState,
    up: bool,
    /// Whether writes become durable at once, or wait for `persist`.
    slow_disk: bool,
    pending: VecDeque<Ready>,
    /// Whether the state machine keeps up, or waits for `apply`.
    slow_apply: bool,
    unapplied: VecDeque<Unapplied>,
    state: Vec<String>,
}

enum Unapplied {
    Entry(raftpb::Entry),
    Snapshot { index: u64, state: Bytes },
}

#[derive(Default)]
struct Cluster {
    members: BTreeMap<u64, Member>,
    network: VecDeque<raftpb::Message>,
    isolated: Vec<u64>,
    out: String,
}

fn config(id: u64) -> Config {
    Config {
        id: MemberId(id),
        election_ticks: 10,
        heartbeat_ticks: 1,
        pre_vote: PreVote::On,
        max_message_bytes: 1024,
        max_inflight_messages: 16,
        max_uncommitted_bytes: 4096,
        max_committed_bytes: 4096,
        jitter_seed: 1,
        log: None,
    }
}

fn kind(word: &str) -> ConfChangeType {
    match word {
        "add" => ConfChangeType::ConfChangeAddNode,
        "remove" => ConfChangeType::ConfChangeRemoveNode,
        "update" => ConfChangeType::ConfChangeUpdateNode,
        "learner" => ConfChangeType::ConfChangeAddLearnerNode,
        other => panic!("no such membership change: {other}"),
    }
}

impl Cluster {
    fn start(&mut self, id: u64, disk: DurableState, state: Vec<String>) {
        let core = RaftNode::new(&config(id), disk.clone()).expect("a consistent disk");
        let member = Member {
            core,
            disk,
            up: true,
            slow_disk: false,
            pending: VecDeque::new(),
            slow_apply: false,
            unapplied: VecDeque::new(),
            state,
        };
        self.members.insert(id, member);
    }

    fn bootstrap(&mut self, count: u64) {
        let entries: Vec<_> =
            (1..=count).map(|id| conf_change::bootstrap_entry(id, MemberId(id), Bytes::new())).collect();
        for id in 1..=count {
            let disk = DurableState {
                entries: entries.clone(),
                hard_state: raftpb::HardState { term: 1, vote: 0, commit: count },
                ..DurableState::default()
            };
            self.start(id, disk, Vec::new());
        }
    }

    fn get(&mut self, id: &str) -> &mut Member {
        let id: u64 = id.parse().expect("a member");
        self.members.get_mut(&id).expect("a member that was started")
    }

    /// One command; answers collect in `out`.
    fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["new", count] => {
                self.bootstrap(count.parse().expect("a count"));
                // An election waits until the bootstrap entries are applied.
                self.stabilize();
                self.out.clear();
            }
            ["join", id] => self.start(id.parse().expect("an ID"), DurableState::default(), Vec::new()),
            ["tick", id, count] => {
                for _ in 0..count.parse().expect("a count") {
                    self.get(id).core.tick();
                }
            }
            ["tick-all", count] => {
                for _ in 0..count.parse().expect("a count") {
                    self.members.values_mut().filter(|m| m.up).for_each(|m| m.core.tick());
                    self.stabilize();
                }
            }
            ["campaign", id] => self.get(id).core.campaign(),
            ["propose", id, data @ ..] => {
                let data = data.iter().map(|d| Bytes::copy_from_slice(d.as_bytes())).collect();
                let answer = self.get(id).core.propose(data);
                if let Err(e) = answer {
                    self.say(format_args!("refused: {e}"));
                }
            }
            ["conf-change", id, what, node] => self.conf_change(id, what, node),
            ["transfer", id, to] => {
                let to = MemberId(to.parse().expect("an ID"));
                self.get(id).core.transfer_leader(to);
            }
            ["step-down", id] => {
                self.get(id).core.step_down();
            }
            ["read", id, context] => {
                let answer = self.get(id).core.read_index(context.parse().expect("a number"));
                if answer == ReadIndex::NotNow {
                    self.say(format_args!("not now"));
                }
            }
            ["stabilize"] => self.stabilize(),
            // What it sends stays on its way.
            ["work", id] => {
                self.work(id.parse().expect("an ID"));
            }
            ["isolate", id] => self.isolated.push(id.parse().expect("an ID")),
            ["heal"] => self.isolated.clear(),
            ["crash", id] => self.crash(id),
            ["restart", id] => self.restart(id),
            ["slow-disk", id] => self.get(id).slow_disk = true,
            ["persist", id] => self.persist(id),
            ["slow-apply", id] => self.get(id).slow_apply = true,
            ["apply", id] => {
                self.get(id).slow_apply = false;
                self.apply_all(id.parse().expect("an ID"));
            }
            ["compact", id, index] => self.get(id).core.compact(index.parse().expect("an index")),
            ["deliver", rest @ ..] => self.deliver(rest),
            ["status", id] => self.status(id),
            ["state", id] => {
                let state = self.get(id).state.join(" ");
                self.say(format_args!("{id} applied: {state}"));
            }
            other => panic!("no such command: {other:?}"),
        }
    }

    fn say(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.out, "{text}").expect("a string takes any text");
    }

    fn conf_change(&mut self, id: &str, what: &str, node: &str) {
        let change = raftpb::ConfChange {
            r#type: kind(what) as i32,
            node_id: node.parse().expect("an ID"),
            ..raftpb::ConfChange::default()
        };
        if let Err(e) = self.get(id).core.propose_conf_change(&change) {
            self.say(format_args!("refused: {e}"));
        }
    }

    fn crash(&mut self, id: &str) {
        let member = self.get(id);
        member.up = false;
        member.pending.clear();
        member.unapplied.clear();
    }

    fn restart(&mut self, id: &str) {
        let (disk, state) = {
            let member = self.get(id);
            // The state machine here is as durable as the log: it restarts from what it had applied.
            (member.disk.clone(), member.state.clone())
        };
        self.start(id.parse().expect("an ID"), disk, state);
    }

    /// Rounds of work and deliveries until nothing moves.
    fn stabilize(&mut self) {
        loop {
            let ids: Vec<u64> = self.members.keys().copied().collect();
            let mut moved = false;
            for id in ids {
                moved |= self.work(id);
            }
            let batch: Vec<_> = self.network.drain(..).collect();
            moved |= !batch.is_empty();
            for m in batch {
                self.receive(m);
            }
            if !moved {
                return;
            }
        }
    }

    fn work(&mut self, id: u64) -> bool {
        let Some(member) = self.members.get_mut(&id).filter(|m| m.up && m.core.has_ready()) else {
            return false;
        };
        let mut ready = member.core.ready();
        let slow = member.slow_disk;
        let committed = std::mem::take(&mut ready.committed);
        member.unapplied.extend(committed.into_iter().map(Unapplied::Entry));
        if let Some((role, leader)) = ready.role_change {
            let (term, _) = member.core.term_and_commit();
            self.say(format_args!("{id} {role:?} term={term} leader={leader}"));
        }
        self.network.extend(std::mem::take(&mut ready.messages));
        for read in std::mem::take(&mut ready.read_states) {
            self.say(format_args!("{id} read {} safe at {}", read.context, read.index));
        }
        if slow {
            self.members.get_mut(&id).expect("is here").pending.push_back(ready);
        } else {
            self.write(id, ready);
        }
        self.apply_all(id);
        true
    }

    fn write(&mut self, id: u64, ready: Ready) {
        let member = self.members.get_mut(&id).expect("is here");
        let disk = &mut member.disk;
        if let Some(hs) = ready.hard_state {
            disk.hard_state = hs;
        }
        if let Some(meta) = ready.snapshot.as_ref().and_then(|s| s.metadata.clone()) {
            disk.start = LogStart { index: meta.index, term: meta.term };
            disk.entries.clear();
            disk.conf_state = meta.conf_state.unwrap_or_default();
            let state = ready.snapshot.map(|s| s.data).unwrap_or_default();
            member.unapplied.push_back(Unapplied::Snapshot { index: meta.index, state });
        }
        if let Some(first) = ready.entries.first() {
            let disk = &mut member.disk;
            disk.entries.retain(|e| e.index < first.index);
            disk.entries.extend(ready.entries);
        }
        member.core.persisted(ready.number);
        self.network.extend(ready.persisted_messages);
    }

    fn persist(&mut self, id: &str) {
        let number: u64 = id.parse().expect("an ID");
        self.get(id).slow_disk = false;
        while let Some(ready) = self.get(id).pending.pop_front() {
            self.write(number, ready);
        }
        self.apply_all(number);
    }

    fn apply_all(&mut self, id: u64) {
        let ready = |m: &mut Member| if m.slow_apply { None } else { m.unapplied.pop_front() };
        while let Some(next) = self.members.get_mut(&id).and_then(ready) {
            match next {
                Unapplied::Entry(entry) => self.apply(id, &entry),
                Unapplied::Snapshot { index, state } => {
                    let member = self.members.get_mut(&id).expect("is here");
                    member.core.applied(index);
                    member.disk.applied = index;
                    member.state = vec![String::from_utf8_lossy(&state).into_owned()];
                    self.say(format_args!("{id} installed a snapshot at {index}"));
                }
            }
        }
    }

    fn apply(&mut self, id: u64, entry: &raftpb::Entry) {
        let member = self.members.get_mut(&id).expect("is here");
        if entry.r#type == EntryType::EntryConfChange as i32 {
            let change = conf_change::decode(&entry.data).expect("a membership change");
            let conf = member.core.apply_conf_change(entry.index, &change).expect("a change that raft takes");
            member.disk.conf_state = conf.clone();
            member.state.push(format!("{:?}", conf.voters));
            let line = format!("{id} members: voters={:?} learners={:?}", conf.voters, conf.learners);
            self.say(format_args!("{line}"));
        } else if !entry.data.is_empty() {
            let data = String::from_utf8_lossy(&entry.data).into_owned();
            member.state.push(data.clone());
            self.say(format_args!("{id} applied {}@{} {data}", entry.index, entry.term));
        }
        let member = self.members.get_mut(&id).expect("is here");
        member.core.applied(entry.index);
        member.disk.applied = entry.index;
    }

    fn receive(&mut self, mut m: raftpb::Message) {
        let lost = self.isolated.contains(&m.from) || self.isolated.contains(&m.to);
        let snapshot = m.r#type == MessageType::MsgSnap as i32;
        if snapshot {
            // The sender attaches its state, as a transport does.
            let state = self.members[&m.from].state.join("+");
            if let Some(s) = m.snapshot.as_mut() {
                s.data = Bytes::from(state);
            }
        }
        let (from, to) = (m.from, m.to);
        let taken = match self.members.get_mut(&to) {
            Some(member) if member.up && !lost => match member.core.step(m) {
                Ok(()) => true,
                Err(e) => {
                    self.say(format_args!("{to} refused: {e}"));
                    false
                }
            },
            _ => false,
        };
        let Some(sender) = self.members.get_mut(&from).filter(|s| s.up) else { return };
        if snapshot {
            let outcome = if taken { SnapshotOutcome::Delivered } else { SnapshotOutcome::Failed };
            sender.core.report_snapshot(MemberId(to), outcome);
        } else if !taken {
            sender.core.report_unreachable(MemberId(to));
        }
    }

    /// `deliver MsgAppResp from=2 to=1 term=2 index=5 hint=3 logterm=1 reject`, `deliver MsgApp ... entries=6,7`
    fn deliver(&mut self, words: &[&str]) {
        let mut m = raftpb::Message::default();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, "1"));
            let number = || value.parse().expect("a number");
            match key {
                "from" => m.from = number(),
                "to" => m.to = number(),
                "term" => m.term = number(),
                "index" => m.index = number(),
                "hint" => m.reject_hint = number(),
                "logterm" => m.log_term = number(),
                "reject" => m.reject = true,
                "context" => {
                    m.context = Bytes::copy_from_slice(&number().to_be_bytes());
                    let read = raftpb::Entry { data: m.context.clone(), ..raftpb::Entry::default() };
                    m.entries.extend((m.r#type == MessageType::MsgReadIndex as i32).then_some(read));
                }
                "entries" => {
                    let entry = |index: &str| raftpb::Entry {
                        index: index.parse().expect("an index"),
                        term: m.term,
                        ..raftpb::Entry::default()
                    };
                    m.entries = value.split(',').map(entry).collect();
                }
                "joint" => {
                    m.entries = vec![raftpb::Entry { r#type: 2, ..raftpb::Entry::default() }];
                }
                name => m.r#type = MessageType::from_str_name(name).expect("a message type") as i32,
            }
        }
        self.receive(m);
    }

    fn status(&mut self, id: &str) {
        let s = self.get(id).core.status();
        let (first, last) = self.get(id).core.log_bounds();
        let role = match s.role {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate | Role::PreCandidate => "candidate",
        };
        self.say(format_args!("{role} term={} commit={} log={first}..={last}", s.term, s.commit));
        for p in s.progress {
            let state = match p.state {
                ReplicationState::Probe => "probe",
                ReplicationState::Replicate => "replicate",
                ReplicationState::Snapshot => "snapshot",
            };
            let learner = if p.learner { " learner" } else { "" };
            self.say(format_args!("  {}: matched={} next={} {state}{learner}", p.id, p.matched, p.next));
        }
    }
}

fn run_file(path: &Path) {
    let text = fs::read_to_string(path).expect("a script");
    let mut cluster = Cluster::default();
    let mut rewritten = String::new();
    let mut lines = text.lines().peekable();
    let mut failures = String::new();
    while let Some(line) = lines.next() {
        rewritten.push_str(line);
        rewritten.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line != "----" {
            cluster.run(line);
            continue;
        }
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|l| !l.is_empty()) {
            expected.push_str(line);
            expected.push('\n');
        }
        let got = std::mem::take(&mut cluster.out);
        rewritten.push_str(&got);
        if got != expected {
            write!(failures, "{}:\n--- expected\n{expected}--- got\n{got}\n", path.display())
                .expect("a string takes any text");
        }
    }
    if std::env::var_os("REWRITE").is_some() {
        fs::write(path, rewritten).expect("a writable script");
    } else {
        assert!(failures.is_empty(), "{failures}");
    }
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            run_file(&Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/testdata").join(concat!(stringify!($name), ".txt")));
        }
    )*};
}

scripts!(
    appends,
    async_append,
    election,
    learner_promotion,
    leader_transfer,
    membership,
    read_index,
    replication,
    restart,
    single_member,
    snapshot,
    stale_rejects,
);
