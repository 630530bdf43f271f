//! Snapshots that are received: whole, side by side, broken off, and overtaken.

use std::sync::Arc;

use bytes::Bytes;
use kvnode_storage::{
    bolt::{BucketSource, Layout},
    checkpoint,
    layout::DataDir,
    snapshot_file::{Receiver, Trailer, write_snapshot},
    vfs::{SimDisk, Vfs},
};

struct OneKey;

impl BucketSource for OneKey {
    fn buckets(&self) -> Vec<&str> {
        vec!["key"]
    }

    fn items(&self, _: &str) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + '_> {
        Box::new(std::iter::once((Bytes::from_static(b"k"), Bytes::from_static(b"v"))))
    }
}

fn image() -> Vec<u8> {
    let mut image = Vec::new();
    write_snapshot(&OneKey, &Layout::measure(&OneKey).unwrap(), &mut image).unwrap();
    image
}

fn data_dir() -> DataDir {
    DataDir::new("/data")
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(&data_dir().snap()).unwrap()
}

#[test]
fn two_receptions_of_one_snapshot_do_not_mix_and_a_broken_one_leaves_nothing() {
    let disk = SimDisk::new();
    let begin = || Receiver::create(Arc::new(disk.clone()), &data_dir().received_snapshot(7)).unwrap();
    let (mut whole, mut broken) = (begin(), begin());
    let image = image();
    for piece in image.chunks(1000) {
        whole.write(piece).unwrap();
        broken.write(&vec![7; piece.len()]).unwrap();
    }
    drop(broken);
    assert_eq!(whole.received_bytes(), image.len() as u64);
    whole.finish(None, Trailer::Required).unwrap();
    let mut wrong = begin();
    wrong.write(&image[1..]).unwrap();
    assert!(wrong.finish(None, Trailer::IfPresent).is_err());
    assert_eq!(names(&disk), ["0000000000000007.snap.db"]);
}

#[test]
fn a_checkpoint_removes_the_snapshots_that_it_overtook() {
    let disk = SimDisk::new();
    checkpoint::write(&disk, &data_dir(), &OneKey).unwrap();
    for index in [7, 8, 9] {
        checkpoint::write_to(&disk, &data_dir().received_snapshot(index), &OneKey).unwrap();
    }
    checkpoint::remove_overtaken(&disk, &data_dir(), 8).unwrap();
    assert_eq!(names(&disk), ["0000000000000009.snap.db", "db"]);
}
