//! Waiting on a condition, with the last thing seen in the error when time runs out.

use std::{future::Future, time::Duration};

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How often a condition is looked at. Short against what is waited for, long against the cost of a look.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What one look at a condition found.
pub enum Seen<T> {
    /// The condition holds.
    Done(T),
    /// It does not hold yet; the sentence says what was seen instead.
    NotYet(String),
}

/// Looks until `look` is done, and fails with what it saw last after `limit`. An error of a look counts as not yet:
/// what is being waited for is often the very thing that makes the look possible.
pub async fn until<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Seen<T>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let last = match look().await {
            Ok(Seen::Done(value)) => return Ok(value),
            Ok(Seen::NotYet(saw)) => saw,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= deadline {
            bail!("waited {}s for {what}; last seen: {last}", limit.as_secs());
        }
        sleep(LOOK_INTERVAL).await;
    }
}
