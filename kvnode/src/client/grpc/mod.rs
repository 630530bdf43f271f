//! The gRPC services: a request's path picks a method, what every call has in common happens in [`call`], and a module
//! per service turns the request into what [`crate::node::Node`] and the state machine understand.
//!
//! No module here decides what a request does to the data; texts and codes come from [`super::error`].

mod access;
mod auth;
mod call;
mod cluster;
pub mod codec;
mod convert;
mod durations;
mod election;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod quota;
mod range_stream;
mod recipe;
mod rpc;
mod snapshot;
mod stream;
mod watch;

use std::sync::Arc;

use http::{Request, Response};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

use super::dispatch::Remote;
use crate::{auth::Passwords, flags::Config, limits, metrics::Metrics, node::Node};
use call::ApiVersions;
use durations::Durations;
use rpc::{Methods, Rpc};

/// All services of one member.
pub struct Services {
    pub(crate) node: Node,
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Arc<Metrics>,
    /// Ends streams, which would never end by themselves.
    pub(crate) stop: CancellationToken,
    passwords: Passwords,
    methods: Methods,
    versions: ApiVersions,
    durations: Durations,
    leader_watch: stream::LeaderWatch,
    serving: health::Serving,
    /// Room for database snapshots that are sent.
    snapshots: Arc<Semaphore>,
}

impl Services {
    pub fn new(node: Node, config: Arc<Config>, metrics: Arc<Metrics>, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            passwords: Passwords::new(config.bcrypt_cost),
            methods: Methods::new(&metrics),
            versions: ApiVersions::default(),
            durations: Durations::new(&metrics),
            serving: health::Serving::default(),
            leader_watch: stream::LeaderWatch::new(node.clone(), config.election_timeout),
            snapshots: Arc::new(Semaphore::new(limits::SNAPSHOTS_AT_ONCE)),
            node,
            config,
            metrics,
            stop,
        })
    }

    /// Watches for the loss of the leader, for clients that want to know. Runs until the member stops.
    pub async fn watch_leader(self: Arc<Self>) {
        let stop = self.stop.clone();
        tokio::select! {
            () = self.leader_watch.run() => {}
            () = stop.cancelled() => {}
        }
    }

    /// Answers one call.
    pub async fn call(self: Arc<Self>, request: Request<Body>, remote: Arc<Remote>) -> Response<Body> {
        let Some(rpc) = self.methods.find(request.uri().path()) else {
            return unknown_method(request.uri().path());
        };
        let call = call::Incall { services: self, rpc, remote, request };
        match rpc {
            Rpc::Range => call.unary(kv::range).await,
            Rpc::RangeStream => call.server_stream(range_stream::range_stream).await,
            Rpc::Put => call.unary(kv::put).await,
            Rpc::DeleteRange => call.unary(kv::delete_range).await,
            Rpc::Txn => call.unary(kv::txn).await,
            Rpc::Compact => call.unary(kv::compact).await,
            Rpc::Watch => call.bidi_stream(watch::watch).await,
            Rpc::LeaseGrant => call.unary(lease::grant).await,
            Rpc::LeaseRevoke => call.unary(lease::revoke).await,
            Rpc::LeaseKeepAlive => call.bidi_stream(lease::keep_alive).await,
            Rpc::LeaseTimeToLive => call.unary(lease::time_to_live).await,
            Rpc::LeaseLeases => call.unary(lease::leases).await,
            Rpc::MemberAdd => call.unary(cluster::add).await,
            Rpc::MemberRemove => call.unary(cluster::remove).await,
            Rpc::MemberUpdate => call.unary(cluster::update).await,
            Rpc::MemberList => call.unary(cluster::list).await,
            Rpc::MemberPromote => call.unary(cluster::promote).await,
            Rpc::Alarm => call.unary(maintenance::alarm).await,
            Rpc::Status => call.unary(maintenance::status_of).await,
            Rpc::Defragment => call.unary(maintenance::defragment).await,
            Rpc::Hash => call.unary(maintenance::hash).await,
            Rpc::HashKv => call.unary(maintenance::hash_kv).await,
            Rpc::Snapshot => call.server_stream(snapshot::snapshot).await,
            Rpc::MoveLeader => call.unary(maintenance::move_leader).await,
            Rpc::AuthEnable => call.unary(auth::enable).await,
            Rpc::AuthDisable => call.unary(auth::disable).await,
            Rpc::AuthStatus => call.unary(auth::status_of).await,
            Rpc::Authenticate => call.unary(auth::authenticate).await,
            Rpc::UserAdd => call.unary(auth::user_add).await,
            Rpc::UserGet => call.unary(auth::user_get).await,
            Rpc::UserList => call.unary(auth::user_list).await,
            Rpc::UserDelete => call.unary(auth::user_delete).await,
            Rpc::UserChangePassword => call.unary(auth::user_change_password).await,
            Rpc::UserGrantRole => call.unary(auth::user_grant_role).await,
            Rpc::UserRevokeRole => call.unary(auth::user_revoke_role).await,
            Rpc::RoleAdd => call.unary(auth::role_add).await,
            Rpc::RoleGet => call.unary(auth::role_get).await,
            Rpc::RoleList => call.unary(auth::role_list).await,
            Rpc::RoleDelete => call.unary(auth::role_delete).await,
            Rpc::RoleGrantPermission => call.unary(auth::role_grant_permission).await,
            Rpc::RoleRevokePermission => call.unary(auth::role_revoke_permission).await,
            Rpc::Lock => call.unary(lock::lock).await,
            Rpc::Unlock => call.unary(lock::unlock).await,
            Rpc::Campaign => call.unary(election::campaign).await,
            Rpc::Proclaim => call.unary(election::proclaim).await,
            Rpc::Leader => call.unary(election::leader).await,
            Rpc::Observe => call.server_stream(election::observe).await,
            Rpc::Resign => call.unary(election::resign).await,
            Rpc::Downgrade => call.unary(maintenance::downgrade).await,
            Rpc::HealthCheck => call.unary(health::check).await,
            Rpc::HealthList => call.unary(health::list).await,
            Rpc::HealthWatch => call.server_stream(health::watch).await,
        }
    }
}

/// As grpc-go words it.
fn unknown_method(path: &str) -> Response<Body> {
    let text = match path.trim_start_matches('/').split_once('/') {
        Some((service, method)) if Rpc::ALL.iter().any(|rpc| rpc.service() == service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    };
    Status::unimplemented(text).into_http()
}
