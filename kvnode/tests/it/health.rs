//! Health, readiness, version and metrics over HTTP.

use std::collections::HashMap;

use tonic::{Request, client::Grpc};
use tonic_prost::ProstCodec;

use crate::support::{Member, Options, block_on};

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Health {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `grpc.health.v1.HealthListResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Healths {
    #[prost(map = "string, message", tag = "1")]
    statuses: HashMap<String, Health>,
}

#[test]
fn the_health_service_lists_the_whole_server_as_serving() {
    let member = Member::start();
    block_on(async {
        let mut grpc = Grpc::new(member.channel());
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<(), Healths>::default();
        let path = "/grpc.health.v1.Health/List".parse().unwrap();
        let answer = grpc.unary(Request::new(()), path, codec).await.unwrap().into_inner();
        assert_eq!(answer.statuses, HashMap::from([(String::new(), Health { status: 1 })]));
    });
}

#[test]
fn a_serving_member_is_healthy_on_both_ports() {
    let member = Member::start();
    for get in [Member::get, Member::get_metrics_port] {
        assert_eq!(get(&member, "/health"), (200, "{\"health\":\"true\",\"reason\":\"\"}".to_owned()));
        assert_eq!(get(&member, "/health?serializable=true").0, 200);
        assert_eq!(get(&member, "/livez"), (200, "ok\n".to_owned()));
        assert_eq!(get(&member, "/readyz"), (200, "ok\n".to_owned()));
        let (status, body) = get(&member, "/readyz?verbose");
        assert_eq!(status, 200);
        for check in ["data_corruption", "serializable_read", "linearizable_read", "non_learner"] {
            assert!(body.contains(&format!("[+]{check} ok\n")), "{body}");
            assert_eq!(get(&member, &format!("/readyz/{check}")), (200, "ok\n".to_owned()));
        }
        assert!(get(&member, "/metrics").1.contains("\netcd_server_has_leader 1\n"));
        let version: serde_json::Value = serde_json::from_str(&get(&member, "/version").1).unwrap();
        assert_eq!(version["etcdserver"], "3.7.3");
        assert_eq!(version["etcdcluster"], "3.7.0");
        assert_eq!(version["storage"], "3.7.0");
        assert_eq!(get(&member, "/nowhere").0, 404);
    }
}

#[test]
fn a_member_without_a_ticket_is_alive_and_says_what_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let ticket = dir.path().join("ticket");
    let member = Member::launch(Options::with(&[
        &format!("--ticket-file={}", ticket.display()),
        "--ticket-holder=pod-1",
        "--initial-cluster-token=uid-1",
    ]));
    assert_eq!(member.get_metrics_port("/livez"), (200, "ok\n".to_owned()));
    let (status, body) = loop {
        let (status, body) = member.get_metrics_port("/readyz");
        if body.contains("ticket") {
            break (status, body);
        }
    };
    assert_eq!(status, 503);
    assert!(body.contains(ticket.to_str().unwrap()), "{body}");
    assert!(!member.data_dir().join("member").exists(), "nothing is written without a ticket");
}
