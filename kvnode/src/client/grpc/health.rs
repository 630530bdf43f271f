//! `grpc.health.v1.Health`: whether the whole server serves; there is no other service to ask about.

use std::collections::HashMap;

use futures::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
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

/// `grpc.health.v1.HealthListRequest`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct HealthListRequest {}

/// `grpc.health.v1.HealthListResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HealthListResponse {
    #[prost(map = "string, message", tag = "1")]
    pub statuses: HashMap<String, HealthCheckResponse>,
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

/// What the service says, told to all who watch.
pub struct Serving(watch::Sender<ServingStatus>);

impl Default for Serving {
    fn default() -> Self {
        Self(watch::Sender::new(ServingStatus::Serving))
    }
}

impl Serving {
    /// Says that nothing is served for as long as the guard lives.
    pub fn pause(&self) -> Pause<'_> {
        self.0.send_replace(ServingStatus::NotServing);
        Pause(&self.0)
    }
}

/// See [`Serving::pause`].
pub struct Pause<'a>(&'a watch::Sender<ServingStatus>);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.send_replace(ServingStatus::Serving);
    }
}

/// Answers at once.
pub async fn check(call: Call, request: HealthCheckRequest) -> Result<HealthCheckResponse, Status> {
    if request.service.is_empty() {
        Ok(answer(*call.services.serving.0.borrow()))
    } else {
        Err(Status::not_found("unknown service"))
    }
}

/// Answers for all services, of which the whole server, without a name, is the only one.
pub async fn list(call: Call, _: HealthListRequest) -> Result<HealthListResponse, Status> {
    let whole = answer(*call.services.serving.0.borrow());
    Ok(HealthListResponse { statuses: HashMap::from([(String::new(), whole)]) })
}

/// Answers at once and then at changes.
pub async fn watch(
    call: Call,
    request: HealthCheckRequest,
) -> Result<impl Stream<Item = Result<HealthCheckResponse, Status>>, Status> {
    let statuses = if request.service.is_empty() {
        WatchStream::new(call.services.serving.0.subscribe()).left_stream()
    } else {
        futures::stream::iter([ServingStatus::ServiceUnknown]).right_stream()
    };
    let statuses = statuses.chain(futures::stream::pending());
    Ok(statuses.map(|status| Ok(answer(status))))
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_served_while_a_pause_lasts() {
        let serving = Serving::default();
        let mut changes = serving.0.subscribe();
        {
            let _pause = serving.pause();
            assert_eq!(*changes.borrow_and_update(), ServingStatus::NotServing);
        }
        assert!(changes.has_changed().unwrap() && *changes.borrow() == ServingStatus::Serving);
    }
}
