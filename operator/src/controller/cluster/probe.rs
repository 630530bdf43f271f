//! Asks the members of a cluster how they are: all at once, each with a short deadline.
//!
//! A member that does not answer is a reading like any other; nothing here fails. Members are reached by pod IP under
//! the name in their certificate, so a name service that lags delays nobody.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crds::names::{CLIENT_PORT, ClusterNames, METRICS_PORT};
use futures::future::{Either, join_all, select, select_ok};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kvnode_proto::etcdserverpb as pb;
use operator_plan::Reading;
use operator_plan::ids::{ClusterId, MemberId, Ordinal};
use operator_plan::observed::{Member, MemberList, NodeView, ReadAnswer, ServingMember};
use operator_plan::pki::{CA_CRT, TLS_CRT, TLS_KEY};

use crate::controller::context::Context;
use crate::etcd::{EtcdError, MemberClient, TlsMaterial};
use crate::limits;

/// What a member without identity answers on `/readyz`: it has no ticket, or one that is not for it.
const AWAITING_TICKET: [&str; 2] = ["waiting for a ticket", "refused the ticket"];

/// A pod to ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its ordinal.
    pub ordinal: Ordinal,
    /// Its address.
    pub ip: IpAddr,
    /// The name its certificate is for.
    pub host: String,
    /// Whether Kubernetes counts it as ready, so that it certainly is a member.
    pub ready: bool,
}

/// Everything the members said.
pub struct Answers {
    /// Each pod's own answer.
    pub nodes: BTreeMap<Ordinal, Reading<NodeView>>,
    /// The member list.
    pub members: Reading<MemberList>,
    /// A linearizable read.
    pub linearizable_read: Reading<ReadAnswer>,
}

/// The pods that can be asked: those with an address that have not ended.
pub fn targets<'a>(names: &ClusterNames, pods: impl Iterator<Item = &'a Pod>) -> Vec<Target> {
    pods.filter_map(|pod| {
        let ordinal = names.ordinal_of_pod(&pod.name_any())?;
        let status = pod.status.as_ref()?;
        let ip = status.pod_ip.as_deref()?.parse().ok()?;
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        (!ended).then(|| Target { ordinal: Ordinal(ordinal), ip, host: names.pod_host(ordinal), ready })
    })
    .collect()
}

/// The operator's certificates for the members.
pub fn tls_material(secret: &Secret) -> Option<TlsMaterial> {
    let data = secret.data.as_ref()?;
    let part = |key: &str| data.get(key).map(|bytes| bytes.0.clone());
    Some(TlsMaterial::new(part(CA_CRT)?, part(TLS_CRT)?, part(TLS_KEY)?))
}

/// A client of the member in a pod.
pub fn client(ctx: &Context, target: &Target, tls: &TlsMaterial) -> Result<MemberClient, EtcdError> {
    ctx.pool.member(&url("https", target.ip, CLIENT_PORT), Some(&tls.clone().for_host(&target.host)))
}

/// Asks everybody.
pub async fn ask(ctx: &Context, targets: &[Target], tls: Option<&TlsMaterial>) -> Answers {
    let Some(tls) = tls else {
        let why = || "the operator's own certificate does not exist yet".to_owned();
        let nodes = targets.iter().map(|t| (t.ordinal, Reading::Unreachable { error: why() })).collect();
        let unreachable = Reading::Unreachable { error: why() };
        return Answers {
            nodes,
            members: unreachable,
            linearizable_read: Reading::Unreachable { error: why() },
        };
    };
    // All at once: a cluster has few members, and one that hangs must not delay the others.
    let asked = join_all(targets.iter().map(|target| node(ctx, target, tls))).await;
    let nodes: BTreeMap<_, _> = targets.iter().map(|target| target.ordinal).zip(asked).collect();
    let voters = voters(ctx, targets, &nodes, tls);
    let (members, linearizable_read) = futures::join!(member_list(&voters), linearizable_read(&voters));
    Answers { nodes, members, linearizable_read }
}

/// Clients of the voters that answer, the leader first: it answers for the cluster without asking anybody.
pub fn voters(
    ctx: &Context,
    targets: &[Target],
    nodes: &BTreeMap<Ordinal, Reading<NodeView>>,
    tls: &TlsMaterial,
) -> Vec<MemberClient> {
    let mut found: Vec<(bool, MemberClient)> = targets
        .iter()
        .filter_map(|target| match nodes.get(&target.ordinal)?.fresh()? {
            NodeView::Serving(member) if !member.is_learner => {
                let follows = member.leader != Some(member.member_id);
                client(ctx, target, tls).ok().map(|client| (follows, client))
            }
            NodeView::Serving(_) | NodeView::AwaitingTicket => None,
        })
        .collect();
    found.sort_by_key(|(follows, _)| *follows);
    found.into_iter().map(|(_, client)| client).collect()
}

/// One pod's own answer. A pod that is not Ready is asked on its health port at the same time: one that waits for a
/// ticket has no API yet, and its silence there must not cost a deadline at every look.
async fn node(ctx: &Context, target: &Target, tls: &TlsMaterial) -> Reading<NodeView> {
    let status = Box::pin(status(ctx, target, tls));
    if target.ready {
        return status.await.unwrap_or_else(|error| Reading::Unreachable { error: error.to_string() });
    }
    let waits = Box::pin(awaits_ticket(ctx, target));
    match select(status, waits).await {
        Either::Left((Ok(reading), _)) => reading,
        Either::Right((true, _)) => Reading::Fresh(NodeView::AwaitingTicket),
        Either::Left((Err(error), waits)) => {
            if waits.await {
                return Reading::Fresh(NodeView::AwaitingTicket);
            }
            Reading::Unreachable { error: error.to_string() }
        }
        Either::Right((false, status)) => {
            status.await.unwrap_or_else(|error| Reading::Unreachable { error: error.to_string() })
        }
    }
}

async fn status(ctx: &Context, target: &Target, tls: &TlsMaterial) -> Result<Reading<NodeView>, EtcdError> {
    let answer = client(ctx, target, tls)?.status().await;
    if answer.as_ref().is_err_and(EtcdError::is_broken_connection) {
        ctx.pool.forget(&url("https", target.ip, CLIENT_PORT));
    }
    answer.map(|status| serving(&status))
}

fn serving(status: &pb::StatusResponse) -> Reading<NodeView> {
    let Some(header) = &status.header else {
        return Reading::Unreachable { error: "its status has no header".to_owned() };
    };
    Reading::Fresh(NodeView::Serving(ServingMember {
        member_id: MemberId(header.member_id),
        cluster_id: ClusterId(header.cluster_id),
        leader: (status.leader != 0).then_some(MemberId(status.leader)),
        raft_index: status.raft_index,
        raft_applied_index: status.raft_applied_index,
        is_learner: status.is_learner,
        version: status.version.clone(),
        errors: status.errors.clone(),
    }))
}

/// Only the member's own words count: a blank volume must never be guessed.
async fn awaits_ticket(ctx: &Context, target: &Target) -> bool {
    let url = format!("{}/readyz", url("http", target.ip, METRICS_PORT));
    let answer = async {
        let response = ctx.http.get(url).timeout(limits::PROBE_DEADLINE).send().await.ok()?;
        let unavailable = response.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE;
        let body = response.text().await.ok()?;
        Some(unavailable && AWAITING_TICKET.iter().any(|words| body.contains(words)))
    };
    answer.await.unwrap_or(false)
}

async fn member_list(voters: &[MemberClient]) -> Reading<MemberList> {
    first(voters, |client| async move { client.member_list().await })
        .await
        .map_reading(|answer| list_of(&answer))
}

async fn linearizable_read(voters: &[MemberClient]) -> Reading<ReadAnswer> {
    first(voters, |client| async move { client.linearizable_read().await }).await.map_reading(Some)
}

/// The leader's answer, or else the first of any other voter.
async fn first<T, F>(voters: &[MemberClient], call: impl Fn(MemberClient) -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, EtcdError>> + Send,
{
    let Some((leader, others)) = voters.split_first() else { return Err("no voter answers".to_owned()) };
    let error = match call(leader.clone()).await {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    if others.is_empty() {
        return Err(error.to_string());
    }
    let calls = others.iter().map(|client| Box::pin(call(client.clone())));
    select_ok(calls).await.map(|(answer, _)| answer).map_err(|error| error.to_string())
}

trait IntoReading<T> {
    fn map_reading<U>(self, read: impl FnOnce(T) -> Option<U>) -> Reading<U>;
}

impl<T> IntoReading<T> for Result<T, String> {
    fn map_reading<U>(self, read: impl FnOnce(T) -> Option<U>) -> Reading<U> {
        match self.map(read) {
            Ok(Some(value)) => Reading::Fresh(value),
            Ok(None) => Reading::Unreachable { error: "the answer has no header".to_owned() },
            Err(error) => Reading::Unreachable { error },
        }
    }
}

fn list_of(answer: &pb::MemberListResponse) -> Option<MemberList> {
    Some(member_list_from(answer.header.as_ref()?.cluster_id, &answer.members))
}

/// The plan's form of a member list.
pub fn member_list_from(cluster_id: u64, members: &[pb::Member]) -> MemberList {
    let members = members
        .iter()
        .map(|member| Member {
            id: MemberId(member.id),
            name: member.name.clone(),
            peer_urls: member.peer_ur_ls.clone(),
            is_learner: member.is_learner,
        })
        .collect();
    MemberList { cluster_id: ClusterId(cluster_id), members }
}

fn url(scheme: &str, ip: IpAddr, port: u16) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{scheme}://{ip}:{port}"),
        IpAddr::V6(ip) => format!("{scheme}://[{ip}]:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_pods_with_an_address_that_have_not_ended_are_asked() {
        let names = ClusterNames::new("db", "core");
        let pod = |name: &str, phase: &str, ip: Option<&str>| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"name": name}, "status": {"phase": phase, "podIP": ip}}),
            )
            .unwrap()
        };
        let pods = [
            pod("core-0", "Running", Some("10.0.0.1")),
            pod("core-1", "Pending", None),
            pod("core-2", "Failed", Some("10.0.0.3")),
            pod("core-backup-x", "Running", Some("10.0.0.4")),
            pod("core-10", "Running", Some("fd00::1")),
        ];
        let asked: Vec<_> =
            targets(&names, pods.iter()).iter().map(|t| (t.ordinal.0, t.ip.to_string())).collect();
        assert_eq!(asked, [(0, "10.0.0.1".to_owned()), (10, "fd00::1".to_owned())]);
        assert_eq!(url("https", "fd00::1".parse().unwrap(), 2379), "https://[fd00::1]:2379");
    }
}
