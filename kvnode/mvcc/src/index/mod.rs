//! From key to writes: an ordered index of every key that exists or is remembered, with all its writes.
//!
//! A clone is a consistent view and costs one reference count; the writer copies the few nodes it changes. The index
//! never looks at records; it knows revisions and addresses in the [`crate::log`].

mod history;
mod key_block;
mod node;

use std::{ops::ControlFlow, sync::Arc};

pub(crate) use history::Version;
pub(crate) use node::Entry;

use crate::key_range::{KeyRange, RangeEnd};
use node::{Leaf, Node};

/// The index. See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct KeyIndex {
    root: Arc<Node>,
}

impl Default for KeyIndex {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Leaf::default())) }
    }
}

impl KeyIndex {
    /// The write of `key` that readers at revision `main` see.
    pub(crate) fn get(&self, key: &[u8], main: i64) -> Option<Version> {
        self.root.get(key)?.at(main)
    }

    /// Adds a write of `key`; `write` makes it from what the key was before and must name a newer revision.
    pub(crate) fn upsert(&mut self, key: &[u8], mut write: impl FnMut(Option<&Entry>) -> Version) {
        let upserted = Node::upsert(&mut self.root, key, &mut write);
        if let Some((separator, right)) = upserted.split {
            self.root = Arc::new(Node::root_of(self.root.clone(), &separator, right));
        }
    }

    /// Keys of `range` that exist at revision `main`, in order, until `visit` breaks.
    pub(crate) fn visit(
        &self,
        range: &KeyRange,
        main: i64,
        mut visit: impl FnMut(&[u8], Version) -> ControlFlow<()>,
    ) {
        // Breaking off is how the visitor says that it has enough; nobody asks whether it did.
        let _ = self.root.visit(range, &mut |key, entry| match entry.at(main) {
            Some(version) => visit(key, version),
            None => ControlFlow::Continue(()),
        });
    }

    /// Number of keys of `range` that exist at revision `main`, in logarithmic time where nothing changed since.
    pub(crate) fn count(&self, range: &KeyRange, main: i64) -> u64 {
        match &range.end {
            RangeEnd::Single => u64::from(self.get(&range.start, main).is_some()),
            _ if range.is_empty() => 0,
            _ => self.root.count(range, main),
        }
    }

    /// Number of keys that exist now.
    pub(crate) fn live(&self) -> u64 {
        self.root.live()
    }

    /// Drops what readers at `main` or later cannot see, reporting each write dropped, for about `budget` keys from
    /// `from` on. Returns the key to go on from, or `None` when the end was reached.
    pub(crate) fn compact(
        &mut self,
        from: &[u8],
        main: i64,
        budget: usize,
        mut drop: impl FnMut(Version),
    ) -> Option<Vec<u8>> {
        let mut budget = budget.max(1);
        let resume = Node::compact(&mut self.root, from, main, &mut budget, &mut drop);
        Node::shrink_root(&mut self.root);
        resume
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Write { key: u16, tombstone: bool },
        Compact { back: i64, budget: usize },
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            40 => (0..600u16, any::<bool>()).prop_map(|(key, tombstone)| Op::Write { key, tombstone }),
            1 => (0..50i64, 1..2000usize).prop_map(|(back, budget)| Op::Compact { back, budget }),
        ];
        prop::collection::vec(op, 0..2500)
    }

    /// The obvious model: every write of every key in a sorted map.
    type Model = BTreeMap<Vec<u8>, Vec<(i64, bool)>>;

    fn model_at(writes: &[(i64, bool)], main: i64) -> Option<i64> {
        writes.iter().rev().find(|(at, _)| *at <= main).filter(|(_, tombstone)| !tombstone).map(|(at, _)| *at)
    }

    fn check(index: &KeyIndex, model: &Model, main: i64, range: &KeyRange) {
        let mut found = Vec::new();
        index.visit(range, main, |key, version| {
            found.push((key.to_vec(), version.main));
            ControlFlow::Continue(())
        });
        let expected: Vec<_> = model
            .iter()
            .filter(|(key, _)| range.contains(key))
            .filter_map(|(key, writes)| Some((key.clone(), model_at(writes, main)?)))
            .collect();
        assert_eq!(index.count(range, main), expected.len() as u64, "count at {main} in {range:?}");
        assert_eq!(found, expected, "keys at {main} in {range:?}");
    }

    fn key(number: u16) -> Vec<u8> {
        format!("/registry/{}/{number}", number % 7).into_bytes()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn answers_as_the_model_does(ops in ops(), from: u16, to: u16) {
            let (mut index, mut model, mut main, mut compacted) = (KeyIndex::default(), Model::new(), 1, 0);
            let mut views = Vec::new();
            for op in ops {
                match op {
                    Op::Write { key: number, tombstone } => {
                        main += 1;
                        index.upsert(&key(number), |_| Version { main, tombstone, ..Version::default() });
                        model.entry(key(number)).or_default().push((main, tombstone));
                    }
                    Op::Compact { back, budget } => {
                        views.push((index.clone(), model.clone(), main));
                        compacted = compacted.max(main - back);
                        let mut from = Some(Vec::new());
                        while let Some(start) = from {
                            from = index.compact(&start, compacted, budget, |_| ());
                        }
                    }
                }
            }
            let range = KeyRange::new(&Bytes::from(key(from % 600)), &Bytes::from(key(to % 600)));
            for at in [compacted, i64::midpoint(compacted, main), main] {
                check(&index, &model, at, &range);
                check(&index, &model, at, &KeyRange::all());
            }
            for (view, model, at) in views {
                check(&view, &model, at, &range);
            }
        }

        #[test]
        fn compaction_drops_exactly_what_nobody_can_see(writes in prop::collection::vec((0..3u16, any::<bool>()), 1..60), at in 0..62i64) {
            let (mut index, mut model, mut main) = (KeyIndex::default(), Model::new(), 1);
            for (number, tombstone) in writes {
                main += 1;
                index.upsert(&key(number), |_| Version { main, tombstone, ..Version::default() });
                model.entry(key(number)).or_default().push((main, tombstone));
            }
            let mut dropped = Vec::new();
            while index.compact(b"", at, 1, |version| dropped.push(version.main)).is_some() {}
            let mut expected = Vec::new();
            for writes in model.values() {
                let visible = writes.iter().filter(|(main, _)| *main <= at).count();
                // The last one at or before the compacted revision stays, unless it is an older deletion.
                let keep = writes[..visible].last().is_some_and(|(main, tombstone)| !tombstone || *main == at);
                expected.extend(writes[..visible - usize::from(keep)].iter().map(|(main, _)| *main));
            }
            dropped.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(dropped, expected);
        }
    }

    #[test]
    fn sequential_keys_fill_leaves_and_deleted_keys_leave_nothing() {
        let mut index = KeyIndex::default();
        for number in 0..100_000i64 {
            let key = format!("{number:08}");
            index.upsert(key.as_bytes(), |_| Version { main: number + 2, ..Version::default() });
        }
        assert_eq!(index.live(), 100_000);
        for number in 0..100_000i64 {
            let key = format!("{number:08}");
            index.upsert(key.as_bytes(), |_| Version {
                main: number + 200_000,
                tombstone: true,
                ..Version::default()
            });
        }
        assert_eq!(index.live(), 0);
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            from = index.compact(&start, 400_000, 1000, |_| ());
        }
        assert!(index.root.is_empty(), "nothing is remembered of keys deleted before the compacted revision");
    }
}
