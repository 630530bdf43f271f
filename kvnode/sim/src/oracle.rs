//! Knows everything that happened and judges it.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvnode_mvcc::KeyHash;
use kvnode_proto::raftpb::{Entry, HardState};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

pub type Judgement = Result<(), Violation>;

fn broken(what: String) -> Judgement {
    Err(Violation(what))
}

/// An operation that a client saw succeed.
#[derive(Clone, Debug)]
pub struct Done {
    pub key: Bytes,
    pub began: u64,
    pub ended: u64,
    /// The store's revision at which it took place.
    pub revision: i64,
    pub effect: Effect,
}

#[derive(Clone, Debug)]
pub enum Effect {
    /// Put this value.
    Wrote { value: Bytes },
    /// Saw this value, last written at that revision; or no such key.
    Read { found: Option<(Bytes, i64)> },
}

/// What every member must agree with.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Applied entries by index: term, kind and data.
    log: BTreeMap<u64, (u64, i32, Bytes)>,
    leaders: BTreeMap<u64, u64>,
    hashes: BTreeMap<u64, Vec<(KeyHash, u64)>>,
    /// The newest hard state each member made durable.
    durable: BTreeMap<u64, HardState>,
    /// Puts in the order of their revisions, as the first member to apply them saw them.
    puts: BTreeMap<i64, (Bytes, Bytes)>,
    done: Vec<Done>,
    pub hashes_compared: u64,
}

impl Oracle {
    /// A member applied an entry. Returns whether it was the first.
    pub fn applied(&mut self, member: u64, entry: &Entry) -> Result<bool, Violation> {
        let found = (entry.term, entry.r#type, entry.data.clone());
        match self.log.get(&entry.index) {
            None => {
                self.log.insert(entry.index, found);
                Ok(true)
            }
            Some(known) if *known == found => Ok(false),
            Some(known) => Err(Violation(format!(
                "member {member} applied entry {} of term {}, others one of term {}",
                entry.index, entry.term, known.0
            ))),
        }
    }

    /// A put took effect at `revision`.
    pub fn put(&mut self, revision: i64, key: Bytes, value: Bytes) -> Judgement {
        match self.puts.insert(revision, (key.clone(), value.clone())) {
            Some(before) if before != (key, value) => broken(format!("two puts have revision {revision}")),
            _ => Ok(()),
        }
    }

    /// A member says that it leads. Returns whether the term had no leader yet.
    pub fn leads(&mut self, member: u64, term: u64) -> Result<bool, Violation> {
        match self.leaders.insert(term, member) {
            None => Ok(true),
            Some(other) if other == member => Ok(false),
            Some(other) => Err(Violation(format!("term {term} has two leaders, {other} and {member}"))),
        }
    }

    /// Members at the same index with the same compacted revision have the same keys.
    pub fn hashed(&mut self, member: u64, index: u64, hash: KeyHash) -> Judgement {
        let known = self.hashes.entry(index).or_default();
        let same = |other: &KeyHash| {
            (other.compact_revision, other.hash_revision) == (hash.compact_revision, hash.hash_revision)
        };
        if known.iter().any(|(other, _)| other.hash_revision != hash.hash_revision) {
            return broken(format!(
                "members differ in their revision at index {index}: {known:?}, {member}: {hash:?}"
            ));
        }
        match known.iter().find(|(other, _)| same(other)) {
            Some((other, _)) if *other == hash => self.hashes_compared += 1,
            Some((other, by)) => {
                return broken(format!("HashKV at index {index}: {by} has {other:?}, {member} has {hash:?}"));
            }
            None => known.push((hash, member)),
        }
        Ok(())
    }

    /// A member made a hard state durable, or found it at a start.
    pub fn durable(&mut self, member: u64, state: &HardState) -> Judgement {
        let Some(before) = self.durable.insert(member, *state) else { return Ok(()) };
        let other_vote = state.term == before.term && before.vote != 0 && state.vote != before.vote;
        if state.term < before.term || other_vote {
            return broken(format!("member {member} went back from {before:?} to {state:?}"));
        }
        Ok(())
    }

    /// The member is gone for good; a later one may have its number only by mistake.
    pub fn forget(&mut self, member: u64) {
        self.durable.remove(&member);
    }

    /// A client was answered.
    pub fn done(&mut self, done: Done) {
        self.done.push(done);
    }

    /// Judges all answers, once everybody has applied everything.
    ///
    /// Revisions order all writes. So answers are linearizable if, and only if, each fits into that order: at its revision
    /// it saw what was written last, and no answer that came before it was asked for has a higher revision (a lower or
    /// equal one is refused to a later write).
    pub fn judge_answers(&mut self) -> Judgement {
        self.judge_values()?;
        // In the order of time: the highest revision of all answers that ended before a given moment.
        let mut ended: Vec<(u64, i64)> = self.done.iter().map(|done| (done.ended, done.revision)).collect();
        ended.sort_unstable();
        let mut began: Vec<&Done> = self.done.iter().collect();
        began.sort_unstable_by_key(|done| done.began);
        let (mut position, mut floor) = (0, 0);
        for done in began {
            while position < ended.len() && ended[position].0 < done.began {
                floor = floor.max(ended[position].1);
                position += 1;
            }
            let too_early = match done.effect {
                Effect::Wrote { .. } => done.revision <= floor,
                Effect::Read { .. } => done.revision < floor,
            };
            if too_early {
                return broken(format!("stale: revision {floor} was seen before this began: {done:?}"));
            }
        }
        Ok(())
    }

    fn judge_values(&self) -> Judgement {
        for done in &self.done {
            match &done.effect {
                Effect::Wrote { value } => {
                    if self.puts.get(&done.revision) != Some(&(done.key.clone(), value.clone())) {
                        return broken(format!("an acknowledged write is not in the log: {done:?}"));
                    }
                }
                Effect::Read { found } => {
                    let last = self.puts.range(..=done.revision).rev().find(|(_, (key, _))| *key == done.key);
                    let expected = last.map(|(revision, (_, value))| (value.clone(), *revision));
                    if *found != expected {
                        return broken(format!("should have read {expected:?}: {done:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// The newest acknowledged write of each key.
    pub fn acknowledged(&self) -> BTreeMap<Bytes, i64> {
        let mut newest = BTreeMap::new();
        for done in &self.done {
            if let Effect::Wrote { .. } = done.effect {
                let revision = newest.entry(done.key.clone()).or_insert(0);
                *revision = done.revision.max(*revision);
            }
        }
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(began: u64, ended: u64, revision: i64) -> Done {
        let value = Bytes::from(revision.to_string());
        Done { key: "k".into(), began, ended, revision, effect: Effect::Wrote { value } }
    }

    fn read(began: u64, ended: u64, revision: i64, found: i64) -> Done {
        let found = Some((Bytes::from(found.to_string()), found));
        Done { effect: Effect::Read { found }, ..write(began, ended, revision) }
    }

    fn judge(answers: impl IntoIterator<Item = Done>) -> Judgement {
        let mut oracle = Oracle::default();
        for revision in 2..5 {
            oracle.put(revision, "k".into(), revision.to_string().into()).unwrap();
        }
        answers.into_iter().for_each(|done| oracle.done(done));
        oracle.judge_answers()
    }

    #[test]
    fn answers_that_fit_the_order_of_revisions_are_accepted() {
        judge([write(0, 10, 2), read(5, 20, 2, 2), write(6, 30, 3), read(7, 31, 2, 2), read(40, 50, 4, 4)])
            .unwrap();
    }

    #[test]
    fn stale_reads_lost_writes_and_swapped_writes_are_noticed() {
        let stale = judge([write(0, 10, 3), read(11, 12, 2, 2)]).unwrap_err();
        assert!(stale.0.starts_with("stale"), "{stale:?}");
        judge([write(0, 10, 9)]).unwrap_err();
        judge([write(0, 10, 3), write(11, 12, 2)]).unwrap_err();
        judge([read(0, 10, 3, 2)]).unwrap_err();
        judge([read(0, 10, 4, 4), read(11, 20, 3, 3)]).unwrap_err();
    }

    #[test]
    fn members_that_disagree_are_noticed() {
        let mut oracle = Oracle::default();
        let entry = Entry { term: 1, index: 1, ..Entry::default() };
        assert_eq!(oracle.applied(1, &entry), Ok(true));
        assert_eq!(oracle.applied(2, &entry), Ok(false));
        oracle.applied(3, &Entry { term: 2, ..entry }).unwrap_err();
        oracle.leads(1, 5).unwrap();
        oracle.leads(2, 5).unwrap_err();
        oracle.durable(1, &HardState { term: 3, vote: 2, commit: 9 }).unwrap();
        oracle.durable(1, &HardState { term: 3, vote: 2, commit: 1 }).unwrap();
        oracle.durable(1, &HardState { term: 3, vote: 1, commit: 9 }).unwrap_err();
        oracle.durable(1, &HardState { term: 2, vote: 2, commit: 9 }).unwrap_err();
    }
}
