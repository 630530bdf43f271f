//! Reads a bolt file in key order, trusting nothing in it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::{Buf, Bytes};

use super::{
    BoltError,
    meta::{META_BYTES, Meta, NO_FREELIST},
    page::{Branch, FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, Leaf, PAGE_HEADER_BYTES, PageHeader},
    writer::TXID,
};
use crate::{
    limits::{READ_AHEAD_BYTES, TREE_DEPTH_MAX},
    vfs::{File, OpenMode, Vfs},
};

/// An open bolt file. It reads with positioned reads, so the file may be replaced by name meanwhile.
#[derive(Debug)]
pub struct Reader {
    file: Box<dyn File>,
    path: PathBuf,
    meta: Meta,
    buckets: BTreeMap<String, Root>,
    /// Pages of the tree of buckets itself.
    top_pages: PageSet,
}

/// Where a bucket's items are.
#[derive(Clone, Debug)]
enum Root {
    Page(u64),
    /// In the bucket's value, as the image of a leaf: how bbolt keeps small buckets.
    Inline(Bytes),
}

impl Reader {
    /// Opens `path` and reads its list of buckets. A SHA-256 trailer behind the last page is ignored.
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Self, BoltError> {
        let file = vfs.open(path, OpenMode::Read).map_err(BoltError::io("open", path))?;
        let length = file.length().map_err(BoltError::io("measure", path))?;
        let meta = newest_meta(&*file, length, path)?;
        let mut reader = Self {
            file,
            path: path.to_owned(),
            meta,
            buckets: BTreeMap::new(),
            top_pages: PageSet::new(meta.high_water),
        };
        let not_bolt = |reason| BoltError::NotBolt { path: path.to_owned(), reason };
        if meta.high_water.checked_mul(u64::from(meta.page_bytes)).is_none_or(|needed| needed > length) {
            return Err(not_bolt("it is shorter than its meta page says"));
        }
        let mut buckets = BTreeMap::new();
        let mut items = Items::new(&reader, Some(Root::Page(meta.root_page)), PageSet::new(meta.high_water));
        while let Some(item) = items.next_item(ItemKind::Bucket) {
            let (name, value) = item?;
            let name =
                String::from_utf8(name.to_vec()).map_err(|_| not_bolt("a bucket's name is not text"))?;
            buckets.insert(name, bucket_root(&value).ok_or_else(|| not_bolt("a bucket has no root"))?);
        }
        reader.top_pages = items.into_pages();
        reader.buckets = buckets;
        Ok(reader)
    }

    /// Whether transactions came after the file was written as a whole, as bbolt makes them.
    pub fn has_changed(&self) -> bool {
        self.meta.txid > TXID
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the image, in bytes: what `etcdutl snapshot status` calls total size. The file may be longer.
    pub fn image_bytes(&self) -> u64 {
        self.meta.high_water * u64::from(self.meta.page_bytes)
    }

    /// The names of the buckets, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = &str> {
        self.buckets.keys().map(String::as_str)
    }

    /// The items of a bucket in key order; none if there is no such bucket. Keys and values are slices of what was
    /// read: keeping one keeps up to 1 MiB.
    pub fn items(&self, bucket: &str) -> Items<'_> {
        self.items_tracked(bucket, PageSet::new(self.meta.high_water))
    }

    /// Like [`Reader::items`], refusing pages that are already in `pages`.
    pub fn items_tracked(&self, bucket: &str, pages: PageSet) -> Items<'_> {
        Items::new(self, self.buckets.get(bucket).cloned(), pages)
    }

    /// The pages that hold the list of buckets, for [`Reader::items_tracked`].
    pub fn top_pages(&self) -> PageSet {
        self.top_pages.clone()
    }

    /// One value, found by reading the bucket up to it: for small buckets.
    pub fn get(&self, bucket: &str, key: &[u8]) -> Result<Option<Bytes>, BoltError> {
        for item in self.items(bucket) {
            let (found, value) = item?;
            if found == key {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Checks that every page is either in `used` or on the free list, as bbolt's own check does. Files without a
    /// free list keep no record of it and pass.
    pub fn check_all_pages_accounted(&self, mut used: PageSet) -> Result<(), BoltError> {
        if self.meta.freelist_page == NO_FREELIST {
            return Ok(());
        }
        let page = self.meta.freelist_page;
        let (header, mut data) = Window::default().run(self, page)?;
        if header.flags != FLAG_FREELIST {
            return Err(self.damaged(page, "it should be the free list"));
        }
        self.claim(&mut used, page, header.overflow)?;
        data.advance(PAGE_HEADER_BYTES);
        let mut count = u64::from(header.count);
        if header.count == u16::MAX && data.remaining() >= 8 {
            count = data.get_u64_le();
        }
        for _ in 0..count {
            if data.remaining() < 8 {
                return Err(self.damaged(page, "the free list is longer than its page"));
            }
            self.claim(&mut used, data.get_u64_le(), 0)?;
        }
        match (2..self.meta.high_water).find(|page| !used.contains(*page)) {
            Some(lost) => Err(self.damaged(lost, "it is neither used nor free")),
            None => Ok(()),
        }
    }

    fn damaged(&self, page: u64, reason: &'static str) -> BoltError {
        BoltError::Damaged { path: self.path.clone(), page, reason }
    }

    fn claim(&self, pages: &mut PageSet, page: u64, overflow: u32) -> Result<(), BoltError> {
        for id in page..=page.saturating_add(u64::from(overflow)) {
            if id < 2 || id >= self.meta.high_water {
                return Err(self.damaged(id, "it lies outside the file"));
            }
            if !pages.insert(id) {
                return Err(self.damaged(id, "it is referred to twice"));
            }
        }
        Ok(())
    }
}

/// The valid meta of the last transaction. The second may have to be searched: where it is depends on the page size.
fn newest_meta(file: &dyn File, length: u64, path: &Path) -> Result<Meta, BoltError> {
    let read = |offset: u64| -> Result<Meta, BoltError> {
        let mut page = [0; PAGE_HEADER_BYTES + META_BYTES];
        if offset + page.len() as u64 > length {
            return Err(BoltError::NotBolt { path: path.to_owned(), reason: "it is too short" });
        }
        file.read_exact_at(&mut page, offset).map_err(BoltError::io("read", path))?;
        Meta::decode(&page).map_err(|reason| BoltError::NotBolt { path: path.to_owned(), reason })
    };
    match read(0) {
        Ok(first) => match read(u64::from(first.page_bytes)) {
            Ok(second) if second.txid > first.txid => Ok(second),
            Ok(_) | Err(BoltError::NotBolt { .. }) => Ok(first),
            Err(error) => Err(error),
        },
        Err(error @ BoltError::NotBolt { .. }) => (9..=16)
            .filter_map(|shift| read(1 << shift).ok().filter(|meta| u64::from(meta.page_bytes) == 1 << shift))
            .next()
            .ok_or(error),
        Err(error) => Err(error),
    }
}

fn bucket_root(value: &Bytes) -> Option<Root> {
    let mut value = value.clone();
    if value.len() < 16 {
        return None;
    }
    let page = value.get_u64_le();
    let _sequence = value.get_u64_le();
    Some(if page == 0 { Root::Inline(value) } else { Root::Page(page) })
}

/// A set of page numbers.
#[derive(Clone, Debug, Default)]
pub struct PageSet {
    bits: Vec<u64>,
    /// Pages from here on are not in any set.
    limit: u64,
}

impl PageSet {
    fn new(limit: u64) -> Self {
        Self { bits: Vec::new(), limit }
    }

    fn position(&self, page: u64) -> Option<(usize, u64)> {
        (page < self.limit)
            .then(|| usize::try_from(page / 64).ok().map(|word| (word, 1 << (page % 64))))
            .flatten()
    }

    fn contains(&self, page: u64) -> bool {
        self.position(page).is_some_and(|(word, bit)| self.bits.get(word).is_some_and(|bits| bits & bit != 0))
    }

    /// Whether it was not yet in.
    fn insert(&mut self, page: u64) -> bool {
        let Some((word, bit)) = self.position(page) else { return false };
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        new
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ItemKind {
    Bucket,
    Plain,
}

#[derive(Debug)]
enum Level {
    Leaf { page: u64, leaf: Leaf, next: usize },
    Branch { page: u64, branch: Branch, next: usize },
}

/// The items of a bucket in key order. After an error it ends.
#[derive(Debug)]
pub struct Items<'a> {
    reader: &'a Reader,
    root: Option<Root>,
    stack: Vec<Level>,
    window: Window,
    pages: PageSet,
    previous: Option<Bytes>,
    /// The lowest key that the parent allows on the page just entered.
    lower_bound: Option<Bytes>,
}

impl<'a> Items<'a> {
    fn new(reader: &'a Reader, root: Option<Root>, pages: PageSet) -> Self {
        Self {
            reader,
            root,
            stack: Vec::new(),
            window: Window::default(),
            pages,
            previous: None,
            lower_bound: None,
        }
    }

    /// The pages seen, with those it was begun with.
    pub fn into_pages(self) -> PageSet {
        self.pages
    }

    fn next_item(&mut self, kind: ItemKind) -> Option<Result<(Bytes, Bytes), BoltError>> {
        let outcome = self.advance(kind).transpose();
        if matches!(outcome, Some(Err(_))) {
            self.stack.clear();
            self.root = None;
        }
        outcome
    }

    fn advance(&mut self, kind: ItemKind) -> Result<Option<(Bytes, Bytes)>, BoltError> {
        match self.root.take() {
            Some(Root::Page(page)) => self.enter(page)?,
            Some(Root::Inline(image)) => self.enter_inline(image)?,
            None => {}
        }
        loop {
            let child = match self.stack.last_mut() {
                None => return Ok(None),
                Some(Level::Leaf { page, leaf, next }) if *next < leaf.count() => {
                    let (page, item) = (*page, leaf.item(*next));
                    *next += 1;
                    let item = item.ok_or_else(|| self.reader.damaged(page, "an item lies outside it"))?;
                    if item.is_bucket != (kind == ItemKind::Bucket) {
                        return Err(self
                            .reader
                            .damaged(page, "a bucket where a value should be, or the reverse"));
                    }
                    return self.ordered(page, item.key, item.value).map(Some);
                }
                Some(Level::Branch { page, branch, next }) if *next < branch.count() => {
                    let (page, child) = (*page, branch.child(*next));
                    *next += 1;
                    let (key, child) =
                        child.ok_or_else(|| self.reader.damaged(page, "a key lies outside it"))?;
                    self.lower_bound = Some(key);
                    child
                }
                Some(_) => {
                    self.stack.pop();
                    continue;
                }
            };
            self.enter(child)?;
        }
    }

    fn ordered(&mut self, page: u64, key: Bytes, value: Bytes) -> Result<(Bytes, Bytes), BoltError> {
        let below_bound = self.lower_bound.take().is_some_and(|bound| key < bound);
        if key.is_empty() || below_bound || self.previous.as_ref().is_some_and(|previous| *previous >= key) {
            return Err(self.reader.damaged(page, "its keys are out of order"));
        }
        self.previous = Some(key.clone());
        Ok((key, value))
    }

    fn enter(&mut self, page: u64) -> Result<(), BoltError> {
        if self.stack.len() >= TREE_DEPTH_MAX {
            return Err(self.reader.damaged(page, "the tree is too deep"));
        }
        let (header, data) = self.window.run(self.reader, page)?;
        self.reader.claim(&mut self.pages, page, header.overflow)?;
        let level = match header.flags {
            FLAG_LEAF => Leaf::new(data, header.count).map(|leaf| Level::Leaf { page, leaf, next: 0 }),
            FLAG_BRANCH => {
                Branch::new(data, header.count).map(|branch| Level::Branch { page, branch, next: 0 })
            }
            _ => return Err(self.reader.damaged(page, "it is neither a leaf nor a branch")),
        };
        self.stack.push(level.ok_or_else(|| self.reader.damaged(page, "its elements do not fit"))?);
        Ok(())
    }

    fn enter_inline(&mut self, image: Bytes) -> Result<(), BoltError> {
        let damaged =
            || self.reader.damaged(self.reader.meta.root_page, "a bucket kept in a value is malformed");
        let header =
            PageHeader::get(&image).filter(|header| header.flags == FLAG_LEAF).ok_or_else(damaged)?;
        let leaf = Leaf::new(image, header.count).ok_or_else(damaged)?;
        self.stack.push(Level::Leaf { page: self.reader.meta.root_page, leaf, next: 0 });
        Ok(())
    }
}

impl Iterator for Items<'_> {
    type Item = Result<(Bytes, Bytes), BoltError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_item(ItemKind::Plain)
    }
}

/// The part of the file read last. Pages that follow each other are read many at once; a file that etcd wrote in
/// random order is read page by page.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    data: Bytes,
}

impl Window {
    /// A page with those that overflow from it.
    fn run(&mut self, reader: &Reader, page: u64) -> Result<(PageHeader, Bytes), BoltError> {
        let page_bytes = u64::from(reader.meta.page_bytes);
        if page < 2 || page >= reader.meta.high_water {
            return Err(reader.damaged(page, "it lies outside the file"));
        }
        let first = self.slice(reader, page * page_bytes, page_bytes)?;
        let header = PageHeader::get(&first).ok_or_else(|| reader.damaged(page, "it is too short"))?;
        if header.id != page {
            return Err(reader.damaged(page, "it carries another page's number"));
        }
        let run = 1 + u64::from(header.overflow);
        if run > reader.meta.high_water - page {
            return Err(reader.damaged(page, "it reaches beyond the end of the file"));
        }
        let data = if run == 1 { first } else { self.slice(reader, page * page_bytes, run * page_bytes)? };
        Ok((header, data))
    }

    fn slice(&mut self, reader: &Reader, offset: u64, length: u64) -> Result<Bytes, BoltError> {
        let end = self.start + self.data.len() as u64;
        if offset < self.start || offset + length > end {
            let follows = (self.start..=end).contains(&offset) && !self.data.is_empty();
            let ahead = if follows { length.max(READ_AHEAD_BYTES as u64) } else { length };
            let ahead = ahead.min(reader.image_bytes() - offset);
            let size =
                usize::try_from(ahead).map_err(|_| reader.damaged(0, "a page is larger than memory"))?;
            let mut data = vec![0; size];
            reader.file.read_exact_at(&mut data, offset).map_err(BoltError::io("read", &reader.path))?;
            *self = Window { start: offset, data: data.into() };
        }
        let at = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(self.data.slice(at..at + length))
    }
}
