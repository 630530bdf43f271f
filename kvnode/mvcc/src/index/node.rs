//! The persistent B+ tree below the key index: nodes are shared between versions and copied when written.
//!
//! Every inner node knows, for each child, how many keys are alive and the newest revision below it. So counting a range
//! looks only at the nodes on its two edges, also at an older revision wherever nothing changed since.

use std::{ops::ControlFlow, sync::Arc};

use super::{
    history::{History, Version},
    key_block::{KeyBlock, grow},
};
use crate::{
    key_range::{KeyRange, RangeEnd},
    limits::{NODE_FANOUT, NODE_KEY_BYTES},
};

#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    pub(super) keys: KeyBlock,
    pub(super) entries: Vec<Entry>,
}

/// All writes of one key that are still known.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(super) newest: Version,
    pub(super) older: Option<Arc<History>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inner {
    /// The smallest key that may stand below the child after: one fewer than children.
    separators: KeyBlock,
    children: Vec<Child>,
}

#[derive(Clone, Debug)]
struct Child {
    node: Arc<Node>,
    /// Keys below that exist at the newest revision.
    live: u64,
    /// Newest revision below.
    newest: i64,
}

/// What an insertion gives back.
pub(super) struct Upserted {
    version: Version,
    /// Whether the key existed before.
    was_alive: bool,
    /// The new right half and its first key, if the node split.
    pub(super) split: Option<(Vec<u8>, Arc<Node>)>,
}

impl Entry {
    /// The write that readers at revision `main` see; `None` if the key does not exist then.
    pub(crate) fn at(&self, main: i64) -> Option<Version> {
        self.last_write(main).filter(|version| !version.tombstone)
    }

    /// The last write at or before revision `main`, deletions included.
    pub(crate) fn last_write(&self, main: i64) -> Option<Version> {
        if self.newest.main <= main {
            return Some(self.newest);
        }
        self.older.as_ref()?.at(main)
    }

    fn add(&mut self, version: Version) {
        let mut older = self.older.take().unwrap_or_default();
        Arc::make_mut(&mut older).push(self.newest);
        self.older = Some(older);
        self.newest = version;
    }

    /// All writes, oldest first.
    pub(crate) fn versions(&self) -> impl Iterator<Item = Version> + '_ {
        self.older.iter().flat_map(|older| older.iter()).chain([self.newest])
    }

    /// Whether compaction at `main` would drop anything.
    fn has_garbage(&self, main: i64) -> bool {
        if self.newest.main <= main {
            return self.older.is_some() || (self.newest.tombstone && self.newest.main < main);
        }
        // Two writes at or before `main`, or one that is an older deletion.
        let Some(older) = &self.older else { return false };
        let Some(kept) = older.at(main) else { return false };
        (kept.tombstone && kept.main < main) || older.iter().next() != Some(kept)
    }

    /// Drops what a reader at `main` or later cannot see, reporting it; `None` if nothing is left. A deletion at exactly
    /// `main` stays, so that a watch from there still sees it.
    fn compacted(&self, main: i64, drop: &mut impl FnMut(Version)) -> Option<Self> {
        let versions: Vec<Version> = self.versions().collect();
        let visible = versions.partition_point(|version| version.main <= main);
        let keep_from = match versions[..visible].last() {
            Some(last) if last.tombstone && last.main < main => visible,
            Some(_) => visible - 1,
            None => 0,
        };
        versions[..keep_from].iter().for_each(|version| drop(*version));
        let kept = versions.len() - keep_from;
        if kept == 0 {
            return None;
        }
        let older = match (&self.older, kept - 1) {
            (_, 0) | (None, _) => None,
            (Some(older), n) => older.keep_last(n).map(Arc::new),
        };
        Some(Self { newest: self.newest, older })
    }
}

impl Node {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(leaf) => return leaf.keys.search(key).ok().map(|i| &leaf.entries[i]),
                Self::Inner(inner) => node = &inner.children[inner.child_of(key)].node,
            }
        }
    }

    /// Adds a write of `key`, made by `write` from what the key was before.
    pub(super) fn upsert(
        this: &mut Arc<Self>,
        key: &[u8],
        write: &mut impl FnMut(Option<&Entry>) -> Version,
    ) -> Upserted {
        match Arc::make_mut(this) {
            Self::Leaf(leaf) => leaf.upsert(key, write),
            Self::Inner(inner) => inner.upsert(key, write),
        }
    }

    /// Calls `visit` for every key in `range`, in order, until it breaks.
    pub(super) fn visit<B>(
        &self,
        range: &KeyRange,
        visit: &mut impl FnMut(&[u8], &Entry) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        match self {
            Self::Leaf(leaf) => {
                let first = leaf.keys.search(&range.start).unwrap_or_else(|at| at);
                for i in first..leaf.keys.len() {
                    let key = leaf.keys.get(i);
                    if range.ends_before_or_at(key) {
                        break;
                    }
                    visit(key, &leaf.entries[i])?;
                }
            }
            Self::Inner(inner) => {
                for i in inner.child_of(&range.start)..inner.children.len() {
                    if i > 0 && range.ends_before_or_at(inner.separators.get(i - 1)) {
                        break;
                    }
                    inner.children[i].node.visit(range, visit)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Number of keys of `range` that exist at revision `main`.
    pub(super) fn count(&self, range: &KeyRange, main: i64) -> u64 {
        match self {
            Self::Leaf(leaf) => {
                let first = leaf.keys.search(&range.start).unwrap_or_else(|at| at);
                let inside =
                    (first..leaf.keys.len()).take_while(|i| !range.ends_before_or_at(leaf.keys.get(*i)));
                inside.filter(|i| leaf.entries[*i].at(main).is_some()).count() as u64
            }
            Self::Inner(inner) => {
                let first = inner.child_of(&range.start);
                let last = inner.last_child_of(range);
                let whole = |i: usize| i > first && (i < last || range.end == RangeEnd::Unbounded);
                (first..=last)
                    .map(|i| match &inner.children[i] {
                        child if whole(i) && child.newest <= main => child.live,
                        child => child.node.count(range, main),
                    })
                    .sum()
            }
        }
    }

    pub(super) fn live(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => leaf.entries.iter().filter(|entry| !entry.newest.tombstone).count() as u64,
            Self::Inner(inner) => inner.children.iter().map(|child| child.live).sum(),
        }
    }

    pub(super) fn newest(&self) -> i64 {
        match self {
            Self::Leaf(leaf) => leaf.entries.iter().map(|entry| entry.newest.main).max().unwrap_or(0),
            Self::Inner(inner) => inner.children.iter().map(|child| child.newest).max().unwrap_or(0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.entries.is_empty(),
            Self::Inner(inner) => inner.children.is_empty(),
        }
    }

    /// Compacts leaves from the one that holds `from` on, until `budget` keys were looked at. Returns where to go on.
    pub(super) fn compact(
        this: &mut Arc<Self>,
        from: &[u8],
        main: i64,
        budget: &mut usize,
        drop: &mut impl FnMut(Version),
    ) -> Option<Vec<u8>> {
        match this.as_ref() {
            Self::Leaf(leaf) => {
                *budget = budget.saturating_sub(leaf.keys.len().max(1));
                if leaf.entries.iter().any(|entry| entry.has_garbage(main)) {
                    let compacted = leaf.compacted(main, drop);
                    *this = Arc::new(Self::Leaf(compacted));
                }
                None
            }
            Self::Inner(_) => match Arc::make_mut(this) {
                Self::Inner(inner) => inner.compact(from, main, budget, drop),
                Self::Leaf(_) => None,
            },
        }
    }

    /// A node with one child is that child.
    pub(super) fn shrink_root(this: &mut Arc<Self>) {
        while let Self::Inner(inner) = this.as_ref()
            && let [only] = inner.children.as_slice()
        {
            let only = only.node.clone();
            *this = only;
        }
        if this.is_empty() {
            *this = Arc::new(Self::Leaf(Leaf::default()));
        }
    }

    /// A root above two halves.
    pub(super) fn root_of(left: Arc<Self>, separator: &[u8], right: Arc<Self>) -> Self {
        let mut separators = KeyBlock::default();
        separators.push(separator);
        Self::Inner(Inner { separators, children: vec![Child::of(left), Child::of(right)] })
    }
}

impl Leaf {
    fn upsert(&mut self, key: &[u8], write: &mut impl FnMut(Option<&Entry>) -> Version) -> Upserted {
        let (at, version) = match self.keys.search(key) {
            Ok(at) => {
                let was_alive = !self.entries[at].newest.tombstone;
                let version = write(Some(&self.entries[at]));
                self.entries[at].add(version);
                return Upserted { version, was_alive, split: None };
            }
            Err(at) => (at, write(None)),
        };
        self.keys.insert(at, key);
        grow(&mut self.entries, 1);
        self.entries.insert(at, Entry { newest: version, older: None });
        let too_long = self.keys.byte_len() > NODE_KEY_BYTES && self.entries.len() >= 4;
        if self.entries.len() <= NODE_FANOUT && !too_long {
            return Upserted { version, was_alive: false, split: None };
        }
        // Keys that come in order leave full leaves behind.
        let middle = if at + 1 == self.entries.len() { at } else { self.entries.len() / 2 };
        let right = Self { keys: self.keys.split_off(middle), entries: self.entries.split_off(middle) };
        self.entries.shrink_to_fit();
        let split = Some((right.keys.get(0).to_vec(), Arc::new(Node::Leaf(right))));
        Upserted { version, was_alive: false, split }
    }

    fn compacted(&self, main: i64, drop: &mut impl FnMut(Version)) -> Self {
        let entries: Vec<Option<Entry>> =
            self.entries.iter().map(|entry| entry.compacted(main, drop)).collect();
        let keys = self.keys.retain(|i| entries[i].is_some());
        Self { keys, entries: entries.into_iter().flatten().collect() }
    }
}

impl Inner {
    fn child_of(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// The last child that can hold a key of `range`.
    fn last_child_of(&self, range: &KeyRange) -> usize {
        match &range.end {
            RangeEnd::Single => self.child_of(&range.start),
            RangeEnd::Unbounded => self.children.len() - 1,
            RangeEnd::Before(end) => {
                self.separators.search(end).unwrap_or_else(|at| at).max(self.child_of(&range.start))
            }
        }
    }

    fn upsert(&mut self, key: &[u8], write: &mut impl FnMut(Option<&Entry>) -> Version) -> Upserted {
        let at = self.child_of(key);
        let child = &mut self.children[at];
        let Upserted { version, was_alive, split } = Node::upsert(&mut child.node, key, write);
        let Some((separator, right)) = split else {
            child.live = child.live + u64::from(!version.tombstone) - u64::from(was_alive);
            child.newest = version.main;
            return Upserted { version, was_alive, split: None };
        };
        *child = Child::of(child.node.clone());
        self.separators.insert(at, &separator);
        grow(&mut self.children, 1);
        self.children.insert(at + 1, Child::of(right));
        if self.children.len() <= NODE_FANOUT {
            return Upserted { version, was_alive, split: None };
        }
        let middle = if at + 2 == self.children.len() { at + 1 } else { self.children.len() / 2 };
        let mut separators = self.separators.split_off(middle - 1);
        let separator = separators.get(0).to_vec();
        separators = separators.split_off(1);
        let children = self.children.split_off(middle);
        self.children.shrink_to_fit();
        let split = Some((separator, Arc::new(Node::Inner(Self { separators, children }))));
        Upserted { version, was_alive, split }
    }

    fn compact(
        &mut self,
        from: &[u8],
        main: i64,
        budget: &mut usize,
        drop: &mut impl FnMut(Version),
    ) -> Option<Vec<u8>> {
        let first = self.child_of(from);
        let mut resume = None;
        let mut next = first;
        while next < self.children.len() {
            let child = &mut self.children[next];
            let below = Node::compact(&mut child.node, from, main, budget, drop);
            *child = Child::of(child.node.clone());
            next += 1;
            if below.is_some() {
                resume = below;
                break;
            }
            if *budget == 0 {
                resume = (next < self.children.len()).then(|| self.separators.get(next - 1).to_vec());
                break;
            }
        }
        self.tidy(first, next);
        resume
    }

    /// Removes empty children of `first..end` and merges small neighbours.
    fn tidy(&mut self, first: usize, end: usize) {
        for at in (first..end).rev() {
            if self.children[at].node.is_empty() && self.children.len() > 1 {
                self.children.remove(at);
                let separator = at.saturating_sub(1);
                self.separators = self.separators.retain(|i| i != separator);
            } else if at + 1 < self.children.len()
                && let Some(merged) = self.merged(at)
            {
                self.children[at] = Child::of(Arc::new(merged));
                self.children.remove(at + 1);
                self.separators = self.separators.retain(|i| i != at);
            }
        }
        if let [only] = self.children.as_slice()
            && only.node.is_empty()
        {
            self.children.clear();
        }
    }

    /// Child `at` and the next one in one node, if that leaves room for growth.
    fn merged(&self, at: usize) -> Option<Node> {
        let half = NODE_FANOUT / 2;
        match (self.children[at].node.as_ref(), self.children[at + 1].node.as_ref()) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                let small = left.entries.len() + right.entries.len() <= half;
                if !small || left.keys.byte_len() + right.keys.byte_len() > NODE_KEY_BYTES / 2 {
                    return None;
                }
                let mut merged = left.clone();
                right.keys.iter().for_each(|key| merged.keys.push(key));
                merged.entries.extend(right.entries.iter().cloned());
                Some(Node::Leaf(merged))
            }
            (Node::Inner(left), Node::Inner(right)) if left.children.len() + right.children.len() <= half => {
                let mut merged = left.clone();
                merged.separators.push(self.separators.get(at));
                right.separators.iter().for_each(|key| merged.separators.push(key));
                merged.children.extend(right.children.iter().cloned());
                Some(Node::Inner(merged))
            }
            _ => None,
        }
    }
}

impl Child {
    fn of(node: Arc<Node>) -> Self {
        Self { live: node.live(), newest: node.newest(), node }
    }
}
