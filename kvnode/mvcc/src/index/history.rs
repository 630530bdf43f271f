//! The older writes of one key: small when there are few, cheap to add to when there are millions.
//!
//! Kept as sorted runs whose sizes shrink towards the newest end. A new write copies only the last, short run; runs of
//! like size are merged, as in a binary counter, so a key written n times costs O(log n) per write and per look-up.

use std::sync::Arc;

use crate::log::Address;

/// One write of a key, as the index knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// Revision of the write.
    pub(crate) main: i64,
    /// Where its record lies.
    pub(crate) address: Address,
    /// Whether it deleted the key.
    pub(crate) tombstone: bool,
}

/// Writes before the newest one, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    runs: Vec<Arc<[Version]>>,
}

/// Length up to which the last run is copied for one more write.
const SHORT_RUN: usize = 16;

impl History {
    pub(super) fn push(&mut self, version: Version) {
        match self.runs.pop() {
            Some(last) if last.len() < SHORT_RUN => {
                self.runs.push(last.iter().copied().chain([version]).collect());
            }
            last => {
                self.runs.extend(last);
                self.runs.push(Arc::new([version]));
            }
        }
        while let [.., before, last] = self.runs.as_slice()
            && last.len() >= SHORT_RUN
            && before.len() <= last.len()
        {
            let merged = before.iter().chain(last.iter()).copied().collect();
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(merged);
        }
    }

    /// The last write at or before `main`.
    pub(super) fn at(&self, main: i64) -> Option<Version> {
        self.runs.iter().rev().find_map(|run| {
            let after = run.partition_point(|version| version.main <= main);
            run[..after].last().copied()
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Version> + '_ {
        self.runs.iter().flat_map(|run| run.iter().copied())
    }

    /// Keeps the last `n` writes.
    pub(super) fn keep_last(&self, n: usize) -> Option<Self> {
        let total: usize = self.runs.iter().map(|run| run.len()).sum();
        if n == 0 {
            return None;
        }
        Some(Self { runs: vec![self.iter().skip(total - n).collect()] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(main: i64) -> Version {
        Version { main, ..Version::default() }
    }

    #[test]
    fn a_hot_key_keeps_few_runs_and_finds_every_write() {
        let mut history = History::default();
        for main in 1..=10_000 {
            history.push(version(main * 2));
        }
        assert!(history.runs.len() < 16, "{} runs", history.runs.len());
        assert_eq!(history.iter().count(), 10_000);
        for main in [2, 3, 4, 31, 32, 33, 19_999, 20_000, 30_000] {
            assert_eq!(history.at(main), Some(version((main / 2 * 2).min(20_000))), "{main}");
        }
        assert_eq!(history.at(1), None);
        let kept = history.keep_last(3).unwrap();
        assert_eq!(kept.iter().map(|v| v.main).collect::<Vec<_>>(), [19_996, 19_998, 20_000]);
    }
}
