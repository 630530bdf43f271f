//! Whether what is granted covers what is wanted (etcd: `server/auth/range_perm_cache.go`).
//!
//! Grants are merged first, so two that touch cover an interval that neither covers alone.

use bytes::Bytes;
use kvnode_proto::authpb::{Permission, permission::Type};

use crate::key_range::{KeyRange, RangeEnd};

/// What a user may read and write, of all roles together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Granted {
    read: Vec<Interval>,
    write: Vec<Interval>,
}

/// Whether reading or writing is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Keys from `start` to before `end`; to the last one if there is no end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Interval {
    start: Bytes,
    end: Option<Bytes>,
}

impl Granted {
    pub(super) fn new(permissions: &[&Permission]) -> Self {
        // A type that nobody knows grants nothing, and its name would be that of reading.
        let of = |access: Type| {
            let types = [access as i32, Type::Readwrite as i32];
            let wanted = permissions.iter().filter(|p| types.contains(&p.perm_type));
            merge(wanted.map(|p| Interval::new(&KeyRange::new(&p.key, &p.range_end))).collect())
        };
        Self { read: of(Type::Read), write: of(Type::Write) }
    }

    pub(super) fn covers(&self, access: Access, range: &KeyRange) -> bool {
        let granted = match access {
            Access::Read => &self.read,
            Access::Write => &self.write,
        };
        // Of an interval of nothing, etcd wants the key where it begins.
        let single = KeyRange { start: range.start.clone(), end: RangeEnd::Single };
        let wanted = Interval::new(if range.is_empty() { &single } else { range });
        let at = granted.partition_point(|interval| interval.start <= wanted.start);
        granted[..at].last().is_some_and(|interval| match (&interval.end, &wanted.end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(have), Some(want)) => want <= have,
        })
    }
}

impl Interval {
    fn new(range: &KeyRange) -> Self {
        let end = match &range.end {
            // The next key after one is that key with a zero byte.
            RangeEnd::Single => Some([range.start.as_ref(), b"\0"].concat().into()),
            RangeEnd::Before(end) => Some(end.clone()),
            RangeEnd::Unbounded => None,
        };
        Self { start: range.start.clone(), end }
    }
}

fn merge(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
    for interval in intervals {
        match merged.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| interval.start <= *end) => {
                let longer = match (&last.end, &interval.end) {
                    (Some(have), Some(more)) => more > have,
                    (have, more) => have.is_some() && more.is_none(),
                };
                if longer {
                    last.end = interval.end;
                }
            }
            _ => merged.push(interval),
        }
    }
    merged
}

/// Whether a grant makes sense: one key, an interval that holds something, or everything from a key on.
pub(super) fn is_valid(key: &Bytes, range_end: &Bytes) -> bool {
    !key.is_empty() && !KeyRange::new(key, range_end).is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permission(kind: Type, key: &[u8], end: &[u8]) -> Permission {
        Permission {
            perm_type: kind as i32,
            key: Bytes::copy_from_slice(key),
            range_end: Bytes::copy_from_slice(end),
        }
    }

    fn range(key: &[u8], end: &[u8]) -> KeyRange {
        KeyRange::new(&Bytes::copy_from_slice(key), &Bytes::copy_from_slice(end))
    }

    #[test]
    fn grants_that_touch_cover_what_neither_covers_alone() {
        let all = [permission(Type::Read, b"a", b"c"), permission(Type::Readwrite, b"c", b"e")];
        let granted = Granted::new(&all.iter().collect::<Vec<_>>());
        assert!(granted.covers(Access::Read, &range(b"b", b"d")));
        assert!(!granted.covers(Access::Write, &range(b"b", b"d")));
        assert!(granted.covers(Access::Write, &range(b"c", b"d")));
        assert!(!granted.covers(Access::Read, &range(b"b", b"\0")));
        for (begin, is_covered) in [(b"d", true), (b"e", false)] {
            assert_eq!(
                granted.covers(Access::Read, &range(begin, b"b")),
                is_covered,
                "an interval of nothing"
            );
        }
        let unknown = Permission { perm_type: 3, ..all[1].clone() };
        assert_eq!(Granted::new(&[&unknown]), Granted::default());
        let root = [permission(Type::Readwrite, b"\0", b"\0")];
        assert!(Granted::new(&root.iter().collect::<Vec<_>>()).covers(Access::Write, &range(b"a", b"\0")));
    }

    proptest! {
        #[test]
        fn an_interval_is_covered_if_all_of_its_keys_are(
            grants in prop::collection::vec((b'a'..b'h', 0..5u8), 0..6), start in b'a'..b'h', len in 0..5u8,
        ) {
            let end = |start: u8, len: u8| if len == 0 { vec![] } else { vec![start + len] };
            let grants: Vec<_> = grants.iter().map(|(s, l)| permission(Type::Read, &[*s], &end(*s, *l))).collect();
            let wanted = range(&[start], &end(start, len));
            // Every key of up to two bytes from a small alphabet stands for all keys.
            let mut keys = (b'a'..b'n').flat_map(|a| [vec![a], vec![a, 0], vec![a, b'z']]).filter(|k| wanted.contains(k));
            let all = keys.all(|key| grants.iter().any(|p| KeyRange::new(&p.key, &p.range_end).contains(&key)));
            prop_assert_eq!(Granted::new(&grants.iter().collect::<Vec<_>>()).covers(Access::Read, &wanted), all);
        }
    }
}
