//! The apply thread: feeds committed entries to the state machine, shows the result to readers, and only then answers.
//!
//! It is the one writer of the [`Store`]. What an entry does is decided there; who waits for it is known here.

use std::{
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use kvnode_mvcc::{
    ApplyError, Batch, RaftIndex, Response, Revision, ScrubProgress, Store, Term,
    membership::ConfChangeOutcome,
};
use kvnode_proto::{
    etcdserverpb::{InternalRaftRequest, RequestHeader},
    raftpb,
};
use kvnode_raft::{Role, conf_change};
use prost::Message as _;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::peer::version;

use super::{
    Applied, NodeError,
    checkpoint::Checkpoints,
    hashes::HashJob,
    inbox::ConfChangeCall,
    limits, no_space,
    shared::{SharedRef, Transport},
    stop::StopReason,
    waiters::Answer,
};

/// Work for the apply thread, done in order.
pub(crate) enum ApplyJob {
    /// Committed entries.
    Entries(Vec<raftpb::Entry>),
    /// A received snapshot takes the place of everything.
    Install(raftpb::SnapshotMetadata),
    /// Write a checkpoint of what is applied now, and say when it is done.
    Checkpoint(oneshot::Sender<()>),
}

/// Receives what each batch changed: watchers, leases.
pub(crate) trait Audience: Send {
    /// A batch is visible to readers.
    fn applied(&mut self, batch: &Batch);

    /// The first entry of a new leader's term was applied on that leader.
    fn leads(&mut self);

    /// A snapshot took the place of everything.
    fn replaced(&mut self, batch: &Batch);
}

/// Hands changes of keys to those who watch them.
pub(crate) struct WatchListener {
    pub(crate) shared: SharedRef,
    /// Watchers must hear of compactions, too.
    pub(crate) compacted: Revision,
}

impl Audience for WatchListener {
    fn applied(&mut self, batch: &Batch) {
        let compacted = batch.view.compact_revision();
        if !batch.changes.is_empty() || compacted != self.compacted {
            self.compacted = compacted;
            self.shared.watches.publish(batch);
        }
    }

    fn leads(&mut self) {}

    fn replaced(&mut self, batch: &Batch) {
        self.shared.watches.reset(batch.view.clone());
    }
}

pub(crate) struct ApplyLoop {
    pub(crate) shared: SharedRef,
    pub(crate) store: Store,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) audience: Vec<Box<dyn Audience>>,
    pub(crate) answers: Vec<(u64, Answer)>,
    /// Compactions whose callers want to wait until everything is forgotten.
    pub(crate) physical: Vec<(u64, Answer)>,
    pub(crate) scrub: ScrubProgress,
    pub(crate) leads_from: Option<u64>,
    /// The last entry of the log at the start: what comes up to it was applied in an earlier life.
    pub(crate) replayed: RaftIndex,
}

/// Why the apply thread ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyFailure {
    #[error(
        "applying raft entry {index}: {what}; this member cannot go on: update kvnode or replace the member"
    )]
    Entry { index: u64, what: String },
    #[error(
        "applying raft entry {index}: raft refuses a membership change that the members accepted: {what}"
    )]
    ConfChange { index: u64, what: String },
    #[error("installing a snapshot: {0}")]
    Install(String),
    #[error("stopping")]
    Stopping,
}

impl ApplyLoop {
    /// Runs until the queue is closed.
    pub(crate) fn run(mut self) {
        // etcd raises its own some seconds after the cluster's, and may have been stopped in between.
        self.follow_storage_version();
        self.publish();
        let mut jobs = Vec::new();
        while self.take(&mut jobs) {
            for job in jobs.drain(..) {
                match self.work(job) {
                    Ok(()) => {}
                    Err(ApplyFailure::Stopping) => return,
                    Err(e) => {
                        error!(error = %e, "failed to apply");
                        self.shared.stopper.stop(StopReason::Fatal(e.to_string()));
                        return;
                    }
                }
            }
            self.scrub_some();
        }
        if self.shared.stopper.reason() == StopReason::Asked {
            self.checkpoints.last(&self.shared, &self.store.view());
        }
    }

    fn take(&mut self, jobs: &mut Vec<ApplyJob>) -> bool {
        match self.scrub {
            ScrubProgress::Done => self.shared.apply.take_all(jobs),
            // Something is left to do when nothing arrives.
            ScrubProgress::More => self.shared.apply.take_all_within(jobs, Duration::ZERO),
        }
    }

    fn work(&mut self, job: ApplyJob) -> Result<(), ApplyFailure> {
        match job {
            ApplyJob::Entries(entries) => self.apply_entries(entries),
            ApplyJob::Install(meta) => self.install(&meta),
            ApplyJob::Checkpoint(done) => {
                self.checkpoints.begin(&self.shared, &self.store.view(), Some(done));
                Ok(())
            }
        }
    }

    fn apply_entries(&mut self, entries: Vec<raftpb::Entry>) -> Result<(), ApplyFailure> {
        let start = Instant::now();
        let (mut bytes, count) = (0, entries.len());
        for entry in entries {
            bytes += entry.data.len();
            // What a checkpoint already held comes again after a restart.
            if RaftIndex(entry.index) > self.store.applied().0 {
                self.apply_entry(&entry)?;
            }
        }
        self.publish();
        let took = start.elapsed();
        if took > self.shared.settings.warn_apply {
            self.shared.metrics.server.slow_apply.inc();
            warn!(took = ?took, "expected-duration" = ?self.shared.settings.warn_apply, entries = count, "apply request took too long");
        }
        self.checkpoints.applied(&self.shared, &self.store, count, bytes);
        Ok(())
    }

    fn apply_entry(&mut self, entry: &raftpb::Entry) -> Result<(), ApplyFailure> {
        let (index, term) = (RaftIndex(entry.index), Term(entry.term));
        match raftpb::EntryType::try_from(entry.r#type) {
            Ok(raftpb::EntryType::EntryNormal) if entry.data.is_empty() => {
                self.store.apply_empty(index, term);
                self.shared.raft.new_leader_term.store(entry.term, Ordering::Relaxed);
                // The entry with which a leader begins its term: everything before is applied.
                let now = self.shared.leader();
                if now.role == Role::Leader && now.term == entry.term {
                    self.leads_from = Some(entry.term);
                }
                Ok(())
            }
            Ok(raftpb::EntryType::EntryNormal) => self.apply_request(index, term, entry),
            Ok(raftpb::EntryType::EntryConfChange) => self.apply_conf_change(index, term, entry),
            _ => Err(failure(entry, "its type is unknown to this version")),
        }
    }

    fn apply_request(
        &mut self,
        index: RaftIndex,
        term: Term,
        entry: &raftpb::Entry,
    ) -> Result<(), ApplyFailure> {
        let request =
            InternalRaftRequest::decode(entry.data.clone()).map_err(|e| failure(entry, &e.to_string()))?;
        let id = request_id(&request);
        let start = Instant::now();
        let outcome = self.store.apply(index, term, &request);
        self.count(&request, &outcome, start.elapsed());
        if request.cluster_version_set.is_some() {
            self.follow_storage_version();
        }
        if outcome == Err(ApplyError::UnknownRequest) {
            return Err(failure(entry, &ApplyError::UnknownRequest.to_string()));
        }
        if outcome == Err(ApplyError::NoSpace) {
            self.raise_no_space();
        }
        let compacts = matches!(outcome, Ok(Response::Compact));
        let revision = self.store.revision();
        let answer =
            outcome.map(|response| Applied { index, term, revision, response }).map_err(NodeError::Apply);
        if compacts {
            self.scrub = ScrubProgress::More;
            if request.compaction.is_some_and(|c| c.physical) {
                self.physical.push((id, answer));
                return Ok(());
            }
        }
        self.answers.push((id, answer));
        Ok(())
    }

    fn count(&self, request: &InternalRaftRequest, outcome: &Result<Response, ApplyError>, took: Duration) {
        let metrics = &self.shared.metrics;
        let success = if outcome.is_ok() { "true" } else { "false" };
        let seconds = metrics.server.apply_seconds.with_label_values(&["v3", operation(request), success]);
        seconds.observe(took.as_secs_f64());
        if let Ok(response) = outcome {
            metrics.applied(request, response);
        }
    }

    /// Files say which schema they follow: the cluster's, from 3.6 on.
    fn follow_storage_version(&mut self) {
        let Some(text) = self.store.view().cluster_version() else { return };
        if version(&text).is_some_and(|found| found >= (3, 6)) {
            self.shared.ready_to_downgrade.store(false, Ordering::Relaxed);
            self.store.set_storage_version(&text);
        }
    }

    fn apply_conf_change(
        &mut self,
        index: RaftIndex,
        term: Term,
        entry: &raftpb::Entry,
    ) -> Result<(), ApplyFailure> {
        let change = conf_change::decode(&entry.data).map_err(|e| failure(entry, &e.to_string()))?;
        let outcome = self.store.apply_conf_change(index, term, &change);
        if let Ok(outcome) = &outcome {
            let conf_state = self.tell_raft(entry, &change)?;
            info!(change = ?outcome, voters = ?conf_state.voters, learners = ?conf_state.learners, "applied a configuration change");
            self.store.set_conf_state(conf_state);
            // Peers must be known before raft sends to them, and gone members' connections end.
            let view = self.store.view();
            self.transport.members_changed(&view.members(), &view.removed_members());
            self.shared.note_membership(&view);
            self.leave_if_removed(outcome);
        }
        let answer = outcome
            .map(|_| Applied { index, term, revision: self.store.revision(), response: Response::Noted })
            .map_err(|e| NodeError::Apply(ApplyError::Membership(e)));
        self.answers.push((change.id, answer));
        Ok(())
    }

    /// Raft must know of the change before it is told that the entry is applied.
    fn tell_raft(
        &self,
        entry: &raftpb::Entry,
        change: &raftpb::ConfChange,
    ) -> Result<raftpb::ConfState, ApplyFailure> {
        let (answer, wait) = mpsc::sync_channel(1);
        let call = ConfChangeCall { index: entry.index, change: change.clone(), answer };
        self.shared.inbox.conf_change(call);
        loop {
            match wait.recv_timeout(self.shared.settings.tick) {
                Ok(Ok(conf_state)) => return Ok(conf_state),
                Ok(Err(e)) => {
                    return Err(ApplyFailure::ConfChange { index: entry.index, what: e.to_string() });
                }
                // The raft thread answers unless it has stopped.
                Err(mpsc::RecvTimeoutError::Timeout) if !self.shared.stopper.is_stopping() => {}
                Err(_) => return Err(ApplyFailure::Stopping),
            }
        }
    }

    fn leave_if_removed(&self, outcome: &ConfChangeOutcome) {
        if *outcome == ConfChangeOutcome::Removed(self.shared.identity.member) {
            // Others may still need this member's answers to commit the removal itself (etcd waits ten ticks, too).
            let (shared, delay) = (Arc::clone(&self.shared), 10 * self.shared.settings.tick);
            super::spawn_thread("removed", move || {
                std::thread::sleep(delay);
                shared.stopper.stop(StopReason::Removed);
            });
        }
    }

    /// Shows readers the batch, then answers everybody who waited for it.
    fn publish(&mut self) {
        let mut batch = self.store.publish();
        // etcd, too, knows no hashes of compactions that an earlier life made.
        for past in batch.compactions.drain(..).filter(|past| past.index > self.replayed) {
            self.shared.hashes.jobs.push(HashJob::Compaction(past));
        }
        for listener in &mut self.audience {
            listener.applied(&batch);
        }
        if self.leads_from.take().is_some() {
            self.audience.iter_mut().for_each(|listener| listener.leads());
        }
        self.shared.note_applied(&batch.view);
        self.shared.waiters.answer_all(&mut self.answers);
        self.shared.inbox.applied(batch.view.applied().0.0);
    }

    /// Forgets compacted revisions in steps, between batches.
    fn scrub_some(&mut self) {
        if self.scrub == ScrubProgress::Done {
            return;
        }
        self.scrub = self.store.scrub(limits::SCRUB_KEYS);
        self.publish();
        if self.scrub == ScrubProgress::Done {
            let compacted = self.store.view().compact_revision();
            if compacted > Revision(0) {
                info!("compact-revision" = compacted.0, "finished scheduled compaction");
            }
            // Answered when the compaction is hashed, too.
            let answers = std::mem::take(&mut self.physical);
            self.shared.hashes.jobs.push(HashJob::Answer(answers));
        }
    }

    /// Every member that finds the store full says so for itself.
    fn raise_no_space(&self) {
        let view = self.store.view();
        if no_space::stands(&view) {
            return;
        }
        let id = self.shared.ids.next();
        let request = InternalRaftRequest {
            header: Some(RequestHeader { id, ..RequestHeader::default() }),
            alarm: Some(no_space::alarm(&view, self.shared.identity.member)),
            ..InternalRaftRequest::default()
        };
        // If there is no room now, the next request that does not fit tries again.
        let _ = self.shared.propose_encoded(id, request.encode_to_vec().into());
    }

    fn install(&mut self, meta: &raftpb::SnapshotMetadata) -> Result<(), ApplyFailure> {
        info!("snapshot-index" = meta.index, "snapshot-term" = meta.term, "applying snapshot");
        let in_progress = self.shared.metrics.server.snapshot_apply_in_progress.clone();
        in_progress.inc();
        let received = self.checkpoints.install(meta).map_err(|e| ApplyFailure::Install(e.to_string()))?;
        self.store.replace(received);
        self.scrub = ScrubProgress::More;
        let batch = self.store.publish();
        self.transport.members_changed(&batch.view.members(), &batch.view.removed_members());
        self.shared.note_membership(&batch.view);
        for listener in &mut self.audience {
            listener.replaced(&batch);
        }
        in_progress.dec();
        info!("snapshot-index" = meta.index, "applied snapshot");
        self.publish();
        Ok(())
    }
}

fn failure(entry: &raftpb::Entry, what: &str) -> ApplyFailure {
    ApplyFailure::Entry { index: entry.index, what: what.to_owned() }
}

/// A request by the name under which etcd counts it (`etcd_server_apply_duration_seconds`).
fn operation(request: &InternalRaftRequest) -> &'static str {
    match request {
        InternalRaftRequest { put: Some(_), .. } => "Put",
        InternalRaftRequest { txn: Some(_), .. } => "Txn",
        InternalRaftRequest { range: Some(_), .. } => "Range",
        InternalRaftRequest { delete_range: Some(_), .. } => "DeleteRange",
        InternalRaftRequest { compaction: Some(_), .. } => "Compaction",
        InternalRaftRequest { lease_grant: Some(_), .. } => "LeaseGrant",
        InternalRaftRequest { lease_revoke: Some(_), .. } => "LeaseRevoke",
        InternalRaftRequest { lease_checkpoint: Some(_), .. } => "LeaseCheckpoint",
        InternalRaftRequest { alarm: Some(_), .. } => "Alarm",
        InternalRaftRequest { authenticate: Some(_), .. } => "Authenticate",
        InternalRaftRequest { cluster_version_set: Some(_), .. } => "ClusterVersionSet",
        InternalRaftRequest { cluster_member_attr_set: Some(_), .. } => "ClusterMemberAttrSet",
        InternalRaftRequest { downgrade_info_set: Some(_), .. } => "DowngradeInfoSet",
        _ => "Auth",
    }
}

fn request_id(request: &InternalRaftRequest) -> u64 {
    match request.id {
        0 => request.header.as_ref().map_or(0, |header| header.id),
        id => id,
    }
}
