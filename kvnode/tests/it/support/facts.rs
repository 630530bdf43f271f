//! What must stay the same when another program takes over a member's files.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kvnode_proto::etcdserverpb::{
    AlarmRequest, AuthRoleGetRequest, AuthRoleListRequest, AuthStatusRequest, AuthUserGetRequest,
    AuthUserListRequest, HashKvRequest, HashRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest,
    MemberListRequest, StatusRequest, auth_client::AuthClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient,
};
use tonic::transport::Channel;

use super::{
    Member,
    cluster::{keys, membership},
};

/// Everything replicated that a client can see, and etcd's own hashes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub revision: i64,
    /// `HashKV`: hash, compacted and hashed revision.
    pub hash_kv: (u32, i64, i64),
    /// `Hash`: of all buckets of the file, so of users, leases, alarms, members and versions, too.
    pub hash: u32,
    pub ids: (u64, u64),
    pub members: Vec<kvnode_proto::etcdserverpb::Member>,
    /// ID, granted time and keys.
    pub leases: BTreeMap<i64, (i64, Vec<Vec<u8>>)>,
    pub alarms: Vec<(u64, i32)>,
    pub auth: Auth,
    pub keys: BTreeMap<String, String>,
    pub storage_version: String,
}

impl Facts {
    pub async fn of(member: &Member) -> Self {
        let channel = member.channel();
        let mut maintenance = MaintenanceClient::new(channel.clone());
        // A linearizable read first: what was acknowledged before is applied then.
        let keys = keys(member, false).await.unwrap();
        let storage_version = storage_version(&mut maintenance).await;
        let hash_kv = maintenance.hash_kv(HashKvRequest { revision: 0 }).await.unwrap().into_inner();
        let hash = maintenance.hash(HashRequest {}).await.unwrap().into_inner().hash;
        let header = hash_kv.header.unwrap();
        let members = membership(member)
            .member_list(MemberListRequest { linearizable: true })
            .await
            .unwrap()
            .into_inner()
            .members;
        let alarms = maintenance.alarm(AlarmRequest::default()).await.unwrap().into_inner().alarms;
        Self {
            revision: header.revision,
            hash_kv: (hash_kv.hash, hash_kv.compact_revision, hash_kv.hash_revision),
            hash,
            ids: (header.cluster_id, header.member_id),
            members,
            leases: leases(member).await,
            alarms: alarms.iter().map(|a| (a.member_id, a.alarm)).collect(),
            auth: auth(member).await,
            keys,
            storage_version,
        }
    }
}

/// etcd raises it from 3.5.0 some seconds after the cluster's version, kvnode with it.
async fn storage_version(maintenance: &mut MaintenanceClient<Channel>) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "the storage version was not raised");
        let version = maintenance.status(StatusRequest {}).await.unwrap().into_inner().storage_version;
        if !["", "3.5.0"].contains(&version.as_str()) {
            return version;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn leases(member: &Member) -> BTreeMap<i64, (i64, Vec<Vec<u8>>)> {
    let mut client = LeaseClient::new(member.channel());
    let mut found = BTreeMap::new();
    for lease in client.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases {
        let request = LeaseTimeToLiveRequest { id: lease.id, keys: true };
        let ttl = client.lease_time_to_live(request).await.unwrap().into_inner();
        let mut keys: Vec<Vec<u8>> = ttl.keys.iter().map(|key| key.to_vec()).collect();
        keys.sort();
        found.insert(lease.id, (ttl.granted_ttl, keys));
    }
    found
}

/// Users and what they may, while authentication is off.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    revision: u64,
    /// With their roles.
    users: BTreeMap<String, Vec<String>>,
    /// With their permissions.
    roles: BTreeMap<String, Vec<kvnode_proto::authpb::Permission>>,
}

async fn auth(member: &Member) -> Auth {
    let mut client = AuthClient::new(member.channel());
    let status = client.auth_status(AuthStatusRequest {}).await.unwrap().into_inner();
    let (mut users, mut roles) = (BTreeMap::new(), BTreeMap::new());
    for name in client.user_list(AuthUserListRequest {}).await.unwrap().into_inner().users {
        let user = client.user_get(AuthUserGetRequest { name: name.clone() }).await.unwrap();
        users.insert(name, user.into_inner().roles);
    }
    for role in client.role_list(AuthRoleListRequest {}).await.unwrap().into_inner().roles {
        let found = client.role_get(AuthRoleGetRequest { role: role.clone() }).await.unwrap();
        roles.insert(role, found.into_inner().perm);
    }
    Auth { revision: status.auth_revision, users, roles }
}
