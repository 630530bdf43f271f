//! A half-open interval of keys, and etcd's way to write one as `key` and `range_end`.

use bytes::Bytes;

/// Keys from `start` on, up to but without `end`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// First key inside.
    pub start: Bytes,
    /// Where the interval stops.
    pub end: RangeEnd,
}

/// Where a [`KeyRange`] stops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RangeEnd {
    /// Only the key `start`.
    Single,
    /// Before this key.
    Before(Bytes),
    /// Nowhere: every key from `start` on.
    Unbounded,
}

impl KeyRange {
    /// Reads etcd's notation: an empty `range_end` means the single key, one zero byte means "every key from `key` on".
    #[must_use]
    pub fn new(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            _ => RangeEnd::Before(range_end.clone()),
        };
        Self { start: key.clone(), end }
    }

    /// The interval that holds one key.
    #[must_use]
    pub fn single(key: Bytes) -> Self {
        Self { start: key, end: RangeEnd::Single }
    }

    /// The interval of all keys.
    #[must_use]
    pub fn all() -> Self {
        Self { start: Bytes::new(), end: RangeEnd::Unbounded }
    }

    /// Whether `key` lies inside.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            _ => key >= self.start.as_ref() && !self.ends_before_or_at(key),
        }
    }

    /// Whether no key from `key` on can lie inside.
    #[must_use]
    pub fn ends_before_or_at(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key > self.start.as_ref(),
            RangeEnd::Before(end) => key >= end.as_ref(),
            RangeEnd::Unbounded => false,
        }
    }

    /// Whether the interval can hold any key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if end <= &self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static [u8], end: &'static [u8]) -> KeyRange {
        KeyRange::new(&Bytes::from_static(key), &Bytes::from_static(end))
    }

    #[test]
    fn etcds_notation_is_understood() {
        assert!(range(b"a", b"").contains(b"a") && !range(b"a", b"").contains(b"aa"));
        assert!(range(b"a", b"\0").contains(b"zzz") && !range(b"b", b"\0").contains(b"a"));
        assert!(range(b"a", b"c").contains(b"b") && !range(b"a", b"c").contains(b"c"));
        assert!(range(b"b", b"a").is_empty() && !range(b"b", b"a").contains(b"b"));
    }
}
