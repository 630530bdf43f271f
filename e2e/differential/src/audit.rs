//! The calls of an audit: everything a client can see, at revisions old and new.

use crate::case::{Case, Step};

/// Users and roles that generated cases work with.
pub const USERS: [&str; 4] = ["root", "alice", "bob", "eve"];
pub const ROLES: [&str; 4] = ["root", "reader", "writer", "ops"];

/// Calls to one member. With `auth`, root logs in first: its token may have been lost.
pub fn steps(member: usize, case: &Case) -> Vec<Step> {
    let auth =
        case.steps.iter().any(|step| matches!(step, Step::Call(call) if call.method.starts_with("Auth/")));
    let mut calls = Vec::new();
    if auth {
        calls.push(("Auth/Authenticate", "name: \"root\" password: \"root\"".to_owned()));
    }
    for revision in ["0", "$now-1", "$now-7", "$now-20", "$compacted", "$compacted+1", "$compacted-1"] {
        calls.push(("KV/Range", format!("key: \"\\000\" range_end: \"\\000\" revision: {revision}")));
        calls.push(("Maintenance/HashKV", format!("revision: {revision}")));
    }
    for (method, body) in [
        ("KV/RangeStream", "key: \"\\000\" range_end: \"\\000\""),
        ("Lease/LeaseLeases", ""),
        ("Cluster/MemberList", "linearizable: true"),
        ("Maintenance/Status", ""),
        ("Maintenance/Alarm", ""),
        ("Maintenance/Hash", ""),
        ("Maintenance/Snapshot", ""),
    ] {
        calls.push((method, body.to_owned()));
    }
    if auth {
        calls.extend([("Auth/AuthStatus", ""), ("Auth/UserList", ""), ("Auth/RoleList", "")].map(owned));
        calls.extend(USERS.map(|name| ("Auth/UserGet", format!("name: \"{name}\""))));
        calls.extend(ROLES.map(|name| ("Auth/RoleGet", format!("role: \"{name}\""))));
    }
    let root = auth.then_some("root");
    calls.into_iter().map(|(method, body)| Step::call(member, method, body).by(root)).collect()
}

fn owned((method, body): (&'static str, &str)) -> (&'static str, String) {
    (method, body.to_owned())
}
