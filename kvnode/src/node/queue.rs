//! A queue between two of the node's threads: whoever takes, takes everything.

use std::{collections::VecDeque, time::Duration};

use parking_lot::{Condvar, Mutex};

/// Taking everything at once is what makes groups: the log writes all that waits with one sync.
///
/// It has no bound of its own: what may pile up is bounded by what is put in (see [`super::limits`]).
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    wake: Condvar,
}

struct Inner<T> {
    items: VecDeque<T>,
    open: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner { items: VecDeque::new(), open: true }), wake: Condvar::new() }
    }
}

impl<T> Queue<T> {
    /// Adds an item. After [`Queue::close`] it is dropped.
    pub(crate) fn push(&self, item: T) {
        let mut inner = self.inner.lock();
        if inner.open {
            inner.items.push_back(item);
            self.wake.notify_one();
        }
    }

    /// Waits for items and moves all of them to `into`. `false`: closed and empty.
    pub(crate) fn take_all(&self, into: &mut Vec<T>) -> bool {
        let mut inner = self.inner.lock();
        while inner.items.is_empty() && inner.open {
            self.wake.wait(&mut inner);
        }
        into.extend(inner.items.drain(..));
        inner.open || !into.is_empty()
    }

    /// As [`Queue::take_all`], but gives up after `limit` with nothing.
    pub(crate) fn take_all_within(&self, into: &mut Vec<T>, limit: Duration) -> bool {
        let mut inner = self.inner.lock();
        if inner.items.is_empty() && inner.open {
            self.wake.wait_for(&mut inner, limit);
        }
        into.extend(inner.items.drain(..));
        inner.open || !into.is_empty()
    }

    /// Lets the taker finish what is in, and nothing more.
    pub(crate) fn close(&self) {
        self.inner.lock().open = false;
        self.wake.notify_all();
    }
}
