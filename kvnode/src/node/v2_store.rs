//! The members as etcd's v2 store has them, for raft snapshots (etcd: `GetMembershipInfoInV2Format`). A tree of named
//! nodes; what is left out is what Go's decoder takes for granted.

use kvnode_mvcc::{View, membership::Member};
use serde_json::{Map, Value, json};

/// The tree as JSON.
pub(crate) fn encode(view: &View) -> Vec<u8> {
    let members = view.members();
    let members = members.iter().map(|member| (member.id.to_string(), member_node(member)));
    let removed = view.removed_members();
    let removed = removed.iter().map(|id| {
        let path = format!("/0/removed_members/{id}");
        (id.to_string(), json!({ "Path": path, "Value": "removed" }))
    });
    let version = json!({ "Path": "/0/version", "Value": view.cluster_version().unwrap_or_default() });
    let cluster = [
        ("members".to_owned(), directory("/0/members", members)),
        ("removed_members".to_owned(), directory("/0/removed_members", removed)),
        ("version".to_owned(), version),
    ];
    let root = [("0".to_owned(), directory("/0", cluster)), ("1".to_owned(), directory("/1", []))];
    let index = view.applied().0.0;
    json!({ "Root": directory("/", root), "CurrentIndex": index, "CurrentVersion": 2 })
        .to_string()
        .into_bytes()
}

fn directory(path: &str, children: impl IntoIterator<Item = (String, Value)>) -> Value {
    json!({ "Path": path, "Children": children.into_iter().collect::<Map<_, _>>() })
}

fn member_node(member: &Member) -> Value {
    let path = format!("/0/members/{}", member.id);
    let leaf = |name: &str, value: &Value| {
        (name.to_owned(), json!({ "Path": format!("{path}/{name}"), "Value": value.to_string() }))
    };
    let raft = json!({ "peerURLs": member.peer_urls, "isLearner": member.is_learner });
    let attributes = json!({ "name": member.name, "clientURLs": member.client_urls });
    directory(&path, [leaf("raftAttributes", &raft), leaf("attributes", &attributes)])
}
