//! `/debug/vars`: the process and its raft state as JSON, under the names that etcd's Go libraries publish (`expvar`).

use kvnode_raft::Role;
use serde_json::{Map, Value, json};

use super::health::Health;
use crate::open_files;

/// One variable a line, as Go writes them.
pub fn text(health: &Health) -> String {
    let arguments: Vec<String> =
        std::env::args_os().map(|text| text.to_string_lossy().into_owned()).collect();
    let mut variables = vec![
        ("cmdline", json!(arguments)),
        ("file_descriptor_limit", json!(open_files::limit())),
        // What a collector of garbage would tell; /metrics has the memory of the process.
        ("memstats", Value::Object(Map::new())),
    ];
    if let Some(status) = raft_status(health) {
        variables.push(("raft.status", status));
    }
    let lines: Vec<String> =
        variables.iter().map(|(name, value)| format!("{}: {value}", Value::from(*name))).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// As etcd's raft library describes itself, but for what only its leader keeps of the others.
fn raft_status(health: &Health) -> Option<Value> {
    let node = health.node()?;
    let status = node.status();
    let state = match status.role {
        Role::Leader => "StateLeader",
        Role::Candidate => "StateCandidate",
        Role::PreCandidate => "StatePreCandidate",
        Role::Follower => "StateFollower",
    };
    Some(json!({
        "id": node.member_id().to_string(),
        "term": status.term,
        "commit": status.commit,
        "lead": status.leader.to_string(),
        "raftState": state,
        "applied": status.applied,
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::node::Boot;

    #[test]
    fn a_starting_process_already_has_variables() {
        let text = text(&Health::new(Arc::new(Boot::default())));
        let variables: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert!(variables["cmdline"].is_array() && variables["file_descriptor_limit"].as_u64() > Some(0));
        assert!(text.starts_with("{\n\"cmdline\": ["), "{text}");
    }
}
