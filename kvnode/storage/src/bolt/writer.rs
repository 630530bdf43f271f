//! Lays sorted buckets out as a bolt file, from the first page to the last without going back.
//!
//! Leaves are filled in order; a branch page is written as soon as its children are known, between the leaves. The
//! first run only counts pages; the second does the same with bytes, so both must come to the same numbers.

use std::io::{self, Write};

use bytes::{BufMut, Bytes};

use super::{
    BoltError, BucketSource,
    meta::Meta,
    page::{
        ELEMENT_BUCKET, ELEMENT_BYTES, FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, PAGE_BYTES, PAGE_HEADER_BYTES,
        PageHeader,
    },
};
use crate::limits::LEAF_RUN_PAGES;

/// bbolt's own limits.
const KEY_BYTES_MAX: usize = 32_768;
const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

/// The transaction number of a written file. Even, because bbolt keeps even transactions in the first meta page.
pub(super) const TXID: u64 = 2;

/// How much is collected before it is handed to the output, in bytes.
const OUTPUT_BUFFER_BYTES: usize = 256 << 10;

/// The measures of a file to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pages: u64,
    root_page: u64,
    freelist_page: u64,
}

impl Layout {
    /// Runs over `source` once to find out how long its file will be.
    ///
    /// # Errors
    /// [`BoltError::BadSource`] if the items are out of order or too large.
    pub fn measure(source: &dyn BucketSource) -> Result<Self, BoltError> {
        lay_out(source, &mut Count)
    }

    /// Exact length of the image, in bytes.
    pub fn image_bytes(&self) -> u64 {
        self.pages * PAGE_BYTES
    }
}

/// Writes the file measured as `layout`: exactly [`Layout::image_bytes`] bytes. `out` should take large writes well;
/// small ones are collected here.
///
/// # Errors
/// [`BoltError::Output`] from `out`; [`BoltError::BadSource`] if `source` is not what was measured.
pub fn write_image(source: &dyn BucketSource, layout: &Layout, out: &mut dyn Write) -> Result<(), BoltError> {
    let mut sink =
        Stream { out: io::BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, out), scratch: Vec::new() };
    for page in 0..2 {
        let meta = Meta {
            page_bytes: PAGE_BYTES as u32,
            root_page: layout.root_page,
            freelist_page: layout.freelist_page,
            high_water: layout.pages,
            txid: TXID - page,
        };
        sink.page(&meta.encode(page), &[], 1)?;
    }
    if lay_out(source, &mut sink)? != *layout {
        let reason = "the data changed while it was written";
        return Err(BoltError::BadSource { bucket: String::new(), reason });
    }
    sink.out.flush().map_err(|source| BoltError::Output { source })
}

/// Takes pages in the order of their numbers, without gaps.
trait Sink {
    fn leaf(
        &mut self,
        page: u64,
        run: u64,
        element_flags: u32,
        items: &[(Bytes, Bytes)],
    ) -> Result<(), BoltError>;
    fn branch(&mut self, page: u64, run: u64, children: &[Child]) -> Result<(), BoltError>;
    fn freelist(&mut self, page: u64) -> Result<(), BoltError>;
}

#[derive(Clone, Debug)]
struct Child {
    key: Bytes,
    page: u64,
}

fn lay_out(source: &dyn BucketSource, sink: &mut dyn Sink) -> Result<Layout, BoltError> {
    let mut next_page = 2;
    let mut roots = Vec::new();
    for bucket in source.buckets() {
        let mut tree = Tree::new(sink, next_page, 0);
        let mut previous: Option<Bytes> = None;
        for (key, value) in source.items(bucket) {
            check_item(bucket, previous.as_ref(), &key, &value)?;
            previous = Some(key.clone());
            tree.push(key, value)?;
        }
        let root;
        (root, next_page) = tree.finish()?;
        roots.push((bucket, root));
    }
    let mut top = Tree::new(sink, next_page, ELEMENT_BUCKET);
    let mut previous = None;
    for (bucket, root) in roots {
        let key = Bytes::copy_from_slice(bucket.as_bytes());
        let mut value = Vec::with_capacity(16);
        value.put_u64_le(root);
        value.put_u64_le(0);
        check_item(bucket, previous.as_ref(), &key, &value)?;
        previous = Some(key.clone());
        top.push(key, value.into())?;
    }
    let (root_page, freelist_page) = top.finish()?;
    sink.freelist(freelist_page)?;
    Ok(Layout { pages: freelist_page + 1, root_page, freelist_page })
}

fn check_item(bucket: &str, previous: Option<&Bytes>, key: &Bytes, value: &[u8]) -> Result<(), BoltError> {
    let reason = if key.is_empty() {
        "it has an empty key"
    } else if previous.is_some_and(|previous| previous >= key) {
        "its keys are not in ascending order"
    } else if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
        "it has a key above 32 KiB or a value above 2 GiB"
    } else {
        return Ok(());
    };
    Err(BoltError::BadSource { bucket: bucket.to_owned(), reason })
}

/// Builds one tree bottom-up.
struct Tree<'a> {
    sink: &'a mut dyn Sink,
    next_page: u64,
    element_flags: u32,
    leaf: Vec<(Bytes, Bytes)>,
    /// Bytes of the page header, elements, keys and values in `leaf`.
    leaf_bytes: u64,
    /// Children not yet in a branch page, from the leaves upwards.
    levels: Vec<Level>,
}

#[derive(Default)]
struct Level {
    children: Vec<Child>,
    /// How many of `children`, from the first, go into one page, and their bytes with the header.
    fitting: usize,
    fitting_bytes: u64,
    pages_written: u64,
}

/// A branch page needs two children: bbolt asserts it when a child becomes empty.
const CHILDREN_MIN: usize = 2;

impl Level {
    fn push(&mut self, child: Child) {
        self.children.push(child);
        while self.fitting < self.children.len() {
            let base = if self.fitting == 0 { PAGE_HEADER_BYTES as u64 } else { self.fitting_bytes };
            let with_next = base + (ELEMENT_BYTES + self.children[self.fitting].key.len()) as u64;
            if with_next > PAGE_BYTES && self.fitting >= CHILDREN_MIN {
                break;
            }
            self.fitting += 1;
            self.fitting_bytes = with_next;
        }
    }

    fn take(&mut self, count: usize) -> Vec<Child> {
        let rest = self.children.split_off(count);
        let taken = std::mem::take(&mut self.children);
        *self = Level { pages_written: self.pages_written + 1, ..Level::default() };
        rest.into_iter().for_each(|child| self.push(child));
        taken
    }
}

impl<'a> Tree<'a> {
    fn new(sink: &'a mut dyn Sink, next_page: u64, element_flags: u32) -> Self {
        let leaf_bytes = PAGE_HEADER_BYTES as u64;
        Self { sink, next_page, element_flags, leaf: Vec::new(), leaf_bytes, levels: Vec::new() }
    }

    fn push(&mut self, key: Bytes, value: Bytes) -> Result<(), BoltError> {
        let item_bytes = (ELEMENT_BYTES + key.len() + value.len()) as u64;
        if !self.leaf.is_empty() && leaf_is_full(self.leaf_bytes, item_bytes) {
            self.write_leaf()?;
        }
        self.leaf.push((key, value));
        self.leaf_bytes += item_bytes;
        Ok(())
    }

    fn write_leaf(&mut self) -> Result<(), BoltError> {
        let run = self.leaf_bytes.div_ceil(PAGE_BYTES);
        let page = self.claim(run);
        self.sink.leaf(page, run, self.element_flags, &self.leaf)?;
        let key = self.leaf.first().map(|(key, _)| key.clone()).unwrap_or_default();
        self.leaf.clear();
        self.leaf_bytes = PAGE_HEADER_BYTES as u64;
        self.add_child(0, Child { key, page })
    }

    fn claim(&mut self, run: u64) -> u64 {
        let page = self.next_page;
        self.next_page += run;
        page
    }

    fn add_child(&mut self, mut level: usize, mut child: Child) -> Result<(), BoltError> {
        loop {
            if level == self.levels.len() {
                self.levels.push(Level::default());
            }
            let here = &mut self.levels[level];
            here.push(child);
            // Enough must remain for the last page of this level, whenever the items end.
            if here.children.len() < here.fitting + CHILDREN_MIN {
                return Ok(());
            }
            let count = here.fitting;
            child = self.write_branch(level, count)?;
            level += 1;
        }
    }

    fn write_branch(&mut self, level: usize, count: usize) -> Result<Child, BoltError> {
        let children = self.levels[level].take(count);
        let bytes: usize = children.iter().map(|child| ELEMENT_BYTES + child.key.len()).sum();
        let run = ((PAGE_HEADER_BYTES + bytes) as u64).div_ceil(PAGE_BYTES);
        let page = self.claim(run);
        self.sink.branch(page, run, &children)?;
        let key = children.into_iter().next().map(|child| child.key).unwrap_or_default();
        Ok(Child { key, page })
    }

    /// Writes what is left; returns the root and the next free page.
    fn finish(mut self) -> Result<(u64, u64), BoltError> {
        if !self.leaf.is_empty() || self.levels.is_empty() {
            self.write_leaf()?;
        }
        let mut level = 0;
        loop {
            let here = &self.levels[level];
            let (count, fitting) = (here.children.len(), here.fitting);
            if count == 1 && here.pages_written == 0 {
                return Ok((here.children[0].page, self.next_page));
            }
            if count > fitting && fitting > CHILDREN_MIN {
                let child = self.write_branch(level, fitting + 1 - CHILDREN_MIN)?;
                self.add_child(level + 1, child)?;
            }
            let rest = self.levels[level].children.len();
            let child = self.write_branch(level, rest)?;
            self.add_child(level + 1, child)?;
            level += 1;
        }
    }
}

/// A leaf is full when the next item needs another page and the room that would be left empty is small. Items of
/// slightly more than a page would otherwise waste half of the file.
fn leaf_is_full(leaf_bytes: u64, item_bytes: u64) -> bool {
    let run = leaf_bytes.div_ceil(PAGE_BYTES);
    let run_with_item = (leaf_bytes + item_bytes).div_ceil(PAGE_BYTES);
    let left_empty = run * PAGE_BYTES - leaf_bytes;
    run_with_item > run && (left_empty * 8 <= run * PAGE_BYTES || run_with_item > LEAF_RUN_PAGES)
}

/// The first run: numbers only.
struct Count;

impl Sink for Count {
    fn leaf(&mut self, _: u64, _: u64, _: u32, _: &[(Bytes, Bytes)]) -> Result<(), BoltError> {
        Ok(())
    }

    fn branch(&mut self, _: u64, _: u64, _: &[Child]) -> Result<(), BoltError> {
        Ok(())
    }

    fn freelist(&mut self, _: u64) -> Result<(), BoltError> {
        Ok(())
    }
}

/// The second run: bytes.
struct Stream<'a> {
    out: io::BufWriter<&'a mut dyn Write>,
    scratch: Vec<u8>,
}

impl Stream<'_> {
    /// Writes `head`, then the items' keys and values, then zeros up to the end of the run.
    fn page(&mut self, head: &[u8], items: &[(Bytes, Bytes)], run: u64) -> Result<(), BoltError> {
        let mut write = || -> io::Result<()> {
            self.out.write_all(head)?;
            let mut written = head.len() as u64;
            for (key, value) in items {
                self.out.write_all(key)?;
                self.out.write_all(value)?;
                written += (key.len() + value.len()) as u64;
            }
            let mut rest = run * PAGE_BYTES - written;
            while rest > 0 {
                let step = rest.min(ZEROS.len() as u64);
                self.out.write_all(&ZEROS[..step as usize])?;
                rest -= step;
            }
            Ok(())
        };
        write().map_err(|source| BoltError::Output { source })
    }

    fn header(&mut self, id: u64, flags: u16, count: usize, run: u64) -> Vec<u8> {
        let mut head = std::mem::take(&mut self.scratch);
        head.clear();
        // Both fit: a run of sixteen pages holds fewer than 4096 elements, a single item less than 2^20 pages.
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let overflow = u32::try_from(run - 1).unwrap_or(u32::MAX);
        PageHeader { id, flags, count, overflow }.put(&mut head);
        head
    }
}

const ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];

impl Sink for Stream<'_> {
    fn leaf(
        &mut self,
        page: u64,
        run: u64,
        element_flags: u32,
        items: &[(Bytes, Bytes)],
    ) -> Result<(), BoltError> {
        let mut head = self.header(page, FLAG_LEAF, items.len(), run);
        let mut data_at = items.len() * ELEMENT_BYTES;
        for (index, (key, value)) in items.iter().enumerate() {
            head.put_u32_le(element_flags);
            head.put_u32_le(length_u32(data_at - index * ELEMENT_BYTES));
            head.put_u32_le(length_u32(key.len()));
            head.put_u32_le(length_u32(value.len()));
            data_at += key.len() + value.len();
        }
        self.page(&head, items, run)?;
        self.scratch = head;
        Ok(())
    }

    fn branch(&mut self, page: u64, run: u64, children: &[Child]) -> Result<(), BoltError> {
        let mut head = self.header(page, FLAG_BRANCH, children.len(), run);
        let mut data_at = children.len() * ELEMENT_BYTES;
        for (index, child) in children.iter().enumerate() {
            head.put_u32_le(length_u32(data_at - index * ELEMENT_BYTES));
            head.put_u32_le(length_u32(child.key.len()));
            head.put_u64_le(child.page);
            data_at += child.key.len();
        }
        children.iter().for_each(|child| head.put_slice(&child.key));
        self.page(&head, &[], run)?;
        self.scratch = head;
        Ok(())
    }

    /// Empty: every page of a new file is in use.
    fn freelist(&mut self, page: u64) -> Result<(), BoltError> {
        let head = self.header(page, FLAG_FREELIST, 0, 1);
        self.page(&head, &[], 1)
    }
}

/// `check_item` bounds every length to less than 2^31, and a run that has more than one item to sixteen pages.
fn length_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
