//! A disk in memory that takes from its user exactly what a power cut may take.
//!
//! Model: a sector (512 bytes) is written whole or not at all; un-synced writes to different sectors survive in any
//! combination, and of several un-synced writes to one sector any prefix survives. Un-synced changes of one
//! directory's names survive as a prefix, independently of other directories and of the files' data. What was synced
//! survives. [`SimDisk::crash`] draws one of the images this allows from a seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::{Component, Path},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{File, OpenMode, Vfs};
use crate::limits::SECTOR_BYTES;

/// When the power goes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPlan {
    /// Never by itself.
    Never,
    /// Instead of the n-th sync (of data or names) from now, counted from 0.
    AtSync(u64),
    /// Instead of the n-th change (write, length, name, sync) from now, counted from 0.
    AtChange(u64),
}

/// The disk. Clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    plan: CrashPlan,
    syncs: u64,
    changes: u64,
    powered: bool,
}

#[derive(Clone, Debug)]
enum Node {
    Dir(DirNode),
    File(FileNode),
}

type NodeId = usize;
const ROOT: NodeId = 0;

#[derive(Clone, Debug, Default)]
struct DirNode {
    live: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
    pending: Vec<NameChange>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, NodeId),
    Unlink(String),
    Rename(String, String),
}

#[derive(Clone, Debug, Default)]
struct FileNode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<DataChange>,
    locked: bool,
}

#[derive(Clone, Debug)]
enum DataChange {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

#[derive(Debug)]
struct SimFile {
    state: Arc<Mutex<State>>,
    node: NodeId,
    writable: bool,
    holds_lock: Mutex<bool>,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk with power.
    pub fn new() -> Self {
        Self::with_nodes(vec![Node::Dir(DirNode::default())])
    }

    fn with_nodes(nodes: Vec<Node>) -> Self {
        let state = State { nodes, plan: CrashPlan::Never, syncs: 0, changes: 0, powered: true };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Sets when the power goes off; counting starts now.
    pub fn arm(&self, plan: CrashPlan) {
        let mut state = lock(&self.state);
        state.plan = plan;
        state.syncs = 0;
        state.changes = 0;
    }

    /// How many syncs were asked for since the disk was made or armed.
    pub fn syncs(&self) -> u64 {
        lock(&self.state).syncs
    }

    /// How many changes (syncs included) were asked for since the disk was made or armed.
    pub fn changes(&self) -> u64 {
        lock(&self.state).changes
    }

    /// Whether the power is still on.
    pub fn powered(&self) -> bool {
        lock(&self.state).powered
    }

    /// Cuts the power of this disk for good and returns what a machine would find on it afterwards.
    pub fn crash(&self, seed: u64) -> SimDisk {
        let mut state = lock(&self.state);
        state.powered = false;
        let mut dice = Dice(seed);
        let mut nodes: Vec<Node> = state.nodes.iter().map(|node| surviving_node(node, &mut dice)).collect();
        forget_unreachable(&mut nodes);
        Self::with_nodes(nodes)
    }

    /// Flips one bit of a file, durably: damage that no crash explains.
    ///
    /// # Errors
    /// Fails if the file does not exist or is too short.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u32) -> io::Result<()> {
        let mut state = lock(&self.state);
        let node = state.find(path)?.ok_or(ErrorKind::NotFound)?;
        let at = usize::try_from(byte).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        let file = state.file(node)?;
        for image in [&mut file.live, &mut file.durable] {
            *image.get_mut(at).ok_or(ErrorKind::UnexpectedEof)? ^= 1 << (bit % 8);
        }
        Ok(())
    }
}

/// A poisoned lock only means that a test already panicked; the state itself is always whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(io::Error::other("the simulated power is off")) }
    }

    fn change(&mut self) -> io::Result<()> {
        self.check_power()?;
        if self.plan == CrashPlan::AtChange(self.changes) {
            self.powered = false;
        }
        self.changes += 1;
        self.check_power()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.change()?;
        if self.plan == CrashPlan::AtSync(self.syncs) {
            self.powered = false;
        }
        self.syncs += 1;
        self.check_power()
    }

    fn find(&self, path: &Path) -> io::Result<Option<NodeId>> {
        let mut at = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let name = name.to_str().ok_or(ErrorKind::InvalidInput)?;
            match self.nodes.get(at) {
                Some(Node::Dir(dir)) => match dir.live.get(name) {
                    Some(next) => at = *next,
                    None => return Ok(None),
                },
                _ => return Err(ErrorKind::NotADirectory.into()),
            }
        }
        Ok(Some(at))
    }

    fn parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::InvalidInput)?;
        let parent = self.find(path.parent().unwrap_or(Path::new("")))?.ok_or(ErrorKind::NotFound)?;
        Ok((parent, name.to_owned()))
    }

    fn dir(&mut self, node: NodeId) -> io::Result<&mut DirNode> {
        match self.nodes.get_mut(node) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, node: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn add(&mut self, parent: NodeId, name: String, node: Node) -> io::Result<NodeId> {
        let id = self.nodes.len();
        self.nodes.push(node);
        self.dir(parent)?.change(NameChange::Link(name, id));
        Ok(id)
    }
}

impl DirNode {
    fn change(&mut self, change: NameChange) {
        apply_name(&mut self.live, &change);
        self.pending.push(change);
    }
}

fn apply_name(names: &mut BTreeMap<String, NodeId>, change: &NameChange) {
    match change {
        NameChange::Link(name, id) => {
            names.insert(name.clone(), *id);
        }
        NameChange::Unlink(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
    }
}

impl FileNode {
    fn change(&mut self, change: DataChange) {
        apply_data(&mut self.live, &change);
        self.pending.push(change);
    }
}

fn apply_data(image: &mut Vec<u8>, change: &DataChange) {
    match change {
        DataChange::Write { offset, data } => {
            let end = offset + data.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[*offset..end].copy_from_slice(data);
        }
        DataChange::Length(length) => image.resize(*length, 0),
    }
}

fn surviving_node(node: &Node, dice: &mut Dice) -> Node {
    match node {
        Node::Dir(dir) => {
            let mut names = dir.durable.clone();
            let kept = dice.kept_of(dir.pending.len());
            dir.pending[..kept].iter().for_each(|change| apply_name(&mut names, change));
            Node::Dir(DirNode { live: names.clone(), durable: names, pending: Vec::new() })
        }
        Node::File(file) => {
            let image = surviving_data(file, dice);
            Node::File(FileNode { live: image.clone(), durable: image, ..FileNode::default() })
        }
    }
}

/// Files without a name are gone; only their numbers stay taken.
fn forget_unreachable(nodes: &mut [Node]) {
    let mut reachable = BTreeSet::from([ROOT]);
    let mut todo = vec![ROOT];
    while let Some(node) = todo.pop() {
        if let Node::Dir(dir) = &nodes[node] {
            todo.extend(dir.live.values().filter(|child| reachable.insert(**child)));
        }
    }
    for (id, node) in nodes.iter_mut().enumerate() {
        if !reachable.contains(&id) {
            *node = Node::File(FileNode::default());
        }
    }
}

/// Draws, for each sector, how many of the un-synced changes that touch it reached the disk.
fn surviving_data(file: &FileNode, dice: &mut Dice) -> Vec<u8> {
    let mut lengths = vec![file.durable.len()];
    for change in &file.pending {
        let before = *lengths.last().unwrap_or(&0);
        lengths.push(match change {
            DataChange::Write { offset, data } => before.max(offset + data.len()),
            DataChange::Length(length) => *length,
        });
    }
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let mut image = file.durable.clone();
    image.resize(longest, 0);

    let mut touched = BTreeSet::new();
    for (change, before) in file.pending.iter().zip(&lengths) {
        let range = match change {
            DataChange::Write { offset, data } => *offset..offset + data.len(),
            // Growing reads as zero anyway; only cutting changes what is there.
            DataChange::Length(length) => *length..(*before).max(*length),
        };
        if !range.is_empty() {
            touched.extend(range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES));
        }
    }
    let style = dice.below(4);
    for sector in touched {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(longest);
        let kept = match style {
            0 => 0,
            1 => file.pending.len(),
            _ => dice.below(file.pending.len() + 1),
        };
        for change in &file.pending[..kept] {
            apply_to_sector(&mut image, start..end, change);
        }
    }
    image.truncate(lengths[dice.kept_of(file.pending.len())]);
    image
}

fn apply_to_sector(image: &mut [u8], sector: std::ops::Range<usize>, change: &DataChange) {
    match change {
        DataChange::Write { offset, data } => {
            let start = sector.start.max(*offset);
            let end = sector.end.min(offset + data.len());
            if start < end {
                image[start..end].copy_from_slice(&data[start - offset..end - offset]);
            }
        }
        DataChange::Length(length) => {
            let start = sector.start.max(*length);
            if start < sector.end {
                image[start..sector.end].fill(0);
            }
        }
    }
}

/// SplitMix64: a seed is a whole run, and no crate is needed to repeat it.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    /// A prefix length: nothing, everything and something in between are equally likely.
    fn kept_of(&mut self, count: usize) -> usize {
        match self.below(3) {
            0 => 0,
            1 => count,
            _ => self.below(count + 1),
        }
    }
}

impl Vfs for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut state = lock(&self.state);
        state.check_power()?;
        let found = state.find(path)?;
        let node = match (mode, found) {
            (OpenMode::CreateNew, Some(_)) => return Err(ErrorKind::AlreadyExists.into()),
            (OpenMode::Read | OpenMode::ReadWrite, None) => return Err(ErrorKind::NotFound.into()),
            (OpenMode::CreateNew | OpenMode::CreateOrTruncate, None) => {
                state.change()?;
                let (parent, name) = state.parent(path)?;
                state.add(parent, name, Node::File(FileNode::default()))?
            }
            (OpenMode::CreateOrTruncate, Some(node)) => {
                state.change()?;
                state.file(node)?.change(DataChange::Length(0));
                node
            }
            (OpenMode::Read | OpenMode::ReadWrite, Some(node)) => node,
        };
        state.file(node)?;
        let writable = mode != OpenMode::Read;
        Ok(Box::new(SimFile { state: self.state.clone(), node, writable, holds_lock: Mutex::new(false) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check_power()?;
        let mut at = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let name = name.to_str().ok_or(ErrorKind::InvalidInput)?.to_owned();
            at = match state.dir(at)?.live.get(&name) {
                Some(next) => *next,
                None => {
                    state.change()?;
                    state.add(at, name, Node::Dir(DirNode::default()))?
                }
            };
        }
        state.dir(at).map(|_| ())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.change()?;
        let (parent, old) = state.parent(from)?;
        let (new_parent, new) = state.parent(to)?;
        if parent != new_parent {
            return Err(io::Error::new(ErrorKind::Unsupported, "rename across directories"));
        }
        let dir = state.dir(parent)?;
        if !dir.live.contains_key(&old) {
            return Err(ErrorKind::NotFound.into());
        }
        dir.change(NameChange::Rename(old, new));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.change()?;
        let node = state.find(path)?.ok_or(ErrorKind::NotFound)?;
        state.file(node)?;
        let (parent, name) = state.parent(path)?;
        state.dir(parent)?.change(NameChange::Unlink(name));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.change()?;
        let Some(node) = state.find(path)? else { return Ok(()) };
        state.dir(node)?;
        let (parent, name) = state.parent(path)?;
        state.dir(parent)?.change(NameChange::Unlink(name));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut state = lock(&self.state);
        state.check_power()?;
        let node = state.find(path)?.ok_or(ErrorKind::NotFound)?;
        Ok(state.dir(node)?.live.keys().cloned().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = lock(&self.state);
        state.check_power()?;
        Ok(state.find(path)?.is_some())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.sync()?;
        let node = state.find(path)?.ok_or(ErrorKind::NotFound)?;
        let dir = state.dir(node)?;
        dir.durable = dir.live.clone();
        dir.pending.clear();
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = lock(&self.state);
        state.check_power()?;
        let live = &state.file(self.node)?.live;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(live.len());
        let count = buf.len().min(live.len() - start);
        buf[..count].copy_from_slice(&live[start..start + count]);
        Ok(count)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
        self.changed(DataChange::Write { offset, data: data.to_vec() })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.sync()?;
        let file = state.file(self.node)?;
        for change in std::mem::take(&mut file.pending) {
            apply_data(&mut file.durable, &change);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
        self.changed(DataChange::Length(length))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        if self.length()? < length { self.set_len(length) } else { Ok(()) }
    }

    fn length(&self) -> io::Result<u64> {
        let mut state = lock(&self.state);
        state.check_power()?;
        u64::try_from(state.file(self.node)?.live.len()).map_err(|_| ErrorKind::FileTooLarge.into())
    }

    fn lock_exclusive(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check_power()?;
        let mut held = lock(&self.holds_lock);
        let file = state.file(self.node)?;
        if file.locked && !*held {
            return Err(ErrorKind::WouldBlock.into());
        }
        file.locked = true;
        *held = true;
        Ok(())
    }
}

impl SimFile {
    fn changed(&self, change: DataChange) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.change()?;
        if !self.writable {
            return Err(ErrorKind::PermissionDenied.into());
        }
        state.file(self.node)?.change(change);
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *lock(&self.holds_lock)
            && let Ok(file) = lock(&self.state).file(self.node)
        {
            file.locked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synced_data_survives_and_unsynced_data_may_not() {
        let mut lost = 0;
        for seed in 0..64 {
            let disk = SimDisk::new();
            let file = disk.open(Path::new("/f"), OpenMode::CreateNew).unwrap();
            file.write_all_at(b"safe", 0).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            file.write_all_at(&[7; 2000], 4).unwrap();
            let after = disk.crash(seed);
            let data = super::super::read_file(&after, Path::new("/f")).unwrap();
            assert_eq!(&data[..4], b"safe");
            assert!(data[4..].iter().all(|byte| *byte == 7 || *byte == 0));
            lost += u32::from(data.len() < 2004 || data[4..].contains(&0));
            assert!(file.write_all_at(b"x", 0).is_err(), "the old machine has no power");
        }
        assert!((16..64).contains(&lost), "some runs lose, some keep: {lost}");
    }

    #[test]
    fn a_name_is_not_safe_before_its_directory_is_synced() {
        let mut absent = 0;
        for seed in 0..64 {
            let disk = SimDisk::new();
            let file = disk.open(Path::new("/f"), OpenMode::CreateNew).unwrap();
            file.write_all_at(b"data", 0).unwrap();
            file.sync_data().unwrap();
            absent += u32::from(!disk.crash(seed).exists(Path::new("/f")).unwrap());
        }
        assert!((16..64).contains(&absent), "some runs lose the name: {absent}");
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let disk = SimDisk::new();
        let first = disk.open(Path::new("/f"), OpenMode::CreateNew).unwrap();
        let second = disk.open(Path::new("/f"), OpenMode::ReadWrite).unwrap();
        first.lock_exclusive().unwrap();
        assert_eq!(second.lock_exclusive().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(first);
        second.lock_exclusive().unwrap();
    }
}
