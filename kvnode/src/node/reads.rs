//! Linearizable reads: one confirmation of leadership serves every read that waited when it began.
//!
//! A read may use a state that includes everything committed when the read arrived. Rounds run one at a time: reads that
//! arrive during one wait for the next, because their writes may be newer than what this round confirms.

use std::{collections::BTreeMap, time::Instant};

use kvnode_raft::{ReadIndex, ReadState};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{NodeError, inbox::ReadWaiter, limits};

/// The raft thread's side: which reads wait for which confirmation.
#[derive(Default)]
pub(crate) struct ReadRounds {
    next: Vec<ReadWaiter>,
    current: Vec<ReadWaiter>,
    /// Every confirmation asked for on behalf of `current`; any of them will do, all were asked after the reads came.
    contexts: Vec<u64>,
    retry_at: Option<Instant>,
}

impl ReadRounds {
    /// Adds reads to the next round.
    pub(crate) fn add(&mut self, reads: impl Iterator<Item = ReadWaiter>) {
        self.next.extend(reads);
    }

    /// Begins a round if none runs, and asks again when one takes too long. `ask` asks raft; `None`: not now.
    pub(crate) fn drive(&mut self, now: Instant, mut ask: impl FnMut() -> (u64, ReadIndex)) {
        if self.current.is_empty() {
            // Whoever hung up needs no round.
            self.next.retain(|waiter| !waiter.is_closed());
            if self.next.is_empty() {
                return;
            }
            std::mem::swap(&mut self.current, &mut self.next);
            self.contexts.clear();
            self.retry_at = None;
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.current.retain(|waiter| !waiter.is_closed());
        if self.current.is_empty() || self.contexts.len() >= limits::READ_ATTEMPTS {
            self.fail(&NodeError::Timeout);
            return;
        }
        let (context, answer) = ask();
        if answer == ReadIndex::Started {
            self.contexts.push(context);
            self.retry_at = Some(now + limits::READ_RETRY);
        }
    }

    /// A confirmation arrived: hands out the reads that may go once its index is applied.
    pub(crate) fn confirmed(&mut self, state: ReadState) -> Option<(u64, Vec<ReadWaiter>)> {
        if !self.contexts.contains(&state.context) {
            return None;
        }
        self.contexts.clear();
        self.retry_at = None;
        Some((state.index, std::mem::take(&mut self.current)))
    }

    /// The round will not end well.
    pub(crate) fn fail(&mut self, error: &NodeError) {
        self.contexts.clear();
        self.retry_at = None;
        for waiter in self.current.drain(..) {
            // Whoever is gone needs no answer.
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// The member stops: nobody waits any longer.
    pub(crate) fn fail_all(&mut self, error: &NodeError) {
        self.current.append(&mut self.next);
        self.fail(error);
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.current.is_empty() { None } else { self.retry_at }
    }
}

/// Whoever waits for an index to be applied.
#[derive(Default)]
pub(crate) struct AppliedWaiters {
    inner: Mutex<AppliedInner>,
}

#[derive(Default)]
struct AppliedInner {
    applied: u64,
    waiting: BTreeMap<u64, Vec<ReadWaiter>>,
}

impl AppliedWaiters {
    /// Lets reads go at once if `index` is applied, else when it is.
    pub(crate) fn add(&self, index: u64, waiters: Vec<ReadWaiter>) {
        {
            let mut inner = self.inner.lock();
            if inner.applied < index {
                inner.waiting.entry(index).or_default().extend(waiters);
                return;
            }
        }
        release(index, waiters);
    }

    /// Waits for `index`.
    pub(crate) fn wait(&self, index: u64) -> oneshot::Receiver<Result<u64, NodeError>> {
        let (waiter, wait) = oneshot::channel();
        self.add(index, vec![waiter]);
        wait
    }

    /// Everything up to `index` is applied and visible to readers.
    pub(crate) fn applied(&self, index: u64) {
        let ready = {
            let mut inner = self.inner.lock();
            inner.applied = inner.applied.max(index);
            let later = inner.waiting.split_off(&(index + 1));
            std::mem::replace(&mut inner.waiting, later)
        };
        for (index, waiters) in ready {
            release(index, waiters);
        }
    }

    /// The member stops.
    pub(crate) fn fail_all(&self, error: &NodeError) {
        let waiting = std::mem::take(&mut self.inner.lock().waiting);
        for waiter in waiting.into_values().flatten() {
            let _ = waiter.send(Err(error.clone()));
        }
    }
}

fn release(index: u64, waiters: Vec<ReadWaiter>) {
    for waiter in waiters {
        // Whoever is gone needs no answer.
        let _ = waiter.send(Ok(index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rounds: &mut ReadRounds) -> oneshot::Receiver<Result<u64, NodeError>> {
        let (waiter, wait) = oneshot::channel();
        rounds.add(std::iter::once(waiter));
        wait
    }

    #[test]
    fn a_read_that_arrives_during_a_round_waits_for_the_next() {
        let (mut rounds, now) = (ReadRounds::default(), Instant::now());
        let _first = read(&mut rounds);
        rounds.drive(now, || (1, ReadIndex::Started));
        let _second = read(&mut rounds);
        rounds.drive(now, || panic!("one round at a time"));
        let (index, reads) = rounds.confirmed(ReadState { context: 1, index: 7 }).expect("its round");
        assert_eq!((index, reads.len()), (7, 1));
        rounds.drive(now, || (2, ReadIndex::Started));
        assert!(
            rounds.confirmed(ReadState { context: 1, index: 9 }).is_none(),
            "an old answer confirms nothing new"
        );
        assert!(rounds.confirmed(ReadState { context: 2, index: 9 }).is_some());
    }

    #[test]
    fn a_lost_answer_is_asked_for_again() {
        let (mut rounds, now) = (ReadRounds::default(), Instant::now());
        let _wait = read(&mut rounds);
        rounds.drive(now, || (1, ReadIndex::Started));
        assert_eq!(rounds.deadline(), Some(now + limits::READ_RETRY));
        rounds.drive(now + limits::READ_RETRY, || (2, ReadIndex::Started));
        assert!(
            rounds.confirmed(ReadState { context: 1, index: 7 }).is_some(),
            "the first answer may still come"
        );
    }

    #[test]
    fn reads_wait_until_their_index_is_applied() {
        let waiters = AppliedWaiters::default();
        let mut early = waiters.wait(5);
        waiters.applied(4);
        assert!(early.try_recv().is_err());
        waiters.applied(6);
        assert_eq!(early.try_recv(), Ok(Ok(5)));
        assert_eq!(waiters.wait(6).try_recv(), Ok(Ok(6)));
    }
}
