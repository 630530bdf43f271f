//! The meta page: where the tree begins and whether the file is whole.

use bytes::{Buf, BufMut};

use super::page::{FLAG_META, PAGE_HEADER_BYTES, PageHeader};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Bytes of a meta before its checksum.
const SUMMED_BYTES: usize = 56;
/// Bytes of a meta with its checksum, behind the page header.
pub const META_BYTES: usize = SUMMED_BYTES + 8;
/// Marks that no free list was written.
pub const NO_FREELIST: u64 = u64::MAX;

/// One of the two metas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub page_bytes: u32,
    pub root_page: u64,
    pub freelist_page: u64,
    /// Count of pages in the file.
    pub high_water: u64,
    /// The transaction that wrote it; the higher of two valid metas counts.
    pub txid: u64,
}

impl Meta {
    /// The page with its header, not padded.
    pub fn encode(&self, page: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(PAGE_HEADER_BYTES + META_BYTES);
        PageHeader { id: page, flags: FLAG_META, count: 0, overflow: 0 }.put(&mut out);
        out.put_u32_le(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.page_bytes);
        out.put_u32_le(0);
        out.put_u64_le(self.root_page);
        out.put_u64_le(0);
        out.put_u64_le(self.freelist_page);
        out.put_u64_le(self.high_water);
        out.put_u64_le(self.txid);
        let sum = fnv1a(&out[PAGE_HEADER_BYTES..]);
        out.put_u64_le(sum);
        out
    }

    /// Reads a meta from the beginning of a page.
    pub fn decode(page: &[u8]) -> Result<Self, &'static str> {
        let body = page.get(PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + META_BYTES).ok_or("it is too short")?;
        let (summed, mut stored) = body.split_at(SUMMED_BYTES);
        let mut fields = summed;
        if fields.get_u32_le() != MAGIC {
            return Err("it does not begin as one");
        }
        if fields.get_u32_le() != VERSION {
            return Err("its format version is not 2");
        }
        if fnv1a(summed) != stored.get_u64_le() {
            return Err("its meta page has a wrong checksum");
        }
        let page_bytes = fields.get_u32_le();
        let _flags = fields.get_u32_le();
        let root_page = fields.get_u64_le();
        let _sequence = fields.get_u64_le();
        let meta = Self {
            page_bytes,
            root_page,
            freelist_page: fields.get_u64_le(),
            high_water: fields.get_u64_le(),
            txid: fields.get_u64_le(),
        };
        if !page_bytes.is_power_of_two() || !(512..=1 << 16).contains(&page_bytes) {
            return Err("its page size is impossible");
        }
        Ok(meta)
    }
}

fn fnv1a(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_round_trips_and_any_flipped_bit_is_noticed() {
        let meta = Meta { page_bytes: 4096, root_page: 7, freelist_page: 8, high_water: 9, txid: 2 };
        let page = meta.encode(0);
        assert_eq!(Meta::decode(&page), Ok(meta));
        for bit in PAGE_HEADER_BYTES * 8..page.len() * 8 {
            let mut flipped = page.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::decode(&flipped).is_err(), "bit {bit}");
        }
    }
}
