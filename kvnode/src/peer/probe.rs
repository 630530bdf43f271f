//! Measures the way to a member, for metrics.

use std::{sync::Arc, time::Instant};

use http::Request;
use tokio::time;

use super::{Context, dial, limits, remote::Remote};

/// Measures until the member is gone.
pub(super) async fn run(context: Arc<Context>, remote: Arc<Remote>) {
    let id = remote.id.to_string();
    let seconds = context.api.metrics().network.peer_round_trip.with_label_values(&[id.as_str()]);
    loop {
        tokio::select! {
            () = remote.gone.cancelled() => return,
            () = time::sleep(limits::PROBE_INTERVAL) => {}
        }
        let Ok(request) = Request::get("/raft/probing").body(dial::full("")) else { return };
        let start = Instant::now();
        if context.dialer.call(&remote.url(), request, limits::READ_TIMEOUT).await.is_ok() {
            seconds.observe(start.elapsed().as_secs_f64());
        }
    }
}
