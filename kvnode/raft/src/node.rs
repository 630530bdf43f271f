//! The raft core of one member.

use bytes::Bytes;
use kvnode_proto::raftpb;
use raft::{
    RawNode, StateRole,
    eraftpb::{self, MessageType},
};

use crate::{
    conf_change, convert,
    error::{ConfChangeError, ProposeError, StartError, StepError},
    id::MemberId,
    log::{LogStart, MemoryLog},
    logger::{self, LogSink},
    ready::{ReadState, Ready},
    status::{PeerProgress, ReplicationState, Role, Status},
};

/// Settings of a core. Times are in ticks; the caller decides how long a tick is.
#[derive(Clone)]
pub struct Config {
    /// Own ID.
    pub id: MemberId,
    /// Ticks without a leader before an election; each election waits up to twice as long.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Whether to ask before disturbing: etcd's `--pre-vote`.
    pub pre_vote: PreVote,
    /// Largest append message, in bytes of entries; one entry always fits.
    pub max_message_bytes: u64,
    /// Append messages in flight to one member.
    pub max_inflight_messages: usize,
    /// Bytes of entries that a leader takes before they commit.
    pub max_uncommitted_bytes: u64,
    /// Bytes of committed entries handed out in one [`Ready`].
    pub max_committed_bytes: u64,
    /// Where election jitter comes from: equal seeds and inputs give equal elections.
    pub jitter_seed: u64,
    /// Receives log lines.
    pub log: Option<LogSink>,
}

/// Whether an election begins with a round that disturbs nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreVote {
    /// Ask first.
    On,
    /// Campaign at once.
    Off,
}

/// What a member's disk held when it started. A new member's is the default.
#[derive(Debug, Clone, Default)]
pub struct DurableState {
    /// Where the log starts.
    pub start: LogStart,
    /// All entries after it.
    pub entries: Vec<raftpb::Entry>,
    /// Newest hard state.
    pub hard_state: raftpb::HardState,
    /// What the state machine has applied.
    pub applied: u64,
    /// Membership as of `applied`. Empty when nothing was applied: the log brings it.
    pub conf_state: raftpb::ConfState,
}

/// What became of a request to confirm leadership for a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadIndex {
    /// A [`ReadState`] will follow, unless leadership or messages are lost.
    Started,
    /// Nobody leads, or the leader is too new to know what is committed: try again when that changes.
    NotNow,
}

/// How sending a snapshot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// The member took it.
    Delivered,
    /// It did not arrive or was refused.
    Failed,
}

/// The raft core of one member: see the crate's documentation for how to drive it.
pub struct RaftNode {
    raw: RawNode<MemoryLog>,
    jitter_seed: u64,
    /// Elections begun: with term and seed it makes the next timeout.
    elections: u64,
    last_ready: u64,
    persisted: u64,
    /// The newest term and vote, and the Ready that brought them.
    vote: (u64, u64),
    vote_ready: u64,
    /// Others' reads that this member was asked to confirm as leader.
    reads: u64,
}

impl RaftNode {
    /// A core that continues from what is durable. Creating a cluster is continuing from bootstrap entries that are
    /// already committed ([`conf_change::bootstrap_entry`]); joining one is continuing from nothing.
    ///
    /// # Errors
    /// When log, hard state and applied index contradict each other, or a setting is out of range.
    pub fn new(config: &Config, state: DurableState) -> Result<Self, StartError> {
        let DurableState { start, entries, mut hard_state, applied, conf_state } = state;
        let last = check_log(start, &entries)?;
        if hard_state.commit > last {
            return Err(StartError::CommitBeyondLog { commit: hard_state.commit, last });
        }
        if applied > last {
            return Err(StartError::AppliedBeyondLog { applied, last });
        }
        let applied = applied.max(start.index);
        // The commit index is written lazily, so the state machine may know better than the log.
        if hard_state.commit < applied {
            hard_state.commit = applied;
        }
        let vote = (hard_state.term, hard_state.vote);
        let log = MemoryLog::new(start, entries, hard_state, applied, conf_state);
        let raft_config = raft::Config {
            id: config.id.0,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied,
            max_size_per_msg: config.max_message_bytes,
            max_inflight_msgs: config.max_inflight_messages,
            check_quorum: true,
            pre_vote: config.pre_vote == PreVote::On,
            read_only_option: raft::ReadOnlyOption::Safe,
            // The released raft crate adds entries to any append that waits to be sent and has none, wherever that one
            // begins. A member that takes them answers for entries it never got.
            batch_append: false,
            max_uncommitted_size: config.max_uncommitted_bytes,
            max_committed_size_per_ready: config.max_committed_bytes,
            ..raft::Config::default()
        };
        let raw = RawNode::new(&raft_config, log, &logger::logger(config.log.clone()))
            .map_err(|e| StartError::Config(e.to_string()))?;
        Ok(Self {
            raw,
            jitter_seed: config.jitter_seed,
            elections: 0,
            last_ready: 0,
            persisted: 0,
            vote,
            vote_ready: 0,
            reads: 0,
        })
    }

    /// One tick of time passed.
    pub fn tick(&mut self) {
        if self.must_not_campaign() {
            // Time passes all the same: it must not keep its vote for a leader that is gone.
            let raft = &mut self.raw.raft;
            raft.election_elapsed = (raft.election_elapsed + 1).min(raft.election_timeout());
            return;
        }
        self.set_jitter();
        self.raw.tick();
        // An election timeout passed, or a leader's quorum check: either way the next draw may differ.
        if self.raw.raft.election_elapsed == 0 {
            self.elections += 1;
        }
    }

    /// A sole voter wins an election by itself, and the core then takes its whole log for durable. While entries it got
    /// as a follower are still being written it must not begin one.
    fn waits_for_own_log(&self) -> bool {
        let raft = &self.raw.raft;
        raft.state != StateRole::Leader
            && raft.prs().is_singleton()
            && raft.raft_log.last_index() != raft.raft_log.persisted
    }

    /// A received snapshot is in the log but not yet in the state machine. An election begins by looking for membership
    /// changes among the entries from the applied to the committed one, and the raft crate panics when they are gone.
    fn waits_for_snapshot(&self) -> bool {
        self.raw.store().start().index > self.raw.raft.raft_log.applied
    }

    fn must_not_campaign(&self) -> bool {
        self.waits_for_own_log() || self.waits_for_snapshot()
    }

    /// Lets `ticks` of the first election timeout count as passed, as etcd's `--initial-election-tick-advance` does.
    /// At least one tick is left, so that a leader can still be heard first.
    pub fn advance_election(&mut self, ticks: usize) {
        if self.raw.raft.leader_id != 0 {
            return;
        }
        let left = self.raw.raft.election_timeout().saturating_sub(1);
        for _ in 0..ticks.min(left) {
            self.tick();
        }
    }

    /// Whether this member is the only voter, has applied all it knows to be committed, and so may campaign at once.
    #[must_use]
    pub fn is_sole_voter(&self) -> bool {
        let raft = &self.raw.raft;
        raft.prs().is_singleton() && raft.promotable() && raft.raft_log.applied == raft.raft_log.committed
    }

    /// Begins an election now.
    pub fn campaign(&mut self) {
        if self.must_not_campaign() {
            return;
        }
        self.elections += 1;
        // Refused only for states in which an election makes no sense.
        let _ = self.raw.campaign();
    }

    /// Takes a message from a peer.
    ///
    /// # Errors
    /// When the message is not for the core: of a local type, from a stranger, or a proposal that cannot be taken.
    pub fn step(&mut self, m: raftpb::Message) -> Result<(), StepError> {
        let from = MemberId(m.from);
        let local = StepError::Local { from, kind: m.r#type };
        if raftpb::MessageType::try_from(m.r#type).is_err() {
            return Err(local);
        }
        conf_change::check_proposal(&m.entries).map_err(|source| StepError::ConfChange { from, source })?;
        if let Some(after) = gap(&m) {
            return Err(StepError::Gap { from, after });
        }
        let Some(mut m) = convert::message_in(m) else { return Err(local) };
        if m.get_msg_type() == MessageType::MsgPropose {
            let entries: Vec<_> = m.take_entries().into();
            let taken = !entries.is_empty() && self.propose_from(m.from, entries).is_ok();
            return if taken { Ok(()) } else { Err(StepError::Dropped { from }) };
        }
        if m.get_msg_type() == MessageType::MsgTimeoutNow && self.must_not_campaign() {
            return Err(StepError::Dropped { from });
        }
        if m.get_msg_type() == MessageType::MsgReadIndex {
            let [read] = m.mut_entries().as_mut() else { return Err(local) };
            if self.raw.raft.state == StateRole::Leader {
                self.reads += 1;
                name_read(read, self.reads);
            }
        }
        if m.get_msg_type() == MessageType::MsgAppendResponse && self.guard_stale_reject(&mut m) == Stale::Yes
        {
            return Ok(());
        }
        match self.raw.step(m) {
            Ok(()) => Ok(()),
            Err(raft::Error::StepLocalMsg) => Err(local),
            Err(raft::Error::StepPeerNotFound) => Err(StepError::UnknownPeer { from }),
            Err(_) => Err(StepError::Dropped { from }),
        }
    }

    /// A rejected append that arrives late or twice must not pull `next` to or below what the member is known to have.
    ///
    /// The released raft crate takes `min(rejected, hint + 1)` as the next index to probe and trusts that it lies above
    /// `matched`; duplicated and reordered rejects break that (fixed upstream as #557, unreleased). Here such a reject is
    /// dropped when it rejects something known to match, and its hint is raised to `matched` otherwise.
    fn guard_stale_reject(&self, m: &mut eraftpb::Message) -> Stale {
        if !m.reject {
            return Stale::No;
        }
        let Some(matched) = self.raw.raft.prs().get(m.from).map(|p| p.matched) else { return Stale::No };
        if matched == 0 {
            return Stale::No;
        }
        if m.index <= matched {
            return Stale::Yes;
        }
        // The core walks its log down from the hint to the first term not above the rejecter's; it must not pass `matched`.
        let passes = m.log_term > 0
            && self.raw.raft.raft_log.store.term_of(matched).is_some_and(|term| term > m.log_term);
        if m.reject_hint < matched || passes {
            m.reject_hint = matched;
            m.log_term = 0;
        }
        Stale::No
    }

    /// Proposes commands as one batch: all enter the log, in order, or none does. A follower forwards them.
    ///
    /// # Errors
    /// When nobody can take them now.
    pub fn propose(&mut self, commands: Vec<Bytes>) -> Result<(), ProposeError> {
        if commands.is_empty() {
            return Ok(());
        }
        let entry = |data| eraftpb::Entry { data, ..Default::default() };
        self.propose_entries(commands.into_iter().map(entry).collect())
    }

    /// Proposes a membership change.
    ///
    /// # Errors
    /// When nobody can take it now, or when the leader's last one is not applied yet. (etcd drops such a change, and lets
    /// whoever asked for it run into a timeout.)
    pub fn propose_conf_change(&mut self, change: &raftpb::ConfChange) -> Result<(), ProposeError> {
        let mut entry = eraftpb::Entry::default();
        entry.set_entry_type(eraftpb::EntryType::EntryConfChange);
        entry.data = conf_change::encode(change);
        self.propose_entries(vec![entry])
    }

    fn propose_entries(&mut self, entries: Vec<eraftpb::Entry>) -> Result<(), ProposeError> {
        self.propose_from(self.raw.raft.id, entries)
    }

    fn propose_from(&mut self, from: u64, entries: Vec<eraftpb::Entry>) -> Result<(), ProposeError> {
        if self.raw.raft.state == StateRole::Leader {
            return self.lead_proposal(entries);
        }
        let mut m = eraftpb::Message::default();
        m.set_msg_type(MessageType::MsgPropose);
        m.from = from;
        m.set_entries(entries.into());
        self.raw.raft.step(m).map_err(|_| ProposeError::Dropped)
    }

    /// What a leader does with proposals. The raft crate's own version parses membership changes, and fails on etcd's
    /// numbers; this one needs only to know that an entry is one.
    ///
    /// One change may be on its way at a time: a second in the same message becomes an empty entry, as in etcd.
    fn lead_proposal(&mut self, mut entries: Vec<eraftpb::Entry>) -> Result<(), ProposeError> {
        let changes = entries.iter().any(|e| e.get_entry_type() != eraftpb::EntryType::EntryNormal);
        if self.must_wait(changes) || self.raw.raft.prs().get(self.raw.raft.id).is_none() {
            return Err(ProposeError::Dropped);
        }
        let raft = &mut self.raw.raft;
        let before = raft.pending_conf_index;
        let mut index = raft.raft_log.last_index();
        for entry in &mut entries {
            index += 1;
            if entry.get_entry_type() == eraftpb::EntryType::EntryNormal {
                continue;
            }
            if raft.has_pending_conf() {
                *entry = eraftpb::Entry::default();
            } else {
                raft.pending_conf_index = index;
            }
        }
        if !raft.append_entry(&mut entries) {
            raft.pending_conf_index = before;
            return Err(ProposeError::TooMuchInFlight);
        }
        raft.bcast_append();
        Ok(())
    }

    /// Tells the core that the membership change at `index` was applied; returns the membership from here on.
    ///
    /// A snapshot may have overtaken it while it waited to be applied. The core then follows the snapshot's membership
    /// already, of which the change is part: made once more it would undo what came after it.
    ///
    /// # Errors
    /// When raft refuses the change. The change must then count as never made.
    pub fn apply_conf_change(
        &mut self,
        index: u64,
        change: &raftpb::ConfChange,
    ) -> Result<raftpb::ConfState, ConfChangeError> {
        // Compaction stops at what is applied, so only a snapshot puts the beginning of the log behind it.
        if index < self.raw.raft.raft_log.first_index() {
            return Ok(self.conf_state());
        }
        if let Some(inner) = conf_change::change_in(change)? {
            let conf_state = self.raw.apply_conf_change(&inner).map_err(|e| ConfChangeError::Refused {
                member: MemberId(change.node_id),
                reason: e.to_string(),
            })?;
            self.raw.mut_store().set_conf_state(conf_state);
            self.step_down_if_removed();
        }
        Ok(self.conf_state())
    }

    /// A leader that applied its own removal leads no more, as in etcd. The released raft crate lets it go on, and panics
    /// at the next answer it gets because it has no progress of itself.
    fn step_down_if_removed(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader && raft.prs().get(raft.id).is_none() {
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
    }

    /// Membership as the core sees it.
    #[must_use]
    pub fn conf_state(&self) -> raftpb::ConfState {
        convert::conf_state_out(self.raw.store().conf_state().clone())
    }

    /// Asks for a [`ReadState`] named `context`, which must be unique among all members.
    pub fn read_index(&mut self, context: u64) -> ReadIndex {
        let raft = &self.raw.raft;
        let leads = raft.state == StateRole::Leader;
        if raft.leader_id == 0 || (leads && !raft.commit_to_current_term()) {
            return ReadIndex::NotNow;
        }
        self.raw.read_index(context.to_be_bytes().to_vec());
        ReadIndex::Started
    }

    /// Whether this leader has committed an entry of its own term, so that its commit index is the newest there is.
    #[must_use]
    pub fn leads_with_commit(&self) -> bool {
        self.raw.raft.state == StateRole::Leader && self.raw.raft.commit_to_current_term()
    }

    /// Whether this leader is handing leadership over and takes no proposals until that succeeded or was given up.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.raw.raft.state == StateRole::Leader && self.raw.raft.lead_transferee.is_some()
    }

    /// Whether this leader has a membership change in its log that is not applied yet, or may have one from before its
    /// election, and takes no other.
    #[must_use]
    pub fn is_changing_members(&self) -> bool {
        self.raw.raft.state == StateRole::Leader && self.raw.raft.has_pending_conf()
    }

    /// Whether this leader takes such a proposal soon, but not now.
    #[must_use]
    pub fn must_wait(&self, changes_members: bool) -> bool {
        self.is_handing_over() || (changes_members && self.is_changing_members())
    }

    /// Leads no more, without a word to anybody: the others notice, and elect one of them. For a leader that cannot do its
    /// part. It goes on where the others that were heard lately are not enough to elect one of them. Returns whether it
    /// stepped down.
    pub fn step_down(&mut self) -> bool {
        let raft = &mut self.raw.raft;
        let voters = raft.prs().conf().to_conf_state().voters;
        let is_heard = |id: &&u64| **id != raft.id && raft.prs().get(**id).is_some_and(|p| p.recent_active);
        let can_elect = voters.iter().filter(is_heard).count() > voters.len() / 2;
        let steps_down = raft.state == StateRole::Leader && can_elect;
        if steps_down {
            // As a leader does that no longer hears from a quorum.
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
        steps_down
    }

    /// Begins to hand leadership to a voter; a follower asks its leader to.
    pub fn transfer_leader(&mut self, to: MemberId) {
        self.raw.transfer_leader(to.0);
    }

    /// A message to this member could not be delivered.
    pub fn report_unreachable(&mut self, id: MemberId) {
        self.raw.report_unreachable(id.0);
    }

    /// Sending a snapshot to this member ended.
    pub fn report_snapshot(&mut self, id: MemberId, outcome: SnapshotOutcome) {
        let status = match outcome {
            SnapshotOutcome::Delivered => raft::SnapshotStatus::Finish,
            SnapshotOutcome::Failed => raft::SnapshotStatus::Failure,
        };
        self.raw.report_snapshot(id.0, status);
    }

    /// Whether [`RaftNode::ready`] has anything to say.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.raw.has_ready()
    }

    /// Takes the next round of work. Its entries are readable by the core from here on.
    pub fn ready(&mut self) -> Ready {
        let mut rd = self.raw.ready();
        let number = rd.number();
        let role_change = rd.ss().map(|ss| (role(ss.raft_state), MemberId(ss.leader_id)));
        let snapshot = Some(rd.snapshot()).filter(|s| s.get_metadata().index > 0).cloned();
        if let Some(hs) = rd.hs().filter(|hs| (hs.term, hs.vote) != self.vote) {
            (self.vote, self.vote_ready) = ((hs.term, hs.vote), number);
        }
        let mut messages = rd.take_messages();
        let mut waiting = rd.take_persisted_messages();
        // A sole voter leads as soon as it votes for itself. Before its vote is durable it could lead that term twice, with
        // other entries, and a learner must not hear of either.
        if self.persisted < self.vote_ready {
            waiting.append(&mut messages);
        }
        let (free, persisted_messages) = waiting.into_iter().partition::<Vec<_>, _>(promises_nothing);
        messages.extend(free);
        let committed = rd.take_committed_entries();
        let entries = rd.take_entries();
        let out = Ready {
            number,
            role_change,
            messages: messages.into_iter().map(message_out).collect(),
            persisted_messages: persisted_messages.into_iter().map(message_out).collect(),
            hard_state: rd.hs().map(convert::hard_state_out),
            must_sync: rd.must_sync(),
            committed: committed.into_iter().map(convert::entry_out).collect(),
            read_states: rd.take_read_states().into_iter().filter_map(|rs| read_state(&rs)).collect(),
            snapshot: None,
            entries: Vec::new(),
        };
        let store = self.raw.mut_store();
        if let Some(s) = &snapshot {
            let meta = s.get_metadata();
            store.reset(LogStart { index: meta.index, term: meta.term }, meta.get_conf_state().clone());
        }
        store.append(&entries);
        self.raw.advance_append_async(rd);
        self.last_ready = number;
        let out = Ready {
            snapshot: snapshot.map(convert::snapshot_out),
            entries: entries.into_iter().map(convert::entry_out).collect(),
            ..out
        };
        // Nothing to write and nothing in flight: there is nobody to report it later.
        if !out.concerns_log() && self.persisted + 1 == number {
            self.persisted(number);
        }
        out
    }

    /// Everything up to Ready `number` is durable. Reports may skip numbers but not go back.
    pub fn persisted(&mut self, number: u64) {
        assert!(number <= self.last_ready, "Ready {number} is reported durable but was never handed out");
        if number > self.persisted {
            self.persisted = number;
            self.raw.on_persist_ready(number);
        }
    }

    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, index: u64) {
        if index > self.raw.raft.raft_log.applied {
            self.raw.advance_apply_to(index);
            self.raw.mut_store().set_applied(index);
        }
    }

    /// Forgets log entries up to `index`, or up to what is applied if that is less.
    pub fn compact(&mut self, index: u64) {
        let applied = self.raw.raft.raft_log.applied;
        self.raw.mut_store().compact(index.min(applied));
    }

    /// Bytes that the log in memory holds.
    #[must_use]
    pub fn log_size_bytes(&self) -> usize {
        self.raw.store().size_bytes()
    }

    /// First and last index of the log in memory; first is last + 1 when it is empty.
    #[must_use]
    pub fn log_bounds(&self) -> (u64, u64) {
        (self.raw.store().start().index + 1, self.raw.raft.raft_log.last_index())
    }

    /// Current role and leader, cheaply.
    #[must_use]
    pub fn role(&self) -> (Role, MemberId) {
        (role(self.raw.raft.state), MemberId(self.raw.raft.leader_id))
    }

    /// Current term and commit index, cheaply.
    #[must_use]
    pub fn term_and_commit(&self) -> (u64, u64) {
        (self.raw.raft.term, self.raw.raft.raft_log.committed)
    }

    /// Everything there is to know.
    #[must_use]
    pub fn status(&self) -> Status {
        let raft = &self.raw.raft;
        let mut progress = Vec::new();
        if raft.state == StateRole::Leader {
            let learners = raft.prs().conf().learners();
            progress.extend(raft.prs().iter().map(|(id, p)| PeerProgress {
                id: MemberId(*id),
                matched: p.matched,
                next: p.next_idx,
                state: match p.state {
                    raft::ProgressState::Probe => ReplicationState::Probe,
                    raft::ProgressState::Replicate => ReplicationState::Replicate,
                    raft::ProgressState::Snapshot => ReplicationState::Snapshot,
                },
                recent_active: p.recent_active,
                learner: learners.contains(id),
            }));
            progress.sort_unstable_by_key(|p| p.id);
        }
        Status {
            role: role(raft.state),
            leader: MemberId(raft.leader_id),
            term: raft.term,
            commit: raft.raft_log.committed,
            applied: raft.raft_log.applied,
            last: raft.raft_log.last_index(),
            transferee: MemberId(raft.lead_transferee.unwrap_or(0)),
            progress,
        }
    }

    /// Replaces the timeout that the raft crate drew from its own dice by one drawn from the seed. It is a function of
    /// term and elections so far: members with different seeds differ, and a lost election draws anew.
    ///
    /// Between one and one and a half election timeouts: the lease forbids less, and a longer spread (the raft crate's is
    /// up to two) only makes a cluster wait, since members' ticks do not coincide anyway.
    fn set_jitter(&mut self) {
        let raft = &mut self.raw.raft;
        let range = (raft.election_timeout() as u64 / 2).max(1);
        let draw = mix(self.jitter_seed ^ mix(raft.term ^ mix(self.elections ^ raft.id))) % range;
        raft.set_randomized_election_timeout(raft.election_timeout() + usize::try_from(draw).unwrap_or(0));
    }
}

#[derive(PartialEq, Eq)]
enum Stale {
    Yes,
    No,
}

/// splitmix64's finalizer: spreads a counter over 64 bits.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The index that the entries of an append should follow, if they do not. The raft crate takes such a message for a match.
fn gap(m: &raftpb::Message) -> Option<u64> {
    let is_append = m.r#type == raftpb::MessageType::MsgApp as i32;
    let follows = |entry: &raftpb::Entry, before: u64| before.checked_add(1) == Some(entry.index);
    let before = std::iter::once(m.index).chain(m.entries.iter().map(|entry| entry.index));
    (is_append && !m.entries.iter().zip(before).all(|(entry, before)| follows(entry, before)))
        .then_some(m.index)
}

/// Gives another member's read a name that never comes back. Members of etcd up to 3.6.8 ask again under the same name; an
/// answer to the first could then confirm the second, and with it reads that began after this leader was replaced.
fn name_read(read: &mut eraftpb::Entry, number: u64) {
    read.data = [&read.data[..], &number.to_be_bytes()].concat().into();
}

/// What leaves: whoever asked for a read finds it under the name it gave.
fn message_out(m: eraftpb::Message) -> raftpb::Message {
    let mut m = convert::message_out(m);
    if m.r#type == raftpb::MessageType::MsgReadIndexResp as i32 {
        for read in &mut m.entries {
            read.data.truncate(read.data.len().saturating_sub(size_of::<u64>()));
        }
    }
    m
}

/// A follower's requests to its leader need not wait for its disk.
fn promises_nothing(m: &eraftpb::Message) -> bool {
    matches!(
        m.get_msg_type(),
        MessageType::MsgPropose | MessageType::MsgReadIndex | MessageType::MsgTransferLeader
    )
}

fn role(state: StateRole) -> Role {
    match state {
        StateRole::Follower => Role::Follower,
        StateRole::PreCandidate => Role::PreCandidate,
        StateRole::Candidate => Role::Candidate,
        StateRole::Leader => Role::Leader,
    }
}

fn read_state(rs: &raft::ReadState) -> Option<ReadState> {
    let context = rs.request_ctx.as_slice().try_into().map(u64::from_be_bytes).ok()?;
    Some(ReadState { context, index: rs.index })
}

fn check_log(start: LogStart, entries: &[raftpb::Entry]) -> Result<u64, StartError> {
    let mut last = start.index;
    for entry in entries {
        if entry.index != last + 1 {
            return Err(StartError::Gap { before: last, found: entry.index });
        }
        last = entry.index;
    }
    Ok(last)
}
