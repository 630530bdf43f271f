//! Pages: a header, an array of elements, then the keys and values they point to.

use bytes::{Buf, BufMut, Bytes};

/// Bytes before the elements of a page.
pub const PAGE_HEADER_BYTES: usize = 16;
/// Bytes of one element, in leaf and branch pages.
pub const ELEMENT_BYTES: usize = 16;
/// The page size written. etcd's files have the operating system's, which is this on all it runs on.
pub const PAGE_BYTES: u64 = 4096;

pub const FLAG_BRANCH: u16 = 0x01;
pub const FLAG_LEAF: u16 = 0x02;
pub const FLAG_META: u16 = 0x04;
pub const FLAG_FREELIST: u16 = 0x10;
/// Marks a leaf element whose value is a bucket.
pub const ELEMENT_BUCKET: u32 = 1;

/// What every page begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    pub id: u64,
    pub flags: u16,
    pub count: u16,
    /// How many more pages follow that belong to this one.
    pub overflow: u32,
}

impl PageHeader {
    pub fn put(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.id);
        out.put_u16_le(self.flags);
        out.put_u16_le(self.count);
        out.put_u32_le(self.overflow);
    }

    /// `None` if `page` is shorter than a header.
    pub fn get(mut page: &[u8]) -> Option<Self> {
        (page.len() >= PAGE_HEADER_BYTES).then(|| Self {
            id: page.get_u64_le(),
            flags: page.get_u16_le(),
            count: page.get_u16_le(),
            overflow: page.get_u32_le(),
        })
    }
}

/// A leaf page, or the image of one inside a bucket's value. Items are slices of it.
#[derive(Clone, Debug)]
pub struct Leaf {
    data: Bytes,
    count: usize,
}

/// One element of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafItem {
    pub is_bucket: bool,
    pub key: Bytes,
    pub value: Bytes,
}

impl Leaf {
    /// `None` if the element array does not fit.
    pub fn new(data: Bytes, count: u16) -> Option<Self> {
        let count = usize::from(count);
        (PAGE_HEADER_BYTES + count * ELEMENT_BYTES <= data.len()).then_some(Self { data, count })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// `None` if there is no such item or it points outside the page.
    pub fn item(&self, index: usize) -> Option<LeafItem> {
        let (mut element, base) = element(&self.data, self.count, index)?;
        let flags = element.get_u32_le();
        let key_start = base.checked_add(to_usize(element.get_u32_le()))?;
        let key_end = key_start.checked_add(to_usize(element.get_u32_le()))?;
        let value_end = key_end.checked_add(to_usize(element.get_u32_le()))?;
        (value_end <= self.data.len()).then(|| LeafItem {
            is_bucket: flags & ELEMENT_BUCKET != 0,
            key: self.data.slice(key_start..key_end),
            value: self.data.slice(key_end..value_end),
        })
    }
}

/// A branch page.
#[derive(Clone, Debug)]
pub struct Branch {
    data: Bytes,
    count: usize,
}

impl Branch {
    /// `None` if the element array does not fit.
    pub fn new(data: Bytes, count: u16) -> Option<Self> {
        Leaf::new(data, count).map(|Leaf { data, count }| Self { data, count })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Lowest key and page of a child; `None` if there is no such child or its key lies outside the page.
    pub fn child(&self, index: usize) -> Option<(Bytes, u64)> {
        let (mut element, base) = element(&self.data, self.count, index)?;
        let key_start = base.checked_add(to_usize(element.get_u32_le()))?;
        let key_end = key_start.checked_add(to_usize(element.get_u32_le()))?;
        let page = element.get_u64_le();
        (key_end <= self.data.len()).then(|| (self.data.slice(key_start..key_end), page))
    }
}

/// The bytes of an element and its offset in the page, to which its positions are relative.
fn element(data: &[u8], count: usize, index: usize) -> Option<(&[u8], usize)> {
    let base = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
    (index < count).then(|| data.get(base..base + ELEMENT_BYTES)).flatten().map(|bytes| (bytes, base))
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
