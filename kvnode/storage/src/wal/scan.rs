//! Reading one segment: every record in order, and the verdict on what ends it.
//!
//! The rule (FORMAT.md, "Torn or corrupt"): a bad record is torn, and may be dropped, only if it is in the last
//! segment and an interrupted write explains it; then nothing from it on was ever synced. Everything else is damage to
//! what was promised, and is refused. Every test here must hold for each image that a power cut can leave, else a
//! healthy member would refuse to start; and fail for a flipped bit before the tail, else promises would be lost.

use super::{
    error::WalError,
    frame::{self, Cut, Fault, Frame, Kind, LENGTH_BYTES},
};
use crate::limits::{SECTOR_BYTES, UNSYNCED_BYTES_MAX};

use std::{ops::Range, path::Path};

/// Where a segment stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Closed: all of it was synced.
    Inner,
    /// The last: its end may be torn.
    Tail,
}

/// Where a record begins, and the checksum of all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub at: usize,
    pub crc: u32,
}

/// How a segment ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending {
    /// Offset behind the last good record.
    pub end: usize,
    /// Where the remains of an interrupted write, if any, stop.
    pub dirty_end: usize,
    /// Why the record at `end` was dropped; `None` if the log just ends there.
    pub torn: Option<&'static str>,
    /// A length word to put back: its sector was lost, but the record behind it is whole.
    pub lost_length: Option<(usize, [u8; LENGTH_BYTES])>,
}

/// Reads all records of a segment. `crc` is the running checksum, `None` before the first segment read, whose head
/// then sets it.
pub fn scan(
    path: &Path,
    file: &[u8],
    place: Place,
    crc: &mut Option<u32>,
    mut visit: impl FnMut(Position, Frame<'_>) -> Result<(), WalError>,
) -> Result<Ending, WalError> {
    let corrupt = |at, reason| WalError::corrupt(path, at, reason);
    let head =
        frame::read_frame(file, 0).map_err(|_| corrupt(0, "the segment does not begin with a checksum"))?;
    if head.kind != Kind::Crc || crc.is_some_and(|running| running != head.crc) {
        return Err(corrupt(0, "the segment does not continue the one before it"));
    }
    let mut running = head.crc;
    let mut at = head.end;
    let mut lost_length = None;
    loop {
        let step = next_record(file, at, running, place).map_err(|reason| corrupt(at, reason))?;
        let (record, length_was_lost) = match step {
            Step::Record(record) => (record, false),
            Step::RecordWithoutLength(record) => (record, true),
            Step::End { torn } => {
                *crc = Some(running);
                return Ok(Ending { end: at, dirty_end: blank_from(file, at), torn, lost_length });
            }
        };
        if (at == head.end) != (record.kind == Kind::Metadata) {
            return Err(corrupt(at, "metadata is not the second record, or not the only metadata"));
        }
        if length_was_lost {
            lost_length = Some((at, frame::length_word_of(&record)));
        }
        visit(Position { at, crc: running }, record)?;
        running = record.crc;
        at = record.end;
    }
}

enum Step<'a> {
    Record(Frame<'a>),
    RecordWithoutLength(Frame<'a>),
    End { torn: Option<&'static str> },
}

/// The record at `at`, or how the log ends there, or why it is corrupt.
fn next_record(file: &[u8], at: usize, crc: u32, place: Place) -> Result<Step<'_>, &'static str> {
    let (reason, extent, cut) = match frame::read_frame(file, at) {
        Ok(record) if record.kind == Kind::Crc => return Err("a checksum record amid the segment"),
        Ok(record) if crc32c::crc32c_append(crc, record.data) == record.crc => {
            return Ok(Step::Record(record));
        }
        Ok(record) => ("checksum mismatch", at..record.end, Cut::No),
        Err(Fault::End) => return end_of_records(file, at, crc, place),
        Err(Fault::Bad { reason, extent, cut }) => (reason, extent, cut),
    };
    let torn = place == Place::Tail
        && frame::looks_torn(file, &extent, cut)
        && frame::read_despite_length(file, at, crc).is_none()
        && within_one_group(file, &extent);
    if torn { Ok(Step::End { torn: Some(reason) }) } else { Err(reason) }
}

fn end_of_records(file: &[u8], at: usize, crc: u32, place: Place) -> Result<Step<'_>, &'static str> {
    if place == Place::Inner {
        let blank = blank_from(file, at) == at;
        return if blank { Ok(Step::End { torn: None }) } else { Err("a zero length word before the end") };
    }
    // The length word alone in its sector: that sector may be lost while the record behind it is not. Whoever asks
    // for the record back gets more than was promised; whoever drops it might lose a synced one.
    if at % SECTOR_BYTES == SECTOR_BYTES - LENGTH_BYTES
        && let Some(record) = frame::read_despite_length(file, at, crc)
    {
        return Ok(Step::RecordWithoutLength(record));
    }
    let sector_end = (at + 1).next_multiple_of(SECTOR_BYTES).min(file.len());
    if file[at..sector_end].iter().any(|byte| *byte != 0) {
        return Err("a zero length word before the end");
    }
    Ok(Step::End { torn: None })
}

/// No more than one un-synced group can follow a torn record.
fn within_one_group(file: &[u8], extent: &Range<usize>) -> bool {
    let followed_by = blank_from(file, extent.end.min(file.len())).saturating_sub(extent.end);
    u64::try_from(followed_by).is_ok_and(|bytes| bytes <= UNSYNCED_BYTES_MAX)
}

/// The offset from which on, not before `at`, the file is all zero.
fn blank_from(file: &[u8], at: usize) -> usize {
    // Whole blocks first: the comparison of slices is what makes this fast over 64 MB.
    const BLOCK: usize = 4096;
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut end = file.len();
    while end - at >= BLOCK && file[end - BLOCK..end] == ZEROS {
        end -= BLOCK;
    }
    file[at..end].iter().rposition(|byte| *byte != 0).map_or(at, |last| at + last + 1)
}
