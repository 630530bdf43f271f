//! The world: a clock, a queue of events, and what each event does.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
};

use kvnode_mvcc::{ConfChangeOutcome, Response, Revision};
use kvnode_proto::raftpb::{Message, MessageType};
use kvnode_raft::{MemberId, ReadIndex, Role, SnapshotOutcome};
use kvnode_storage::vfs::SimDisk;

use crate::{
    clients::{Clients, encode},
    disturb,
    machine::{Effects, Fault, Process},
    network::{Network, Packet, Weather},
    oracle::{Judgement, Oracle, Violation},
    random::Random,
    stats::Stats,
};

pub const MILLISECOND: u64 = 1_000;
pub const SECOND: u64 = 1_000_000;
const TICK: u64 = 100 * MILLISECOND;
/// How long a client waits before it gives up.
const PATIENCE: u64 = 4 * SECOND;
/// How long a healed cluster may take to serve everybody again.
const RECOVERY: u64 = 120 * SECOND;
/// Lines of the trace that are kept for a failure.
const TRACE_LINES: usize = 300;
/// Hashes are compared at every index that is a multiple of this.
const HASH_EVERY: u64 = 4;

/// What a run is made of, beside its seed.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Everything else is drawn from it.
    pub seed: u64,
    /// How long there are faults, in seconds of simulated time.
    pub seconds: u64,
}

/// A computer with a disk; the process on it comes and goes.
pub(crate) struct Machine {
    pub disk: SimDisk,
    pub process: Option<Process>,
    /// Counts processes, so that events meant for an earlier one find nobody.
    pub life: u64,
    pub founders: Vec<u64>,
    pub paused_until: u64,
    /// Until then nothing is written to the log.
    pub disk_hangs_until: u64,
    /// Its disk is gone; it never comes back.
    pub lost: bool,
    log_scheduled: bool,
    apply_scheduled: bool,
    /// Requests whose clients wait here; then reads that are confirmed and wait for an index: (index, number).
    waiting: BTreeSet<u64>,
    confirmed: Vec<(u64, u64)>,
    /// How long a write to its disk takes at most, in microseconds.
    disk_us: u64,
}

#[derive(Debug)]
pub(crate) enum Event {
    Tick {
        at: u64,
        life: u64,
    },
    Arrive {
        to: u64,
        packet: Box<Packet>,
    },
    WriteLog {
        at: u64,
        life: u64,
    },
    Apply {
        at: u64,
        life: u64,
    },
    Client(usize),
    GiveUp {
        client: usize,
        number: u64,
    },
    SnapshotReport {
        at: u64,
        life: u64,
        to: u64,
        outcome: SnapshotOutcome,
    },
    Restart(u64),
    /// Its disk has hung for an election timeout.
    StepDown {
        at: u64,
        life: u64,
    },
    Stop {
        at: u64,
        life: u64,
    },
    Disturb,
    Administer,
    Checkpoint {
        at: u64,
        life: u64,
    },
}

/// A simulated cluster with its surroundings.
pub struct Sim {
    pub(crate) settings: Settings,
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub(crate) random: Random,
    pub(crate) machines: BTreeMap<u64, Machine>,
    pub(crate) network: Network,
    clients: Clients,
    oracle: Oracle,
    pub(crate) stats: Stats,
    trace: VecDeque<String>,
    /// Members as of the newest change that anybody applied; learners are false.
    pub(crate) membership: BTreeMap<u64, bool>,
    pub(crate) healed: bool,
    /// When the newest acknowledged write was asked for, and when everything was healed.
    newest_write_began: u64,
    pub(crate) healed_at: u64,
}

impl Sim {
    /// A cluster of one, three or five members on fresh machines.
    pub fn new(settings: Settings) -> Self {
        let mut random = Random::new(settings.seed);
        let weather = Weather::draw(&mut random);
        let founders: Vec<u64> = (1..=[1, 3, 3, 5][random.below(4) as usize]).collect();
        let mut sim = Self {
            settings,
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            random,
            machines: BTreeMap::new(),
            network: Network::new(weather),
            clients: Clients::default(),
            oracle: Oracle::default(),
            stats: Stats::default(),
            trace: VecDeque::new(),
            membership: BTreeMap::new(),
            healed: false,
            newest_write_began: 0,
            healed_at: 0,
        };
        for id in &founders {
            sim.add_machine(*id, founders.clone());
        }
        for client in 0..3 {
            sim.after(SECOND, Event::Client(client));
        }
        sim.after(SECOND, Event::Disturb);
        sim.after(2 * SECOND, Event::Administer);
        sim
    }

    /// Runs to the end, then heals everything and judges.
    ///
    /// # Errors
    /// The first broken promise, with the trace that led to it.
    pub fn run(mut self) -> Result<Stats, Violation> {
        // A part that panics is a violation like any other, and its trace is wanted.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run_inner()))
            .unwrap_or_else(|panic| Err(Violation(format!("a panic: {}", panic_text(&*panic)))));
        let seed = self.settings.seed;
        outcome.map_err(|Violation(what)| {
            let trace: Vec<_> = self.trace.into_iter().collect();
            Violation(format!("seed {seed}: {what}\n{}\nseed {seed}: {what}", trace.join("\n")))
        })?;
        self.stats.hashes_compared = self.oracle.hashes_compared;
        Ok(self.stats)
    }

    fn run_inner(&mut self) -> Judgement {
        self.run_until(self.settings.seconds * SECOND)?;
        disturb::heal(self);
        let deadline = self.now + RECOVERY;
        while !self.has_converged() {
            if self.now >= deadline && self.is_quorum_gone() {
                // Safe but stuck, and rightly so: nobody alive knows of a membership whose quorum is alive.
                self.stats.quorums_gone += 1;
                break;
            }
            if self.now >= deadline {
                return Err(Violation(format!(
                    "no progress after everything was healed: {}",
                    self.describe()
                )));
            }
            self.run_until(self.now + SECOND)?;
        }
        self.oracle.judge_answers()?;
        if self.has_converged() { self.judge_final_state() } else { Ok(()) }
    }

    fn run_until(&mut self, end: u64) -> Judgement {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now = time;
            self.handle(event)?;
        }
        self.now = end;
        Ok(())
    }

    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        let line = format!("{:>10.3} {}", self.now as f64 / SECOND as f64, line());
        self.trace.push_back(line);
    }

    pub(crate) fn add_machine(&mut self, id: u64, founders: Vec<u64>) {
        let machine = Machine {
            disk: SimDisk::new(),
            process: None,
            life: 0,
            founders,
            paused_until: 0,
            disk_hangs_until: 0,
            lost: false,
            log_scheduled: false,
            apply_scheduled: false,
            waiting: BTreeSet::new(),
            confirmed: Vec::new(),
            disk_us: [200, 2_000, 50_000][self.random.below(3) as usize],
        };
        self.machines.insert(id, machine);
        let delay = self.random.below(200 * MILLISECOND);
        self.after(delay, Event::Restart(id));
    }

    fn handle(&mut self, event: Event) -> Judgement {
        let stage = match &event {
            Event::Tick { at, life }
            | Event::WriteLog { at, life }
            | Event::Apply { at, life }
            | Event::SnapshotReport { at, life, .. }
            | Event::Checkpoint { at, life }
            | Event::StepDown { at, life }
            | Event::Stop { at, life } => Some((*at, Some(*life))),
            Event::Arrive { to, .. } => Some((*to, None)),
            _ => None,
        };
        if let Some((id, life)) = stage {
            let Some(machine) = self.machines.get(&id) else { return Ok(()) };
            if machine.process.is_none() || life.is_some_and(|life| life != machine.life) {
                return Ok(());
            }
            if machine.paused_until > self.now {
                let delay = machine.paused_until - self.now;
                self.after(delay, event);
                return Ok(());
            }
            if machine.disk_hangs_until > self.now && matches!(event, Event::WriteLog { .. }) {
                let delay = machine.disk_hangs_until - self.now;
                self.after(delay, event);
                return Ok(());
            }
        }
        self.dispatch(event)
    }

    fn dispatch(&mut self, event: Event) -> Judgement {
        match event {
            Event::Tick { at, life } => {
                // Clocks differ a little.
                let delay = TICK * self.random.between(95, 106) / 100;
                self.after(delay, Event::Tick { at, life });
                self.with(at, |process| {
                    process.raft.tick();
                    Ok(process.pump())
                })
            }
            Event::Arrive { to, packet } => self.arrive(to, *packet),
            Event::WriteLog { at, .. } => {
                self.machine(at).log_scheduled = false;
                // Usually everything that waits, as the server does; sometimes less, as if more came just then.
                let count = if self.random.chance(800) { usize::MAX } else { 1 };
                self.with(at, |process| process.write_log(count))?;
                self.hand_out(at)
            }
            Event::Apply { at, .. } => {
                self.machine(at).apply_scheduled = false;
                let count = if self.random.chance(700) { usize::MAX } else { 1 };
                self.with(at, |process| process.apply(count))?;
                self.hand_out(at)
            }
            Event::Checkpoint { at, life } => {
                let keep = [0, 3, 50][self.random.below(3) as usize];
                let mut written = false;
                self.with(at, |process| {
                    written = process.checkpoint(keep)?;
                    Ok(Effects::default())
                })?;
                self.stats.checkpoints += u64::from(written);
                let delay = self.random.between(SECOND / 2, 5 * SECOND);
                self.after(delay, Event::Checkpoint { at, life });
                Ok(())
            }
            Event::SnapshotReport { at, to, outcome, .. } => {
                if let Some(process) = self.machine(at).process.as_mut() {
                    process.raft.report_snapshot(MemberId(to), outcome);
                }
                self.hand_out(at)
            }
            Event::Client(client) => self.client_begins(client),
            Event::GiveUp { client, number } => {
                if self.clients.open.remove(&number).is_some() {
                    self.stats.unknown += 1;
                    self.client_rests(client);
                }
                Ok(())
            }
            Event::Restart(id) => self.restart(id),
            Event::StepDown { at, .. } => {
                let mut led = false;
                self.with(at, |process| {
                    led = process.has_log_work() && process.raft.step_down();
                    Ok(process.pump())
                })?;
                self.stats.stepped_down += u64::from(led);
                Ok(())
            }
            Event::Stop { at, .. } => {
                self.note(|| format!("m{at} stops: it was removed"));
                self.stop(at);
                Ok(())
            }
            Event::Disturb => disturb::disturb(self),
            Event::Administer => disturb::administer(self),
        }
    }

    pub(crate) fn machine(&mut self, id: u64) -> &mut Machine {
        self.machines.get_mut(&id).expect("events name machines that exist")
    }

    /// The process ends and forgets everything; its clients will hear nothing.
    pub(crate) fn stop(&mut self, id: u64) {
        let machine = self.machine(id);
        machine.process = None;
        machine.life += 1;
        machine.log_scheduled = false;
        machine.apply_scheduled = false;
        machine.waiting.clear();
        machine.confirmed.clear();
        machine.paused_until = 0;
        machine.disk_hangs_until = 0;
    }

    /// The machine loses power: its disk keeps what it must and some of the rest.
    pub(crate) fn cut_power(&mut self, id: u64) {
        let seed = self.random.next();
        let machine = self.machine(id);
        machine.disk = machine.disk.crash(seed);
        self.stop(id);
    }

    fn restart(&mut self, id: u64) -> Judgement {
        let jitter = self.random.next();
        let machine = self.machine(id);
        if machine.process.is_some() || machine.lost {
            return Ok(());
        }
        let again = machine.life > 0;
        match Process::start(id, &machine.disk, &machine.founders, jitter) {
            Ok((process, found)) => {
                let state = process.durable_state();
                let applied = process.store.applied().0;
                machine.process = Some(process);
                let life = machine.life;
                self.stats.restarts += u64::from(again);
                self.stats.torn_tails += u64::from(found.torn_tail);
                self.stats.snapshots_recovered += u64::from(found.snapshot_recovered);
                self.note(|| format!("m{id} starts with {state:?}, applied {applied}, {found:?}"));
                self.oracle.durable(id, &state)?;
                let tick = self.random.below(TICK);
                self.after(tick, Event::Tick { at: id, life });
                let checkpoint = self.random.between(SECOND, 6 * SECOND);
                self.after(checkpoint, Event::Checkpoint { at: id, life });
                self.with(id, |process| Ok(process.pump()))
            }
            Err(fault) => self.fault(id, fault),
        }
    }

    fn fault(&mut self, id: u64, fault: Fault) -> Judgement {
        match fault {
            Fault::Broken(violation) => Err(violation),
            Fault::PowerOff => {
                self.stats.cuts_in_write += 1;
                self.note(|| format!("m{id} loses power in a write"));
                self.cut_power(id);
                let delay = self.random.between(SECOND / 10, 3 * SECOND);
                self.after(delay, Event::Restart(id));
                Ok(())
            }
        }
    }

    /// Lets a process do something, then deals with what came of it.
    pub(crate) fn with(
        &mut self,
        id: u64,
        work: impl FnOnce(&mut Process) -> Result<Effects, Fault>,
    ) -> Judgement {
        let Some(process) = self.machine(id).process.as_mut() else { return Ok(()) };
        match work(process) {
            Ok(effects) => self.follow(id, effects),
            Err(fault) => self.fault(id, fault),
        }
    }

    /// Takes what raft wants done, or waits for more: the server's raft thread takes all that arrived before it hands out
    /// what comes of it. The next tick is the latest.
    fn hand_out(&mut self, id: u64) -> Judgement {
        if self.random.chance(200) {
            return Ok(());
        }
        self.with(id, |process| Ok(process.pump()))
    }

    fn follow(&mut self, id: u64, effects: Effects) -> Judgement {
        for state in &effects.durable {
            self.oracle.durable(id, state)?;
        }
        if let Some(term) = effects.leads {
            self.note(|| format!("m{id} leads term {term}"));
            self.stats.elections += u64::from(self.oracle.leads(id, term)?);
        }
        if effects.snapshots_installed > 0 {
            self.note(|| format!("m{id} puts a snapshot in place"));
        }
        self.stats.snapshots += effects.snapshots_installed;
        for applied in &effects.applied {
            self.judge_applied(id, applied)?;
        }
        for read in effects.reads {
            self.machine(id).confirmed.push((read.index, read.context));
        }
        self.answer_reads(id)?;
        self.judge_hash(id, effects.published && !effects.applied.is_empty())?;
        if effects.removed {
            let life = self.machine(id).life;
            // Others may need its answers to learn that it was removed: at the end, when who is lost is not replaced any
            // more, perhaps for a whole election.
            let delay = if self.healed { 20 * SECOND } else { 10 * TICK };
            self.after(delay, Event::Stop { at: id, life });
        }
        for message in effects.messages {
            self.send(id, message)?;
        }
        self.schedule(id);
        Ok(())
    }

    fn judge_applied(&mut self, id: u64, applied: &crate::machine::AppliedEntry) -> Judgement {
        let first = self.oracle.applied(id, &applied.entry)?;
        if let (Some(request), Some(Ok(Response::Put(put)))) = (&applied.request, &applied.response)
            && let Some(wanted) = &request.put
        {
            self.oracle.put(put.revision.0, wanted.key.clone(), wanted.value.clone())?;
        }
        if first && let Some(change) = &applied.change {
            self.stats.conf_changes += 1;
            self.change_membership(change);
        }
        if first && matches!(applied.response, Some(Ok(Response::Compact))) {
            self.stats.compactions += 1;
        }
        let number =
            applied.request.as_ref().and_then(|request| request.header.as_ref()).map(|header| header.id);
        if let (Some(number), Some(response)) = (number, &applied.response)
            && self.machine(id).waiting.remove(&number)
        {
            let client = self.clients.open.get(&number).map(|operation| operation.client);
            if let Some(done) = self.clients.answer_write(number, response, self.now)? {
                self.stats.writes += 1;
                self.newest_write_began = self.newest_write_began.max(done.began);
                self.oracle.done(done);
            }
            if let Some(client) = client {
                self.client_rests(client);
            }
        }
        Ok(())
    }

    fn change_membership(&mut self, change: &ConfChangeOutcome) {
        self.note(|| format!("membership: {change:?}"));
        match change {
            ConfChangeOutcome::Added(member) => {
                self.membership.insert(member.id.0, !member.is_learner);
                if !self.machines.contains_key(&member.id.0) {
                    self.add_machine(member.id.0, Vec::new());
                }
            }
            ConfChangeOutcome::Promoted(id) => {
                self.membership.insert(id.0, true);
            }
            ConfChangeOutcome::Removed(id) => {
                self.membership.remove(&id.0);
            }
            ConfChangeOutcome::Updated(_) => {}
        }
    }

    fn answer_reads(&mut self, id: u64) -> Judgement {
        let machine = self.machine(id);
        let Some(process) = &machine.process else { return Ok(()) };
        let applied = process.store.applied().0.0;
        let view = process.store.reader().view();
        let (ready, later) = std::mem::take(&mut machine.confirmed)
            .into_iter()
            .partition::<Vec<_>, _>(|(index, _)| *index <= applied && view.applied().0.0 >= *index);
        machine.confirmed = later;
        for (_, number) in ready {
            let client = self.clients.open.get(&number).map(|operation| operation.client);
            if let Some(done) = self.clients.answer_read(number, &view, self.now)? {
                self.stats.reads += 1;
                self.oracle.done(done);
            }
            if let Some(client) = client {
                self.client_rests(client);
            }
        }
        Ok(())
    }

    fn judge_hash(&mut self, id: u64, changed: bool) -> Judgement {
        let Some(process) = self.machines.get(&id).and_then(|machine| machine.process.as_ref()) else {
            return Ok(());
        };
        let index = process.store.applied().0.0;
        if !changed || index % HASH_EVERY != 0 {
            return Ok(());
        }
        let hash = process.store.view().hash_kv(Revision(0));
        let hash = hash.map_err(|error| Violation(format!("m{id}: hashing everything: {error}")))?;
        self.oracle.hashed(id, index, hash)
    }

    /// Gives the log and the state machine time to do what waits for them.
    fn schedule(&mut self, id: u64) {
        let disk_us = self.machine(id).disk_us;
        let (write, apply) = (self.random.between(50, disk_us), self.random.between(20, 3_000));
        let machine = self.machine(id);
        let life = machine.life;
        let Some(process) = &machine.process else { return };
        let log = process.has_log_work() && !machine.log_scheduled;
        let state = process.has_apply_work() && !machine.apply_scheduled;
        machine.log_scheduled |= log;
        machine.apply_scheduled |= state;
        if log {
            self.after(write, Event::WriteLog { at: id, life });
        }
        if state {
            self.after(apply, Event::Apply { at: id, life });
        }
    }

    fn send(&mut self, from: u64, mut message: Message) -> Judgement {
        let (to, kind) = (message.to, message.r#type());
        let is_append = kind == MessageType::MsgApp;
        if is_append && message.entries.iter().zip(message.index + 1..).any(|(e, index)| e.index != index) {
            return Err(Violation(format!(
                "m{from} sends m{to} entries that do not follow {}",
                message.index
            )));
        }
        let mut state = None;
        if kind == MessageType::MsgSnap {
            let life = self.machine(from).life;
            let Some(process) = &self.machine(from).process else { return Ok(()) };
            match process.attach_state(&mut message) {
                Ok(bytes) => state = Some(bytes),
                Err(fault) => return self.fault(from, fault),
            }
            // The sender learns how it ended, or gives up waiting.
            let lost = self.random.chance(200);
            let outcome = if lost { SnapshotOutcome::Failed } else { SnapshotOutcome::Delivered };
            let delay = self.random.between(MILLISECOND, 500 * MILLISECOND);
            self.after(delay, Event::SnapshotReport { at: from, life, to, outcome });
        }
        if !self.network.reaches(from, to) || !self.machines.contains_key(&to) {
            self.stats.dropped += 1;
            return Ok(());
        }
        let mut delays = self.network.delays(&mut self.random);
        // Proposals travel over one connection and are not repeated: a request is not the same request twice.
        if kind == MessageType::MsgProp {
            delays.truncate(1);
        }
        self.stats.dropped += u64::from(delays.is_empty());
        self.stats.duplicated += u64::from(delays.len() > 1);
        for delay in delays {
            let packet = Box::new(Packet { message: message.clone(), state: state.clone() });
            self.after(delay, Event::Arrive { to, packet });
        }
        Ok(())
    }

    fn arrive(&mut self, to: u64, packet: Packet) -> Judgement {
        let Packet { message, state } = packet;
        let kind = message.r#type();
        let mut stale = false;
        if let Some(meta) = message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref()) {
            self.note(|| format!("m{to} receives a snapshot of {} at term {}", meta.index, meta.term));
        }
        self.with(to, |process| {
            if let (Some(state), Some(meta)) =
                (state, message.snapshot.as_ref().and_then(|s| s.metadata.as_ref()))
            {
                process.receive_state(meta.index, &state)?;
            }
            if kind == MessageType::MsgAppResp && message.reject && process.role() == Role::Leader {
                let progress = process.raft.status().progress;
                stale =
                    progress.iter().any(|peer| peer.id.0 == message.from && message.index <= peer.matched);
            }
            // What is not for it, it ignores, as the server does.
            let _ = process.raft.step(message);
            process.check_progress()?;
            Ok(Effects::default())
        })?;
        self.stats.stale_rejects += u64::from(stale);
        self.hand_out(to)
    }

    fn client_rests(&mut self, client: usize) {
        let delay = self.random.between(MILLISECOND, 300 * MILLISECOND);
        self.after(delay, Event::Client(client));
    }

    fn client_begins(&mut self, client: usize) -> Judgement {
        let up: Vec<u64> = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.process.is_some())
            .map(|(id, _)| *id)
            .collect();
        let Some(id) = self.random.pick(&up) else {
            self.client_rests(client);
            return Ok(());
        };
        let (number, operation) = self.clients.draw(&mut self.random, client, self.now);
        self.after(PATIENCE, Event::GiveUp { client, number });
        let mut refused = false;
        match encode(number, &operation.wish) {
            Some(data) => {
                self.machine(id).waiting.insert(number);
                self.with(id, |process| {
                    refused = process.raft.propose(vec![data]).is_err();
                    Ok(process.pump())
                })?;
            }
            None => self.with(id, |process| {
                refused = process.raft.read_index(number) == ReadIndex::NotNow;
                Ok(process.pump())
            })?,
        }
        // Refused at once means: it never happened.
        if refused && self.clients.open.remove(&number).is_some() {
            self.client_rests(client);
        }
        Ok(())
    }

    /// Whether all members run, a write that was asked for after the healing succeeded, and everybody applied all there is.
    fn has_converged(&self) -> bool {
        let mut applied = Vec::new();
        for (id, _) in self.membership.iter() {
            let Some(process) = self.machines.get(id).and_then(|machine| machine.process.as_ref()) else {
                return false;
            };
            applied.push((process.store.applied().0.0, process.raft.term_and_commit().1));
        }
        let served = self.newest_write_began > self.healed_at && self.clients.open.is_empty();
        served
            && applied.windows(2).all(|pair| pair[0] == pair[1])
            && applied.iter().all(|(at, commit)| at == commit)
    }

    /// Whether, for every running member, too few of the voters it knows have a disk left.
    ///
    /// The membership that counts for a member is the applied one. If all that applied a removal crash before they wrote
    /// the commit index down, and one more is lost then, the others still wait for those who are gone. etcd is the same.
    fn is_quorum_gone(&self) -> bool {
        let running = self.membership.keys().filter_map(|id| self.machines.get(id)?.process.as_ref());
        running.map(|process| process.raft.conf_state().voters).all(|voters| {
            let left =
                voters.iter().filter(|id| self.machines.get(id).is_some_and(|machine| !machine.lost)).count();
            left * 2 <= voters.len()
        })
    }

    /// Whether all members run and know the newest membership.
    pub(crate) fn is_membership_settled(&self) -> bool {
        self.membership.keys().all(|id| {
            let process = self.machines.get(id).and_then(|machine| machine.process.as_ref());
            process.is_some_and(|process| {
                let members = process.store.view().members();
                members.iter().map(|member| (member.id.0, !member.is_learner)).eq(self.membership.clone())
            })
        })
    }

    /// Everybody has every acknowledged write, and the same of everything.
    fn judge_final_state(&mut self) -> Judgement {
        let newest = self.oracle.acknowledged();
        let members: Vec<u64> = self.membership.keys().copied().collect();
        for id in members {
            let Some(process) = &self.machine(id).process else { continue };
            let view = process.store.view();
            let index = view.applied().0.0;
            let hash = view.hash_kv(Revision(0)).map_err(|error| Violation(format!("m{id}: {error}")))?;
            for (key, revision) in &newest {
                let found = view.get(key, view.revision()).map_or(0, |record| record.meta().mod_revision);
                if found < *revision {
                    return Err(Violation(format!("m{id} lost {key:?} at {revision}: it has {found}")));
                }
            }
            self.oracle.hashed(id, index, hash)?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let mut lines = vec![format!("members (voting) {:?}", self.membership)];
        for (id, machine) in &self.machines {
            lines.push(match &machine.process {
                None => format!("m{id} is down, lost: {}", machine.lost),
                Some(process) => format!("m{id} {:?}", process.raft.status()),
            });
        }
        let open: Vec<_> = self.clients.open.values().map(|operation| &operation.wish).collect();
        lines.push(format!("waiting clients: {open:?}"));
        lines.join("\n")
    }

    /// Forgets a member that is gone for good.
    pub(crate) fn forget(&mut self, id: u64) {
        self.oracle.forget(id);
    }

    /// The process that leads the highest term, by its own belief.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leaders = self.machines.iter().filter_map(|(id, machine)| {
            let process = machine.process.as_ref().filter(|process| process.role() == Role::Leader)?;
            Some((process.raft.term_and_commit().0, *id))
        });
        leaders.max().map(|(_, id)| id)
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}
