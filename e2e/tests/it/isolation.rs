use std::time::Duration;

use anyhow::ensure;
use e2e::{cluster::Cluster, scenario::Scenario, writer::Writer};
use kube::api::DeleteParams;

#[test]
fn two_clusters_do_not_disturb_each_other() {
    Scenario::run("isolation", async |scenario| {
        let left = Cluster::applied(scenario, "left", 1).await?;
        let right = Cluster::applied(scenario, "right", 1).await?;
        let mut left_writer = Writer::start(&left);
        let mut right_writer = Writer::start(&right);
        left_writer.acknowledged_more(20, Duration::from_secs(30)).await?;
        right_writer.acknowledged_more(20, Duration::from_secs(30)).await?;

        // One goes through the worst a pod can, then is deleted altogether; the other must not notice.
        left.replace_pod("left-0", &DeleteParams::default().grace_period(0)).await?;
        let left_written = left_writer.stop().await?;
        left_written.verify(&left).await?;
        scenario.kubectl(&["delete", "etcdcluster", "left", "--timeout=60s"]).await?;
        right_writer.acknowledged_more(20, Duration::from_secs(30)).await?;

        let right_written = right_writer.stop().await?;
        ensure!(right_written.failed_attempts == 0, "{} writes failed", right_written.failed_attempts);
        right_written.verify(&right).await?;
        let ids = (left.client_ca().await, right.client_ca().await?);
        ensure!(ids.0.ok().as_ref() != Some(&ids.1), "the clusters share a certificate authority");
        Ok(())
    });
}
