//! Which of many intervals contain a key.
//!
//! Single keys are in a hash map. Ranges are in a sorted list that is read as a balanced tree, each place of which knows
//! the farthest end below it; the list is made anew after ranges changed, when next asked. So asking costs the logarithm
//! of the number of ranges for each one found.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::key_range::{KeyRange, RangeEnd};

/// Intervals, each with the tokens of those who registered it.
#[derive(Debug)]
pub(super) struct IntervalIndex<T> {
    keys: HashMap<Bytes, Vec<T>>,
    ranges: BTreeMap<KeyRange, Vec<T>>,
    tree: Vec<Place>,
    stale: bool,
}

#[derive(Debug)]
struct Place {
    range: KeyRange,
    /// The farthest end in the part of the list of which this is the middle.
    farthest: RangeEnd,
}

impl<T> Default for IntervalIndex<T> {
    fn default() -> Self {
        Self { keys: HashMap::new(), ranges: BTreeMap::new(), tree: Vec::new(), stale: false }
    }
}

impl<T: Copy + PartialEq> IntervalIndex<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_empty()
    }

    pub(super) fn insert(&mut self, range: &KeyRange, token: T) {
        if range.end == RangeEnd::Single {
            self.keys.entry(range.start.clone()).or_default().push(token);
            return;
        }
        let tokens = self.ranges.entry(range.clone()).or_default();
        self.stale |= tokens.is_empty();
        tokens.push(token);
    }

    pub(super) fn remove(&mut self, range: &KeyRange, token: T) {
        if range.end == RangeEnd::Single {
            if let Some(tokens) = self.keys.get_mut(&range.start) {
                tokens.retain(|other| *other != token);
                if tokens.is_empty() {
                    self.keys.remove(&range.start);
                }
            }
        } else if let Some(tokens) = self.ranges.get_mut(range) {
            tokens.retain(|other| *other != token);
            if tokens.is_empty() {
                self.ranges.remove(range);
                self.stale = true;
            }
        }
    }

    /// Calls `found` with the token of everybody who registered an interval that contains `key`.
    pub(super) fn stab(&mut self, key: &[u8], mut found: impl FnMut(T)) {
        if self.stale {
            self.rebuild();
        }
        self.keys.get(key).into_iter().flatten().for_each(|token| found(*token));
        stab(&self.tree, key, &mut |range| {
            self.ranges.get(range).into_iter().flatten().for_each(|token| found(*token));
        });
    }

    fn rebuild(&mut self) {
        let place = |range: &KeyRange| Place { range: range.clone(), farthest: range.end.clone() };
        self.tree = self.ranges.keys().map(place).collect();
        set_farthest(&mut self.tree);
        self.stale = false;
    }
}

fn set_farthest(part: &mut [Place]) -> Option<RangeEnd> {
    let middle = part.len() / 2;
    let (left, rest) = part.split_at_mut(middle);
    let (place, right) = rest.split_first_mut()?;
    // The order of `RangeEnd` is that of ends, since no range here is a single key.
    let below = set_farthest(left).into_iter().chain(set_farthest(right));
    place.farthest = below.fold(place.range.end.clone(), Ord::max);
    Some(place.farthest.clone())
}

fn stab(part: &[Place], key: &[u8], found: &mut impl FnMut(&KeyRange)) {
    let (left, rest) = part.split_at(part.len() / 2);
    let Some((place, right)) = rest.split_first() else { return };
    if matches!(&place.farthest, RangeEnd::Before(end) if end.as_ref() <= key) {
        return;
    }
    stab(left, key, found);
    if place.range.start.as_ref() <= key {
        if place.range.contains(key) {
            found(&place.range);
        }
        stab(right, key, found);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = KeyRange> {
        let byte = || (b'a'..b'j').prop_map(|byte| Bytes::from(vec![byte]));
        let end = prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(b"\0")), byte()];
        (byte(), end).prop_map(|(key, end)| KeyRange::new(&key, &end))
    }

    proptest! {
        #[test]
        fn finds_every_interval_with_the_key_and_no_other(
            ranges in prop::collection::vec((range(), any::<bool>()), 0..40),
        ) {
            let mut index = IntervalIndex::default();
            for (token, (range, _)) in ranges.iter().enumerate() {
                index.insert(range, token);
            }
            index.stab(b"a", |_| ());
            for (token, (range, _)) in ranges.iter().enumerate().filter(|(_, (_, remove))| *remove) {
                index.remove(range, token);
            }
            for key in b'a'..b'k' {
                let mut found = Vec::new();
                index.stab(&[key], |token| found.push(token));
                found.sort_unstable();
                let left = ranges.iter().enumerate().filter(|(_, (range, removed))| !removed && range.contains(&[key]));
                prop_assert_eq!(found, left.map(|(token, _)| token).collect::<Vec<_>>());
            }
        }
    }
}
