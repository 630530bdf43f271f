//! Power cuts: after any of them, a log and its checkpoint hold everything that was synced, and nothing that was not
//! written.
//!
//! A member is modelled by the sequence of records it appended. What is recovered must be the outcome of some prefix
//! of that sequence, not shorter than what had been synced. Each seed is several lives of one member on one disk, each
//! ended by a power cut at a drawn sync or change, the reopening included.
//! `KVNODE_CRASH_SEEDS=100000` runs more; `KVNODE_CRASH_SEED=7` runs one.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use kvnode_proto::{
    raftpb::{ConfState, Entry, HardState},
    walpb::Snapshot,
};
use kvnode_storage::{
    bolt::BucketSource,
    checkpoint,
    identity::{HexId, IDENTITY_VERSION, Identity, Origin},
    layout::DataDir,
    vfs::{CrashPlan, SimDisk, Vfs},
    wal::{Metadata, Preparation, Replay, Wal, WalOptions},
};

const OPTIONS: WalOptions = WalOptions { segment_bytes: 3000, preparation: Preparation::Inline };
const METADATA: Metadata = Metadata { node_id: 1, cluster_id: 2 };
const LIVES: u64 = 5;
const STEPS: u64 = 60;

/// xorshift64*: small, and a seed is a whole run.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Record {
    Entry(Entry),
    State(HardState),
    Mark(Snapshot),
}

/// What a member appended, and how much of it must survive.
#[derive(Clone, Debug, Default)]
struct Member {
    records: Vec<Record>,
    synced: usize,
    /// Index of the newest checkpoint known to be durable.
    checkpoint: u64,
    /// The newest checkpoint that may or may not have become durable.
    checkpoint_begun: u64,
}

impl Member {
    fn last_index(&self) -> u64 {
        self.records.iter().fold(0, |last, record| match record {
            Record::Entry(entry) => entry.index,
            Record::Mark(mark) => last.max(mark.index),
            Record::State(_) => last,
        })
    }

    fn last_term(&self) -> u64 {
        let mut entries = self.records.iter().rev().filter_map(|record| match record {
            Record::Entry(entry) => Some(entry.term),
            _ => None,
        });
        entries.next().unwrap_or(1)
    }

    fn state(&self) -> HardState {
        let states = self.records.iter().rev().find_map(|record| match record {
            Record::State(state) => Some(*state),
            _ => None,
        });
        states.unwrap_or(HardState { term: 1, vote: 0, commit: 0 })
    }
}

/// What reading from `from` would give if exactly `records` had been written.
fn outcome(records: &[Record], from: &Snapshot) -> (HardState, Vec<Entry>) {
    let mut state = HardState::default();
    let mut entries: Vec<Entry> = Vec::new();
    for record in records {
        match record {
            Record::Entry(entry) if entry.index > from.index => {
                entries.truncate((entry.index - from.index - 1) as usize);
                entries.push(entry.clone());
            }
            Record::Entry(_) => entries.clear(),
            Record::State(new) => state = *new,
            Record::Mark(_) => {}
        }
    }
    (state, entries)
}

fn data_dir() -> DataDir {
    DataDir::new("/data")
}

struct OneFact(u64);

impl BucketSource for OneFact {
    fn buckets(&self) -> Vec<&str> {
        vec!["key", "meta"]
    }

    fn items(&self, bucket: &str) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + '_> {
        let index = Bytes::copy_from_slice(&self.0.to_be_bytes());
        match bucket {
            "meta" => Box::new([("consistent_index".into(), index)].into_iter()),
            _ => Box::new((0..self.0 % 40).map(move |n| (vec![1, n as u8].into(), index.clone()))),
        }
    }
}

fn identity() -> Identity {
    Identity {
        version: IDENTITY_VERSION,
        cluster_uid: "u".into(),
        cluster_id: HexId(2),
        member_id: HexId(1),
        name: "n".into(),
        origin: Origin::Created,
    }
}

/// Starts as a node does: newest checkpoint, then the newest mark not above it, then the log from there. Errors only
/// when the power goes off.
fn start(disk: &SimDisk, member: &mut Member) -> Option<Wal> {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let dir = data_dir();
    let powered = |what: &str, error: String| {
        assert!(!disk.powered(), "{what}: {error}");
    };
    if let Err(error) = identity().store(disk, &dir) {
        powered("identity", error.to_string());
        return None;
    }
    match Wal::exists(disk, &dir.wal()) {
        Ok(true) => {}
        Ok(false) => {
            assert_eq!(member.synced, 0, "the log is gone");
            member.records.clear();
            return Wal::create(vfs, &dir.wal(), METADATA, OPTIONS)
                .map_err(|error| powered("create", error.to_string()))
                .ok();
        }
        Err(error) => {
            powered("exists", error.to_string());
            return None;
        }
    }
    let found =
        checkpoint::open(disk, &dir).map_err(|error| powered("checkpoint", error.to_string())).ok()?;
    let index = found.map_or(0, |checkpoint| checkpoint.index);
    assert!(index >= member.checkpoint, "checkpoint {} was durable, found {index}", member.checkpoint);
    assert!(index <= member.checkpoint_begun, "nobody wrote checkpoint {index}");
    let marks =
        Wal::snapshot_marks(disk, &dir.wal()).map_err(|error| powered("marks", error.to_string())).ok()?;
    let from = marks.into_iter().rfind(|mark| mark.index <= index).unwrap_or_default();
    let (wal, replay) = Wal::open(vfs, &dir.wal(), &from, OPTIONS)
        .map_err(|error| powered("open", error.to_string()))
        .ok()?;
    member.checkpoint = index;
    recovered(member, &from, &replay);
    Some(wal)
}

/// Finds the prefix that was recovered and makes it what the member has.
fn recovered(member: &mut Member, from: &Snapshot, replay: &Replay) {
    assert_eq!(replay.metadata, METADATA);
    let matching = (member.synced..=member.records.len()).find(|count| {
        outcome(&member.records[..*count], from) == (replay.hard_state, replay.entries.clone())
    });
    let Some(count) = matching else {
        let indexes: Vec<_> = replay.entries.iter().map(|entry| (entry.index, entry.data.len())).collect();
        panic!(
            "{} synced of {} records; recovered from {from:?}: {:?} {indexes:?} torn {:?}\n{:?}",
            member.synced,
            member.records.len(),
            replay.hard_state,
            replay.torn,
            outcome(&member.records[..member.synced], from),
        );
    };
    member.records.truncate(count);
    member.synced = count;
}

fn entry(random: &mut Random, index: u64, term: u64) -> Entry {
    let length = match random.below(8) {
        0 => 0,
        1 => 1 + random.below(3000),
        2 => 500 + random.below(30),
        _ => random.below(200),
    };
    // Whole sectors of zeros in the data look like unwritten ones.
    let data = match random.below(4) {
        0 => vec![0; length as usize],
        _ => (0..length).map(|_| random.below(256) as u8).collect(),
    };
    Entry { r#type: 0, term, index, data: data.into() }
}

/// One thing a node does. `None` when the power went off.
fn step(random: &mut Random, disk: &SimDisk, wal: &mut Wal, member: &mut Member) -> Option<()> {
    match random.below(12) {
        0..=5 => append(random, wal, member),
        6..=8 => {
            let outcome = wal.sync();
            if outcome.is_ok() {
                member.synced = member.records.len();
            }
            outcome.ok()?;
        }
        9..=10 => wal.flush().ok()?,
        _ => take_checkpoint(disk, wal, member)?,
    }
    Some(())
}

fn append(random: &mut Random, wal: &mut Wal, member: &mut Member) {
    let last = member.last_index();
    let mut state = member.state();
    // An entry may have survived without the hard state of its term; no leader goes on from it at a lower one.
    state.term = member.last_term().max(state.term);
    let mut next = last + 1;
    if random.below(6) == 0 && last > state.commit {
        // A new leader replaces what was not committed.
        state.term += 1;
        next = state.commit + 1 + random.below(last - state.commit);
    }
    let entries: Vec<_> =
        (next..next + random.below(4)).map(|index| entry(random, index, state.term)).collect();
    let reachable = entries.last().map_or(last, |entry| entry.index).min(last.max(state.commit));
    state.commit += random.below(1 + reachable.saturating_sub(state.commit));
    if next <= last && entries.is_empty() {
        return;
    }
    let state = (random.below(3) > 0 || state.term > member.state().term).then_some(state);
    wal.append(state.as_ref(), &entries);
    member.records.extend(entries.into_iter().map(Record::Entry));
    member.records.extend(state.map(Record::State));
}

/// As a node does: checkpoint durable, then the mark, then old segments go.
fn take_checkpoint(disk: &SimDisk, wal: &mut Wal, member: &mut Member) -> Option<()> {
    wal.sync().ok()?;
    member.synced = member.records.len();
    let state = member.state();
    if state.commit <= member.checkpoint {
        return Some(());
    }
    member.checkpoint_begun = state.commit;
    checkpoint::write(disk, &data_dir(), &OneFact(state.commit)).ok()?;
    member.checkpoint = state.commit;
    let (_, entries) = outcome(&member.records, &Snapshot::default());
    let conf_state = Some(ConfState { voters: vec![1], ..Default::default() });
    let mark = Snapshot { index: state.commit, term: entries[state.commit as usize - 1].term, conf_state };
    member.records.push(Record::Mark(mark.clone()));
    wal.mark_snapshot(&mark).ok()?;
    member.synced = member.records.len();
    wal.release_before(mark.index).ok()?;
    Some(())
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let mut disk = SimDisk::new();
    let mut member = Member::default();
    for _ in 0..LIVES {
        disk.arm(match random.below(3) {
            0 => CrashPlan::AtSync(random.below(40)),
            1 => CrashPlan::AtChange(random.below(120)),
            _ => CrashPlan::Never,
        });
        if let Some(mut wal) = start(&disk, &mut member) {
            for _ in 0..random.below(STEPS) {
                if step(&mut random, &disk, &mut wal, &mut member).is_none() {
                    assert!(!disk.powered(), "an error while the power was on");
                    break;
                }
            }
        }
        disk = disk.crash(random.below(1 << 32));
    }
    // The last image opens, and opening it twice gives the same.
    let wal = start(&disk, &mut member).expect("power is on");
    drop(wal);
    member.synced = member.records.len();
    start(&disk, &mut member).expect("power is on");
    assert_eq!(Identity::load(&disk, &data_dir()).unwrap(), Some(identity()));
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[test]
fn what_was_synced_survives_every_power_cut_and_the_rest_is_a_prefix() {
    let seeds = match setting("KVNODE_CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("KVNODE_CRASH_SEEDS").unwrap_or(300),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "run again with KVNODE_CRASH_SEED={seed}");
    }
}

/// The same short history, cut at every single change in turn.
#[test]
fn every_point_of_one_history_is_safe() {
    let history = |disk: &SimDisk, member: &mut Member| {
        let mut random = Random::new(42);
        let mut wal = start(disk, member)?;
        for _ in 0..STEPS {
            step(&mut random, disk, &mut wal, member)?;
        }
        Some(())
    };
    let disk = SimDisk::new();
    disk.arm(CrashPlan::Never);
    history(&disk, &mut Member::default()).unwrap();
    let changes = disk.changes();
    assert!(changes > 50, "the history does something: {changes}");
    for at in 0..changes {
        for image in 0..4 {
            let disk = SimDisk::new();
            let mut member = Member::default();
            disk.arm(CrashPlan::AtChange(at));
            assert!(history(&disk, &mut member).is_none());
            let after = disk.crash(image);
            start(&after, &mut member).unwrap_or_else(|| panic!("cut at change {at}, image {image}"));
        }
    }
}

#[test]
fn a_checkpoint_is_replaced_whole_or_not_at_all() {
    for at in 0..60 {
        let disk = SimDisk::new();
        checkpoint::write(&disk, &data_dir(), &OneFact(7)).unwrap();
        disk.arm(CrashPlan::AtChange(at));
        let written = checkpoint::write(&disk, &data_dir(), &OneFact(39)).is_ok();
        for image in 0..8 {
            let after = disk.crash(image);
            let found = checkpoint::open(&after, &data_dir()).unwrap().unwrap().index;
            assert!(found == 39 || (!written && found == 7), "cut at {at}: {found}");
        }
    }
    assert!(Path::new("/data/member/snap/db") == data_dir().checkpoint());
}
