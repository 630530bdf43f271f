//! The methods that are served, by their paths.

use std::collections::HashMap;

use crate::metrics::{
    Metrics,
    families::{Grpc, Method},
};

/// How many messages go each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Unary,
    ServerStream,
    BidiStream,
}

impl Shape {
    /// As Go's gRPC metrics call it.
    fn label(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

macro_rules! rpcs {
    ($($rpc:ident = $shape:ident $service:literal $method:literal;)*) => {
        /// A method of a service.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rpc { $($rpc),* }

        impl Rpc {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$rpc),*];

            /// Its service's name.
            pub fn service(self) -> &'static str {
                match self { $(Self::$rpc => $service),* }
            }

            /// Its name within the service.
            pub fn name(self) -> &'static str {
                match self { $(Self::$rpc => $method),* }
            }

            pub fn shape(self) -> Shape {
                match self { $(Self::$rpc => Shape::$shape),* }
            }

            fn path(self) -> &'static str {
                match self { $(Self::$rpc => concat!("/", $service, "/", $method)),* }
            }
        }
    };
}

rpcs! {
    Range = Unary "etcdserverpb.KV" "Range";
    RangeStream = ServerStream "etcdserverpb.KV" "RangeStream";
    Put = Unary "etcdserverpb.KV" "Put";
    DeleteRange = Unary "etcdserverpb.KV" "DeleteRange";
    Txn = Unary "etcdserverpb.KV" "Txn";
    Compact = Unary "etcdserverpb.KV" "Compact";
    Watch = BidiStream "etcdserverpb.Watch" "Watch";
    LeaseGrant = Unary "etcdserverpb.Lease" "LeaseGrant";
    LeaseRevoke = Unary "etcdserverpb.Lease" "LeaseRevoke";
    LeaseKeepAlive = BidiStream "etcdserverpb.Lease" "LeaseKeepAlive";
    LeaseTimeToLive = Unary "etcdserverpb.Lease" "LeaseTimeToLive";
    LeaseLeases = Unary "etcdserverpb.Lease" "LeaseLeases";
    MemberAdd = Unary "etcdserverpb.Cluster" "MemberAdd";
    MemberRemove = Unary "etcdserverpb.Cluster" "MemberRemove";
    MemberUpdate = Unary "etcdserverpb.Cluster" "MemberUpdate";
    MemberList = Unary "etcdserverpb.Cluster" "MemberList";
    MemberPromote = Unary "etcdserverpb.Cluster" "MemberPromote";
    Alarm = Unary "etcdserverpb.Maintenance" "Alarm";
    Status = Unary "etcdserverpb.Maintenance" "Status";
    Defragment = Unary "etcdserverpb.Maintenance" "Defragment";
    Hash = Unary "etcdserverpb.Maintenance" "Hash";
    HashKv = Unary "etcdserverpb.Maintenance" "HashKV";
    Snapshot = ServerStream "etcdserverpb.Maintenance" "Snapshot";
    MoveLeader = Unary "etcdserverpb.Maintenance" "MoveLeader";
    AuthEnable = Unary "etcdserverpb.Auth" "AuthEnable";
    AuthDisable = Unary "etcdserverpb.Auth" "AuthDisable";
    AuthStatus = Unary "etcdserverpb.Auth" "AuthStatus";
    Authenticate = Unary "etcdserverpb.Auth" "Authenticate";
    UserAdd = Unary "etcdserverpb.Auth" "UserAdd";
    UserGet = Unary "etcdserverpb.Auth" "UserGet";
    UserList = Unary "etcdserverpb.Auth" "UserList";
    UserDelete = Unary "etcdserverpb.Auth" "UserDelete";
    UserChangePassword = Unary "etcdserverpb.Auth" "UserChangePassword";
    UserGrantRole = Unary "etcdserverpb.Auth" "UserGrantRole";
    UserRevokeRole = Unary "etcdserverpb.Auth" "UserRevokeRole";
    RoleAdd = Unary "etcdserverpb.Auth" "RoleAdd";
    RoleGet = Unary "etcdserverpb.Auth" "RoleGet";
    RoleList = Unary "etcdserverpb.Auth" "RoleList";
    RoleDelete = Unary "etcdserverpb.Auth" "RoleDelete";
    RoleGrantPermission = Unary "etcdserverpb.Auth" "RoleGrantPermission";
    RoleRevokePermission = Unary "etcdserverpb.Auth" "RoleRevokePermission";
    Lock = Unary "v3lockpb.Lock" "Lock";
    Unlock = Unary "v3lockpb.Lock" "Unlock";
    Campaign = Unary "v3electionpb.Election" "Campaign";
    Proclaim = Unary "v3electionpb.Election" "Proclaim";
    Leader = Unary "v3electionpb.Election" "Leader";
    Observe = ServerStream "v3electionpb.Election" "Observe";
    Resign = Unary "v3electionpb.Election" "Resign";
    Downgrade = Unary "etcdserverpb.Maintenance" "Downgrade";
    HealthCheck = Unary "grpc.health.v1.Health" "Check";
    HealthList = Unary "grpc.health.v1.Health" "List";
    HealthWatch = ServerStream "grpc.health.v1.Health" "Watch";
}

/// Finds methods by path, and their metrics.
pub struct Methods {
    by_path: HashMap<&'static str, Rpc>,
    metrics: Vec<Method>,
}

impl Methods {
    pub fn new(metrics: &Metrics) -> Self {
        let grpc: &Grpc = &metrics.grpc;
        let method = |rpc: &Rpc| grpc.method(rpc.shape().label(), rpc.service(), rpc.name());
        Self {
            by_path: Rpc::ALL.iter().map(|rpc| (rpc.path(), *rpc)).collect(),
            metrics: Rpc::ALL.iter().map(method).collect(),
        }
    }

    pub fn find(&self, path: &str) -> Option<Rpc> {
        self.by_path.get(path).copied()
    }

    pub fn metrics(&self, rpc: Rpc) -> &Method {
        &self.metrics[rpc as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::config::MetricsLevel;

    #[test]
    fn each_method_is_found_by_its_path() {
        let methods = Methods::new(&Metrics::new(MetricsLevel::Basic));
        for (number, rpc) in Rpc::ALL.iter().enumerate() {
            assert_eq!(methods.find(rpc.path()), Some(*rpc));
            assert_eq!(*rpc as usize, number);
        }
        assert_eq!(methods.find("/etcdserverpb.KV/range"), None);
    }
}
