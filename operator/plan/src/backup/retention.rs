//! Which backups of a schedule may go. The newest successful one never does, nor one that a cluster is to begin from.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crds::backup::BackupPhase;
use crds::schedule::EtcdBackupScheduleSpec;
use crds::{EtcdBackup, EtcdCluster};

use super::ExpiredBackup;
use super::schedule::scheduled_for;

/// Successful backups beyond `retention.keepLast` and failed ones beyond `failedHistoryLimit`, the oldest first.
/// What is under way, being deleted already or still needed for a restore is left alone.
pub(super) fn expired<'a>(
    spec: &EtcdBackupScheduleSpec,
    backups: impl Iterator<Item = &'a EtcdBackup>,
    clusters: &[EtcdCluster],
) -> Vec<ExpiredBackup> {
    let backups: Vec<_> = backups.collect();
    // Admission demands at least one; a definition of another version may not. Of the failed ones the newest tells
    // how the schedule does.
    let keep = usize::try_from(spec.retention.keep_last).unwrap_or(1).max(1);
    let keep_failed = usize::try_from(spec.failed_history_limit).unwrap_or(1).max(1);
    let mut list = beyond(&backups, BackupPhase::Succeeded, keep);
    list.extend(beyond(&backups, BackupPhase::Failed, keep_failed));
    let needed = needed(clusters);
    list.retain(|expired| !needed.contains(expired.name.as_str()));
    list
}

/// Names of the backups that clusters begin from and have not yet begun.
fn needed(clusters: &[EtcdCluster]) -> BTreeSet<&str> {
    // A cluster has an ID in its status once it is formed. One that lost its status only keeps a backup for longer.
    let formed = |cluster: &EtcdCluster| cluster.status.as_ref().is_some_and(|s| s.cluster_id.is_some());
    clusters
        .iter()
        .filter(|cluster| !formed(cluster))
        .filter_map(|cluster| cluster.spec.bootstrap.as_ref()?.from_backup.backup_ref.as_ref())
        .map(|reference| reference.name.as_str())
        .collect()
}

fn beyond(backups: &[&EtcdBackup], phase: BackupPhase, keep: usize) -> Vec<ExpiredBackup> {
    let mut of_phase: Vec<&EtcdBackup> = backups
        .iter()
        .copied()
        .filter(|b| b.status.as_ref().and_then(|s| s.phase) == Some(phase))
        .filter(|b| b.metadata.deletion_timestamp.is_none())
        .collect();
    of_phase.sort_by_key(|b| Reverse((scheduled_for(b), b.metadata.name.clone())));
    let mut list: Vec<ExpiredBackup> = of_phase
        .into_iter()
        .skip(keep)
        .map(|b| ExpiredBackup {
            name: b.metadata.name.clone().unwrap_or_default(),
            uid: b.metadata.uid.clone().unwrap_or_default(),
        })
        .collect();
    list.reverse();
    list
}
