use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use e2e::{
    cluster::{Cluster, READY_LIMIT},
    manifests,
    scenario::Scenario,
};

#[test]
fn three_members_are_ready_within_a_minute_on_three_nodes() {
    Scenario::run("ready", async |scenario| {
        e2e::operator::install(&scenario.context).await?;
        scenario.apply(&manifests::cluster("core", 3)).await?;
        let cluster = Cluster::named(scenario, "core", 3);
        cluster.wait_ready(READY_LIMIT).await?;

        let mut nodes = BTreeSet::new();
        for name in cluster.pod_names() {
            let pod = cluster.pods.get(&name).await?;
            nodes.insert(pod.spec.and_then(|spec| spec.node_name).context("a ready pod has a node")?);
        }
        ensure!(nodes.len() == 3, "the members run on {nodes:?}");

        let status = cluster.get().await?.status.context("a ready cluster has a status")?;
        ensure!(status.members.len() == 3, "status lists {:?}", status.members);
        ensure!(
            status.members.iter().all(|member| !member.learner),
            "no learner is left: {:?}",
            status.members
        );
        table_says_what_a_user_asks(scenario).await?;
        clients_without_a_certificate_are_refused(scenario, &cluster).await
    });
}

async fn table_says_what_a_user_asks(scenario: &Scenario) -> Result<()> {
    let table = scenario.kubectl(&["get", "etcdclusters"]).await?;
    let mut lines = table.lines();
    let head: Vec<&str> = lines.next().context("a table has a head")?.split_whitespace().collect();
    ensure!(head.first() == Some(&"NAME") && head.last() == Some(&"AGE"), "columns are {head:?}");
    for column in ["VERSION", "READY", "QUORUM", "STATUS"] {
        ensure!(head.contains(&column), "no column {column} in {head:?}");
    }
    let row = lines.next().context("a table has a row")?;
    ensure!(row.contains("3/3") && row.contains("True"), "the row says {row}");
    Ok(())
}

/// TLS 1.3 tells a client of a refused certificate only after the handshake, so the proof is that no answer comes.
async fn clients_without_a_certificate_are_refused(scenario: &Scenario, cluster: &Cluster) -> Result<()> {
    let anonymous = cluster.anonymous_tls().await?;
    let pod = cluster.pods.get("core-0").await?;
    let answer = async {
        let member = e2e::member::Member::connect(&cluster.pods, &pod, &anonymous).await?;
        member.maintenance().status(kvnode_proto::etcdserverpb::StatusRequest {}).await?;
        anyhow::Ok(())
    };
    ensure!(answer.await.is_err(), "a client without a certificate got an answer in {}", scenario.namespace);
    Ok(())
}
