//! The keys of one node, side by side in one buffer: a search touches one piece of memory, and copying a node for a
//! new version is a plain copy.

/// Sorted keys in one buffer.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyBlock {
    /// Where each key ends in `bytes`.
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl KeyBlock {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.start(i)..self.ends[i] as usize]
    }

    /// Index of `key`, or where it would stand.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let mid = low + (high - low) / 2;
            match self.get(mid).cmp(key) {
                std::cmp::Ordering::Less => low = mid + 1,
                std::cmp::Ordering::Equal => return Ok(mid),
                std::cmp::Ordering::Greater => high = mid,
            }
        }
        Err(low)
    }

    pub(super) fn insert(&mut self, i: usize, key: &[u8]) {
        let start = self.start(i);
        let len = u32::try_from(key.len()).expect("a key is bounded by the request size");
        grow(&mut self.bytes, key.len());
        self.bytes.splice(start..start, key.iter().copied());
        grow(&mut self.ends, 1);
        self.ends.insert(i, u32::try_from(start).expect("nodes split long before 4 GiB"));
        for end in &mut self.ends[i..] {
            *end += len;
        }
    }

    pub(super) fn push(&mut self, key: &[u8]) {
        self.insert(self.len(), key);
    }

    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let start = self.start(at);
        let bytes = self.bytes.split_off(start);
        let cut = u32::try_from(start).expect("nodes split long before 4 GiB");
        let ends = self.ends.drain(at..).map(|end| end - cut).collect();
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        Self { ends, bytes }
    }

    /// Keeps the keys for whose index `keep` says so.
    pub(super) fn retain(&self, mut keep: impl FnMut(usize) -> bool) -> Self {
        let mut kept = Self::default();
        for i in (0..self.len()).filter(|i| keep(*i)) {
            kept.push(self.get(i));
        }
        kept
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }

    fn start(&self, i: usize) -> usize {
        i.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }
}

/// Makes room for `more` without doubling: nodes have a known maximum, and doubling would waste a third of the index.
pub(super) fn grow<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more.max(vec.len() / 4).max(4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_sorted_and_whole() {
        let mut block = KeyBlock::default();
        for key in ["m", "a", "zz", "", "mm", "b"] {
            let at = block.search(key.as_bytes()).unwrap_err();
            block.insert(at, key.as_bytes());
        }
        assert_eq!(block.iter().collect::<Vec<_>>(), [&b""[..], b"a", b"b", b"m", b"mm", b"zz"]);
        assert_eq!(block.search(b"mm"), Ok(4));
        let right = block.split_off(2);
        assert_eq!(block.iter().collect::<Vec<_>>(), [&b""[..], b"a"]);
        assert_eq!(right.iter().collect::<Vec<_>>(), [&b"b"[..], b"m", b"mm", b"zz"]);
        assert_eq!(right.retain(|i| i % 2 == 1).iter().collect::<Vec<_>>(), [&b"m"[..], b"zz"]);
    }
}
