//! Watch streams of one member and the state machine behind them: the lock, and who is woken when something changed.
//!
//! All rules of watching are in [`kvnode_mvcc::watch`]. The apply thread holds the lock while it hands out a batch, a
//! stream while it takes what is its own; neither does any work under it that grows with what watchers are sent.

use std::{collections::HashMap, sync::Arc};

use kvnode_mvcc::{
    Batch, View,
    watch::{StreamId, WatchAnswer, WatchHub, WatchLimits, WatchStream},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The watch streams of one member.
pub struct Watches {
    shared: Mutex<Shared>,
}

struct Shared {
    hub: WatchHub,
    wakers: HashMap<StreamId, Arc<Notify>>,
}

impl Watches {
    /// Nobody watches yet; the state is what `view` shows.
    pub fn new(view: View, limits: WatchLimits) -> Arc<Self> {
        Arc::new(Self {
            shared: Mutex::new(Shared { hub: WatchHub::new(view, limits), wakers: HashMap::new() }),
        })
    }

    /// Hands out what a batch changed. Readers must see the batch already.
    pub fn publish(&self, batch: &Batch) {
        let mut shared = self.shared.lock();
        let woken = shared.hub.publish(batch);
        shared.wake(woken);
    }

    /// Goes on from another state, after a snapshot took the place of everything.
    pub fn reset(&self, view: View) {
        let mut shared = self.shared.lock();
        let woken = shared.hub.reset(view);
        shared.wake(woken);
    }

    /// Opens a stream.
    pub fn open(self: &Arc<Self>) -> Watching {
        let mut shared = self.shared.lock();
        let stream = WatchStream::open(&mut shared.hub);
        let woken = Arc::new(Notify::new());
        shared.wakers.insert(stream.id(), Arc::clone(&woken));
        drop(shared);
        Watching { watches: Arc::clone(self), stream: Some(stream), woken }
    }
}

impl Shared {
    fn wake(&self, streams: impl IntoIterator<Item = StreamId>) {
        for stream in streams {
            if let Some(waker) = self.wakers.get(&stream) {
                waker.notify_one();
            }
        }
    }
}

/// One open stream; closed when dropped.
pub struct Watching {
    watches: Arc<Watches>,
    /// Taken only by dropping.
    stream: Option<WatchStream>,
    woken: Arc<Notify>,
}

impl Watching {
    /// Does something to the stream under the lock, then what follows from it outside.
    pub fn with(&mut self, act: impl FnOnce(&mut WatchStream, &mut WatchHub)) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        act(stream, &mut self.watches.shared.lock().hub);
        stream.process();
    }

    /// The next answer; waits for it as long as it takes. `None` once the stream is closed. Cancel-safe.
    pub async fn answer(&mut self) -> Option<WatchAnswer> {
        loop {
            let stream = self.stream.as_mut()?;
            if let Some(answer) = stream.next_answer() {
                return Some(answer);
            }
            if stream.is_behind() {
                // Reading the log may take many steps that find nothing; others share this thread.
                tokio::task::yield_now().await;
            } else {
                self.woken.notified().await;
            }
            self.with(|stream, hub| stream.collect(hub));
        }
    }

    /// The stream, for what needs no lock.
    pub fn stream(&mut self) -> Option<&mut WatchStream> {
        self.stream.as_mut()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            let mut shared = self.watches.shared.lock();
            shared.wakers.remove(&stream.id());
            stream.close(&mut shared.hub);
        }
    }
}
