//! Compaction: first a revision below which nobody may read, then, in small steps, the forgetting itself (etcd:
//! `server/storage/mvcc/kvstore_compaction.go`).
//!
//! What reads and hashes answer depends only on the compacted revision, never on how far the steps have come, so members
//! agree although each forgets at its own pace.

use std::collections::BTreeMap;

use super::KeySpace;
use crate::{error::ReadError, ids::Revision, index::Version};

/// Forgetting that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Scrub {
    main: i64,
    phase: Phase,
    /// Slots to drop, by segment.
    dead: BTreeMap<u32, u64>,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Dropping writes from the index, from this key on.
    Index { from: Vec<u8> },
    /// Rewriting segments of the log. In ascending order, so that no put ever outlives the deletion that followed it.
    Log,
}

/// Segments are copied when rewritten, so one costs about as much as looking at this many keys.
const KEYS_PER_SEGMENT: usize = 64;

impl Scrub {
    /// Takes over what an earlier one found dead and did not drop yet; nobody else remembers it.
    pub(crate) fn absorb(&mut self, earlier: Self) {
        for (segment, slots) in earlier.dead {
            *self.dead.entry(segment).or_default() |= slots;
        }
    }
}

impl KeySpace {
    /// Forbids reading below `wanted`.
    pub(crate) fn compact(&mut self, wanted: Revision) -> Result<Scrub, ReadError> {
        if wanted <= self.compacted {
            return Err(ReadError::Compacted(self.compacted));
        }
        if wanted > self.revision {
            return Err(ReadError::FutureRevision(self.revision));
        }
        self.compacted = wanted;
        Ok(self.begin_scrub())
    }

    /// Starts to forget what the compacted revision allows.
    pub(crate) fn begin_scrub(&mut self) -> Scrub {
        self.log.close_segment();
        Scrub { main: self.compacted.0, phase: Phase::Index { from: Vec::new() }, dead: BTreeMap::new() }
    }

    /// Forgets for about as long as looking at `budget` keys takes. Returns what is left to do.
    pub(crate) fn scrub(&mut self, mut scrub: Scrub, budget: usize) -> Option<Scrub> {
        if let Phase::Index { from } = &scrub.phase {
            let (dead, forgotten) = (&mut scrub.dead, &mut self.forgotten);
            let resume = self.index.compact(from, scrub.main, budget, |version: Version| {
                *dead.entry(version.address.segment).or_default() |= 1 << version.address.slot;
                *forgotten += 1;
            });
            scrub.phase = resume.map_or(Phase::Log, |from| Phase::Index { from });
            return Some(scrub);
        }
        for _ in 0..(budget / KEYS_PER_SEGMENT).max(1) {
            match scrub.dead.pop_first() {
                Some((segment, slots)) => self.log.drop_slots(segment, slots),
                None => {
                    self.scrubbed = Revision(scrub.main);
                    return None;
                }
            }
        }
        Some(scrub)
    }
}
