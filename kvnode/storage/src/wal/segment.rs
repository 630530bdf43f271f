//! Names of segments, and which files of a directory are the log.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::vfs::Vfs;

/// The name of a segment: its place in the sequence and the index of the first entry it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Counts segments from 0 without gaps.
    pub sequence: u64,
    /// Index of the first entry written after the segment was cut.
    pub first_index: u64,
}

impl SegmentName {
    /// `<sequence>-<first index>.wal`, both as 16 hex digits.
    pub fn path_in(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016x}-{:016x}.wal", self.sequence, self.first_index))
    }

    fn parse(name: &str) -> Option<Self> {
        let (sequence, first_index) = name.strip_suffix(".wal")?.split_once('-')?;
        Some(Self { sequence: parse_hex(sequence)?, first_index: parse_hex(first_index)? })
    }
}

fn parse_hex(digits: &str) -> Option<u64> {
    let plain = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// All segments in `dir` in order.
pub fn list(vfs: &dyn Vfs, dir: &Path) -> io::Result<Vec<SegmentName>> {
    let mut names: Vec<_> = vfs.list(dir)?.iter().filter_map(|name| SegmentName::parse(name)).collect();
    names.sort();
    Ok(names)
}

/// The last run of segments without a gap in the sequence. What lies before a gap was being removed, oldest first,
/// when the process ended.
pub fn contiguous_suffix(names: &[SegmentName]) -> &[SegmentName] {
    let gap = names.windows(2).rposition(|pair| pair[0].sequence + 1 != pair[1].sequence);
    &names[gap.map_or(0, |at| at + 1)..]
}

/// Where reading for entries after `index` begins: the last segment that starts at or before it.
pub fn position_for(names: &[SegmentName], index: u64) -> Option<usize> {
    names.iter().rposition(|name| name.first_index <= index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[(u64, u64)]) -> Vec<SegmentName> {
        list.iter()
            .map(|(sequence, first_index)| SegmentName { sequence: *sequence, first_index: *first_index })
            .collect()
    }

    #[test]
    fn names_are_etcds() {
        let name = SegmentName { sequence: 26, first_index: 0xABCD };
        let path = name.path_in(Path::new("/w"));
        assert_eq!(path, Path::new("/w/000000000000001a-000000000000abcd.wal"));
        assert_eq!(SegmentName::parse("000000000000001a-000000000000abcd.wal"), Some(name));
        for other in
            ["0.tmp", "1a-abcd.wal", "000000000000001a-000000000000abcd.wal.broken", "+00000000000001a-0.wal"]
        {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn reading_starts_where_the_index_lies() {
        let all = names(&[(2, 0), (4, 10), (5, 20), (6, 20)]);
        let run = contiguous_suffix(&all);
        assert_eq!(run, &all[1..]);
        assert_eq!(position_for(run, 9), None);
        assert_eq!(position_for(run, 10), Some(0));
        assert_eq!(position_for(run, 20), Some(2));
    }
}
