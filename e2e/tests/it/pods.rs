use std::time::Duration;

use anyhow::Result;
use e2e::{cluster::Cluster, scenario::Scenario, writer::Writer};
use kube::api::DeleteParams;

/// Writes between two disturbances: enough to see that the cluster serves.
const WRITES: usize = 20;
const WRITES_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn data_survives_deletion_of_each_pod_in_turn_under_writes() {
    Scenario::run("pods_deleted", async |scenario| {
        let cluster = Cluster::applied(scenario, "core", 3).await?;
        let ids = member_ids(&cluster).await?;
        let mut writer = Writer::start(&cluster);
        for pod in cluster.pod_names() {
            writer.acknowledged_more(WRITES, WRITES_LIMIT).await?;
            cluster.replace_pod(&pod, &DeleteParams::default()).await?;
        }
        writer.acknowledged_more(WRITES, WRITES_LIMIT).await?;
        writer.stop().await?.verify(&cluster).await?;
        cluster.wait_ready(e2e::cluster::HEAL_LIMIT).await?;
        anyhow::ensure!(member_ids(&cluster).await? == ids, "the members kept their identities");
        Ok(())
    });
}

#[test]
fn a_single_member_keeps_every_acknowledged_write_when_killed() {
    Scenario::run("single_killed", async |scenario| {
        let cluster = Cluster::applied(scenario, "solo", 1).await?;
        let mut writer = Writer::start(&cluster);
        writer.acknowledged_more(WRITES, WRITES_LIMIT).await?;
        cluster.replace_pod("solo-0", &DeleteParams::default().grace_period(0)).await?;
        writer.acknowledged_more(WRITES, WRITES_LIMIT).await?;
        writer.stop().await?.verify(&cluster).await
    });
}

#[test]
fn a_drained_node_gives_its_member_back_with_its_data() {
    Scenario::run("drained", async |scenario| {
        let cluster = Cluster::applied(scenario, "core", 3).await?;
        let ids = member_ids(&cluster).await?;
        let mut writer = Writer::start(&cluster);
        writer.acknowledged_more(WRITES, WRITES_LIMIT).await?;
        let pod = cluster.pods.get("core-1").await?;
        let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
        let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s"];
        let drained =
            scenario.kubectl(&[&drain[..], &["--pod-selector=kvnode.io/cluster=core"]].concat()).await;
        let served = writer.acknowledged_more(WRITES, WRITES_LIMIT).await;
        scenario.kubectl(&["uncordon", &node]).await?;
        drained?;
        served?;
        cluster.wait_ready(e2e::cluster::HEAL_LIMIT).await?;
        writer.stop().await?.verify(&cluster).await?;
        anyhow::ensure!(member_ids(&cluster).await? == ids, "the member came back as another one");
        Ok(())
    });
}

async fn member_ids(cluster: &Cluster) -> Result<Vec<(String, Option<String>)>> {
    let members = cluster.get().await?.status.map(|status| status.members).unwrap_or_default();
    Ok(members.into_iter().map(|member| (member.name, member.id)).collect())
}
