//! The raft thread: owns the raft core and feeds it everything that arrived, as one batch at a time.
//!
//! It never waits for the disk, the network or the state machine: those have threads of their own and report back.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use kvnode_mvcc::MemberId;
use kvnode_proto::raftpb;
use kvnode_raft::{ProposeError, RaftNode, Ready, Role};
use tracing::{debug, info, warn};

use super::{
    NodeError,
    apply_loop::ApplyJob,
    inbox::{Control, Letters, Proposal, ProposalBody},
    limits,
    reads::ReadRounds,
    shared::{Leadership, SharedRef, Transport},
    wal_loop::{WalJob, Write},
};

pub(crate) struct RaftLoop {
    shared: SharedRef,
    raft: RaftNode,
    transport: Arc<dyn Transport>,
    letters: Letters,
    /// Requests that wait for a leader, and membership changes that wait for the one before.
    held: VecDeque<Proposal>,
    reads: ReadRounds,
    /// Other members' reads that came before this leader could answer any.
    early_reads: Vec<raftpb::Message>,
    /// Other members' proposals that came while leadership moved, or while a membership change was on its way.
    early_proposals: Vec<raftpb::Message>,
    /// Requests proposed before this term are lost unless they are applied by the next tick.
    lost_before: Option<u64>,
    next_tick: Instant,
    /// How far the log thread was at the last tick, if it was at work, and for how many ticks it has been there.
    log_at: Option<u64>,
    log_still: u32,
    retry_held: bool,
}

impl RaftLoop {
    pub(crate) fn new(shared: SharedRef, raft: RaftNode, transport: Arc<dyn Transport>) -> Self {
        let next_tick = Instant::now() + shared.settings.tick;
        Self {
            shared,
            raft,
            transport,
            letters: Letters::default(),
            held: VecDeque::new(),
            reads: ReadRounds::default(),
            early_reads: Vec::new(),
            early_proposals: Vec::new(),
            lost_before: None,
            next_tick,
            log_at: None,
            log_still: 0,
            retry_held: false,
        }
    }

    /// Runs until the inbox says stop.
    pub(crate) fn run(mut self) {
        self.dispatch();
        loop {
            let deadline = self.deadline();
            let mut letters = std::mem::take(&mut self.letters);
            self.shared.inbox.take(&mut letters, deadline);
            if letters.stop {
                break;
            }
            self.work(&mut letters);
            letters.clear();
            self.letters = letters;
        }
        self.reads.fail_all(&NodeError::Stopped);
    }

    fn work(&mut self, letters: &mut Letters) {
        self.take_reports(letters);
        self.take_messages(letters);
        self.take_controls(letters);
        self.take_proposals(letters);
        self.reads.add(letters.reads.drain(..));
        let now = Instant::now();
        self.tick(now);
        self.drive_reads(now);
        self.dispatch();
    }

    /// When to go on without news.
    fn deadline(&self) -> Instant {
        let waiting = !self.held.is_empty() || !self.early_proposals.is_empty();
        if self.retry_held && waiting {
            // A leader was just found: what waited for one goes out at once.
            return Instant::now();
        }
        self.reads.deadline().map_or(self.next_tick, |at| at.min(self.next_tick))
    }

    /// Reports of the log and apply threads, oldest facts first.
    fn take_reports(&mut self, letters: &mut Letters) {
        if letters.persisted > 0 {
            self.raft.persisted(letters.persisted);
        }
        // Raft hands out what follows a snapshot from here on: it queues behind it.
        for meta in letters.snapshots.drain(..) {
            self.shared.apply.push(ApplyJob::Install(meta));
        }
        for call in letters.conf_changes.drain(..) {
            let outcome = self.raft.apply_conf_change(call.index, &call.change);
            // The apply thread waits; if it is gone the node is stopping.
            let _ = call.answer.send(outcome);
        }
        if letters.applied > 0 {
            let changing = self.raft.is_changing_members();
            self.raft.applied(letters.applied);
            self.retry_held |= changing && !self.raft.is_changing_members();
            self.bound_log();
        }
    }

    /// Keeps the log in memory below its bound in bytes, whatever the number of entries.
    fn bound_log(&mut self) {
        if self.raft.log_size_bytes() > limits::LOG_BYTES {
            let (first, last) = self.raft.log_bounds();
            self.raft.compact(first + (last - first) / 4);
        }
    }

    fn take_messages(&mut self, letters: &mut Letters) {
        for message in letters.messages.drain(..) {
            if !message.entries.is_empty() && self.unapplied() > limits::UNAPPLIED_ENTRIES {
                // The leader sends them again; until then the apply thread catches up.
                continue;
            }
            self.step(message);
        }
    }

    /// Entries that the apply thread owes. Only what is committed counts, as nothing else is sure to be applied one day:
    /// what commits the rest may be what is dropped. Nor does what a received snapshot brings, whose installing takes long.
    fn unapplied(&self) -> u64 {
        let applied = self.shared.raft.applied.load(Ordering::Relaxed);
        let before_log = self.raft.log_bounds().0 - 1;
        self.raft.term_and_commit().1.saturating_sub(applied.max(before_log))
    }

    fn step(&mut self, message: raftpb::Message) {
        // A leader that is too new to answer reads keeps them for the moment it can; raft would drop them.
        let read = message.r#type == raftpb::MessageType::MsgReadIndex as i32;
        let too_new = self.raft.role().0 == Role::Leader && !self.raft.leads_with_commit();
        // Nor does a leader that hands over take proposals (the next one will), or a second membership change.
        let proposal = message.r#type == raftpb::MessageType::MsgProp as i32;
        let changes_members =
            || message.entries.iter().any(|e| e.r#type != raftpb::EntryType::EntryNormal as i32);
        if read && too_new && self.early_reads.len() < limits::EARLY_READS {
            self.early_reads.push(message);
        } else if proposal
            && self.raft.must_wait(changes_members())
            && self.early_proposals.len() < limits::EARLY_PROPOSALS
        {
            self.early_proposals.push(message);
        } else if let Err(e) = self.raft.step(message) {
            debug!(error = %e, "ignored a raft message");
        }
    }

    fn take_early_reads(&mut self) {
        if !self.early_reads.is_empty() && self.raft.leads_with_commit() {
            for message in std::mem::take(&mut self.early_reads) {
                self.step(message);
            }
        }
    }

    fn take_controls(&mut self, letters: &mut Letters) {
        for id in letters.unreachable.drain(..) {
            self.raft.report_unreachable(id);
        }
        for control in letters.controls.drain(..) {
            match control {
                Control::SnapshotSent(id, outcome) => self.raft.report_snapshot(id, outcome),
                Control::Transfer(to) => self.raft.transfer_leader(to),
                Control::Compact(index) => self.raft.compact(index),
                Control::AdvanceElection(ticks) => self.raft.advance_election(ticks),
                Control::Status(answer) => {
                    // Whoever asked may be gone.
                    let _ = answer.send(self.raft.status());
                }
            }
        }
    }

    /// Proposes what arrived, in order; requests that follow each other enter raft as batches.
    fn take_proposals(&mut self, letters: &mut Letters) {
        if !self.early_proposals.is_empty() && !self.raft.is_handing_over() && self.raft.role().1.is_some() {
            for message in std::mem::take(&mut self.early_proposals) {
                self.step(message);
            }
        }
        if std::mem::take(&mut self.retry_held) && !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let waiting = held.into_iter().filter(|p| self.shared.waiters.is_waiting(p.id)).collect();
            self.propose(waiting);
        }
        if !letters.proposals.is_empty() {
            let proposals = std::mem::take(&mut letters.proposals);
            self.propose(proposals);
        }
    }

    fn propose(&mut self, proposals: Vec<Proposal>) {
        let mut batch = Vec::with_capacity(proposals.len());
        let mut bytes = 0;
        for proposal in proposals {
            if proposal.only_in_term.is_some_and(|term| !self.leads_in(term)) {
                self.shared.waiters.answer(proposal.id, Err(NodeError::NotLeader));
            } else if let ProposalBody::ConfChange(change) = &proposal.body {
                self.propose_batch(&mut batch);
                bytes = 0;
                match self.raft.propose_conf_change(change) {
                    Ok(()) => self.proposed(&[proposal]),
                    Err(e) => self.not_proposed(vec![proposal], e),
                }
            } else {
                bytes += proposal.body.size_bytes() as u64;
                batch.push(proposal);
                // It travels to the leader in one message, which nothing that waited may make too large to arrive.
                if bytes >= limits::APPEND_BYTES {
                    self.propose_batch(&mut batch);
                    bytes = 0;
                }
            }
        }
        self.propose_batch(&mut batch);
    }

    fn leads_in(&self, term: u64) -> bool {
        self.raft.role().0 == Role::Leader && self.raft.term_and_commit().0 == term
    }

    fn propose_batch(&mut self, batch: &mut Vec<Proposal>) {
        if batch.is_empty() {
            return;
        }
        let batch = std::mem::take(batch);
        let data = batch.iter().filter_map(|p| match &p.body {
            ProposalBody::Request(data) => Some(data.clone()),
            ProposalBody::ConfChange(_) => None,
        });
        match self.raft.propose(data.collect()) {
            Ok(()) => self.proposed(&batch),
            Err(e) => self.not_proposed(batch, e),
        }
    }

    fn proposed(&self, batch: &[Proposal]) {
        let (term, _) = self.raft.term_and_commit();
        self.shared.waiters.proposed(batch.iter().map(|p| p.id), term);
    }

    /// Without a leader requests wait for one: their callers time out by themselves, and a short election or a planned
    /// change of leader costs nobody an error.
    fn not_proposed(&mut self, proposals: Vec<Proposal>, error: ProposeError) {
        for proposal in proposals {
            if error == ProposeError::Dropped && self.held.len() < limits::HELD_PROPOSALS {
                self.held.push_back(proposal);
            } else {
                self.shared.waiters.answer(proposal.id, Err(NodeError::TooManyRequests));
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        if now < self.next_tick {
            return;
        }
        let tick = self.shared.settings.tick;
        let late = now - self.next_tick;
        if late > 2 * tick && self.raft.role().0 == Role::Leader {
            self.shared.metrics.server.heartbeat_send_failures.inc();
            warn!(late = ?late, "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk");
        }
        // Ticks missed while the thread could not run are not made up for: an election must not follow from a pause.
        self.next_tick = if late > tick { now + tick } else { self.next_tick + tick };
        self.raft.tick();
        self.watch_log();
        self.fail_lost();
        // Not after a pause: another member may lead since then, and what it sent may still be on its way.
        if late <= 2 * tick {
            *self.shared.raft.ticked.lock() = Some(now);
        }
        self.retry_held = true;
    }

    /// A leader whose disk hangs goes on sending heartbeats, and where the others are enough they commit without it, but it
    /// applies nothing of that and answers nobody. It makes room for one of them, as etcd's does, which sends nothing
    /// meanwhile either.
    ///
    /// A slow disk gets something done within an election timeout. Ticks are counted, so that a pause of the process is
    /// not taken for the disk's.
    fn watch_log(&mut self) {
        let before = std::mem::replace(&mut self.log_at, self.shared.raft.log.at_work());
        let still = self.log_at.is_some() && self.log_at == before;
        self.log_still = if still { self.log_still + 1 } else { 0 };
        let settings = &self.shared.settings;
        if settings.tick * self.log_still > settings.election_timeout && self.raft.step_down() {
            warn!(
                "the disk of the write-ahead log has done nothing for an election timeout; stepping down, another member may lead"
            );
        }
    }

    /// Tells callers that a leader took their requests with it, a tick or two after its successor committed: time enough
    /// for requests that were on their way to reach the new leader. They would learn the same later, from a timeout.
    fn fail_lost(&mut self) {
        let term = self.shared.raft.new_leader_term.swap(0, Ordering::Relaxed);
        if let Some(before) = self.lost_before.take() {
            let failed = self.shared.waiters.fail_before(before, &NodeError::TimeoutLeaderFailed);
            self.shared.metrics.server.proposals_failed.inc_by(failed as u64);
        }
        self.lost_before = Some(term).filter(|term| *term > 0);
    }

    fn drive_reads(&mut self, now: Instant) {
        let Self { reads, raft, shared, .. } = self;
        reads.drive(now, || {
            let context = shared.ids.next();
            (context, raft.read_index(context))
        });
    }

    /// Hands out everything raft wants done.
    fn dispatch(&mut self) {
        self.campaign_if_alone();
        while self.raft.has_ready() {
            let ready = self.raft.ready();
            // Before others hear of it: whoever asks this member right after one of them has applied it must wait for it.
            self.note_commit();
            self.dispatch_one(ready);
            self.take_early_reads();
            // A confirmed round makes room for the next one.
            self.drive_reads(Instant::now());
        }
        self.note_commit();
        self.shared.raft.leads.store(self.raft.leads_with_commit(), Ordering::Relaxed);
    }

    fn note_commit(&self) {
        let (term, commit) = self.raft.term_and_commit();
        self.shared.raft.term.store(term, Ordering::Relaxed);
        self.shared.raft.commit.store(commit, Ordering::Relaxed);
        self.shared.metrics.server.proposals_committed.set(i64::try_from(commit).unwrap_or(i64::MAX));
    }

    /// A sole voter need not wait for anybody: it elects itself as soon as it has applied what it knows.
    fn campaign_if_alone(&mut self) {
        let (role, leader) = self.raft.role();
        if role == Role::Follower && !leader.is_some() && self.raft.is_sole_voter() {
            self.raft.campaign();
        }
    }

    fn dispatch_one(&mut self, ready: Ready) {
        if ready.role_change.is_some() {
            self.role_changed();
        }
        let concerns_log = ready.concerns_log();
        let noted = self.shared.raft.commit.load(Ordering::Relaxed);
        debug_assert!(
            ready.messages.iter().all(|m| m.commit <= noted),
            "told others of a commit before noting it"
        );
        if !ready.messages.is_empty() {
            self.transport.send(ready.messages);
        }
        for state in ready.read_states {
            if let Some((index, reads)) = self.reads.confirmed(state) {
                self.shared.applied_waiters.add(index, reads);
            }
        }
        if concerns_log {
            self.shared.wal.push(WalJob::Write(Write {
                number: ready.number,
                hard_state: ready.hard_state,
                entries: ready.entries,
                snapshot: ready.snapshot.and_then(|s| s.metadata),
                must_sync: ready.must_sync,
                messages: ready.persisted_messages,
            }));
        }
        if !ready.committed.is_empty() {
            self.shared.apply.push(ApplyJob::Entries(ready.committed));
        }
    }

    fn role_changed(&mut self) {
        let (role, leader) = self.raft.role();
        let (term, _) = self.raft.term_and_commit();
        let now = Leadership { leader: MemberId(leader.0), term, role };
        let before = self.shared.leader();
        let member = self.shared.identity.member;
        if now.leader != before.leader {
            match (before.leader.0, now.leader.0) {
                (_, 0) => info!("raft.node: {member} lost leader {} at term {term}", before.leader),
                (0, _) => info!("raft.node: {member} elected leader {} at term {term}", now.leader),
                _ => info!(
                    "raft.node: {member} changed leader from {} to {} at term {term}",
                    before.leader, now.leader
                ),
            }
        }
        if now.leader != before.leader && now.leader.0 != 0 {
            self.shared.metrics.server.leader_changes.inc();
            *self.shared.raft.leader_since.lock() = Some(Instant::now());
            if before.leader.0 != 0 || before.term != 0 {
                self.shared.metrics.server.read_indexes_failed.inc();
                self.reads.fail(&NodeError::LeaderChanged);
            }
        }
        if role != Role::Leader {
            // Whoever asked will ask the new leader.
            self.early_reads.clear();
        }
        self.retry_held = true;
        self.shared.raft.term.store(term, Ordering::Relaxed);
        self.shared.leadership.send_replace(now);
        // Last: the apply thread may start the clock just now, and then looks at the role. Either it sees the new one, or it
        // is done before this.
        if role != Role::Leader && before.role == Role::Leader {
            self.shared.leases.demote();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kvnode_raft::{Config, DurableState, LogStart, PreVote};

    use super::*;
    use crate::node::shared::testing;

    fn follower() -> RaftLoop {
        follower_among(vec![1, 2])
    }

    /// Member 1 of these, which has applied five entries of term 1. Its messages go nowhere.
    fn follower_among(voters: Vec<u64>) -> RaftLoop {
        let config = Config {
            id: kvnode_raft::MemberId(testing::MEMBER.0),
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: PreVote::On,
            max_message_bytes: limits::APPEND_BYTES,
            max_inflight_messages: limits::APPENDS_IN_FLIGHT,
            max_uncommitted_bytes: limits::UNCOMMITTED_BYTES,
            max_committed_bytes: limits::COMMITTED_BYTES,
            jitter_seed: 1,
            log: None,
        };
        let disk = DurableState {
            start: LogStart { index: 5, term: 1 },
            entries: Vec::new(),
            hard_state: raftpb::HardState { term: 1, vote: 0, commit: 5 },
            applied: 5,
            conf_state: raftpb::ConfState { voters, ..Default::default() },
        };
        let shared = testing::shared();
        shared.raft.applied.store(5, Ordering::Relaxed);
        let raft = RaftNode::new(&config, disk).expect("a consistent disk");
        RaftLoop::new(shared, raft, Arc::new(testing::Outbox(drop)))
    }

    /// And all that it sends.
    fn follower_and_outbox() -> (RaftLoop, Arc<parking_lot::Mutex<Vec<raftpb::Message>>>) {
        let (mut member, sent) = (follower(), Arc::new(parking_lot::Mutex::new(Vec::new())));
        let outbox = Arc::clone(&sent);
        member.transport = Arc::new(testing::Outbox(move |messages: Vec<_>| outbox.lock().extend(messages)));
        (member, sent)
    }

    /// One round of what is in the inbox.
    fn round(member: &mut RaftLoop) {
        let mut letters = Letters::default();
        member.shared.inbox.take(&mut letters, Instant::now());
        member.work(&mut letters);
    }

    fn from_leader(kind: raftpb::MessageType) -> raftpb::Message {
        raftpb::Message { r#type: kind as i32, from: 2, to: 1, term: 2, ..Default::default() }
    }

    /// Empty entries of term 2.
    fn append(indexes: std::ops::RangeInclusive<u64>, before: u64, commit: u64) -> raftpb::Message {
        let index = indexes.start() - 1;
        let entries = indexes.map(|index| raftpb::Entry { index, term: 2, ..Default::default() }).collect();
        let kind = raftpb::MessageType::MsgApp;
        raftpb::Message { log_term: before, index, commit, entries, ..from_leader(kind) }
    }

    fn snapshot(index: u64) -> raftpb::Message {
        let conf_state = Some(raftpb::ConfState { voters: vec![1, 2], ..Default::default() });
        let metadata = Some(raftpb::SnapshotMetadata { index, term: 2, conf_state });
        let snapshot = Some(raftpb::Snapshot { metadata, ..Default::default() });
        raftpb::Message { snapshot, ..from_leader(raftpb::MessageType::MsgSnap) }
    }

    /// The log thread's part: everything handed to it is durable.
    fn write_log(member: &RaftLoop) {
        let mut jobs = Vec::new();
        member.shared.wal.take_all_within(&mut jobs, Duration::ZERO);
        for job in jobs {
            if let WalJob::Write(write) = job {
                member.shared.inbox.persisted(write.number, write.snapshot);
            }
        }
    }

    fn take_apply_jobs(member: &RaftLoop) -> Vec<ApplyJob> {
        let mut jobs = Vec::new();
        member.shared.apply.take_all_within(&mut jobs, Duration::ZERO);
        jobs
    }

    #[test]
    fn a_member_goes_on_following_while_it_installs_a_snapshot() {
        let (mut member, index) = (follower(), 5 + 2 * limits::UNAPPLIED_ENTRIES);
        member.shared.inbox.message(snapshot(index)).expect("room");
        round(&mut member);
        member.shared.inbox.message(append(index + 1..=index + 1, 2, index)).expect("room");
        round(&mut member);
        assert_eq!(member.raft.log_bounds(), (index + 1, index + 1));
    }

    /// A new leader commits nothing before its own entry, which comes after all that was left uncommitted.
    #[test]
    fn any_number_of_uncommitted_entries_is_followed_up() {
        let (mut member, many) = (follower(), 5 + 2 * limits::UNAPPLIED_ENTRIES);
        member.shared.inbox.message(append(6..=many, 1, 5)).expect("room");
        round(&mut member);
        member.shared.inbox.message(append(many + 1..=many + 1, 2, 5)).expect("room");
        round(&mut member);
        assert_eq!(member.raft.log_bounds().1, many + 1);
        // Committed entries that wait to be applied are what the bound is for.
        member.shared.inbox.message(append(many + 2..=many + 2, 2, many + 1)).expect("room");
        round(&mut member);
        member.shared.inbox.message(append(many + 3..=many + 3, 2, many + 2)).expect("room");
        round(&mut member);
        assert_eq!(member.raft.log_bounds().1, many + 2);
    }

    #[test]
    fn what_a_leader_decided_is_not_handed_on_to_the_next() {
        let (mut member, sent) = follower_and_outbox();
        let propose = |member: &RaftLoop, id, only_in_term| {
            let body = ProposalBody::Request(bytes::Bytes::from_static(b"x"));
            member.shared.inbox.propose(Proposal { id, body, only_in_term }).expect("room");
            member.shared.waiters.register(id)
        };
        // Nobody leads: an ordinary request waits for a leader.
        let mut decided = propose(&member, 1, Some(1));
        let mut asked = propose(&member, 2, None);
        round(&mut member);
        assert_eq!(decided.try_recv(), Ok(Err(NodeError::NotLeader)));
        assert!(asked.try_recv().is_err());
        // Member 2 leads, and is handed that one only.
        member.shared.inbox.message(from_leader(raftpb::MessageType::MsgHeartbeat)).expect("room");
        round(&mut member);
        let mut decided = propose(&member, 3, Some(2));
        round(&mut member);
        assert_eq!(decided.try_recv(), Ok(Err(NodeError::NotLeader)));
        let proposal = raftpb::MessageType::MsgProp as i32;
        let handed_on = sent.lock().iter().filter(|message| message.r#type == proposal).count();
        assert_eq!(handed_on, 1);
    }

    #[test]
    fn what_waited_for_a_leader_reaches_it_in_messages_of_bounded_size() {
        let (mut member, sent) = follower_and_outbox();
        for id in 1..=5 {
            let body = ProposalBody::Request(vec![0; 600 << 10].into());
            member.shared.inbox.propose(Proposal { id, body, only_in_term: None }).expect("room");
            drop(member.shared.waiters.register(id));
            round(&mut member);
        }
        member.shared.inbox.message(from_leader(raftpb::MessageType::MsgHeartbeat)).expect("room");
        round(&mut member);
        round(&mut member);
        let entries: Vec<_> = sent.lock().iter().map(|message| message.entries.len()).collect();
        let proposals: Vec<_> = entries.into_iter().filter(|count| *count > 0).collect();
        assert_eq!(proposals, [2, 2, 1]);
    }

    #[test]
    fn a_leader_does_what_it_decided_in_its_own_term() {
        let mut member = follower_among(vec![1]);
        round(&mut member);
        let (term, _) = member.raft.term_and_commit();
        assert_eq!(member.raft.role().0, Role::Leader);
        let body = |only_in_term| {
            let body = ProposalBody::Request(bytes::Bytes::from_static(b"x"));
            Proposal { id: 1, body, only_in_term }
        };
        let last = |member: &RaftLoop| member.raft.log_bounds().1;
        let before = last(&member);
        member.shared.inbox.propose(body(Some(term - 1))).expect("room");
        round(&mut member);
        assert_eq!(last(&member), before);
        member.shared.inbox.propose(body(Some(term))).expect("room");
        round(&mut member);
        assert_eq!(last(&member), before + 1);
    }

    /// Member 1 of these, elected by member 2.
    fn leader_among(voters: Vec<u64>) -> RaftLoop {
        let mut member = follower_among(voters);
        member.raft.campaign();
        for kind in [raftpb::MessageType::MsgPreVoteResp, raftpb::MessageType::MsgVoteResp] {
            round(&mut member);
            write_log(&member);
            member.shared.inbox.message(from_leader(kind)).expect("room");
        }
        round(&mut member);
        assert_eq!(member.raft.role().0, Role::Leader);
        member
    }

    /// The next tick comes, and meanwhile the other members are heard.
    fn tick(member: &mut RaftLoop) {
        for from in [2, 3] {
            let heard = from_leader(raftpb::MessageType::MsgHeartbeatResp);
            member.shared.inbox.message(raftpb::Message { from, ..heard }).expect("room");
        }
        round(member);
        member.tick(member.next_tick);
    }

    #[test]
    fn a_leader_whose_disk_hangs_makes_room_for_another() {
        let mut member = leader_among(vec![1, 2, 3]);
        let shared = Arc::clone(&member.shared);
        // Slow: each tick finds the log thread at work, and one write further.
        for _ in 0..30 {
            shared.raft.log.turn();
            tick(&mut member);
            shared.raft.log.turn();
        }
        shared.raft.log.turn();
        for _ in 0..11 {
            tick(&mut member);
        }
        assert_eq!(member.raft.role().0, Role::Leader, "an election timeout is not over for sure");
        tick(&mut member);
        assert_eq!(member.raft.role(), (Role::Follower, kvnode_raft::MemberId(0)));
    }

    /// Nobody could be elected while its vote waits for the same disk.
    #[test]
    fn a_leader_whose_disk_hangs_leads_on_where_the_others_are_not_enough() {
        for mut member in [follower_among(vec![1]), leader_among(vec![1, 2]), leader_among(vec![1, 2, 4])] {
            round(&mut member);
            member.shared.raft.log.turn();
            for _ in 0..15 {
                tick(&mut member);
            }
            assert_eq!(member.raft.role().0, Role::Leader);
        }
    }

    #[test]
    fn a_lost_role_is_seen_before_the_lease_clock_is_stopped() {
        let mut member = follower();
        let shared = Arc::clone(&member.shared);
        shared.leadership.send_replace(Leadership { leader: testing::MEMBER, term: 1, role: Role::Leader });
        let clock = shared.leases.hold();
        let raft = std::thread::spawn(move || member.role_changed());
        let deadline = Instant::now() + Duration::from_secs(10);
        while shared.leader().role == Role::Leader {
            assert!(Instant::now() < deadline, "a clock that is started now would run on");
            std::thread::yield_now();
        }
        drop(clock);
        raft.join().expect("no panic");
    }

    #[test]
    fn a_durable_snapshot_is_installed_before_the_entries_behind_it() {
        let mut member = follower();
        member.shared.inbox.message(snapshot(10)).expect("room");
        member.shared.inbox.message(append(11..=12, 2, 12)).expect("room");
        round(&mut member);
        assert!(take_apply_jobs(&member).is_empty(), "nothing is durable");
        write_log(&member);
        round(&mut member);
        let jobs = take_apply_jobs(&member);
        let [ApplyJob::Install(meta), ApplyJob::Entries(entries)] = &jobs[..] else {
            panic!("{} jobs", jobs.len())
        };
        assert_eq!((meta.index, entries.len()), (10, 2));
    }
}
