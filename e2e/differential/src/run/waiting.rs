//! Calls that wait for what later steps do: for a lock that somebody holds, for an election that somebody won.

use std::time::Instant;

use anyhow::{Context, Result};
use futures::FutureExt;
use prost::Message;
use tokio::task::JoinHandle;

use super::{Outcome, Pair, SETTLE_MAX, learn};
use crate::{
    case::Call,
    process::POLL,
    side::{Heard, Side},
};

/// A call under way on both sides.
pub struct Waiting {
    call: Call,
    reference: Begun,
    ours: Begun,
}

/// A call under way; given up when dropped.
struct Begun(JoinHandle<Result<Heard>>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Begun {
    fn new(side: &Side, call: &Call) -> Result<Self> {
        let (method, request) = side.request(call)?;
        Ok(Self(tokio::spawn(side.send(call, &method, request.encode_to_vec().into()))))
    }
}

/// The newest revisions of both sides.
type Revisions = (Option<i64>, Option<i64>);

impl Pair<'_> {
    /// Begins a call and waits until both sides have either answered it or written down that somebody waits.
    pub(super) async fn begin(&mut self, name: &str, call: &Call) -> Result<()> {
        let before = self.revisions(call).await?;
        let waiting = Waiting {
            call: call.clone(),
            reference: Begun::new(&self.reference, call)?,
            ours: Begun::new(&self.ours, call)?,
        };
        let deadline = Instant::now() + SETTLE_MAX;
        while Instant::now() < deadline {
            let now = self.revisions(call).await?;
            if (waiting.reference.0.is_finished() || now.0 != before.0)
                && (waiting.ours.0.is_finished() || now.1 != before.1)
            {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        self.waiting.insert(name.to_owned(), waiting);
        Ok(())
    }

    /// Waits for the answers to a call that has begun.
    pub(super) async fn end(&mut self, name: &str) -> Outcome {
        let Some(mut waiting) = self.waiting.remove(name) else { return Ok(None) };
        let both = futures::future::join(&mut waiting.reference.0, &mut waiting.ours.0);
        // One that goes on waiting is told by the other's answer.
        let (left, right) = match tokio::time::timeout(SETTLE_MAX, both).await {
            Ok((left, right)) => (Some(left), Some(right)),
            Err(_) => ((&mut waiting.reference.0).now_or_never(), (&mut waiting.ours.0).now_or_never()),
        };
        let call = &waiting.call;
        let what = format!("{} that waited, {}", call.method, call.body);
        match (left, right) {
            (Some(left), Some(right)) => {
                let (left, right) = (left.context("etcd's answer")??, right.context("kvnode's answer")??);
                let (_, request) = self.reference.request(call)?;
                learn(&mut self.reference, call, &request, &left);
                learn(&mut self.ours, call, &request, &right);
                let (left, right) = self.comparable(call, left, right);
                Ok((left != right).then(|| self.differ(&what, left, right)))
            }
            (None, None) => Ok(None),
            (left, right) => {
                let told = |side: Option<_>| if side.is_some() { "answered" } else { "waits" };
                Ok(Some(self.differ(&what, told(left), told(right))))
            }
        }
    }

    /// Gives a call up; whoever waited leaves the queue.
    pub(super) async fn give_up(&mut self, name: &str) -> Outcome {
        let Some(waiting) = self.waiting.remove(name) else { return Ok(None) };
        let before = self.revisions(&waiting.call).await?;
        let answered = waiting.reference.0.is_finished();
        let call = waiting.call.clone();
        drop(waiting);
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            let now = self.revisions(&call).await?;
            let (left, right) = (now.0 != before.0, now.1 != before.1);
            if answered || (left && right) {
                return Ok(None);
            }
            if Instant::now() > deadline {
                let what = format!("whether a {} that is given up leaves its queue", call.method);
                return Ok((left != right).then(|| self.differ(&what, left, right)));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn revisions(&self, call: &Call) -> Result<Revisions> {
        tokio::try_join!(self.reference.catch_up(call.member), self.ours.catch_up(call.member))
    }
}
