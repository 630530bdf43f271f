use std::time::Duration;

use e2e::{cluster::Cluster, scenario::Scenario, writer::Writer};
use kube::api::DeleteParams;

#[test]
fn a_killed_leader_loses_no_acknowledged_write() {
    Scenario::run("leader_killed", async |scenario| {
        let cluster = Cluster::applied(scenario, "core", 3).await?;
        let mut writer = Writer::start(&cluster);
        for _ in 0..3 {
            writer.acknowledged_more(30, Duration::from_secs(60)).await?;
            let leader = cluster.leader_pod().await?;
            cluster.replace_pod(&leader, &DeleteParams::default().grace_period(0)).await?;
        }
        writer.acknowledged_more(30, Duration::from_secs(60)).await?;
        let written = writer.stop().await?;
        eprintln!(
            "{} writes acknowledged, {} attempts failed, longest gap {:?}",
            written.acknowledged.len(),
            written.failed_attempts,
            written.longest_gap
        );
        written.verify(&cluster).await
    });
}
