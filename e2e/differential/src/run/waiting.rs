//! Calls that wait for what later steps do: for a lock that somebody holds, for an election that somebody won, for whoever
//! wins the next ones.

use std::time::Instant;

use anyhow::Result;
use tonic::Code;

use super::{Outcome, Pair, SETTLE_MAX, learn};
use crate::{case::Call, listen::Listening, process::POLL, side::Heard, wire::Answer};

/// A call under way on both sides.
pub struct Waiting {
    call: Call,
    reference: Listening,
    ours: Listening,
}

/// The newest revisions of both sides.
type Revisions = (Option<i64>, Option<i64>);

impl Pair<'_> {
    /// Begins a call and waits until both sides have either answered it or written down that somebody waits.
    pub(super) async fn begin(&mut self, name: &str, call: &Call) -> Result<()> {
        let before = self.revisions(call).await?;
        let waiting = Waiting {
            call: call.clone(),
            reference: self.reference.begin(call)?,
            ours: self.ours.begin(call)?,
        };
        let deadline = Instant::now() + SETTLE_MAX;
        while Instant::now() < deadline {
            let now = self.revisions(call).await?;
            if (answers(&waiting.reference) || now.0 != before.0)
                && (answers(&waiting.ours) || now.1 != before.1)
            {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        self.waiting.insert(name.to_owned(), waiting);
        Ok(())
    }

    /// Waits until both sides have said the same on a call that goes on.
    pub(super) async fn hear(&mut self, name: &str) -> Outcome {
        let Some(waiting) = self.waiting.remove(name) else { return Ok(None) };
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            let outcome = self.compare(&waiting)?;
            if outcome.is_none() || Instant::now() > deadline {
                self.waiting.insert(name.to_owned(), waiting);
                return Ok(outcome);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a call has ended on both sides; both may also go on waiting for ever.
    pub(super) async fn end(&mut self, name: &str) -> Outcome {
        let Some(waiting) = self.waiting.remove(name) else { return Ok(None) };
        let deadline = Instant::now() + SETTLE_MAX;
        let ended = |call: &Listening| call.heard().ended.is_some();
        while Instant::now() < deadline && !(ended(&waiting.reference) && ended(&waiting.ours)) {
            tokio::time::sleep(POLL).await;
        }
        let (_, request) = self.reference.request(&waiting.call)?;
        for (side, call) in [(&mut self.reference, &waiting.reference), (&mut self.ours, &waiting.ours)] {
            learn(side, &waiting.call, &request, &so_far(call));
        }
        self.compare(&waiting)
    }

    fn compare(&self, waiting: &Waiting) -> Outcome {
        let call = &waiting.call;
        let (left, right) = self.comparable(call, so_far(&waiting.reference), so_far(&waiting.ours));
        let what = format!("{} that waits, {}", call.method, call.body);
        Ok((left != right).then(|| self.differ(&what, left, right)))
    }

    /// Gives a call up; whoever stood in a queue leaves it.
    pub(super) async fn give_up(&mut self, name: &str) -> Outcome {
        let Some(Waiting { call, reference, ours }) = self.waiting.remove(name) else { return Ok(None) };
        if answers(&reference) {
            return Ok(None);
        }
        let before = self.revisions(&call).await?;
        drop((reference, ours));
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            let now = self.revisions(&call).await?;
            let (left, right) = (now.0 != before.0, now.1 != before.1);
            if left && right {
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

/// Whether a call has been answered, by an error if need be.
fn answers(call: &Listening) -> bool {
    let heard = call.heard();
    heard.ended.is_some() || !heard.messages.is_empty()
}

fn so_far(call: &Listening) -> Heard {
    let heard = call.heard().clone();
    let (code, text) = heard.ended.unwrap_or((Code::Ok, "not ended".to_owned()));
    Heard { answer: Answer { messages: Vec::new(), code, text }, messages: heard.messages }
}
