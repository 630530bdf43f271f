//! Progress lines in a Job's log: a transfer of gigabytes must not be silent, nor write a line a part.

use tokio::time::Instant;

use crate::limits;

/// Counts the bytes of one transfer.
pub struct Progress {
    what: &'static str,
    total_bytes: Option<u64>,
    done_bytes: u64,
    began: Instant,
    said: Instant,
}

impl Progress {
    /// A transfer called `what`.
    pub fn new(what: &'static str, total_bytes: Option<u64>) -> Self {
        let now = Instant::now();
        Self { what, total_bytes, done_bytes: 0, began: now, said: now }
    }

    /// The size became known.
    pub fn total(&mut self, bytes: u64) {
        self.total_bytes = Some(bytes);
    }

    /// More bytes moved; says so once in a while.
    pub fn add(&mut self, bytes: u64) {
        self.done_bytes = self.done_bytes.saturating_add(bytes);
        if self.said.elapsed() >= limits::PROGRESS_INTERVAL {
            self.said = Instant::now();
            self.say("under way");
        }
    }

    /// The transfer ended.
    pub fn done(&self) {
        self.say("done");
    }

    /// Bytes moved so far.
    pub fn bytes(&self) -> u64 {
        self.done_bytes
    }

    fn say(&self, state: &'static str) {
        tracing::info!(
            transfer = self.what,
            state,
            done_bytes = self.done_bytes,
            total_bytes = self.total_bytes,
            elapsed_seconds = self.began.elapsed().as_secs(),
            "{} {state}: {} of {}",
            self.what,
            crds::units::human_bytes(self.done_bytes),
            self.total_bytes.map_or_else(|| "unknown size".to_owned(), crds::units::human_bytes),
        );
    }
}
