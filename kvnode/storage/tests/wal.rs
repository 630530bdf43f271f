//! The log: etcd's bytes, group writes, segments, and the line between torn and corrupt.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use kvnode_proto::{
    raftpb::{ConfState, Entry, HardState},
    walpb::Snapshot,
};
use kvnode_storage::{
    limits::UNSYNCED_BYTES_MAX,
    vfs::{CrashPlan, OpenMode, RealDisk, SimDisk, Vfs, read_file},
    wal::{Metadata, Preparation, Replay, Wal, WalError, WalOptions},
};

const DIR: &str = "/data/member/wal";
const FIRST: &str = "/data/member/wal/0000000000000000-0000000000000000.wal";
const METADATA: Metadata = Metadata { node_id: 0xA1, cluster_id: 0xC1 };

fn options(segment_bytes: u64) -> WalOptions {
    WalOptions { segment_bytes, preparation: Preparation::Inline }
}

fn entry(index: u64, data: &[u8]) -> Entry {
    Entry { r#type: 0, term: 1, index, data: Bytes::copy_from_slice(data) }
}

/// Bytes without a zero among them, different for each index.
fn noise(index: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| ((index * 31 + at * 7) % 255) as u8 + 1).collect()
}

fn state(commit: u64) -> HardState {
    HardState { term: 1, vote: 0xA1, commit }
}

fn create(disk: &SimDisk, segment_bytes: u64) -> Wal {
    Wal::create(Arc::new(disk.clone()), Path::new(DIR), METADATA, options(segment_bytes)).unwrap()
}

fn open(disk: &SimDisk, segment_bytes: u64) -> Result<(Wal, Replay), WalError> {
    Wal::open(Arc::new(disk.clone()), Path::new(DIR), &Snapshot::default(), options(segment_bytes))
}

fn indexes(replay: &Replay) -> Vec<u64> {
    replay.entries.iter().map(|entry| entry.index).collect()
}

fn overwrite(disk: &SimDisk, offset: u64, data: &[u8]) {
    disk.open(Path::new(FIRST), OpenMode::ReadWrite).unwrap().write_all_at(data, offset).unwrap();
}

/// Written by etcd 3.7.3 from the same metadata, entries and hard states, one line per record.
const BY_ETCD: [&str; 6] = [
    "04000000000000840804100000000000",
    "1600000000000082080110b8f4b9c6051a0c08ef9baf8589cf959a12104d0000",
    "0e0000000000008208051094b2b59d041a04080010000000",
    "1300000000000085080210f9f2baf00c1a090800100318012201000000000000",
    "1000000000000000080310b9bdb7ec0f1a06080310091800",
    "14000000000000840802108dfcac8b0d1a0a0800100318022202000200000000",
];

#[test]
fn a_segment_has_the_bytes_that_etcd_writes() {
    let disk = SimDisk::new();
    let metadata = Metadata { node_id: 0x1234_5678_90AB_CDEF, cluster_id: 77 };
    let mut wal = Wal::create(Arc::new(disk.clone()), Path::new(DIR), metadata, options(4096)).unwrap();
    let state = HardState { term: 3, vote: 9, commit: 0 };
    wal.append(Some(&state), &[Entry { term: 3, ..entry(1, &[0]) }]);
    wal.append(None, &[Entry { term: 3, ..entry(2, &[0, 2]) }]);
    wal.sync().unwrap();
    let file = read_file(&disk, Path::new(FIRST)).unwrap();
    let etcd = BY_ETCD.concat();
    let ours: String = file[..etcd.len() / 2].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ours, etcd);
    assert!(file[etcd.len() / 2..].iter().all(|byte| *byte == 0), "zeros mark the end");
    assert_eq!(file.len(), 4096, "space is reserved");
}

#[test]
fn a_group_is_one_write_and_one_sync() {
    let disk = SimDisk::new();
    let mut wal = create(&disk, 1 << 20);
    disk.arm(CrashPlan::Never);
    for index in 1..=100 {
        wal.append(Some(&state(index)), &[entry(index, &noise(index, 300))]);
    }
    assert!(wal.buffered_bytes() > 30_000);
    wal.sync().unwrap();
    assert_eq!((disk.syncs(), disk.changes()), (1, 2), "changes count the write and the sync");
}

#[test]
fn a_log_is_read_back_over_many_segments() {
    let disk = SimDisk::new();
    let mut wal = create(&disk, 2048);
    for index in 1..=200 {
        wal.append(Some(&state(index - 1)), &[entry(index, &noise(index, 100))]);
        wal.sync().unwrap();
    }
    assert!(wal.segment_count() > 10);
    drop(wal);
    let (mut wal, replay) = open(&disk, 2048).unwrap();
    assert_eq!(replay.metadata, METADATA);
    assert_eq!(replay.hard_state, state(199));
    assert_eq!(indexes(&replay), (1..=200).collect::<Vec<_>>());
    assert!(replay.entries.iter().all(|entry| entry.data == noise(entry.index, 100)));
    assert_eq!(replay.torn, None);
    // A leader of a later term replaces the end.
    wal.append(
        Some(&HardState { term: 2, vote: 0, commit: 199 }),
        &[Entry { term: 2, ..entry(151, b"new") }],
    );
    wal.sync().unwrap();
    drop(wal);
    let (_, replay) = open(&disk, 2048).unwrap();
    assert_eq!(replay.entries.len(), 151);
    assert_eq!(replay.entries[150].data, "new");
}

#[test]
fn segments_behind_a_mark_are_released_and_used_again() {
    let disk = SimDisk::new();
    let mut wal = create(&disk, 2048);
    let mut most = 0;
    for index in 1..=300 {
        wal.append(Some(&state(index)), &[entry(index, &noise(index, 200))]);
        wal.sync().unwrap();
        if index % 25 == 0 {
            let conf_state = Some(ConfState { voters: vec![0xA1], ..Default::default() });
            wal.mark_snapshot(&Snapshot { index, term: 1, conf_state }).unwrap();
            wal.release_before(index).unwrap();
        }
        most = most.max(disk.list(Path::new(DIR)).unwrap().len());
    }
    assert!(most <= 6, "space is bounded: {most} files");
    drop(wal);
    let marks = Wal::snapshot_marks(&disk, Path::new(DIR)).unwrap();
    assert_eq!(marks.last().map(|mark| mark.index), Some(300));
    let error = open(&disk, 2048).unwrap_err();
    assert!(matches!(error, WalError::BeginsLater { index: 0, .. }), "{error}");
    let from = marks.last().unwrap();
    let (mut wal, replay) = Wal::open(Arc::new(disk.clone()), Path::new(DIR), from, options(2048)).unwrap();
    assert_eq!((indexes(&replay), replay.hard_state), (vec![], state(300)));
    wal.append(None, &[entry(301, b"on")]);
    wal.sync().unwrap();
    let wrong = Snapshot { term: 9, ..from.clone() };
    drop(wal);
    assert!(Wal::open(Arc::new(disk.clone()), Path::new(DIR), &wrong, options(2048)).is_err());
    let absent = Snapshot { index: 299, ..from.clone() };
    let error = Wal::open(Arc::new(disk), Path::new(DIR), &absent, options(2048)).unwrap_err();
    assert!(matches!(error, WalError::MarkMissing { index: 299, .. }), "{error}");
}

/// A member that followed a dead leader has entries that nobody else has; then it gets a snapshot.
#[test]
fn what_a_received_snapshot_replaced_does_not_come_back() {
    let disk = SimDisk::new();
    let mut wal = create(&disk, 1 << 16);
    let stale: Vec<_> = (1..=20).map(|index| entry(index, b"stale")).collect();
    wal.append(Some(&state(3)), &stale);
    wal.sync().unwrap();
    let conf_state = Some(ConfState { voters: vec![0xA1], ..Default::default() });
    let own = Snapshot { index: 3, term: 1, conf_state: conf_state.clone() };
    wal.mark_snapshot(&own).unwrap();
    let read = |from: &Snapshot| {
        Wal::open(Arc::new(disk.clone()), Path::new(DIR), from, options(1 << 16)).unwrap().1
    };
    drop(wal);
    assert_eq!(indexes(&read(&own)), (4..=20).collect::<Vec<_>>(), "a mark of its own takes nothing");

    let (mut wal, _) = open(&disk, 1 << 16).unwrap();
    let received = Snapshot { index: 10, term: 2, conf_state };
    wal.install_snapshot(&received, Some(&HardState { term: 2, vote: 0, commit: 10 })).unwrap();
    drop(wal);
    assert_eq!(indexes(&read(&received)), Vec::<u64>::new());
    let (mut wal, _) =
        Wal::open(Arc::new(disk.clone()), Path::new(DIR), &received, options(1 << 16)).unwrap();
    wal.append(None, &[Entry { term: 2, ..entry(11, b"new") }]);
    wal.sync().unwrap();
    // A checkpoint of the very state that was received is one of its own.
    wal.mark_snapshot(&received).unwrap();
    drop(wal);
    assert_eq!(indexes(&read(&received)), [11]);
}

/// A checkpoint was being written when a snapshot arrived; its mark comes late.
#[test]
fn the_newest_mark_is_the_last_one_whatever_the_order_they_were_written_in() {
    let disk = SimDisk::new();
    let mut wal = create(&disk, 1 << 16);
    wal.append(Some(&state(3)), &[entry(1, b"a"), entry(2, b"b"), entry(3, b"c")]);
    let conf_state = Some(ConfState { voters: vec![0xA1], ..Default::default() });
    let received = Snapshot { index: 10, term: 2, conf_state: conf_state.clone() };
    wal.install_snapshot(&received, Some(&HardState { term: 2, vote: 0, commit: 10 })).unwrap();
    wal.append(None, &[Entry { term: 2, ..entry(11, b"on") }]);
    wal.mark_snapshot(&Snapshot { index: 3, term: 1, conf_state }).unwrap();
    drop(wal);
    let marks = Wal::snapshot_marks(&disk, Path::new(DIR)).unwrap();
    assert_eq!(marks.iter().map(|mark| mark.index).collect::<Vec<_>>(), [0, 3, 10]);
    let from = marks.last().unwrap();
    let (_, replay) = Wal::open(Arc::new(disk.clone()), Path::new(DIR), from, options(1 << 16)).unwrap();
    assert_eq!(indexes(&replay), [11]);
}

/// A process is killed between a write and its sync. Its next life answers for what it finds, whatever happens then.
#[test]
fn what_was_read_stays_even_if_it_was_never_synced() {
    for seed in 0..20 {
        let disk = SimDisk::new();
        let mut wal = create(&disk, 1 << 16);
        wal.append(Some(&state(1)), &[entry(1, b"a"), entry(2, b"b")]);
        wal.flush().unwrap();
        drop(wal);
        let (wal, replay) = open(&disk, 1 << 16).unwrap();
        assert_eq!(indexes(&replay), [1, 2]);
        drop(wal);
        let disk = disk.crash(seed);
        assert_eq!(indexes(&open(&disk, 1 << 16).unwrap().1), [1, 2], "seed {seed}");
    }
}

#[test]
fn a_log_that_is_taken_is_left_alone() {
    let disk = SimDisk::new();
    drop(create(&disk, 1 << 16));
    let take = || Wal::take(Arc::new(disk.clone()), Path::new(DIR));
    let taken = take().unwrap();
    assert!(matches!(take(), Err(WalError::Locked { .. })));
    let (wal, _) = taken.open(&Snapshot::default(), options(1 << 16)).unwrap();
    assert!(matches!(take(), Err(WalError::Locked { .. })));
    drop(wal);
    take().unwrap();
}

/// Wherever power fails, nothing counts as committed that is not there.
#[test]
fn a_received_snapshot_counts_no_entry_that_comes_with_it_before_that_is_durable() {
    let hard_state = HardState { term: 2, vote: 0, commit: 12 };
    let entries = [11, 12].map(|index| Entry { term: 2, ..entry(index, b"on") });
    let conf_state = Some(ConfState { voters: vec![0xA1], ..Default::default() });
    let received = Snapshot { index: 10, term: 2, conf_state };
    for power in 0.. {
        let disk = SimDisk::new();
        let mut wal = create(&disk, 1 << 16);
        wal.append(Some(&state(1)), &[entry(1, b"a")]);
        wal.sync().unwrap();
        disk.arm(CrashPlan::AtChange(power));
        let installed = wal.install_snapshot(&received, Some(&hard_state));
        wal.append(Some(&hard_state), &entries);
        let written = installed.and_then(|()| wal.sync()).is_ok();
        drop(wal);
        let disk = disk.crash(power);
        let mark = Wal::snapshot_marks(&disk, Path::new(DIR)).unwrap().pop().unwrap();
        let (_, replay) = Wal::open(Arc::new(disk), Path::new(DIR), &mark, options(1 << 16)).unwrap();
        let last = replay.entries.last().map_or(mark.index, |entry| entry.index);
        assert!(replay.hard_state.commit <= last, "after change {power}: {replay:?}");
        if written {
            assert_eq!((last, replay.hard_state), (12, hard_state));
            return;
        }
    }
}

/// Cut between the two records of a received snapshot: it was never there, and the log goes on from before it.
#[test]
fn a_received_snapshot_without_its_hard_state_never_was() {
    let disk = SimDisk::new();
    let mut wal = create(&disk, 1 << 16);
    wal.append(Some(&state(3)), &[entry(1, b"a"), entry(2, b"b"), entry(3, b"c"), entry(4, b"d")]);
    wal.sync().unwrap();
    let length = || read_file(&disk, Path::new(FIRST)).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    let conf_state = Some(ConfState { voters: vec![0xA1], ..Default::default() });
    let received = Snapshot { index: 10, term: 2, conf_state };
    let before = length();
    wal.install_snapshot(&received, Some(&HardState { term: 2, vote: 0, commit: 10 })).unwrap();
    drop(wal);
    // The hard state is the last record: 8 bytes of length, then the record.
    let state_record = (length() + 1).next_multiple_of(8) - 24;
    assert!(state_record > before);
    overwrite(&disk, state_record as u64, &[0; 24]);
    assert_eq!(Wal::snapshot_marks(&disk, Path::new(DIR)).unwrap().len(), 1, "only the first");
    for round in 0..2 {
        let (mut wal, replay) = open(&disk, 1 << 16).unwrap();
        assert_eq!(replay.hard_state, state(3));
        assert_eq!(indexes(&replay), (1..=4 + round).collect::<Vec<_>>());
        assert_eq!(replay.torn.is_some(), round == 0);
        wal.append(None, &[entry(5 + round, b"on")]);
        wal.sync().unwrap();
    }
}

/// A member restarts from a checkpoint that knows more than the last hard state, and takes another at once.
#[test]
fn a_mark_counts_although_the_commit_index_lagged_behind() {
    let disk = SimDisk::new();
    let mut wal = create(&disk, 1 << 16);
    wal.append(Some(&state(1)), &[entry(1, b"a"), entry(2, b"b"), entry(3, b"c")]);
    wal.sync().unwrap();
    let conf_state = Some(ConfState { voters: vec![0xA1], ..Default::default() });
    wal.mark_snapshot(&Snapshot { index: 3, term: 1, conf_state }).unwrap();
    drop(wal);
    let marks = Wal::snapshot_marks(&disk, Path::new(DIR)).unwrap();
    assert_eq!(marks.iter().map(|mark| mark.index).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(open(&disk, 1 << 16).unwrap().1.hard_state, state(3));
}

#[test]
fn the_same_holds_on_a_real_disk_with_a_thread_that_prepares() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("member/wal");
    let options = WalOptions { segment_bytes: 64 << 10, preparation: Preparation::Background };
    let disk: Arc<dyn Vfs> = Arc::new(RealDisk);
    let mut wal = Wal::create(disk.clone(), &path, METADATA, options).unwrap();
    for index in 1..=600 {
        wal.append(Some(&state(index)), &[entry(index, &noise(index, 1000))]);
        wal.sync().unwrap();
        if index == 400 {
            wal.mark_snapshot(&Snapshot { index, term: 1, conf_state: Some(ConfState::default()) }).unwrap();
            assert!(wal.release_before(index).unwrap() > 3);
        }
    }
    let second = Wal::open(disk.clone(), &path, &Snapshot::default(), options);
    assert!(matches!(second, Err(WalError::BeginsLater { .. } | WalError::Locked { .. })));
    let from = Wal::snapshot_marks(&*disk, &path).unwrap().pop().unwrap();
    assert!(matches!(Wal::open(disk.clone(), &path, &from, options), Err(WalError::Locked { .. })));
    drop(wal);
    let (_, replay) = Wal::open(disk, &path, &from, options).unwrap();
    assert_eq!(indexes(&replay), (401..=600).collect::<Vec<_>>());
    assert!(replay.entries.iter().all(|entry| entry.data == noise(entry.index, 1000)));
}

#[test]
fn there_is_one_log_in_a_directory() {
    let disk = SimDisk::new();
    drop(create(&disk, 4096));
    let again = Wal::create(Arc::new(disk.clone()), Path::new(DIR), METADATA, options(4096));
    assert!(matches!(again, Err(WalError::Exists { .. })));
    let elsewhere = Wal::open(Arc::new(disk), Path::new("/other"), &Snapshot::default(), options(4096));
    assert!(matches!(elsewhere, Err(WalError::Missing { .. })));
}

#[test]
fn after_a_failed_sync_nothing_more_is_taken() {
    let disk = SimDisk::new();
    let mut wal = create(&disk, 4096);
    disk.arm(CrashPlan::AtSync(0));
    wal.append(None, &[entry(1, b"x")]);
    assert!(matches!(wal.sync(), Err(WalError::Io { action: "sync", .. })));
    assert!(matches!(wal.sync(), Err(WalError::Failed { .. })));
}

/// Three groups; the offsets between them.
fn three_groups(disk: &SimDisk, middle: &[u8]) -> [u64; 4] {
    let mut wal = create(disk, 1 << 16);
    let used = || {
        let file = read_file(disk, Path::new(FIRST)).unwrap();
        file.iter().rposition(|byte| *byte != 0).map_or(0, |at| (at as u64 + 1).next_multiple_of(8))
    };
    let mut offsets = [used(); 4];
    for (group, data) in [&noise(1, 700)[..], middle, &noise(3, 1500)].into_iter().enumerate() {
        wal.append(Some(&state(group as u64 + 1)), &[entry(group as u64 + 1, data)]);
        wal.sync().unwrap();
        offsets[group + 1] = used();
    }
    offsets
}

#[test]
fn a_flipped_bit_anywhere_in_synced_records_is_refused_by_name_and_offset() {
    let original = SimDisk::new();
    let offsets = three_groups(&original, &noise(2, 900));
    let (_, whole) = open(&original.crash(0), 1 << 16).unwrap();
    for byte in 0..offsets[3] {
        for bit in 0..8 {
            // An image without pending changes: what a machine finds after everything was synced.
            let disk = original.crash(0);
            disk.flip_bit(Path::new(FIRST), byte, bit).unwrap();
            match open(&disk, 1 << 16) {
                Err(WalError::Corrupt { path, offset, .. }) => {
                    assert_eq!(path, Path::new(FIRST));
                    // Damage to the checksum at the very beginning shows at the first record that it covers.
                    assert!(offset <= byte.max(16), "byte {byte}: offset {offset} names the record");
                }
                // A length word can be put back from the record behind it.
                Ok((_, replay)) => assert_eq!(replay, whole, "byte {byte} bit {bit} changed what was read"),
                Err(other) => panic!("byte {byte} bit {bit}: {other}"),
            }
        }
    }
}

#[test]
fn the_error_says_where_and_what_to_do() {
    let disk = SimDisk::new();
    let offsets = three_groups(&disk, &noise(2, 900));
    disk.flip_bit(Path::new(FIRST), offsets[1] + 100, 3).unwrap();
    let error = open(&disk, 1 << 16).unwrap_err().to_string();
    let expected = format!("write-ahead log {FIRST} is corrupt at byte {}: checksum mismatch", offsets[1]);
    assert!(error.starts_with(&expected) && error.contains("replace this member"), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn a_record_with_an_unwritten_sector_at_the_end_is_cut_off() {
    let disk = SimDisk::new();
    let offsets = three_groups(&disk, &noise(2, 900));
    // A sector wholly inside of the last record.
    let sector = offsets[2].next_multiple_of(512);
    assert!(sector + 512 <= offsets[3]);
    overwrite(&disk, sector, &[0; 512]);
    let (mut wal, replay) = open(&disk, 1 << 16).unwrap();
    assert_eq!(indexes(&replay), [1, 2]);
    let torn = replay.torn.unwrap();
    assert_eq!((torn.path.as_path(), torn.offset), (Path::new(FIRST), offsets[2]));
    wal.append(None, &[entry(3, b"again")]);
    wal.sync().unwrap();
    drop(wal);
    let (_, replay) = open(&disk, 1 << 16).unwrap();
    assert_eq!((indexes(&replay), replay.torn), (vec![1, 2, 3], None));
}

#[test]
fn a_file_that_ends_within_the_last_record_is_cut_off() {
    for missing in [1, 8, 9, 300, 700] {
        let disk = SimDisk::new();
        let offsets = three_groups(&disk, &noise(2, 900));
        disk.open(Path::new(FIRST), OpenMode::ReadWrite).unwrap().set_len(offsets[3] - missing).unwrap();
        let (_, replay) = open(&disk, 1 << 16).unwrap();
        assert!(replay.entries.len() >= 2, "{missing} bytes missing");
        assert!(replay.torn.is_some());
    }
}

#[test]
fn an_unwritten_sector_that_more_than_a_group_follows_was_synced() {
    let disk = SimDisk::new();
    let mut wal = create(&disk, 16 << 20);
    wal.append(None, &[entry(1, &noise(1, 3000))]);
    for index in 2..8 {
        wal.append(None, &[entry(index, &noise(index, UNSYNCED_BYTES_MAX as usize / 4))]);
        wal.sync().unwrap();
    }
    drop(wal);
    overwrite(&disk, 1024, &[0; 512]);
    assert!(matches!(open(&disk, 16 << 20), Err(WalError::Corrupt { .. })));
}

#[test]
fn a_sector_lost_with_nothing_but_a_length_word_in_it_loses_no_record() {
    // Find an entry size that puts the next length word last in its sector.
    for filler in 1..600 {
        let disk = SimDisk::new();
        let mut wal = create(&disk, 1 << 16);
        wal.append(None, &[entry(1, &noise(1, filler))]);
        wal.sync().unwrap();
        let at = read_file(&disk, Path::new(FIRST)).unwrap().iter().rposition(|byte| *byte != 0).unwrap()
            as u64
            + 1;
        let at = at.next_multiple_of(8);
        if at % 512 != 504 {
            continue;
        }
        wal.append(None, &[entry(2, &noise(2, 100))]);
        wal.sync().unwrap();
        drop(wal);
        overwrite(&disk, at, &[0; 8]);
        for _ in 0..2 {
            let (wal, replay) = open(&disk, 1 << 16).unwrap();
            assert_eq!((indexes(&replay), replay.torn), (vec![1, 2], None));
            drop(wal);
            let word = read_file(&disk, Path::new(FIRST)).unwrap()[at as usize];
            assert_ne!(word, 0, "etcd's reader needs the word");
        }
        return;
    }
    panic!("no such size");
}

#[test]
fn a_log_of_another_member_in_the_sequence_is_refused() {
    let disk = SimDisk::new();
    let mut wal = create(&disk, 2048);
    for index in 1..=60 {
        wal.append(Some(&state(index)), &[entry(index, &noise(index, 100))]);
        wal.sync().unwrap();
    }
    drop(wal);
    let names = disk.list(Path::new(DIR)).unwrap();
    // A closed segment that lost its end no longer leads to the next one.
    let inner = Path::new(DIR).join(&names[1]);
    let file = disk.open(&inner, OpenMode::ReadWrite).unwrap();
    file.set_len(file.length().unwrap() - 200).unwrap();
    assert!(matches!(open(&disk, 2048), Err(WalError::Corrupt { .. })));
}

mod damage {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Whatever stands in the file: an answer, no panic; and entries only if they were written.
        #[test]
        fn arbitrary_bytes_in_a_segment_never_panic_nor_invent_entries(
            patches in prop::collection::vec((0..6000_u64, prop::collection::vec(any::<u8>(), 1..40)), 1..6),
            length in prop::option::of(0..6000_u64),
        ) {
            let disk = SimDisk::new();
            three_groups(&disk, &noise(2, 900));
            let whole = open(&disk, 1 << 16).unwrap().1.entries;
            for (offset, data) in patches {
                overwrite(&disk, offset, &data);
            }
            if let Some(length) = length {
                disk.open(Path::new(FIRST), OpenMode::ReadWrite).unwrap().set_len(length).unwrap();
            }
            let marks = Wal::snapshot_marks(&disk, Path::new(DIR));
            if let Ok((_, replay)) = open(&disk, 1 << 16) {
                prop_assert!(marks.is_ok());
                prop_assert!(whole.starts_with(&replay.entries));
            }
        }

        #[test]
        fn a_file_of_random_bytes_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let disk = SimDisk::new();
            drop(create(&disk, 64));
            let file = disk.open(Path::new(FIRST), OpenMode::ReadWrite).unwrap();
            file.set_len(0).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let refused = matches!(open(&disk, 64), Err(WalError::Corrupt { .. }));
            prop_assert!(refused);
        }
    }
}
