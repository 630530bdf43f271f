//! Who may do what: every method, asked by nobody, with a token that is none, by users with rights from none to all, and by
//! root. `testdata/rbac.txt` holds the answers of etcd; where etcd is installed, it is asked the same. And whose tokens
//! count where: signed ones of etcd and kvnode do for each other.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use http::uri::PathAndQuery;
use kvnode_proto::{
    authpb::{Permission, permission::Type},
    etcdserverpb::{
        AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
        AuthRoleGetRequest, AuthRoleGrantPermissionRequest, AuthRoleListRequest,
        AuthRoleRevokePermissionRequest, AuthStatusRequest, AuthUserAddRequest,
        AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGrantRoleRequest,
        AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest, AuthenticateRequest,
        AuthenticateResponse, CompactionRequest, Compare, DefragmentRequest, DeleteRangeRequest,
        DowngradeRequest, HashKvRequest, HashRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
        LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberAddRequest, MemberListRequest,
        MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest, PutRequest,
        RangeRequest, RequestOp, SnapshotRequest, StatusRequest, TxnRequest, WatchCreateRequest,
        WatchRequest, WatchResponse,
        alarm_request::AlarmAction,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request as Op,
        watch_request::RequestUnion,
    },
    v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest},
    v3lockpb::{LockRequest, UnlockRequest},
};
use prost::Message;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use tonic::{Request, Status, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use crate::support::{KVNODE, Member, Options, block_on, etcdctl::find};

const GOLDEN: &str = include_str!("testdata/rbac.txt");

/// Asks a method once; the first answer, or why there was none. On the wire one question and one answer look the same
/// for every kind of method.
async fn ask<Req, Resp>(
    channel: Channel,
    path: &'static str,
    message: Req,
    token: Option<String>,
) -> Result<Resp, Status>
where
    Req: Message + Default + 'static,
    Resp: Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    // Nothing more is asked, but the stream of questions stays open where methods would end with it.
    let open = path.ends_with("/Watch") || path.ends_with("KeepAlive");
    let more = tokio_stream::StreamExt::take(tokio_stream::pending(), if open { usize::MAX } else { 0 });
    let mut request = Request::new(tokio_stream::StreamExt::chain(tokio_stream::iter([message]), more));
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse().unwrap());
    }
    let codec = ProstCodec::<Req, Resp>::default();
    let answers = grpc.streaming(request, PathAndQuery::from_static(path), codec).await?;
    answers.into_inner().message().await?.ok_or_else(|| Status::unknown("no answer"))
}

type Outcome = Pin<Box<dyn Future<Output = Result<(), Status>>>>;

/// One question, and how it is put.
struct Row {
    path: &'static str,
    variant: &'static str,
    ask: Box<dyn Fn(Channel, Option<String>) -> Outcome>,
}

fn row<Req: Message + Clone + Default + 'static>(
    path: &'static str,
    variant: &'static str,
    message: Req,
) -> Row {
    let ask = move |channel, token| {
        let message = message.clone();
        Box::pin(async move { ask::<Req, ()>(channel, path, message, token).await }) as Outcome
    };
    Row { path, variant, ask: Box::new(ask) }
}

/// A watch is refused within its stream.
fn watch(variant: &'static str, key: &'static [u8], range_end: &'static [u8]) -> Row {
    let path = "/etcdserverpb.Watch/Watch";
    let ask = move |channel, token| {
        let create = WatchCreateRequest {
            key: Bytes::from_static(key),
            range_end: Bytes::from_static(range_end),
            ..WatchCreateRequest::default()
        };
        let message = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        Box::pin(async move {
            let answer = ask::<WatchRequest, WatchResponse>(channel, path, message, token).await?;
            if answer.canceled {
                assert_eq!((answer.watch_id, answer.created), (-1, true));
                return Err(Status::cancelled(answer.cancel_reason));
            }
            Ok(())
        }) as Outcome
    };
    Row { path, variant, ask: Box::new(ask) }
}

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: range_end.into(), ..RangeRequest::default() }
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: "v".into(), ..PutRequest::default() }
}

fn delete(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), ..DeleteRangeRequest::default() }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare: Vec::new(), success, failure }
}

fn exists(key: &'static str) -> Compare {
    Compare {
        result: CompareResult::Greater as i32,
        target: CompareTarget::Version as i32,
        key: key.into(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::Version(0)),
    }
}

fn permission(perm_type: Type) -> Option<Permission> {
    Some(Permission { perm_type: perm_type as i32, key: "k".into(), range_end: "l".into() })
}

/// Leases that exist: one with a key that alice may write, one with another.
const OWN_LEASE: i64 = 7;
const OTHER_LEASE: i64 = 8;

fn kv_rows() -> Vec<Row> {
    let serializable = RangeRequest { serializable: true, ..range("k1", "") };
    let with_prev = PutRequest { prev_kv: true, ..put("k1") };
    let nested = |inner| txn(Vec::new(), vec![op(Op::RequestTxn(txn(Vec::new(), vec![op(inner)])))]);
    vec![
        row("/etcdserverpb.KV/Range", "k1", range("k1", "")),
        row("/etcdserverpb.KV/Range", "k1 serializable", serializable),
        row("/etcdserverpb.KV/Range", "z1", range("z1", "")),
        row("/etcdserverpb.KV/Range", "k to l", range("k", "l")),
        row("/etcdserverpb.KV/Range", "k to m", range("k", "m")),
        row("/etcdserverpb.KV/Range", "from k", range("k", "\0")),
        row("/etcdserverpb.KV/RangeStream", "k1", range("k1", "")),
        row("/etcdserverpb.KV/RangeStream", "z1", range("z1", "")),
        row("/etcdserverpb.KV/Put", "k1", put("k1")),
        row("/etcdserverpb.KV/Put", "k1 with the old one", with_prev),
        row("/etcdserverpb.KV/Put", "z1", put("z1")),
        row("/etcdserverpb.KV/Put", "k2 on a lease of k1", PutRequest { lease: OWN_LEASE, ..put("k2") }),
        row("/etcdserverpb.KV/Put", "k2 on a lease of z1", PutRequest { lease: OTHER_LEASE, ..put("k2") }),
        row("/etcdserverpb.KV/DeleteRange", "k9", delete("k9", "")),
        row("/etcdserverpb.KV/DeleteRange", "k9 to m", delete("k9", "m")),
        row("/etcdserverpb.KV/Txn", "reads k1", txn(vec![op(Op::RequestRange(range("k1", "")))], vec![])),
        row("/etcdserverpb.KV/Txn", "reads z1", txn(vec![op(Op::RequestRange(range("z1", "")))], vec![])),
        row(
            "/etcdserverpb.KV/Txn",
            "compares z1",
            TxnRequest { compare: vec![exists("z1")], ..txn(vec![], vec![]) },
        ),
        row("/etcdserverpb.KV/Txn", "writes k1", txn(vec![op(Op::RequestPut(put("k1")))], vec![])),
        row("/etcdserverpb.KV/Txn", "would write z1 within", nested(Op::RequestPut(put("z1")))),
        row("/etcdserverpb.KV/Txn", "would read z1 within", nested(Op::RequestRange(range("z1", "")))),
        row(
            "/etcdserverpb.KV/Txn",
            "would delete z1 within",
            nested(Op::RequestDeleteRange(delete("z1", ""))),
        ),
        row("/etcdserverpb.KV/Compact", "", CompactionRequest { revision: 1, physical: false }),
        watch("k1", b"k1", b""),
        watch("z1", b"z1", b""),
        watch("k to l", b"k", b"l"),
        watch("from k", b"k", b"\0"),
        watch("everything", b"", b"\0"),
    ]
}

fn lease_rows() -> Vec<Row> {
    let left = |id, keys| LeaseTimeToLiveRequest { id, keys };
    vec![
        row("/etcdserverpb.Lease/LeaseGrant", "", LeaseGrantRequest { ttl: 60, id: 0 }),
        row("/etcdserverpb.Lease/LeaseKeepAlive", "of k1", LeaseKeepAliveRequest { id: OWN_LEASE }),
        row("/etcdserverpb.Lease/LeaseKeepAlive", "of z1", LeaseKeepAliveRequest { id: OTHER_LEASE }),
        row("/etcdserverpb.Lease/LeaseKeepAlive", "unknown", LeaseKeepAliveRequest { id: 4711 }),
        row("/etcdserverpb.Lease/LeaseTimeToLive", "of k1", left(OWN_LEASE, true)),
        row("/etcdserverpb.Lease/LeaseTimeToLive", "of z1", left(OTHER_LEASE, true)),
        row("/etcdserverpb.Lease/LeaseTimeToLive", "of z1 without keys", left(OTHER_LEASE, false)),
        row("/etcdserverpb.Lease/LeaseLeases", "", LeaseLeasesRequest {}),
    ]
}

fn recipe_rows() -> Vec<Row> {
    let leader = |rev| Some(LeaderKey { name: "k".into(), key: "k/7".into(), rev, lease: OWN_LEASE });
    let campaign = CampaignRequest { name: "k".into(), lease: OWN_LEASE, value: "v".into() };
    vec![
        row("/v3lockpb.Lock/Lock", "k", LockRequest { name: "k".into(), lease: OWN_LEASE }),
        row("/v3lockpb.Lock/Lock", "z", LockRequest { name: "z".into(), lease: OTHER_LEASE }),
        row("/v3lockpb.Lock/Unlock", "k", UnlockRequest { key: "k/9".into() }),
        row("/v3electionpb.Election/Campaign", "k", campaign),
        row("/v3electionpb.Election/Leader", "k", LeaderRequest { name: "k".into() }),
        row("/v3electionpb.Election/Observe", "k", LeaderRequest { name: "k".into() }),
        row("/v3electionpb.Election/Proclaim", "k", ProclaimRequest { leader: leader(1), value: "w".into() }),
        row("/v3electionpb.Election/Resign", "k", ResignRequest { leader: leader(1) }),
    ]
}

fn cluster_rows(peer_url: &str) -> Vec<Row> {
    let alarm = |action| AlarmRequest { action: action as i32, ..AlarmRequest::default() };
    let urls = vec![peer_url.to_owned()];
    vec![
        row(
            "/etcdserverpb.Cluster/MemberAdd",
            "",
            MemberAddRequest { peer_ur_ls: urls.clone(), is_learner: false },
        ),
        row("/etcdserverpb.Cluster/MemberRemove", "", MemberRemoveRequest { id: 1 }),
        row("/etcdserverpb.Cluster/MemberUpdate", "", MemberUpdateRequest { id: 1, peer_ur_ls: urls }),
        row("/etcdserverpb.Cluster/MemberPromote", "", MemberPromoteRequest { id: 1 }),
        row("/etcdserverpb.Cluster/MemberList", "", MemberListRequest { linearizable: false }),
        row("/etcdserverpb.Cluster/MemberList", "linearizable", MemberListRequest { linearizable: true }),
        row("/etcdserverpb.Maintenance/Alarm", "get", alarm(AlarmAction::Get)),
        row("/etcdserverpb.Maintenance/Alarm", "disarm", alarm(AlarmAction::Deactivate)),
        row("/etcdserverpb.Maintenance/Status", "", StatusRequest::default()),
        row("/etcdserverpb.Maintenance/Defragment", "", DefragmentRequest::default()),
        row("/etcdserverpb.Maintenance/Hash", "", HashRequest::default()),
        row("/etcdserverpb.Maintenance/HashKV", "", HashKvRequest::default()),
        row("/etcdserverpb.Maintenance/Snapshot", "", SnapshotRequest::default()),
        row("/etcdserverpb.Maintenance/MoveLeader", "", MoveLeaderRequest { target_id: 1 }),
        row(
            "/etcdserverpb.Maintenance/Downgrade",
            "",
            DowngradeRequest { version: "bad".into(), ..Default::default() },
        ),
        row("/grpc.health.v1.Health/Check", "", ()),
    ]
}

fn auth_rows() -> Vec<Row> {
    let right = AuthenticateRequest { name: "alice".into(), password: "alice".into() };
    let wrong = AuthenticateRequest { name: "alice".into(), password: "bob".into() };
    let user = |name: &str| AuthUserGetRequest { name: name.into() };
    let role = |role: &str| AuthRoleGetRequest { role: role.into() };
    let add = AuthUserAddRequest { name: "alice".into(), password: "x".into(), ..Default::default() };
    let change =
        AuthUserChangePasswordRequest { name: "nemo".into(), password: "x".into(), ..Default::default() };
    let (name, none) = (|| "nemo".to_owned(), || "none".to_owned());
    vec![
        row("/etcdserverpb.Auth/Authenticate", "right", right),
        row("/etcdserverpb.Auth/Authenticate", "wrong", wrong),
        row("/etcdserverpb.Auth/AuthStatus", "", AuthStatusRequest {}),
        row("/etcdserverpb.Auth/AuthEnable", "", AuthEnableRequest {}),
        row("/etcdserverpb.Auth/UserAdd", "", add),
        row("/etcdserverpb.Auth/UserGet", "alice", user("alice")),
        row("/etcdserverpb.Auth/UserGet", "root", user("root")),
        row("/etcdserverpb.Auth/UserList", "", AuthUserListRequest {}),
        row("/etcdserverpb.Auth/UserDelete", "", AuthUserDeleteRequest { name: name() }),
        row("/etcdserverpb.Auth/UserChangePassword", "", change),
        row("/etcdserverpb.Auth/UserGrantRole", "", AuthUserGrantRoleRequest { user: name(), role: none() }),
        row(
            "/etcdserverpb.Auth/UserRevokeRole",
            "",
            AuthUserRevokeRoleRequest { name: name(), role: none() },
        ),
        row("/etcdserverpb.Auth/RoleAdd", "", AuthRoleAddRequest { name: "reader".into() }),
        row("/etcdserverpb.Auth/RoleGet", "reader", role("reader")),
        row("/etcdserverpb.Auth/RoleGet", "none", role("none")),
        row("/etcdserverpb.Auth/RoleList", "", AuthRoleListRequest {}),
        row("/etcdserverpb.Auth/RoleDelete", "", AuthRoleDeleteRequest { role: none() }),
        row(
            "/etcdserverpb.Auth/RoleGrantPermission",
            "",
            AuthRoleGrantPermissionRequest { name: none(), perm: permission(Type::Readwrite) },
        ),
        row(
            "/etcdserverpb.Auth/RoleRevokePermission",
            "",
            AuthRoleRevokePermissionRequest { role: none(), ..Default::default() },
        ),
    ]
}

/// What ends things comes last.
fn last_rows() -> Vec<Row> {
    vec![
        row("/etcdserverpb.Lease/LeaseRevoke", "of z1", LeaseRevokeRequest { id: OTHER_LEASE }),
        row("/etcdserverpb.Lease/LeaseRevoke", "of k1", LeaseRevokeRequest { id: OWN_LEASE }),
        row("/etcdserverpb.Auth/AuthDisable", "", AuthDisableRequest {}),
    ]
}

/// Users by name, and the role of each; a password is the name.
const USERS: [(&str, Option<&str>); 6] = [
    ("root", Some("root")),
    ("admin", Some("root")),
    ("alice", Some("reader")),
    ("rita", Some("read only")),
    ("walt", Some("write only")),
    ("eve", None),
];

const ROLES: [(&str, Type); 3] =
    [("reader", Type::Readwrite), ("read only", Type::Read), ("write only", Type::Write)];

/// Users, roles, keys and leases; then authentication is on.
async fn prepare(channel: &Channel) {
    let mut steps = vec![
        row("/etcdserverpb.Lease/LeaseGrant", "", LeaseGrantRequest { ttl: 600, id: OWN_LEASE }),
        row("/etcdserverpb.Lease/LeaseGrant", "", LeaseGrantRequest { ttl: 600, id: OTHER_LEASE }),
        row("/etcdserverpb.KV/Put", "", PutRequest { lease: OWN_LEASE, ..put("k1") }),
        row("/etcdserverpb.KV/Put", "", PutRequest { lease: OTHER_LEASE, ..put("z1") }),
    ];
    for (role, kind) in ROLES {
        let grant = AuthRoleGrantPermissionRequest { name: role.into(), perm: permission(kind) };
        steps.push(row("/etcdserverpb.Auth/RoleAdd", role, AuthRoleAddRequest { name: role.into() }));
        steps.push(row("/etcdserverpb.Auth/RoleGrantPermission", role, grant));
    }
    for (user, role) in USERS {
        let (name, password) = (user.to_owned(), user.to_owned());
        let add = AuthUserAddRequest { name, password, ..Default::default() };
        steps.push(row("/etcdserverpb.Auth/UserAdd", user, add));
        if let Some(role) = role {
            let grant = AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
            steps.push(row("/etcdserverpb.Auth/UserGrantRole", user, grant));
        }
    }
    steps.push(row("/etcdserverpb.Auth/AuthEnable", "", AuthEnableRequest {}));
    for step in steps {
        let outcome = (step.ask)(channel.clone(), None).await;
        outcome.unwrap_or_else(|error| panic!("{} {}: {error}", step.path, step.variant));
    }
}

async fn token(channel: &Channel, user: &str) -> Option<String> {
    let request = AuthenticateRequest { name: user.to_owned(), password: user.to_owned() };
    let answer: AuthenticateResponse =
        ask(channel.clone(), "/etcdserverpb.Auth/Authenticate", request, None).await.unwrap();
    Some(answer.token)
}

/// Every answer, as text.
async fn matrix(channel: &Channel, peer_url: &str) -> String {
    prepare(channel).await;
    let mut actors = vec![("nobody", None), ("a bad token", Some("sixteen-letters.1".to_owned()))];
    for user in ["eve", "rita", "walt", "alice", "admin", "root"] {
        actors.push((user, token(channel, user).await));
    }
    let rows = [kv_rows(), lease_rows(), recipe_rows(), cluster_rows(peer_url), auth_rows(), last_rows()];
    let mut text = String::new();
    for row in rows.into_iter().flatten() {
        writeln!(text, "{} {}", row.path.trim_start_matches('/'), row.variant).unwrap();
        for (actor, token) in &actors {
            let asked = (row.ask)(channel.clone(), token.clone());
            let outcome = tokio::time::timeout(Duration::from_secs(30), asked).await;
            let said = match outcome.unwrap_or_else(|_| panic!("{} by {actor}: no answer", row.path)) {
                Ok(()) => "ok".to_owned(),
                Err(error) => format!("{:?}: {}", error.code(), error.message()),
            };
            writeln!(text, "    {actor:<12} {said}").unwrap();
        }
    }
    text
}

fn compare(found: &str) {
    if std::env::var_os("UPDATE_RBAC").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/testdata/rbac.txt"), found).unwrap();
        return;
    }
    let mut row = "";
    for (found, expected) in found.lines().zip(GOLDEN.lines()) {
        if !found.starts_with(' ') {
            row = found;
        }
        assert_eq!(found, expected, "{row}");
    }
    assert_eq!(found.lines().count(), GOLDEN.lines().count());
}

/// Authentication on members of both programs is to be as cheap as it may be.
const FLAGS: [&str; 1] = ["--bcrypt-cost=4"];

/// A member of its own of one of the programs.
fn launch(program: &Path, dir: &Path, name: &str, flags: &[&str]) -> Member {
    let member = Member::launch_as(program, &dir.join(name), Options::with(flags));
    member.wait_for_log("ready to serve client requests");
    member
}

#[test]
fn everybody_may_do_what_etcd_lets_them_do_and_no_more() {
    let member = Member::start_with(Options::with(&FLAGS));
    compare(&block_on(async { matrix(&member.channel(), &member.peer_url()).await }));
    let asked: BTreeSet<&str> = GOLDEN
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let (_, metrics) = member.get_metrics_port("/metrics");
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    // Everybody may ask whether the server serves.
    let asks = |line: &&str| line.starts_with("grpc_server_started_total{") && !line.contains("grpc.health");
    let served: BTreeSet<String> = metrics
        .lines()
        .filter(asks)
        .map(|line| format!("{}/{}", label(line, "grpc_service"), label(line, "grpc_method")))
        .collect();
    assert!(served.contains("etcdserverpb.KV/Put"), "{served:?}");
    for method in served {
        assert!(asked.contains(method.as_str()), "{method} is served and not asked for here");
    }
}

/// Asks etcd itself. With `UPDATE_RBAC` set, its answers become the expected ones.
#[test]
fn etcd_answers_so_too() {
    let Some(etcd) = find("etcd") else { return };
    let dir = tempfile::tempdir().unwrap();
    let member = launch(&etcd, dir.path(), "etcd", &FLAGS);
    compare(&block_on(async { matrix(&member.channel(), &member.peer_url()).await }));
}

/// A key for each method, in a file.
fn signing_keys(dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let write = |method: &'static str, text: String| {
        let path = dir.join(method);
        std::fs::write(&path, text).unwrap();
        (method, path)
    };
    let pair = |kind| KeyPair::generate_for(kind).unwrap().serialize_pem();
    let rsa = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth/testdata/rsa.pem");
    vec![
        write("HS512", "any bytes".to_owned()),
        write("ES256", pair(&PKCS_ECDSA_P256_SHA256)),
        write("ES384", pair(&PKCS_ECDSA_P384_SHA384)),
        write("EdDSA", pair(&PKCS_ED25519)),
        ("RS256", rsa.clone()),
        ("PS384", rsa),
    ]
}

#[test]
fn a_signed_token_counts_on_members_of_both_programs_until_rights_change() {
    let Some(etcd) = find("etcd") else { return };
    let dir = tempfile::tempdir().unwrap();
    for (method, key) in signing_keys(dir.path()) {
        let signed = format!("--auth-token=jwt,sign-method={method},priv-key={},ttl=10m", key.display());
        let flags = [FLAGS[0], signed.as_str()];
        let members = [Path::new(KVNODE), &etcd].map(|program| {
            let name = program.file_name().unwrap().to_string_lossy();
            launch(program, dir.path(), &format!("{method}-{name}"), &flags)
        });
        block_on(async {
            let [kvnode, etcd] = members.each_ref().map(Member::channel);
            for channel in [&kvnode, &etcd] {
                prepare(channel).await;
            }
            let given = [token(&kvnode, "alice").await, token(&etcd, "alice").await];
            for (alice, taker) in given.into_iter().zip([&etcd, &kvnode]) {
                let write =
                    |key| ask::<_, ()>(taker.clone(), "/etcdserverpb.KV/Put", put(key), alice.clone());
                write("k1").await.unwrap_or_else(|error| panic!("{method}: {error}"));
                assert_eq!(write("z1").await.unwrap_err().message(), "etcdserver: permission denied");
                // Worth no more than what rights were when it was given.
                let root = token(taker, "root").await;
                let role = AuthRoleAddRequest { name: method.to_owned() };
                ask::<_, ()>(taker.clone(), "/etcdserverpb.Auth/RoleAdd", role, root).await.unwrap();
                let stale = write("k1").await.unwrap_err();
                assert_eq!(stale.message(), "etcdserver: revision of auth store is old", "{method}");
            }
        });
    }
}

/// What ran out, or would have, does not live again with the log it is in.
#[test]
fn a_token_does_not_outlive_the_member_that_knew_it() {
    let mut member = Member::start_with(Options::with(&FLAGS));
    let (list, all) = ("/etcdserverpb.Auth/UserList", AuthUserListRequest {});
    let given = block_on(async {
        let channel = member.channel();
        prepare(&channel).await;
        let given = token(&channel, "root").await;
        ask::<_, AuthUserListResponse>(channel, list, all, given.clone()).await.unwrap();
        given
    });
    member.kill_and_restart();
    block_on(async {
        let channel = member.channel();
        let refused = ask::<_, AuthUserListResponse>(channel.clone(), list, all, given).await.unwrap_err();
        assert_eq!(refused.message(), "etcdserver: invalid auth token");
        let another = token(&channel, "root").await;
        ask::<_, AuthUserListResponse>(channel, list, all, another).await.unwrap();
    });
}
