//! Who waits for which request to be applied.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Applied, NodeError};

/// The answer to a proposal.
pub(crate) type Answer = Result<Applied, NodeError>;

struct Waiter {
    answer: oneshot::Sender<Answer>,
    /// Term in which the request was handed to raft; 0 before that.
    proposed_in: u64,
}

/// Callers by the ID of their request. The apply thread answers them; one that gave up removes itself.
#[derive(Default)]
pub(crate) struct Waiters {
    map: Mutex<HashMap<u64, Waiter>>,
}

impl Waiters {
    /// Begins to wait for `id`. Must happen before the proposal can be applied.
    pub(crate) fn register(&self, id: u64) -> oneshot::Receiver<Answer> {
        let (answer, wait) = oneshot::channel();
        self.map.lock().insert(id, Waiter { answer, proposed_in: 0 });
        wait
    }

    /// Stops waiting.
    pub(crate) fn forget(&self, id: u64) {
        self.map.lock().remove(&id);
    }

    /// Whether somebody still waits for `id`.
    pub(crate) fn is_waiting(&self, id: u64) -> bool {
        self.map.lock().contains_key(&id)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.map.lock().len()
    }

    /// These requests were handed to raft in `term`.
    pub(crate) fn proposed(&self, ids: impl Iterator<Item = u64>, term: u64) {
        let mut map = self.map.lock();
        for id in ids {
            if let Some(waiter) = map.get_mut(&id) {
                waiter.proposed_in = term;
            }
        }
    }

    /// Answers whoever waits for a request that was proposed before `term`, in which a leader has committed: what it did
    /// not bring along is lost, but for messages still on their way. Returns how many.
    pub(crate) fn fail_before(&self, term: u64, error: &NodeError) -> usize {
        let lost: Vec<_> =
            self.map.lock().extract_if(|_, w| w.proposed_in > 0 && w.proposed_in < term).collect();
        let count = lost.len();
        for (_, waiter) in lost {
            // Whoever is gone needs no answer.
            let _ = waiter.answer.send(Err(error.clone()));
        }
        count
    }

    /// Answers one.
    pub(crate) fn answer(&self, id: u64, answer: Answer) {
        let waiter = self.map.lock().remove(&id);
        if let Some(waiter) = waiter {
            let _ = waiter.answer.send(answer);
        }
    }

    /// Answers a batch under one lock; answers nobody waits for (another member's) are dropped.
    pub(crate) fn answer_all(&self, answers: &mut Vec<(u64, Answer)>) {
        if answers.is_empty() {
            return;
        }
        let mut found = Vec::with_capacity(answers.len());
        {
            let mut map = self.map.lock();
            for (id, answer) in answers.drain(..) {
                if let Some(waiter) = map.remove(&id) {
                    found.push((waiter, answer));
                }
            }
        }
        for (waiter, answer) in found {
            let _ = waiter.answer.send(answer);
        }
    }

    /// Answers everybody: the member stops.
    pub(crate) fn fail_all(&self, error: &NodeError) {
        let all: Vec<_> = self.map.lock().drain().collect();
        for (_, waiter) in all {
            let _ = waiter.answer.send(Err(error.clone()));
        }
    }
}

/// Removes a waiter when its future is dropped, so that callers that hang up leave nothing behind.
pub(crate) struct ForgetOnDrop<'a> {
    pub(crate) waiters: &'a Waiters,
    pub(crate) id: u64,
}

impl Drop for ForgetOnDrop<'_> {
    fn drop(&mut self) {
        self.waiters.forget(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_earlier_leader_was_given_is_lost_with_it() {
        let waiters = Waiters::default();
        let (mut held, mut old, mut new) = (waiters.register(1), waiters.register(2), waiters.register(3));
        waiters.proposed([2].into_iter(), 4);
        waiters.proposed([3].into_iter(), 5);
        assert_eq!(waiters.fail_before(5, &NodeError::TimeoutLeaderFailed), 1);
        assert_eq!(old.try_recv(), Ok(Err(NodeError::TimeoutLeaderFailed)));
        assert!(held.try_recv().is_err() && new.try_recv().is_err());
        drop(ForgetOnDrop { waiters: &waiters, id: 1 });
        assert_eq!(waiters.len(), 1);
    }
}
