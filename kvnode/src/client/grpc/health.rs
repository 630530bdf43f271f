//! `grpc.health.v1.Health`: the whole server serves, and there is no other service to ask about.

use futures::{Stream, StreamExt};
use tonic::Status;

use super::call::Call;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub status: i32,
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

/// Answers at once.
pub async fn check(_: Call, request: HealthCheckRequest) -> Result<HealthCheckResponse, Status> {
    if request.service.is_empty() {
        Ok(HealthCheckResponse { status: ServingStatus::Serving as i32 })
    } else {
        Err(Status::not_found("unknown service"))
    }
}

/// Answers at once and then at changes, of which there are none before the end.
pub async fn watch(
    _: Call,
    request: HealthCheckRequest,
) -> Result<impl Stream<Item = Result<HealthCheckResponse, Status>>, Status> {
    let known = request.service.is_empty();
    let status = if known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
    let first = futures::stream::iter([Ok(HealthCheckResponse { status: status as i32 })]);
    Ok(first.chain(futures::stream::pending()))
}
