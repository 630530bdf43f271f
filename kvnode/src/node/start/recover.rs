//! Starting from a disk that was a member's before: newest checkpoint, then the log behind it.

use kvnode_mvcc::{ClusterId, MemberId, Store};
use kvnode_proto::{raftpb::HardState, walpb};
use kvnode_raft::{DurableState, LogStart};
use kvnode_storage::{
    checkpoint::{self, Checkpoint},
    identity::Identity as IdentityFile,
    wal::{Replay, TakenWal, Wal},
};
use tracing::{info, warn};

use super::{Boot, Disk, Recovered, StartError, assemble, force, fresh, ticket};
use crate::{
    flags::config::Config,
    node::{Identity, checkpoint as install},
};

/// Refuses a volume that was a member's and whose log is gone.
pub(super) fn refuse_second_life(config: &Config, disk: &Disk) -> Result<(), StartError> {
    let Some(identity) = IdentityFile::load(&*disk.vfs, &disk.data_dir)? else { return Ok(()) };
    check_cluster(config, disk, &identity)?;
    Err(StartError::LogGone {
        path: disk.data_dir.identity(),
        member: identity.member_id.to_string(),
        cluster: identity.cluster_id.to_string(),
    })
}

/// Refuses the volume of another cluster. Without tickets, as etcd, initial flags count for nothing on a disk that holds
/// data, unless the token was given expressly.
fn check_cluster(config: &Config, disk: &Disk, identity: &IdentityFile) -> Result<(), StartError> {
    if config.ticket_file.is_some() || config.is_explicit("initial-cluster-token") {
        identity.check_cluster(&disk.data_dir, &config.initial_cluster_token)?;
    }
    Ok(())
}

/// Starts from what the disk holds.
pub(super) async fn recover(config: &Config, disk: &Disk, boot: &Boot) -> Result<Recovered, StartError> {
    let identity = IdentityFile::load(&*disk.vfs, &disk.data_dir)?;
    if let Some(identity) = &identity {
        check_cluster(config, disk, identity)?;
    }
    let taken = Wal::take(disk.vfs.clone(), &disk.wal_dir)?;
    let (opened, mark) = open_checkpoint(disk)?;
    let (mut wal, replay) = open_log(disk, taken, &mark)?;
    let found = Identity {
        cluster: ClusterId(replay.metadata.cluster_id),
        member: MemberId(replay.metadata.node_id),
        name: config.name.clone(),
    };
    // Made, but interrupted before its first entries were durable: nobody ever heard of it.
    let unborn = replay.hard_state.term == 0 && replay.entries.is_empty() && opened.is_none();
    if identity.is_none() && unborn {
        drop(wal);
        return fresh::again(config, disk, boot, &found).await;
    }
    if identity.is_none() && config.ticket_file.is_some() {
        // The log says who it is but not which object it belongs to: the ticket must agree.
        ticket::confirm(config, disk, boot, &found).await?;
    }
    let (store, applied) = match &opened {
        Some(checkpoint) => {
            (install::restore(assemble::store_config(config), &checkpoint.reader)?, checkpoint.index)
        }
        None => (Store::new(assemble::store_config(config)), 0),
    };
    if fresh::discovers(config) {
        warn!(
            "wal-dir" = %disk.wal_dir.display(),
            "discovery token is ignored since cluster already initialized; valid logs are found"
        );
    }
    info!(
        "cluster-id" = %found.cluster,
        "local-member-id" = %found.member,
        "commit-index" = replay.hard_state.commit,
        entries = replay.entries.len(),
        "snapshot-index" = mark.index,
        "applied-index" = applied,
        "restarting local member"
    );
    // None if it joined and stopped before its log told it who the others are: they introduce themselves when they send.
    let remotes = store.view().members();
    let mut raft = DurableState {
        start: LogStart { index: mark.index, term: mark.term },
        entries: replay.entries,
        hard_state: replay.hard_state,
        applied,
        conf_state: store.view().conf_state().unwrap_or_default(),
    };
    if let Some(checkpoint) = &opened {
        follow_state(checkpoint.term, &mut wal, &mut raft)?;
    }
    if config.force_new_cluster {
        force::leave_alone(found.member, &remotes, &mut wal, &mut raft)?;
    }
    Ok(Recovered { identity: found, wal, raft, store, remotes })
}

/// Where the state is ahead of the log it takes the log's place, as a received snapshot does. etcd applies what is committed
/// while its own log is still being written, so a power cut can leave its directory like this; what it applied is committed.
fn follow_state(term: u64, wal: &mut Wal, raft: &mut DurableState) -> Result<(), StartError> {
    let last = raft.entries.last().map_or(raft.start.index, |entry| entry.index);
    if raft.applied <= last {
        return Ok(());
    }
    warn!(
        "applied-index" = raft.applied,
        "last-index" = last,
        "the state is ahead of the write-ahead log, and replaces it"
    );
    raft.start = LogStart { index: raft.applied, term };
    raft.entries.clear();
    let before = raft.hard_state;
    let vote = if term > before.term { 0 } else { before.vote };
    raft.hard_state = HardState { term: term.max(before.term), vote, commit: raft.applied };
    let mark = walpb::Snapshot { index: raft.applied, term, conf_state: Some(raft.conf_state.clone()) };
    Ok(wal.install_snapshot(&mark, Some(&raft.hard_state))?)
}

/// The newest checkpoint, and the newest mark in the log that it covers.
fn open_checkpoint(disk: &Disk) -> Result<(Option<Checkpoint>, walpb::Snapshot), StartError> {
    let vfs = &*disk.vfs;
    let marks = Wal::snapshot_marks(vfs, &disk.wal_dir)?;
    let mut opened = checkpoint::open(vfs, &disk.data_dir)?;
    let index = opened.as_ref().map_or(0, |c| c.index);
    if let Some(newest) = marks.last()
        && install::recover_received(vfs, &disk.data_dir, newest.index, index)?
    {
        opened = checkpoint::open(vfs, &disk.data_dir)?;
    }
    checkpoint::remove_leftovers(vfs, &disk.data_dir)?;
    let index = opened.as_ref().map_or(0, |c| c.index);
    let mark = marks.into_iter().rfind(|mark| mark.index <= index).unwrap_or_default();
    Ok((opened, mark))
}

fn open_log(disk: &Disk, taken: TakenWal, mark: &walpb::Snapshot) -> Result<(Wal, Replay), StartError> {
    let (wal, replay) = taken.open(mark, disk.wal_options)?;
    if let Some(torn) = &replay.torn {
        warn!(path = %torn.path.display(), offset = torn.offset, bytes = torn.bytes, reason = torn.reason,
            "cut an interrupted write off the write-ahead log; nothing in it was promised to anyone");
    }
    Ok((wal, replay))
}
