use std::time::Duration;

use anyhow::ensure;
use e2e::{
    cluster::Cluster,
    scenario::Scenario,
    wait::{Seen, until},
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Api, api::ListParams};

#[test]
fn deletion_keeps_volumes_by_default() {
    Scenario::run("deletion", async |scenario| {
        Cluster::applied(scenario, "core", 1).await?;
        scenario.kubectl(&["delete", "etcdcluster", "core", "--timeout=60s"]).await?;
        let pods: Api<k8s_openapi::api::core::v1::Pod> = scenario.api();
        until("the pods to go", Duration::from_secs(90), async || {
            let left = pods.list(&ListParams::default().labels("kvnode.io/cluster=core")).await?.items.len();
            Ok(if left == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left} pods are left")) })
        })
        .await?;
        let claims: Api<PersistentVolumeClaim> = scenario.api();
        let claim = claims.get("data-core-0").await?;
        ensure!(claim.metadata.deletion_timestamp.is_none(), "the volume claim is being deleted");
        Ok(())
    });
}
