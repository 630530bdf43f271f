//! Framing of log records: a length word, a small protocol-buffer header with a checksum, the data, zero padding.
//!
//! Pure: bytes in, records out. Reading is stricter than etcd's: everything that etcd always writes one way must be
//! that way, because the checksum covers only the data and a flipped bit elsewhere would otherwise go unnoticed.
//! Layout and drawn bytes are in FORMAT.md.

use std::ops::Range;

use bytes::BufMut;

use crate::{
    limits::SECTOR_BYTES,
    pb::{Value, put_varint, put_varint_field, take_field, varint_length},
};

/// Bytes of the length word before each record.
pub const LENGTH_BYTES: usize = 8;

/// What a record is. The numbers are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whose log this is; second in every segment.
    Metadata = 1,
    /// A raft log entry.
    Entry = 2,
    /// Term, vote and commit index.
    State = 3,
    /// The checksum of everything before; first in every segment.
    Crc = 4,
    /// The state up to an index is kept elsewhere.
    Snapshot = 5,
}

impl Kind {
    fn from_number(number: u64) -> Option<Self> {
        [Kind::Metadata, Kind::Entry, Kind::State, Kind::Crc, Kind::Snapshot]
            .into_iter()
            .find(|kind| *kind as u64 == number)
    }
}

/// A record as found, checksum not yet judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub crc: u32,
    pub data: &'a [u8],
    /// Offset just behind the record and its padding.
    pub end: usize,
}

/// Why no record could be read at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No record begins here: the file ends, or its unused rest begins.
    End,
    /// Damaged; `extent` is where the record should lie, cut at the end of the file.
    Bad { reason: &'static str, extent: Range<usize>, cut: Cut },
}

/// Whether a record should reach beyond the end of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of it is there, damaged.
    No,
    /// The file ends within it.
    AtEndOfFile,
}

/// Appends one record whose data is the concatenation of `parts`, and advances the running checksum.
pub fn put_record(out: &mut Vec<u8>, crc: &mut u32, kind: Kind, parts: &[&[u8]]) {
    for part in parts {
        *crc = crc32c::crc32c_append(*crc, part);
    }
    let data_length: usize = parts.iter().map(|part| part.len()).sum();
    put_header(out, kind, *crc, (kind != Kind::Crc).then_some(data_length));
    for part in parts {
        out.put_slice(part);
    }
    let padding = padding_of(record_length(*crc, (kind != Kind::Crc).then_some(data_length)));
    out.put_bytes(0, padding);
}

fn put_header(out: &mut Vec<u8>, kind: Kind, crc: u32, data_length: Option<usize>) {
    out.put_u64_le(length_word(record_length(crc, data_length)));
    put_varint_field(out, 1, kind as u64);
    put_varint_field(out, 2, u64::from(crc));
    if let Some(length) = data_length {
        out.put_u8(3 << 3 | 2);
        put_varint(out, length as u64);
    }
}

fn record_length(crc: u32, data_length: Option<usize>) -> usize {
    let data = data_length.map_or(0, |length| 1 + varint_length(length as u64) + length);
    2 + 1 + varint_length(u64::from(crc)) + data
}

fn padding_of(record_length: usize) -> usize {
    record_length.wrapping_neg() % 8
}

/// The length in the low 56 bits; if padded, the top byte is 0x80 plus the count of padding bytes.
fn length_word(record_length: usize) -> u64 {
    let padding = padding_of(record_length) as u64;
    let mark = if padding == 0 { 0 } else { (0x80 | padding) << 56 };
    record_length as u64 | mark
}

/// Reads the record at `at`. Whether its checksum fits is for the caller, who knows the running one.
pub fn read_frame(file: &[u8], at: usize) -> Result<Frame<'_>, Fault> {
    let rest = file.get(at..).unwrap_or_default();
    let bad = |reason, end: usize| Fault::Bad { reason, extent: at..end, cut: Cut::No };
    let cut = |reason| Fault::Bad { reason, extent: at..file.len(), cut: Cut::AtEndOfFile };
    let Some((word, body)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
        let blank = rest.iter().all(|byte| *byte == 0);
        return Err(if blank { Fault::End } else { cut("the file ends within a length word") });
    };
    let word = u64::from_le_bytes(*word);
    if word == 0 {
        return Err(Fault::End);
    }
    let length = usize::try_from(word & (u64::MAX >> 8)).unwrap_or(usize::MAX);
    if length_word(length) != word {
        return Err(bad("malformed length word", at + LENGTH_BYTES));
    }
    let padded = length.saturating_add(padding_of(length));
    if padded > body.len() {
        return Err(cut("a record reaches beyond the end of the file"));
    }
    let end = at + LENGTH_BYTES + padded;
    let (record, padding) = body[..padded].split_at(length);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(bad("padding that is not zero", end));
    }
    match parse_record(record) {
        Some((kind, crc, data)) => Ok(Frame { kind, crc, data, end }),
        None => Err(bad("malformed record", end)),
    }
}

/// Parses kind, checksum and data in the order etcd writes them, and nothing else.
fn parse_record(mut input: &[u8]) -> Option<(Kind, u32, &[u8])> {
    let (kind, crc) = parse_header(&mut input)?;
    if kind == Kind::Crc {
        // The marshaller writes no data for it, or an empty one.
        return (input.is_empty() || input == [3 << 3 | 2, 0]).then_some((kind, crc, &[]));
    }
    match take_field(&mut input)? {
        (3, Value::Bytes(data)) if input.is_empty() => Some((kind, crc, data)),
        _ => None,
    }
}

fn parse_header(input: &mut &[u8]) -> Option<(Kind, u32)> {
    let (1, kind) = take_field(input)? else { return None };
    let (2, crc) = take_field(input)? else { return None };
    Some((Kind::from_number(kind.varint()?)?, u32::try_from(crc.varint()?).ok()?))
}

/// Reads the record at `at` by what its header says, ignoring the length word: `Some` if it is whole and its checksum
/// continues `crc`. Then the length word alone is damaged, which no interrupted write does: it never straddles a
/// sector.
pub fn read_despite_length(file: &[u8], at: usize, crc: u32) -> Option<Frame<'_>> {
    let body = file.get(at + LENGTH_BYTES..)?;
    let mut input = body;
    let (kind, stored) = parse_header(&mut input)?;
    if kind == Kind::Crc {
        return None;
    }
    let (3, Value::Bytes(data)) = take_field(&mut input)? else { return None };
    if crc32c::crc32c_append(crc, data) != stored {
        return None;
    }
    let length = body.len() - input.len();
    let end = at + LENGTH_BYTES + length + padding_of(length);
    (end <= file.len()).then_some(Frame { kind, crc: stored, data, end })
}

/// The length word that belongs to a record lying in `at..end`.
pub fn length_word_of(frame: &Frame<'_>) -> [u8; LENGTH_BYTES] {
    length_word(record_length(frame.crc, (frame.kind != Kind::Crc).then_some(frame.data.len()))).to_le_bytes()
}

/// Whether an interrupted write explains damage in `extent`: the file is cut short within it, or a whole sector
/// behind the one that holds the length word was never written and still reads zero.
pub fn looks_torn(file: &[u8], extent: &Range<usize>, cut: Cut) -> bool {
    if cut == Cut::AtEndOfFile {
        return true;
    }
    let first = extent.start / SECTOR_BYTES + 1;
    let last = extent.end.div_ceil(SECTOR_BYTES);
    (first..last).any(|sector| {
        let end = ((sector + 1) * SECTOR_BYTES).min(file.len());
        file[sector * SECTOR_BYTES..end].iter().all(|byte| *byte == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_looks_as_etcd_writes_it() {
        let mut out = Vec::new();
        let mut crc = 0;
        put_record(&mut out, &mut crc, Kind::Crc, &[]);
        put_record(&mut out, &mut crc, Kind::Metadata, &[b"met", b"adata"]);
        #[rustfmt::skip]
        let golden = [
            4, 0, 0, 0, 0, 0, 0, 0x84,  0x08, 4, 0x10, 0,  0, 0, 0, 0,
            18, 0, 0, 0, 0, 0, 0, 0x86,
            0x08, 1, 0x10, 0x83, 0x8c, 0x8d, 0x83, 0x03, 0x1a, 8, b'm', b'e', b't', b'a', b'd', b'a', b't', b'a',
            0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(crc, crc32c::crc32c(b"metadata"));
        assert_eq!(out, golden);
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let mut out = Vec::new();
        let mut crc = 17;
        put_record(&mut out, &mut crc, Kind::Entry, &[b"some entry"]);
        let whole = read_frame(&out, 0).unwrap();
        assert_eq!((whole.data, whole.crc, whole.end), (&b"some entry"[..], crc, out.len()));
        for bit in 0..out.len() * 8 {
            let mut flipped = out.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(frame) = read_frame(&flipped, 0) {
                let fits = crc32c::crc32c_append(17, frame.data) == frame.crc;
                assert!(!fits || frame.kind != Kind::Entry, "bit {bit} went unnoticed");
            }
        }
    }
}
