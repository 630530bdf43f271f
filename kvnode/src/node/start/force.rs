//! `--force-new-cluster`: a member goes on alone with the data it has, as a cluster of one (etcd: `bootstrap.go`,
//! `CreateConfigChangeEnts`).
//!
//! What was not committed is dropped, and entries that remove all others are written as committed. The last resort when
//! most members are lost for good: what only they had committed is lost with them.

use std::collections::BTreeMap;

use kvnode_mvcc::{
    MemberId,
    membership::{
        Member,
        json::{ChangeContext, encode_context},
    },
};
use kvnode_proto::raftpb::{ConfChange, ConfChangeType, Entry, EntryType};
use kvnode_raft::{DurableState, conf_change};
use kvnode_storage::wal::Wal;
use tracing::warn;

use super::StartError;

/// Makes `own` the only member, durably. `members` are those at the applied index.
pub(super) fn leave_alone(
    own: MemberId,
    members: &[Member],
    wal: &mut Wal,
    raft: &mut DurableState,
) -> Result<(), StartError> {
    let commit = raft.hard_state.commit.max(raft.applied);
    let found = raft.entries.len();
    raft.entries.retain(|entry| entry.index <= commit);
    let added = changes(own, voting(members, raft), raft.hard_state.term, commit);
    warn!(
        "local-member-id" = %own,
        "commit-index" = commit,
        "discarded-entries" = found - raft.entries.len(),
        removed = added.len(),
        "forcing restart member: it leaves all others behind"
    );
    raft.hard_state.commit = commit + added.len() as u64;
    wal.append(Some(&raft.hard_state), &added);
    wal.sync()?;
    raft.entries.extend(added);
    Ok(())
}

/// Who belongs to the cluster after the last entry, and whether it votes.
fn voting(members: &[Member], raft: &DurableState) -> BTreeMap<u64, bool> {
    let mut found: BTreeMap<u64, bool> = members.iter().map(|m| (m.id.0, !m.is_learner)).collect();
    for entry in raft.entries.iter().filter(|entry| entry.index > raft.applied) {
        if entry.r#type != EntryType::EntryConfChange as i32 {
            continue;
        }
        // One that cannot be read will be told of when it is applied.
        let Ok(change) = conf_change::decode(&entry.data) else { continue };
        match change.r#type() {
            ConfChangeType::ConfChangeAddNode => found.insert(change.node_id, true),
            ConfChangeType::ConfChangeAddLearnerNode => found.insert(change.node_id, false),
            ConfChangeType::ConfChangeRemoveNode => found.remove(&change.node_id),
            ConfChangeType::ConfChangeUpdateNode => None,
        };
    }
    found
}

/// Entries from `commit` on after which `own` is the only member. It votes before the others go: raft cannot do without a
/// voter at any time.
fn changes(own: MemberId, members: BTreeMap<u64, bool>, term: u64, commit: u64) -> Vec<Entry> {
    let change = |kind, node_id, context: Vec<u8>| ConfChange {
        r#type: kind as i32,
        node_id,
        context: context.into(),
        ..ConfChange::default()
    };
    let add = ConfChangeType::ConfChangeAddNode;
    let mut changes = match members.get(&own.0) {
        Some(true) => Vec::new(),
        Some(false) => vec![change(add, own.0, encode_context(&ChangeContext::Promote(own)))],
        // As etcd: the URL is for an administrator to correct.
        None => {
            let peer_urls = vec!["http://localhost:2380".to_owned()];
            let member = Member { id: own, peer_urls, ..Member::default() };
            vec![change(add, own.0, encode_context(&ChangeContext::Add(member)))]
        }
    };
    let others = members.into_keys().filter(|id| *id != own.0);
    changes.extend(others.map(|id| change(ConfChangeType::ConfChangeRemoveNode, id, Vec::new())));
    let entry = |(index, change): (u64, &ConfChange)| Entry {
        r#type: EntryType::EntryConfChange as i32,
        term,
        index,
        data: conf_change::encode(change),
    };
    (commit + 1..).zip(&changes).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(own: u64, members: &[(u64, bool)]) -> Vec<(u64, i32, u64)> {
        let entries = changes(MemberId(own), members.iter().copied().collect(), 3, 10);
        let tell = |entry: &Entry| {
            let change = conf_change::decode(&entry.data).expect("a change");
            assert_eq!(entry.term, 3);
            (entry.index, change.r#type, change.node_id)
        };
        entries.iter().map(tell).collect()
    }

    #[test]
    fn others_are_removed_after_the_member_itself_votes() {
        assert_eq!(told(1, &[(1, true)]), []);
        assert_eq!(told(2, &[(1, true), (2, true), (3, false)]), [(11, 1, 1), (12, 1, 3)]);
        assert_eq!(told(3, &[(1, true), (3, false)]), [(11, 0, 3), (12, 1, 1)]);
        assert_eq!(told(4, &[(1, true)]), [(11, 0, 4), (12, 1, 1)]);
    }

    #[test]
    fn committed_changes_that_are_not_applied_count() {
        let member = |id| Member { id: MemberId(id), ..Member::default() };
        let entries = changes(MemberId(1), BTreeMap::from([(1, true), (2, true)]), 3, 10);
        let raft = DurableState { entries, applied: 10, ..DurableState::default() };
        assert_eq!(voting(&[member(1), member(2)], &raft), BTreeMap::from([(1, true)]));
        let applied = DurableState { applied: 11, ..raft };
        assert_eq!(voting(&[member(1)], &applied), BTreeMap::from([(1, true)]));
    }
}
