use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::{cluster::Cluster, manifests, operator, scenario::Scenario, writer::Writer};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};

#[test]
fn helm_install_runs_the_operator_unprivileged() {
    Scenario::run("helm_install", async |scenario| {
        operator::install(&scenario.context).await?;
        let pods: Api<Pod> = Api::namespaced(scenario.client.clone(), operator::NAMESPACE);
        let list = pods.list(&ListParams::default().labels("app.kubernetes.io/name=kvnode-operator")).await?;
        ensure!(!list.items.is_empty(), "the operator's pods carry the name label");
        for pod in list {
            let spec = pod.spec.context("a pod has a spec")?;
            let container = spec.containers.first().context("a pod has a container")?;
            let security =
                container.security_context.clone().context("the container has a security context")?;
            ensure!(security.read_only_root_filesystem == Some(true), "the root filesystem is read-only");
            ensure!(security.allow_privilege_escalation == Some(false), "privileges cannot be escalated");
            let pod_security = spec.security_context.context("the pod has a security context")?;
            let non_root = security.run_as_non_root.or(pod_security.run_as_non_root);
            ensure!(non_root == Some(true), "it does not run as root");
        }
        Ok(())
    });
}

#[test]
fn uninstall_leaves_clusters_serving_and_a_new_install_takes_them_over() {
    Scenario::run("uninstall", async |scenario| {
        let cluster = Cluster::applied(scenario, "lasting", 1).await?;
        let mut writer = Writer::start(&cluster);
        writer.acknowledged_more(20, Duration::from_secs(30)).await?;

        operator::uninstall(&scenario.context).await?;
        writer
            .acknowledged_more(20, Duration::from_secs(30))
            .await
            .context("writes go on without an operator")?;
        cluster.get().await.context("the EtcdCluster is still there")?;

        operator::install_again(&scenario.context).await?;
        // A change only an operator can carry out shows that the new one looks after the old cluster.
        scenario.apply(&manifests::cluster("lasting", 3)).await?;
        let grown = Cluster::named(scenario, "lasting", 3);
        grown.wait_ready(e2e::cluster::HEAL_LIMIT).await?;
        writer.stop().await?.verify(&grown).await
    });
}
