//! Which path is which method. The paths are etcd's (the `google.api.http` options of its `rpc.proto`, `v3lock.proto` and
//! `v3election.proto`); what a method takes and gives, and whether it streams, its descriptor says.

use std::collections::HashMap;

use http::Uri;
use prost_reflect::{DescriptorPool, MethodDescriptor};

/// Paths below [`PREFIX`], each with the service and the method it stands for.
const ROUTES: &[(&str, &str, &str)] = &[
    ("kv/range", "etcdserverpb.KV", "Range"),
    ("kv/put", "etcdserverpb.KV", "Put"),
    ("kv/deleterange", "etcdserverpb.KV", "DeleteRange"),
    ("kv/txn", "etcdserverpb.KV", "Txn"),
    ("kv/compaction", "etcdserverpb.KV", "Compact"),
    ("watch", "etcdserverpb.Watch", "Watch"),
    ("lease/grant", "etcdserverpb.Lease", "LeaseGrant"),
    ("lease/revoke", "etcdserverpb.Lease", "LeaseRevoke"),
    ("kv/lease/revoke", "etcdserverpb.Lease", "LeaseRevoke"),
    ("lease/keepalive", "etcdserverpb.Lease", "LeaseKeepAlive"),
    ("lease/timetolive", "etcdserverpb.Lease", "LeaseTimeToLive"),
    ("kv/lease/timetolive", "etcdserverpb.Lease", "LeaseTimeToLive"),
    ("lease/leases", "etcdserverpb.Lease", "LeaseLeases"),
    ("kv/lease/leases", "etcdserverpb.Lease", "LeaseLeases"),
    ("cluster/member/add", "etcdserverpb.Cluster", "MemberAdd"),
    ("cluster/member/remove", "etcdserverpb.Cluster", "MemberRemove"),
    ("cluster/member/update", "etcdserverpb.Cluster", "MemberUpdate"),
    ("cluster/member/list", "etcdserverpb.Cluster", "MemberList"),
    ("cluster/member/promote", "etcdserverpb.Cluster", "MemberPromote"),
    ("maintenance/alarm", "etcdserverpb.Maintenance", "Alarm"),
    ("maintenance/status", "etcdserverpb.Maintenance", "Status"),
    ("maintenance/defragment", "etcdserverpb.Maintenance", "Defragment"),
    ("maintenance/hash", "etcdserverpb.Maintenance", "Hash"),
    ("maintenance/hashkv", "etcdserverpb.Maintenance", "HashKV"),
    ("maintenance/snapshot", "etcdserverpb.Maintenance", "Snapshot"),
    ("maintenance/transfer-leadership", "etcdserverpb.Maintenance", "MoveLeader"),
    ("maintenance/downgrade", "etcdserverpb.Maintenance", "Downgrade"),
    ("auth/enable", "etcdserverpb.Auth", "AuthEnable"),
    ("auth/disable", "etcdserverpb.Auth", "AuthDisable"),
    ("auth/status", "etcdserverpb.Auth", "AuthStatus"),
    ("auth/authenticate", "etcdserverpb.Auth", "Authenticate"),
    ("auth/user/add", "etcdserverpb.Auth", "UserAdd"),
    ("auth/user/get", "etcdserverpb.Auth", "UserGet"),
    ("auth/user/list", "etcdserverpb.Auth", "UserList"),
    ("auth/user/delete", "etcdserverpb.Auth", "UserDelete"),
    ("auth/user/changepw", "etcdserverpb.Auth", "UserChangePassword"),
    ("auth/user/grant", "etcdserverpb.Auth", "UserGrantRole"),
    ("auth/user/revoke", "etcdserverpb.Auth", "UserRevokeRole"),
    ("auth/role/add", "etcdserverpb.Auth", "RoleAdd"),
    ("auth/role/get", "etcdserverpb.Auth", "RoleGet"),
    ("auth/role/list", "etcdserverpb.Auth", "RoleList"),
    ("auth/role/delete", "etcdserverpb.Auth", "RoleDelete"),
    ("auth/role/grant", "etcdserverpb.Auth", "RoleGrantPermission"),
    ("auth/role/revoke", "etcdserverpb.Auth", "RoleRevokePermission"),
    ("lock/lock", "v3lockpb.Lock", "Lock"),
    ("lock/unlock", "v3lockpb.Lock", "Unlock"),
    ("election/campaign", "v3electionpb.Election", "Campaign"),
    ("election/proclaim", "v3electionpb.Election", "Proclaim"),
    ("election/leader", "v3electionpb.Election", "Leader"),
    ("election/observe", "v3electionpb.Election", "Observe"),
    ("election/resign", "v3electionpb.Election", "Resign"),
];

/// Where the gateway's paths begin.
const PREFIX: &str = "/v3/";

/// Where they began before etcd 3.4; still understood.
const BETA_PREFIX: &str = "/v3beta/";

/// Whether a request for this path is the gateway's to answer, known or not.
pub fn is_for_gateway(path: &str) -> bool {
    below_prefix(path).is_some()
}

fn below_prefix(path: &str) -> Option<&str> {
    path.strip_prefix(PREFIX).or_else(|| path.strip_prefix(BETA_PREFIX))
}

/// A method and the path it has among the gRPC services.
pub struct Route {
    pub method: MethodDescriptor,
    pub uri: Uri,
}

/// Finds methods by paths.
pub struct Routes(HashMap<&'static str, Route>);

impl Routes {
    pub fn new() -> Self {
        let pool = DescriptorPool::decode(kvnode_proto::DESCRIPTORS);
        assert!(pool.is_ok(), "the compiled-in descriptors are whole: {:?}", pool.err());
        let pool = pool.unwrap_or_default();
        Self(ROUTES.iter().map(|(path, service, name)| (*path, route(&pool, service, name))).collect())
    }

    /// The method at a path that starts with either prefix.
    pub fn find(&self, path: &str) -> Option<&Route> {
        self.0.get(below_prefix(path)?)
    }
}

fn route(pool: &DescriptorPool, service: &str, name: &str) -> Route {
    let found = pool.get_service_by_name(service);
    let method = found.as_ref().and_then(|service| service.methods().find(|method| method.name() == name));
    let uri = format!("/{service}/{name}").parse();
    match (method, uri) {
        (Some(method), Ok(uri)) => Route { method, uri },
        _ => unreachable!("the table names a method that the descriptors do not have: {service} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A method added to a service is reachable by HTTP, or stands here with etcd's reason.
    #[test]
    fn every_method_has_a_path() {
        let routes = Routes::new();
        let routed: BTreeSet<_> =
            routes.0.values().map(|route| route.method.full_name().to_owned()).collect();
        let pool = DescriptorPool::decode(kvnode_proto::DESCRIPTORS).unwrap();
        let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let missing: Vec<_> = methods
            .map(|method| method.full_name().to_owned())
            .filter(|name| !routed.contains(name))
            .collect();
        // etcd gives it no path: its answers are for clients that know them.
        assert_eq!(missing, ["etcdserverpb.KV.RangeStream"]);
    }

    #[test]
    fn both_prefixes_lead_to_a_method() {
        let routes = Routes::new();
        for path in ["/v3/kv/range", "/v3beta/kv/range"] {
            assert_eq!(routes.find(path).unwrap().uri, "/etcdserverpb.KV/Range");
        }
        for path in ["/v3/kv/range/", "/v2/kv/range", "/v3/KV/range", "/v3/"] {
            assert!(routes.find(path).is_none(), "{path}");
        }
    }
}
