//! An `EtcdCluster` under test: what a user sees of it, and its members.

use std::time::Duration;

use anyhow::{Context, Result};
use crds::EtcdCluster;
use k8s_openapi::{
    api::core::v1::{Pod, Secret},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use kvnode_proto::etcdserverpb::StatusRequest;

use crate::{
    manifests,
    member::{ClientTls, Member},
    operator,
    scenario::Scenario,
    wait::{Seen, until},
};

/// The promise of the README: three members are Ready within a minute of being applied.
pub const READY_LIMIT: Duration = Duration::from_secs(60);

/// How long a disturbed cluster may take to be whole again.
pub const HEAL_LIMIT: Duration = Duration::from_secs(180);

/// A cluster in a scenario's namespace.
#[derive(Clone)]
pub struct Cluster {
    /// `metadata.name`.
    pub name: String,
    /// `spec.replicas`.
    pub replicas: u16,
    clusters: Api<EtcdCluster>,
    /// Pods of the scenario's namespace.
    pub pods: Api<Pod>,
    secrets: Api<Secret>,
}

impl Cluster {
    /// A cluster that was or will be applied under this name.
    pub fn named(scenario: &Scenario, name: &str, replicas: u16) -> Self {
        Self {
            name: name.to_owned(),
            replicas,
            clusters: scenario.api(),
            pods: scenario.api(),
            secrets: scenario.api(),
        }
    }

    /// Applies a cluster of this size, with everything else by default, and waits until it is ready.
    pub async fn applied(scenario: &Scenario, name: &str, replicas: u16) -> Result<Self> {
        operator::install(&scenario.context).await?;
        scenario.apply(&manifests::cluster(name, replicas)).await?;
        let cluster = Self::named(scenario, name, replicas);
        cluster.wait_ready(HEAL_LIMIT).await?;
        Ok(cluster)
    }

    /// The pods' names, by ordinal.
    pub fn pod_names(&self) -> Vec<String> {
        (0..self.replicas).map(|ordinal| format!("{}-{ordinal}", self.name)).collect()
    }

    /// The object as it is now.
    pub async fn get(&self) -> Result<EtcdCluster> {
        self.clusters.get(&self.name).await.with_context(|| format!("get EtcdCluster {}", self.name))
    }

    /// Waits for a condition to have a status for the current generation.
    pub async fn wait_condition(&self, kind: &str, status: &str, limit: Duration) -> Result<Condition> {
        until(&format!("EtcdCluster {} to have {kind}={status}", self.name), limit, async || {
            let object = self.get().await?;
            let generation = object.metadata.generation;
            let conditions = object.status.map(|status| status.conditions).unwrap_or_default();
            let found = conditions.iter().find(|condition| condition.type_ == kind);
            Ok(match found {
                Some(found) if found.status == status && found.observed_generation == generation => {
                    Seen::Done(found.clone())
                }
                Some(found) => Seen::NotYet(format!("{}: {}: {}", found.status, found.reason, found.message)),
                None => Seen::NotYet("no such condition".to_owned()),
            })
        })
        .await
    }

    /// Waits until the cluster is Ready, with all of its pods ready too.
    pub async fn wait_ready(&self, limit: Duration) -> Result<()> {
        self.wait_condition("Ready", "True", limit).await?;
        until(&format!("all pods of {} to be ready", self.name), limit, async || {
            for name in self.pod_names() {
                let pod = self.pods.get(&name).await?;
                if !is_ready(&pod) {
                    return Ok(Seen::NotYet(format!("{name} is not")));
                }
            }
            Ok(Seen::Done(()))
        })
        .await
    }

    /// Connects to the member in this pod.
    pub async fn member(&self, pod: &str) -> Result<Member> {
        let tls = self.client_tls().await?;
        let pod = self.pods.get(pod).await.with_context(|| format!("get Pod {pod}"))?;
        Member::connect(&self.pods, &pod, &tls).await
    }

    /// Connects to a member whose pod is ready, starting the search at another one each turn.
    pub async fn some_member(&self, turn: usize) -> Result<Member> {
        let labels = ListParams::default().labels(&format!("kvnode.io/cluster={}", self.name));
        let mut ready: Vec<Pod> = self.pods.list(&labels).await?.items.into_iter().filter(is_ready).collect();
        anyhow::ensure!(!ready.is_empty(), "no pod of {} is ready", self.name);
        let chosen = ready.swap_remove(turn % ready.len());
        Member::connect(&self.pods, &chosen, &self.client_tls().await?).await
    }

    /// The pod of the member that leads, as the members themselves say.
    pub async fn leader_pod(&self) -> Result<String> {
        for name in self.pod_names() {
            let Ok(member) = self.member(&name).await else { continue };
            let Ok(status) = member.maintenance().status(StatusRequest {}).await else { continue };
            let status = status.into_inner();
            let header = status.header.context("a status has a header")?;
            if status.leader == header.member_id {
                return Ok(name);
            }
        }
        anyhow::bail!("no member of {} says it leads", self.name)
    }

    /// The UID of a pod, which changes when the pod is replaced.
    pub async fn pod_uid(&self, name: &str) -> Result<String> {
        self.pods.get(name).await?.uid().context("a pod has a UID")
    }

    /// Deletes a pod and waits for its successor to be ready.
    pub async fn replace_pod(&self, name: &str, params: &DeleteParams) -> Result<()> {
        let before = self.pod_uid(name).await?;
        self.pods.delete(name, params).await.with_context(|| format!("delete Pod {name}"))?;
        until(&format!("a successor of {name} to be ready"), HEAL_LIMIT, async || {
            let pod = self.pods.get(name).await?;
            Ok(match is_ready(&pod) && pod.uid().as_ref() != Some(&before) {
                true => Seen::Done(()),
                false => Seen::NotYet("not yet replaced and ready".to_owned()),
            })
        })
        .await
    }

    /// The certificate of the authority that clients trust, as PEM.
    pub async fn client_ca(&self) -> Result<String> {
        let secret = self.secrets.get(&self.client_secret()).await?;
        let ca =
            secret.data.and_then(|mut data| data.remove("ca.crt")).context("the client Secret has ca.crt")?;
        Ok(String::from_utf8_lossy(&ca.0).into_owned())
    }

    /// TLS that trusts the cluster but shows no certificate of its own.
    pub async fn anonymous_tls(&self) -> Result<ClientTls> {
        ClientTls::anonymous(&self.client_ca().await?)
    }

    fn client_secret(&self) -> String {
        format!("{}-client-tls", self.name)
    }

    async fn client_tls(&self) -> Result<ClientTls> {
        ClientTls::from_secret(&self.secrets, &self.client_secret()).await
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}
