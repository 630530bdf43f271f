//! A watch stream of one side and what was heard on it.
//!
//! How events are spread over responses is the server's choice, within limits: what is compared is the sequence of events of
//! each watch, and the limits are checked on each side ([`Heard::fold`]).

use std::collections::BTreeMap;

use anyhow::Result;
use bytes::Bytes;
use futures::channel::mpsc;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use tonic::Code;

use crate::{
    listen::Listening,
    schema::{self, Schema, number, number_in, text},
    wire::Client,
};

/// An open stream.
pub struct WatchStream {
    pub member: usize,
    requests: mpsc::UnboundedSender<Bytes>,
    request_kind: MessageDescriptor,
    listening: Listening,
}

impl WatchStream {
    pub fn open(schema: &Schema, client: &Client, member: usize, token: Option<String>) -> Result<Self> {
        let method = schema.method("Watch/Watch")?;
        let request_kind = method.input();
        let (requests, queue) = mpsc::unbounded();
        Ok(Self { member, requests, request_kind, listening: Listening::new(client, method, queue, token) })
    }

    /// Sends a request; one to a stream that ended goes nowhere.
    pub fn send(&self, body: &str) -> Result<()> {
        let request = schema::parse(self.request_kind.clone(), body)?;
        let _ = self.requests.unbounded_send(request.encode_to_vec().into());
        Ok(())
    }

    /// What was heard until now. `normalise` makes the two sides' ids the same.
    pub fn heard(&self, normalise: impl Fn(&mut DynamicMessage)) -> Heard {
        let raw = self.listening.heard();
        let mut heard = Heard { ended: raw.ended.clone(), ..Heard::default() };
        for response in &raw.messages {
            let mut response = response.clone();
            normalise(&mut response);
            heard.fold(&response);
        }
        heard
    }
}

/// The id in answers that are about no watch: to refused requests, and to those for progress.
const NO_WATCH: i64 = -1;

/// Where the events of a watch go whose client chose [`NO_WATCH`] for it: servers tell of refused requests in between.
const CHOSEN: i64 = i64::MIN;

/// All that a stream said, so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// By watch: creation, events one by one, end.
    pub watches: BTreeMap<i64, Vec<String>>,
    /// Promises that were broken.
    pub faults: Vec<String>,
    pub ended: Option<(Code, String)>,
    /// Watches that were answered for, refused ones too.
    pub created: usize,
    /// Revisions of answers to progress requests. Not compared here: a server may leave a request without an answer.
    pub progress: Vec<i64>,
    /// By watch: revision of its last event, and whether its response was to be continued.
    last: BTreeMap<i64, (i64, bool)>,
}

impl Heard {
    /// Whether a watch was cancelled because it asked for what has been compacted.
    pub fn lost_to_compaction(&self) -> bool {
        let lost =
            |line: &String| line.starts_with("canceled, compact revision") && !line.contains("revision 0,");
        self.watches.values().flatten().any(lost)
    }

    /// What is compared.
    pub fn comparable(&self) -> impl PartialEq + std::fmt::Debug + '_ {
        (&self.watches, &self.faults, &self.ended)
    }

    fn fold(&mut self, response: &DynamicMessage) {
        let id = number(response, "watch_id");
        let flag = |name| response.get_field_by_name(name).and_then(|value| value.as_bool()) == Some(true);
        let (created, canceled) = (flag("created"), flag("canceled"));
        let revision = number_in(response, "header", "revision");
        let events = response.get_field_by_name("events");
        let events = events.as_ref().and_then(|events| events.as_list()).unwrap_or_default();
        if !created && !canceled && events.is_empty() {
            self.hear_progress(id, revision);
            return;
        }
        self.check_revisions(id, revision, events, flag("fragment"));
        let heard_under = if id == NO_WATCH && !events.is_empty() { CHOSEN } else { id };
        let log = self.watches.entry(heard_under).or_default();
        if created {
            self.created += 1;
            log.push(format!("created at {revision}"));
        }
        log.extend(events.iter().filter_map(Value::as_message).map(schema::print));
        if canceled {
            let reason = text(response, "cancel_reason");
            log.push(format!(
                "canceled, compact revision {}, {reason:?}",
                number(response, "compact_revision")
            ));
        }
    }

    fn hear_progress(&mut self, id: i64, revision: i64) {
        if id == NO_WATCH {
            self.progress.push(revision);
        }
        for (watch, (last, _)) in &self.last {
            if (id == NO_WATCH || id == *watch) && revision < *last {
                self.faults.push(format!("progress {revision} after an event at {last}"));
            }
        }
    }

    /// Revisions rise, none is split over two responses, and none is ahead of the header.
    fn check_revisions(&mut self, id: i64, header: i64, events: &[Value], fragment: bool) {
        let revision = |event: &Value| {
            event.as_message()?.get_field_by_name("kv")?.as_message().map(|kv| number(kv, "mod_revision"))
        };
        let revisions: Vec<i64> = events.iter().filter_map(revision).collect();
        let (Some(first), Some(last)) = (revisions.first(), revisions.last()) else { return };
        if let Some((before, continued)) = self.last.get(&id)
            && (first < before || (first == before && !continued))
        {
            self.faults
                .push(format!("watch {id}: a response begins at {first} after one that ended at {before}"));
        }
        if !revisions.is_sorted() || *last > header {
            self.faults.push(format!("watch {id}: revisions {revisions:?} under a header of {header}"));
        }
        self.last.insert(id, (*last, fragment));
    }
}
