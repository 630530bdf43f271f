use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::EtcdBackup;
use e2e::{
    cluster::{Cluster, HEAL_LIMIT},
    manifests,
    scenario::Scenario,
    store,
    wait::{Seen, until},
    writer::{Writer, Written},
};
use kube::Api;

/// A backup of a small cluster is a matter of seconds; most of this is starting pods.
const BACKUP_LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_backup_restores_into_a_new_cluster_with_the_same_keys() {
    Scenario::run("backup", async |scenario| {
        let cluster = Cluster::applied(scenario, "core", 1).await?;
        store::start(scenario).await?;
        let written = some_writes(&cluster).await?;

        scenario.apply(&backup("core-now", "core", store::CREDENTIALS)).await?;
        let done = wait_backup(scenario, "core-now", "True").await?;
        let status = done.status.context("a finished backup has a status")?;
        ensure!(status.revision.is_some_and(|revision| revision > 1), "revision is {:?}", status.revision);
        ensure!(status.total_keys.is_some_and(|keys| keys > 0), "total keys are {:?}", status.total_keys);
        ensure!(status.hash.is_some() && status.sha256.is_some(), "hashes are recorded");

        let source = ["bootstrap:", "  fromBackup:", "    backupRef:", "      name: core-now"];
        scenario.apply(&manifests::with_spec(&manifests::cluster("again", 3), &source)).await?;
        let again = Cluster::named(scenario, "again", 3);
        again.wait_ready(HEAL_LIMIT).await?;
        written.verify(&again).await
    });
}

#[test]
fn a_schedule_takes_backups_by_itself() {
    Scenario::run("schedule", async |scenario| {
        let cluster = Cluster::applied(scenario, "core", 1).await?;
        store::start(scenario).await?;
        some_writes(&cluster).await?;
        scenario.apply(&schedule("every-minute", "* * * * *", "Europe/Berlin")).await?;
        let backups: Api<EtcdBackup> = scenario.api();
        until("a scheduled backup to succeed", Duration::from_secs(180), async || {
            let list = backups.list(&Default::default()).await?;
            let ready = list
                .items
                .iter()
                .any(|backup| condition(backup, "Ready").is_some_and(|found| found.0 == "True"));
            Ok(if ready {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{} backups, none ready", list.items.len()))
            })
        })
        .await?;
        cluster.wait_condition("BackupHealthy", "True", BACKUP_LIMIT).await?;
        Ok(())
    });
}

#[test]
fn a_backup_with_wrong_credentials_says_so_and_one_with_the_right_ones_works() {
    Scenario::run("credentials", async |scenario| {
        Cluster::applied(scenario, "core", 1).await?;
        store::start(scenario).await?;
        scenario.apply(&store::credentials("wrong", "nobody", "nothing")).await?;
        scenario.apply(&backup("refused", "core", "wrong")).await?;
        let failed = wait_backup(scenario, "refused", "False").await?;
        let (_, message) = condition(&failed, "Ready").context("the backup has a Ready condition")?;
        ensure!(message.contains("credential") || message.contains("wrong"), "the condition says: {message}");
        // The cause is fixed in place, and the same object heals by itself.
        let right = store::credentials("wrong", "test-access", "test-secret");
        scenario.apply(&right).await?;
        wait_backup(scenario, "refused", "True").await?;
        Ok(())
    });
}

async fn some_writes(cluster: &Cluster) -> Result<Written> {
    let mut writer = Writer::start(cluster);
    writer.acknowledged_more(50, Duration::from_secs(60)).await?;
    writer.stop().await
}

fn backup(name: &str, cluster: &str, credentials: &str) -> String {
    format!(
        "apiVersion: kvnode.io/v1alpha1
kind: EtcdBackup
metadata:
  name: {name}
spec:
  clusterRef:
    name: {cluster}
  store:
{}",
        store::reference(4, credentials)
    )
}

pub(crate) fn schedule(name: &str, cron: &str, zone: &str) -> String {
    format!(
        "apiVersion: kvnode.io/v1alpha1
kind: EtcdBackupSchedule
metadata:
  name: {name}
spec:
  clusterRef:
    name: core
  schedule: '{cron}'
  timeZone: {zone}
  store:
{}",
        store::reference(4, store::CREDENTIALS)
    )
}

fn condition<'a>(backup: &'a EtcdBackup, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = &backup.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((&found.status, &found.message))
}

async fn wait_backup(scenario: &Scenario, name: &str, status: &str) -> Result<EtcdBackup> {
    let backups: Api<EtcdBackup> = scenario.api();
    until(&format!("EtcdBackup {name} to have Ready={status}"), BACKUP_LIMIT, async || {
        let backup = backups.get(name).await?;
        let degraded = condition(&backup, "Degraded").is_some_and(|found| found.0 == "True");
        let seen =
            condition(&backup, "Ready").map(|(status, message)| (status.to_owned(), message.to_owned()));
        Ok(match seen {
            Some((found, _)) if found == status && (status == "True" || degraded) => Seen::Done(backup),
            Some((found, message)) => Seen::NotYet(format!("{found}: {message}")),
            None => Seen::NotYet("no such condition".to_owned()),
        })
    })
    .await
}
