//! Runs a case on both clusters and stops at the first difference.

mod waiting;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use prost::Message;
use prost_reflect::DynamicMessage;

use crate::{
    audit,
    case::{Call, Case, End, Step},
    normalise::{forget_kept_hash, only_ours_kept, reconcile},
    process::{POLL, Programs},
    schema::{self, Schema, id, number, number_in, text},
    side::{Heard, Side},
    snapshot,
};

use waiting::Waiting;

/// How long the sides may take to become the same where they work in the background.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// How long a progress request may stay without an answer: several rounds of etcd's loop for watches that lag.
const PROGRESS_MAX: Duration = Duration::from_millis(500);

/// Twice the time after which etcd has written down that a compaction is done.
const ETCD_FLUSHES: Duration = Duration::from_millis(200);

/// How long leases of a few seconds may live on.
const EXPIRY_MAX: Duration = Duration::from_secs(30);

/// Where the two sides went apart.
#[derive(Debug)]
pub struct Difference {
    /// Position of the step in its case; the number of steps for the audit at the end.
    pub step: usize,
    pub what: String,
    pub reference: String,
    pub ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}\n  etcd:   {}\n  kvnode: {}", self.step, self.what, self.reference, self.ours)
    }
}

/// Runs a case on fresh servers.
pub async fn run(case: &Case, schema: &Schema, programs: &Programs) -> Result<Option<Difference>> {
    let (reference, ours) = tokio::try_join!(
        Side::start(&programs.etcd, &case.setup, schema, &programs.scratch),
        Side::start(&programs.kvnode, &case.setup, schema, &programs.scratch),
    )?;
    let mut pair = Pair {
        reference,
        ours,
        case,
        step: 0,
        connected: Instant::now(),
        compacted: Instant::now(),
        mixed: HashSet::new(),
        waiting: BTreeMap::new(),
        lag: Duration::ZERO,
    };
    pair.align_leaders().await?;
    for (number, step) in case.steps.iter().chain([&Step::Audit]).enumerate() {
        pair.step = number;
        let outcome = pair.take(step).await.with_context(|| format!("step {number}: {step}"));
        if matches!(outcome, Ok(None)) {
            continue;
        }
        if pair.reference_crashed().await? {
            println!("etcd crashed at step {number}, and the case ends there: {step}");
            return Ok(None);
        }
        return outcome;
    }
    Ok(None)
}

type Outcome = Result<Option<Difference>>;

/// etcd calls a cluster unhealthy until its members have been connected for five seconds.
const CONNECTED_MIN: Duration = Duration::from_secs(6);

struct Pair<'a> {
    reference: Side,
    ours: Side,
    case: &'a Case,
    step: usize,
    /// When the last member was started.
    connected: Instant,
    /// When a compaction was asked for last.
    compacted: Instant,
    /// Revisions of transactions that deleted and put; see the table in [`crate::normalise`].
    mixed: HashSet<i64>,
    /// Calls that have begun and not ended.
    waiting: BTreeMap<String, Waiting>,
    /// By how much one side was slower than the other, all calls and starts together; what it times may differ by as much.
    lag: Duration,
}

/// Longer than any call should take; it is said where one took as long on one side only.
const SLOW: Duration = Duration::from_secs(3);

/// The outcome, and how long it took.
async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let began = Instant::now();
    Ok((work.await?, began.elapsed()))
}

impl Pair<'_> {
    /// Whether etcd has ended by itself, or does so when it has to look at its keys: it may have lost some.
    async fn reference_crashed(&mut self) -> Result<bool> {
        for member in (0..self.case.setup.members).filter(|member| self.reference.cluster.runs(*member)) {
            // That it cannot be asked is one of the things to find out.
            let _ = self.reference.read_all(member).await;
        }
        self.reference.cluster.crashed().await
    }

    async fn take(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Call(call) => return self.call(call).await,
            Step::Audit => return self.audit().await,
            Step::Progress { stream } => return self.progress(stream).await,
            Step::Open { stream, member, user } => {
                self.reference.open(stream, *member, user.as_ref())?;
                self.ours.open(stream, *member, user.as_ref())?;
            }
            Step::Send { stream, body } => return self.request(stream, body).await,
            Step::Close { stream } => {
                self.reference.streams.remove(stream);
                self.ours.streams.remove(stream);
                return self.give_up(stream).await;
            }
            Step::Begin { name, call } => self.begin(name, call).await?,
            Step::Hear { name } => return self.hear(name).await,
            Step::End { name } => return self.end(name).await,
            Step::Restart { member, how } => {
                if let Some(difference) = self.settle().await? {
                    return Ok(Some(difference));
                }
                self.stop(*member, *how).await?;
                self.start(*member).await?;
            }
            Step::Stop { member, how } => self.stop(*member, *how).await?,
            Step::Start { member } => self.start(*member).await?,
            Step::Expire { lease } => return self.expire(*lease).await,
        }
        Ok(None)
    }

    fn differ(&self, what: &str, reference: impl fmt::Debug, ours: impl fmt::Debug) -> Difference {
        Difference {
            step: self.step,
            what: what.to_string(),
            reference: format!("{reference:?}"),
            ours: format!("{ours:?}"),
        }
    }

    async fn call(&mut self, call: &Call) -> Outcome {
        if call.method == "KV/Compact" {
            let (_, request) = self.reference.request(call)?;
            if self.mixed.contains(&number(&request, "revision")) {
                return Ok(None);
            }
            // Watches that lag behind a compaction are told so, and how fast they are is nobody's promise.
            if let Some(difference) = self.settle().await? {
                return Ok(Some(difference));
            }
        }
        if self.case.setup.members > 1 {
            self.prepare(call).await?;
        }
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            let outcome = self.call_once(call).await?;
            // What is on disk, and the health of connections, follow in the background; a compaction most of all.
            let patient = ["Maintenance/Hash", "Maintenance/Snapshot", "Maintenance/Status"];
            let patient = patient.contains(&call.method.as_str());
            if outcome.is_none() || !patient || Instant::now() > deadline {
                return Ok(outcome);
            }
            tokio::time::sleep(POLL * 20).await;
        }
    }

    /// Several members are only alike once they know the same, and membership only changes among those long connected.
    async fn prepare(&mut self, call: &Call) -> Result<()> {
        if call.method.starts_with("Cluster/") {
            tokio::time::sleep_until((self.connected + CONNECTED_MIN).into()).await;
        }
        if call.method == "Maintenance/MoveLeader" {
            self.align_leaders().await?;
        }
        tokio::try_join!(self.reference.catch_up(call.member), self.ours.catch_up(call.member))?;
        Ok(())
    }

    async fn call_once(&mut self, call: &Call) -> Outcome {
        let (method, left) = self.reference.request(call)?;
        let (_, right) = self.ours.request(call)?;
        let (left_bytes, right_bytes) = (left.encode_to_vec().into(), right.encode_to_vec().into());
        let ((left_heard, left_took), (right_heard, right_took)) = tokio::try_join!(
            timed(self.reference.send(call, &method, left_bytes)),
            timed(self.ours.send(call, &method, right_bytes))
        )?;
        self.note_lag(&call.method, left_took, right_took);
        learn(&mut self.reference, call, &left, &left_heard);
        if call.method == "KV/Txn" {
            let text = left_heard.messages.iter().map(schema::print).collect::<String>();
            if text.contains("deleted:") && text.contains("response_put") {
                self.mixed.insert(self.reference.bindings.now);
            }
        }
        learn(&mut self.ours, call, &right, &right_heard);
        if call.method == "KV/Compact" {
            self.compacted = Instant::now();
        }
        self.ours.bindings.now = self.reference.bindings.now;
        let what = format!("{} {call_body}", call.method, call_body = schema::print(&left));
        if call.method == "Maintenance/Snapshot" {
            return self.compare_snapshots(&left_heard, &right_heard);
        }
        let (left, right) = self.comparable(call, left_heard, right_heard);
        Ok((left != right).then(|| self.differ(&what, left, right)))
    }

    /// Both answers without what may differ.
    fn comparable(&self, call: &Call, left: Heard, right: Heard) -> (Vec<String>, Vec<String>) {
        let (mut left, mut right) = (normal(&self.reference, left), normal(&self.ours, right));
        for (left, right) in left.1.iter_mut().zip(&mut right.1) {
            reconcile(&call.body, self.lag, left, right);
            if self.case.setup.members > 1 {
                forget_kept_hash(left, right);
            }
        }
        if self.case.setup.members > 1 && only_ours_kept(&left.0, &right.1) {
            right = left.clone();
        }
        let lines = |(end, messages): (String, Vec<DynamicMessage>)| {
            messages.iter().map(schema::print).chain([end]).collect()
        };
        (lines(left), lines(right))
    }

    fn compare_snapshots(&self, left: &Heard, right: &Heard) -> Outcome {
        let content = |side: &Side, heard: &Heard| -> Result<Vec<String>> {
            let mut lines = snapshot::content(&heard.answer, &heard.messages, side.cluster.dir())?;
            // Ids of the servers' choice are in the names of the items.
            lines.retain(|line| side.names.assigned.is_empty() || !line.starts_with("lease:"));
            lines.retain(|line| side.names.ids.is_empty() || !line.starts_with("alarm:"));
            Ok(lines)
        };
        let (left, right) = (content(&self.reference, left)?, content(&self.ours, right)?);
        let only = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|line| !those.contains(line)).cloned().collect()
        };
        Ok((left != right).then(|| {
            self.differ(
                "content of a snapshot, lines of one side alone",
                only(&left, &right),
                only(&right, &left),
            )
        }))
    }

    async fn audit(&mut self) -> Outcome {
        for member in 0..self.case.setup.members {
            if !self.reference.cluster.runs(member) {
                continue;
            }
            for step in audit::steps(member, self.case) {
                if let Step::Call(call) = &step
                    && let Some(difference) = self.call(call).await?
                {
                    return Ok(Some(difference));
                }
            }
        }
        self.settle().await
    }

    /// Sends on a stream, and waits until what it asks for was done or refused.
    async fn request(&mut self, stream: &str, body: &str) -> Outcome {
        let created = |side: &Side| side.streams.get(stream).map_or(0, |open| open.heard(|_| {}).created);
        let (left, right) = (created(&self.reference), created(&self.ours));
        self.catch_up(stream).await?;
        for side in [&self.reference, &self.ours] {
            if let Some(open) = side.streams.get(stream) {
                open.send(&side.bindings.fill(body)?)?;
            }
        }
        // The answer tells the revision, which later steps may move.
        let deadline = Instant::now() + SETTLE_MAX;
        let waits = body.starts_with("create_request") && self.reference.streams.contains_key(stream);
        while waits
            && Instant::now() < deadline
            && (created(&self.reference) == left || created(&self.ours) == right)
        {
            tokio::time::sleep(POLL).await;
        }
        self.same_heard(stream).await
    }

    /// Answers on a stream tell its member's revision: on both sides that is the cluster's.
    async fn catch_up(&self, stream: &str) -> Result<()> {
        if self.case.setup.members > 1
            && let Some(member) = self.reference.streams.get(stream).map(|open| open.member)
        {
            tokio::try_join!(self.reference.catch_up(member), self.ours.catch_up(member))?;
        }
        Ok(())
    }

    /// Asks both sides for progress, again and again, until both told it or neither does.
    async fn progress(&mut self, stream: &str) -> Outcome {
        self.catch_up(stream).await?;
        let count =
            |side: &Side| side.streams.get(stream).map_or(0, |open| open.heard(|_| {}).progress.len());
        let (left, right) = (count(&self.reference), count(&self.ours));
        let deadline = Instant::now() + PROGRESS_MAX;
        while Instant::now() < deadline && (count(&self.reference) == left || count(&self.ours) == right) {
            for side in [&self.reference, &self.ours] {
                if let Some(open) = side.streams.get(stream) {
                    open.send("progress_request {}")?;
                }
            }
            tokio::time::sleep(POLL * 10).await;
        }
        let last = |side: &Side, before: usize| {
            let heard = side.streams.get(stream)?.heard(|_| {});
            (heard.progress.len() > before).then(|| heard.progress.last().copied()).flatten()
        };
        let (left, right) = (last(&self.reference, left), last(&self.ours, right));
        // See the table in `normalise`.
        let silent =
            self.reference.streams.get(stream).is_some_and(|open| open.heard(|_| {}).lost_to_compaction());
        if left.is_none() && silent {
            return Ok(None);
        }
        Ok((left != right).then(|| self.differ(&format!("progress of stream {stream}"), left, right)))
    }

    /// Waits until every stream has caught up and both sides heard the same.
    async fn settle(&mut self) -> Outcome {
        let streams: Vec<String> = self.reference.streams.keys().cloned().collect();
        for stream in streams {
            if let Some(difference) = self.same_heard(&stream).await? {
                return Ok(Some(difference));
            }
            if let Some(difference) = self.progress(&stream).await? {
                return Ok(Some(difference));
            }
            if let Some(difference) = self.same_heard(&stream).await? {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    async fn same_heard(&mut self, stream: &str) -> Outcome {
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            let (Some(left), Some(right)) =
                (self.reference.streams.get(stream), self.ours.streams.get(stream))
            else {
                return Ok(None);
            };
            let left = left.heard(|message| self.reference.names.message(message));
            let right = right.heard(|message| self.ours.names.message(message));
            if left.comparable() == right.comparable() {
                return Ok(None);
            }
            if Instant::now() > deadline {
                let what = format!("stream {stream}");
                return Ok(Some(self.differ(&what, left.comparable(), right.comparable())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn note_lag(&mut self, what: &str, left: Duration, right: Duration) {
        let lag = left.abs_diff(right);
        self.lag += lag;
        if lag > SLOW {
            println!("step {}: {what} took {left:.1?} on etcd and {right:.1?} on kvnode", self.step);
        }
    }

    async fn stop(&mut self, member: usize, how: End) -> Result<()> {
        tokio::time::sleep_until((self.compacted + ETCD_FLUSHES).into()).await;
        tokio::try_join!(self.reference.stop(member, how), self.ours.stop(member, how))?;
        if self.case.setup.members > 1 {
            tokio::try_join!(self.reference.wait_until_ready(), self.ours.wait_until_ready())?;
            self.align_leaders().await?;
        }
        Ok(())
    }

    async fn start(&mut self, member: usize) -> Result<()> {
        let (left, right) = tokio::try_join!(
            timed(self.reference.start_again(member)),
            timed(self.ours.start_again(member))
        )?;
        self.note_lag("start", left.1, right.1);
        self.connected = Instant::now();
        self.align_leaders().await
    }

    /// Has the same position lead on both sides.
    async fn align_leaders(&mut self) -> Result<()> {
        let deadline = Instant::now() + EXPIRY_MAX;
        while self.case.setup.members > 1 && Instant::now() < deadline {
            match tokio::join!(self.reference.leader(), self.ours.leader()) {
                // With a password that nobody knows root cannot log in, and nobody else may ask or move anything.
                (Err(_), Err(_)) => return Ok(()),
                (left, right) => match (left?, right?) {
                    (Some(left), Some(right)) if left == right => return Ok(()),
                    (Some(left), Some(right)) => self.ours.lead(right, left).await?,
                    _ => {}
                },
            }
            tokio::time::sleep(POLL * 10).await;
        }
        Ok(())
    }

    /// Waits until a lease with a short life is gone on both sides.
    async fn expire(&mut self, lease: i64) -> Outcome {
        let deadline = Instant::now() + EXPIRY_MAX;
        let call = Call {
            member: 0,
            user: Some("root".to_owned()),
            method: "Lease/LeaseTimeToLive".to_owned(),
            body: format!("ID: {lease}"),
        };
        loop {
            let (method, request) = self.reference.request(&call)?;
            let bytes: bytes::Bytes = request.encode_to_vec().into();
            let (left, right) = tokio::try_join!(
                self.reference.send(&call, &method, bytes.clone()),
                self.ours.send(&call, &method, bytes)
            )?;
            let gone = |heard: &Heard| {
                let ttl =
                    heard.messages.first().and_then(|message| message.get_field_by_name("TTL")?.as_i64());
                ttl.is_none_or(|ttl| ttl < 0)
            };
            match (gone(&left), gone(&right)) {
                (true, true) => return Ok(None),
                (left, right) if Instant::now() > deadline => {
                    return Ok(Some(self.differ(&format!("lease {lease} has expired"), left, right)));
                }
                _ => tokio::time::sleep(POLL * 20).await,
            }
        }
    }
}

/// An answer's end and its messages, with this side's names replaced.
fn normal(side: &Side, heard: Heard) -> (String, Vec<DynamicMessage>) {
    let mut messages = heard.messages;
    messages.iter_mut().for_each(|message| side.names.message(message));
    let mut text = side.names.text(&heard.answer.text);
    if text.starts_with("grpc: received message larger than max") {
        text.truncate("grpc: received message larger than max".len());
    }
    (format!("{:?} {text:?}", heard.answer.code), messages)
}

/// Takes from an answer what later steps refer to.
fn learn(side: &mut Side, call: &Call, request: &DynamicMessage, heard: &Heard) {
    let Some(message) = heard.messages.last().filter(|_| heard.ok()) else { return };
    let revision = number_in(message, "header", "revision");
    if revision > 0 {
        side.bindings.now = revision;
    }
    match call.method.as_str() {
        "KV/Compact" => side.bindings.compacted = number(request, "revision"),
        "Election/Campaign" => side.bindings.elected = number_in(message, "leader", "rev"),
        "Auth/Authenticate" => side.log_in(text(request, "name"), text(message, "token")),
        "Auth/UserAdd" | "Auth/UserChangePassword" => side.names.unlike = true,
        "Lease/LeaseGrant" if number(request, "ID") == 0 => {
            side.names.unlike = true;
            let id = number(message, "ID");
            side.names.assigned.push(id);
            side.bindings.assigned = id;
        }
        "Cluster/MemberAdd" => {
            let added = message.get_field_by_name("member");
            if let Some(added) = added.as_ref().and_then(|member| member.as_message()) {
                side.learn_added(id(added, "ID"));
            }
        }
        _ => {}
    }
}
