//! Promises about health while a member is not serving yet; those about a serving one are kept by `tests/it`.

use http_body_util::BodyExt;

use super::*;
use crate::{flags::config::MetricsLevel, node::Boot};

async fn get(method: Method, target: &str) -> (StatusCode, String) {
    let health = Arc::new(Health::new(Arc::new(Boot::default())));
    let endpoints = Endpoints::new(health, Metrics::new(MetricsLevel::Basic), &Config::default());
    let request = http::Request::builder().method(method).uri(target).body(()).unwrap();
    let response = endpoints.call(&request.into_parts().0).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_member_that_waits_is_alive_but_not_ready() {
    assert_eq!(get(Method::GET, "/livez").await, (StatusCode::OK, "ok\n".into()));
    let (status, body) = get(Method::GET, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("[-]linearizable_read failed: the member is starting\n"), "{body}");
    let (status, body) = get(Method::GET, "/health").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "{\"health\":\"false\",\"reason\":\"the member is starting\"}\n");
    let (status, body) = get(Method::GET, "/metrics").await;
    assert!(status == StatusCode::OK && body.contains("\netcd_server_has_leader 0\n"), "{body}");
}

#[tokio::test]
async fn checks_can_be_asked_for_one_by_one_and_left_out() {
    let (status, body) = get(Method::GET, "/livez?verbose").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "[+]serializable_read ok\nok\n"));
    assert_eq!(get(Method::GET, "/livez/serializable_read").await.0, StatusCode::OK);
    assert_eq!(get(Method::GET, "/readyz/non_learner").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(Method::GET, "/readyz/nonsense").await.0, StatusCode::NOT_FOUND);
    let all = "data_corruption&exclude=serializable_read&exclude=linearizable_read&exclude=non_learner";
    assert_eq!(get(Method::GET, &format!("/readyz?exclude={all}")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn only_known_paths_and_get_are_answered() {
    assert_eq!(get(Method::POST, "/health").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(get(Method::HEAD, "/health").await, (StatusCode::METHOD_NOT_ALLOWED, String::new()));
    assert_eq!(get(Method::GET, "/nowhere").await.0, StatusCode::NOT_FOUND);
    let (_, body) = get(Method::GET, "/version").await;
    let versions: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&versions["etcdserver"], &versions["etcdcluster"]),
        (&ETCD_VERSION.into(), &"not_decided".into())
    );
}

#[tokio::test]
async fn metrics_are_told_to_every_method() {
    assert_eq!(get(Method::HEAD, "/metrics").await, (StatusCode::OK, String::new()));
    let (status, body) = get(Method::POST, "/metrics").await;
    assert!(status == StatusCode::OK && body.contains("\netcd_server_has_leader 0\n"), "{body}");
}
