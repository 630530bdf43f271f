//! bolt files: what is written is read back, the layout is bbolt's, damage is noticed or harmless.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use kvnode_storage::{
    bolt::{BoltError, BucketSource, Layout, Reader, write_image},
    snapshot_file::{self, SnapshotError, Trailer, check_pages, write_snapshot},
    vfs::{SimDisk, Vfs, replace_file},
};
use proptest::prelude::*;

#[derive(Debug, Default, Clone)]
struct Buckets(BTreeMap<String, BTreeMap<Bytes, Bytes>>);

impl BucketSource for Buckets {
    fn buckets(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    fn items(&self, bucket: &str) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + '_> {
        Box::new(self.0[bucket].iter().map(|(key, value)| (key.clone(), value.clone())))
    }
}

impl Buckets {
    fn of(bucket: &str, items: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let items = items.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self(BTreeMap::from([(bucket.to_owned(), items)]))
    }

    fn image(&self) -> Vec<u8> {
        let layout = Layout::measure(self).unwrap();
        let mut image = Vec::new();
        write_image(self, &layout, &mut image).unwrap();
        assert_eq!(image.len() as u64, layout.image_bytes(), "the length was known before");
        image
    }
}

const PATH: &str = "/db";

fn disk_with(image: &[u8]) -> SimDisk {
    let disk = SimDisk::new();
    replace_file(&disk, Path::new(PATH), image).unwrap();
    disk
}

/// Reads everything, as far as it goes.
fn read_back(disk: &dyn Vfs) -> Result<Buckets, BoltError> {
    let reader = Reader::open(disk, Path::new(PATH))?;
    check_pages(&reader)?;
    let mut buckets = Buckets::default();
    for bucket in reader.buckets() {
        let items = reader.items(bucket).collect::<Result<BTreeMap<_, _>, _>>()?;
        buckets.0.insert(bucket.to_owned(), items);
    }
    Ok(buckets)
}

fn numbered(count: u32, value_bytes: usize) -> Buckets {
    Buckets::of("key", (0..count).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; value_bytes])))
}

#[test]
fn a_small_file_has_these_bytes() {
    let image = Buckets::of("b", [(b"k1".to_vec(), b"one".to_vec()), (b"k2".to_vec(), vec![])]).image();
    assert_eq!(image.len(), 5 * 4096);
    let page = |number: usize, length: usize| image[number * 4096..number * 4096 + length].to_vec();
    #[rustfmt::skip]
    let leaf = [
        2, 0, 0, 0, 0, 0, 0, 0,  2, 0,  2, 0,  0, 0, 0, 0,         // page 2, leaf, two elements, no overflow
        0, 0, 0, 0,  32, 0, 0, 0,  2, 0, 0, 0,  3, 0, 0, 0,        // "k1" 32 bytes on, value of 3
        0, 0, 0, 0,  21, 0, 0, 0,  2, 0, 0, 0,  0, 0, 0, 0,        // "k2" 21 bytes on, value of 0
        b'k', b'1', b'o', b'n', b'e', b'k', b'2', 0,
    ];
    assert_eq!(page(2, leaf.len()), leaf);
    #[rustfmt::skip]
    let top = [
        3, 0, 0, 0, 0, 0, 0, 0,  2, 0,  1, 0,  0, 0, 0, 0,
        1, 0, 0, 0,  16, 0, 0, 0,  1, 0, 0, 0,  16, 0, 0, 0,       // a bucket
        b'b',  2, 0, 0, 0, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0, 0, // its root page and sequence
    ];
    assert_eq!(page(3, top.len()), top);
    assert_eq!(page(4, 16), [4, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0], "an empty free list");
    #[rustfmt::skip]
    let meta = [
        0, 0, 0, 0, 0, 0, 0, 0,  4, 0,  0, 0,  0, 0, 0, 0,
        0xED, 0xDA, 0x0C, 0xED,  2, 0, 0, 0,  0, 0x10, 0, 0,  0, 0, 0, 0,
        3, 0, 0, 0, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0,  4, 0, 0, 0, 0, 0, 0, 0,
        5, 0, 0, 0, 0, 0, 0, 0,  2, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(page(0, meta.len()), meta);
    assert_eq!(page(1, 10), [1, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    assert_eq!(image[4096 + 64], 1, "the second meta is of the transaction before");
}

#[test]
fn every_shape_of_tree_is_read_back() {
    // Around the places where a level of branches appears, and values around a page's size.
    for count in [0, 1, 2, 13, 14, 15, 100, 170, 171, 172, 173, 2500, 20_000] {
        for value_bytes in [0, 230, 4000, 4096, 5000] {
            if count * value_bytes as u32 > 20_000_000 {
                continue;
            }
            let buckets = numbered(count, value_bytes);
            let read = read_back(&disk_with(&buckets.image())).unwrap();
            assert!(read.0 == buckets.0, "{count} values of {value_bytes} bytes");
        }
    }
    let huge =
        Buckets::of("key", [(vec![1], vec![1; 10]), (vec![2], vec![2; 700_000]), (vec![3], vec![3; 10])]);
    assert!(read_back(&disk_with(&huge.image())).unwrap().0 == huge.0);
    let long_keys = Buckets::of("key", (0..50_u8).map(|n| (vec![n + 1; 6000], vec![n])));
    assert!(read_back(&disk_with(&long_keys.image())).unwrap().0 == long_keys.0);
}

#[test]
fn values_of_just_over_a_page_do_not_double_the_file() {
    let payload = 1000 * 4200_u64;
    let length = Layout::measure(&numbered(1000, 4200)).unwrap().image_bytes();
    assert!(length < payload * 115 / 100, "{length} bytes for {payload}");
}

#[test]
fn items_that_no_bolt_file_can_hold_are_refused() {
    struct Unsorted;
    impl BucketSource for Unsorted {
        fn buckets(&self) -> Vec<&str> {
            vec!["b"]
        }
        fn items(&self, _: &str) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + '_> {
            Box::new([("b", "1"), ("a", "2")].into_iter().map(|(k, v)| (k.into(), v.into())))
        }
    }
    assert!(matches!(Layout::measure(&Unsorted), Err(BoltError::BadSource { .. })));
    let empty_key = Buckets::of("b", [(vec![], vec![1])]);
    assert!(matches!(Layout::measure(&empty_key), Err(BoltError::BadSource { .. })));
}

#[test]
fn a_snapshot_that_is_cut_or_changed_is_refused() {
    let buckets = numbered(300, 100);
    let layout = Layout::measure(&buckets).unwrap();
    let mut snapshot = Vec::new();
    write_snapshot(&buckets, &layout, &mut snapshot).unwrap();
    let verify = |content: &[u8], rule| snapshot_file::verify(&disk_with(content), Path::new(PATH), rule);
    assert_eq!(verify(&snapshot, Trailer::Required).unwrap(), layout.image_bytes());
    assert_eq!(snapshot.len() as u64, snapshot_file::snapshot_bytes(&layout));

    let without = &snapshot[..snapshot.len() - 32];
    assert!(matches!(verify(without, Trailer::Required), Err(SnapshotError::NoTrailer { .. })));
    assert!(verify(without, Trailer::IfPresent).is_ok(), "a copied database file");
    let cut = &snapshot[..snapshot.len() - 512];
    assert!(matches!(verify(cut, Trailer::Required), Err(SnapshotError::WrongHash { .. })));
    for at in [0, 20, 5000, snapshot.len() - 1] {
        let mut changed = snapshot.clone();
        changed[at] ^= 4;
        let error = verify(&changed, Trailer::IfPresent).unwrap_err();
        assert!(matches!(&error, SnapshotError::WrongHash { .. }), "{error}");
        assert!(!error.to_string().contains('\n'), "one line: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_put_in_comes_out(
        buckets in prop::collection::btree_map(
            "[a-z_]{1,12}",
            prop::collection::btree_map(
                prop::collection::vec(any::<u8>(), 1..40).prop_map(Bytes::from),
                prop_oneof![
                    8 => prop::collection::vec(any::<u8>(), 0..300),
                    1 => (1..30_000_usize).prop_map(|length| vec![7; length]),
                ].prop_map(Bytes::from),
                0..200,
            ),
            0..6,
        )
    ) {
        let buckets = Buckets(buckets);
        prop_assert!(read_back(&disk_with(&buckets.image())).unwrap().0 == buckets.0);
    }

    /// bolt pages carry no checksum, so a changed value may pass here; the SHA-256 trailer is what notices that. But
    /// nothing may panic, loop, or read outside of the file.
    #[test]
    fn damage_never_panics(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut image = numbered(400, 60).image();
        for (at, bit) in flips {
            // Heads of pages are where damage matters most.
            let at = at.index(image.len() / 8);
            let at = at / 512 * 4096 + at % 512;
            image[at % (12 * 4096)] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        let _ = read_back(&disk_with(&image));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
        prop_assert!(read_back(&disk_with(&bytes)).is_err());
    }
}
