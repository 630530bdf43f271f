use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::EtcdBackupSchedule;
use e2e::{
    cluster::{Cluster, HEAL_LIMIT},
    manifests,
    scenario::Scenario,
    wait::{Seen, until},
};
use kube::Api;

use crate::backup::schedule;

/// A condition that needs no pod to start shows within this time.
const CONDITION_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn what_can_never_work_is_refused_at_admission() {
    Scenario::run("admission", async |scenario| {
        e2e::operator::install(&scenario.context).await?;
        for (replicas, way_out) in [(0, "1, 3, 5"), (2, "1, 3, 5"), (4, "1, 3, 5"), (9, "equal to 7")] {
            let refusal = scenario.refused(&manifests::cluster("even", replicas)).await?;
            ensure!(refusal.contains(way_out), "{replicas} replicas were refused with: {refusal}");
        }
        let refusal = scenario.refused(&schedule("never", "every now and then", "UTC")).await?;
        ensure!(refusal.contains("schedule"), "the cron line was refused with: {refusal}");

        let sized = |size: &str| {
            let storage = ["storage:".to_owned(), format!("  size: {size}")];
            manifests::with_spec(&manifests::cluster("sized", 1), &storage.each_ref().map(String::as_str))
        };
        scenario.apply(&sized("2Gi")).await?;
        let refusal = scenario.refused(&sized("1Gi")).await?;
        ensure!(
            refusal.contains("shrink") || refusal.contains("smaller"),
            "shrinking was refused with: {refusal}"
        );

        let class = ["storage:", "  size: 2Gi", "  storageClassName: other"];
        let refusal =
            scenario.refused(&manifests::with_spec(&manifests::cluster("sized", 1), &class)).await?;
        ensure!(refusal.contains("storageClassName"), "the storage class was refused with: {refusal}");
        Ok(())
    });
}

#[test]
fn an_unknown_time_zone_is_a_condition_that_heals() {
    Scenario::run("time_zone", async |scenario| {
        Cluster::applied(scenario, "core", 1).await?;
        scenario.apply(&e2e::store::credentials(e2e::store::CREDENTIALS, "access", "secret")).await?;
        scenario.apply(&schedule("nowhere", "0 3 * * *", "Mars/Olympus")).await?;
        let message = wait_schedule(scenario, "nowhere", "False").await?;
        ensure!(message.contains("Mars/Olympus"), "the condition says: {message}");
        scenario.apply(&schedule("nowhere", "0 3 * * *", "Europe/Berlin")).await?;
        wait_schedule(scenario, "nowhere", "True").await?;
        Ok(())
    });
}

#[test]
fn a_missing_storage_class_is_a_condition_that_heals() {
    Scenario::run("storage_class", async |scenario| {
        e2e::operator::install(&scenario.context).await?;
        let spec = ["storage:", "  storageClassName: e2e-later"];
        scenario.apply(&manifests::with_spec(&manifests::cluster("core", 1), &spec)).await?;
        let cluster = Cluster::named(scenario, "core", 1);
        let condition = cluster.wait_condition("Degraded", "True", CONDITION_LIMIT).await?;
        ensure!(condition.message.contains("e2e-later"), "the condition says: {}", condition.message);
        let healed = heal_storage_class(scenario, &cluster).await;
        scenario.kubectl(&["delete", "storageclass", "e2e-later", "--ignore-not-found"]).await?;
        healed
    });
}

async fn heal_storage_class(scenario: &Scenario, cluster: &Cluster) -> Result<()> {
    let query = "jsonpath={.items[?(@.metadata.annotations.storageclass\\.kubernetes\\.io/is-default-class==\"true\")].provisioner}";
    let provisioner = scenario.kubectl(&["get", "storageclass", "-o", query]).await?;
    scenario
        .apply(&format!(
            "apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: e2e-later
provisioner: {provisioner}
volumeBindingMode: WaitForFirstConsumer
"
        ))
        .await?;
    cluster.wait_ready(HEAL_LIMIT).await
}

#[test]
fn an_image_that_cannot_be_pulled_is_a_condition_that_heals() {
    Scenario::run("image", async |scenario| {
        e2e::operator::install(&scenario.context).await?;
        let spec = ["image: registry.invalid/kvnode:none"];
        scenario.apply(&manifests::with_spec(&manifests::cluster("core", 1), &spec)).await?;
        let cluster = Cluster::named(scenario, "core", 1);
        let condition = cluster.wait_condition("Degraded", "True", CONDITION_LIMIT).await?;
        ensure!(condition.message.contains("registry.invalid/kvnode:none"), "it says: {}", condition.message);
        scenario
            .kubectl(&[
                "patch",
                "etcdcluster",
                "core",
                "--type=json",
                "-p",
                r#"[{"op":"remove","path":"/spec/image"}]"#,
            ])
            .await?;
        cluster.wait_ready(HEAL_LIMIT).await
    });
}

async fn wait_schedule(scenario: &Scenario, name: &str, status: &str) -> Result<String> {
    let schedules: Api<EtcdBackupSchedule> = scenario.api();
    until(&format!("EtcdBackupSchedule {name} to have Ready={status}"), CONDITION_LIMIT, async || {
        let object = schedules.get(name).await?;
        let conditions = object.status.context("no status yet")?.conditions;
        let found = conditions
            .iter()
            .find(|condition| condition.type_ == "Ready")
            .context("no condition Ready yet")?;
        Ok(match found.status == status {
            true => Seen::Done(found.message.clone()),
            false => Seen::NotYet(format!("{}: {}", found.status, found.message)),
        })
    })
    .await
}
