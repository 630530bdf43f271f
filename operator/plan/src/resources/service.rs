//! The two Services: one that names the members, one that clients use.

use crds::names::{CLIENT_PORT, METRICS_PORT, PEER_PORT};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Component, member_selector, metadata};
use crate::validate::ValidatedCluster;

/// Headless Service that gives each member its DNS name. It publishes members that are not ready: they have
/// to find each other to become ready.
pub fn peer_service(cluster: &ValidatedCluster) -> Service {
    Service {
        metadata: metadata(cluster, cluster.names.peer_service(), Component::Member),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(member_selector(&cluster.names)),
            ports: Some(vec![
                port("client", CLIENT_PORT),
                port("peer", PEER_PORT),
                port("metrics", METRICS_PORT),
            ]),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Service that clients use: ready members only.
pub fn client_service(cluster: &ValidatedCluster) -> Service {
    Service {
        metadata: metadata(cluster, cluster.names.client_service(), Component::Member),
        spec: Some(ServiceSpec {
            selector: Some(member_selector(&cluster.names)),
            ports: Some(vec![port("client", CLIENT_PORT)]),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(i32::from(number))),
        ..ServicePort::default()
    }
}
