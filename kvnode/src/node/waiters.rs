//! Who waits for which request to be applied.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Applied, NodeError};

/// The answer to a proposal.
pub(crate) type Answer = Result<Applied, NodeError>;

/// Callers by the ID of their request. The apply thread answers them; one that gave up removes itself.
#[derive(Default)]
pub(crate) struct Waiters {
    map: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

impl Waiters {
    /// Begins to wait for `id`. Must happen before the proposal can be applied.
    pub(crate) fn register(&self, id: u64) -> oneshot::Receiver<Answer> {
        let (answer, wait) = oneshot::channel();
        self.map.lock().insert(id, answer);
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

    /// Answers one.
    pub(crate) fn answer(&self, id: u64, answer: Answer) {
        let waiter = self.map.lock().remove(&id);
        if let Some(waiter) = waiter {
            // Whoever is gone needs no answer.
            let _ = waiter.send(answer);
        }
    }

    /// Answers a batch under one lock; answers nobody waits for (another member's) are dropped.
    pub(crate) fn answer_all(&self, answers: &mut Vec<(u64, Answer)>) {
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
            let _ = waiter.send(answer);
        }
    }

    /// Answers everybody: the member stops.
    pub(crate) fn fail_all(&self, error: &NodeError) {
        let all: Vec<_> = self.map.lock().drain().collect();
        for (_, waiter) in all {
            let _ = waiter.send(Err(error.clone()));
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
