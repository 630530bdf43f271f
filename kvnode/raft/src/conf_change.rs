//! Membership changes: read and judged by our own types before the raft core sees them.
//!
//! The raft crate numbers kinds differently from etcd (it has no *update*, and *add learner* is 2 instead of 3), so its
//! own parser never sees an entry: [`crate::RaftNode`] proposes changes without it and applies what is decoded here.

use kvnode_proto::raftpb;
use prost::Message as _;
use raft::eraftpb;

use crate::{error::ConfChangeError, id::MemberId};

/// Reads a membership change from the data of a log entry.
///
/// # Errors
/// When the bytes are malformed or the kind is unknown. Whether there is such a member is for the state machine to say:
/// etcd logs a change to member 0 as any other, and finds nobody by that id when it applies it.
pub fn decode(data: &[u8]) -> Result<raftpb::ConfChange, ConfChangeError> {
    let change = raftpb::ConfChange::decode(data).map_err(|e| ConfChangeError::Decode(e.to_string()))?;
    kind(&change)?;
    Ok(change)
}

/// Judges the entries of a proposal that a peer forwarded.
pub(crate) fn check_proposal(entries: &[raftpb::Entry]) -> Result<(), ConfChangeError> {
    for entry in entries {
        match raftpb::EntryType::try_from(entry.r#type) {
            Ok(raftpb::EntryType::EntryNormal) => {}
            Ok(raftpb::EntryType::EntryConfChange) => {
                decode(&entry.data)?;
            }
            Ok(raftpb::EntryType::EntryConfChangeV2) => return Err(ConfChangeError::Joint),
            Err(_) => return Err(ConfChangeError::UnknownKind(entry.r#type)),
        }
    }
    Ok(())
}

/// The change in the raft crate's terms. `None`: an update, which concerns the member's attributes and not raft.
pub(crate) fn change_in(change: &raftpb::ConfChange) -> Result<Option<eraftpb::ConfChange>, ConfChangeError> {
    use raftpb::ConfChangeType as Kind;
    let kind = match kind(change)? {
        Kind::ConfChangeAddNode => eraftpb::ConfChangeType::AddNode,
        Kind::ConfChangeRemoveNode => eraftpb::ConfChangeType::RemoveNode,
        Kind::ConfChangeAddLearnerNode => eraftpb::ConfChangeType::AddLearnerNode,
        Kind::ConfChangeUpdateNode => return Ok(None),
    };
    let mut out = eraftpb::ConfChange::default();
    out.set_change_type(kind);
    out.node_id = change.node_id;
    Ok(Some(out))
}

fn kind(change: &raftpb::ConfChange) -> Result<raftpb::ConfChangeType, ConfChangeError> {
    raftpb::ConfChangeType::try_from(change.r#type).map_err(|_| ConfChangeError::UnknownKind(change.r#type))
}

/// Encodes a change as the data of a log entry, byte for byte as etcd 3.7 does: with its type even where that is 0, since
/// each member writes the first entries of a cluster by itself and logs should be alike.
#[must_use]
pub fn encode(change: &raftpb::ConfChange) -> bytes::Bytes {
    let id = raftpb::ConfChange { id: change.id, ..Default::default() };
    let add_node: &[u8] = if change.r#type == 0 { &[TYPE_TAG, 0] } else { &[] };
    let rest = raftpb::ConfChange { id: 0, ..change.clone() };
    [&id.encode_to_vec(), add_node, &rest.encode_to_vec()].concat().into()
}

/// Field 2, a varint.
const TYPE_TAG: u8 = 2 << 3;

/// The entry that makes `member` a voter when a cluster is created; `context` is etcd's JSON of the member.
///
/// Every bootstrapping member writes the same entries, at term 1 from index 1, as already committed: that is how etcd
/// creates a static cluster, and why members must agree on the initial cluster to the letter.
#[must_use]
pub fn bootstrap_entry(index: u64, member: MemberId, context: bytes::Bytes) -> raftpb::Entry {
    let change = raftpb::ConfChange {
        id: 0,
        r#type: raftpb::ConfChangeType::ConfChangeAddNode as i32,
        node_id: member.0,
        context,
    };
    raftpb::Entry { r#type: raftpb::EntryType::EntryConfChange as i32, term: 1, index, data: encode(&change) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: i32, node_id: u64) -> raftpb::ConfChange {
        raftpb::ConfChange { r#type: kind, node_id, ..Default::default() }
    }

    #[test]
    fn etcd_numbers_are_translated() {
        let kind_of = |n| change_in(&change(n, 7)).map(|c| c.map(|c| c.get_change_type()));
        assert_eq!(kind_of(0), Ok(Some(eraftpb::ConfChangeType::AddNode)));
        assert_eq!(kind_of(1), Ok(Some(eraftpb::ConfChangeType::RemoveNode)));
        assert_eq!(kind_of(2), Ok(None), "an update is not the raft crate's 2, add learner");
        assert_eq!(kind_of(3), Ok(Some(eraftpb::ConfChangeType::AddLearnerNode)));
        assert_eq!(kind_of(4), Err(ConfChangeError::UnknownKind(4)));
    }

    #[test]
    fn the_first_entries_are_etcd_s_to_the_byte() {
        let entry = bootstrap_entry(1, MemberId(7), bytes::Bytes::from_static(b"{}"));
        assert_eq!(&entry.data[..], [0x10, 0, 0x18, 7, 0x22, 2, b'{', b'}']);
        let removal = raftpb::ConfChange { id: 5, ..change(1, 7) };
        assert_eq!(&encode(&removal)[..], [0x08, 5, 0x10, 1, 0x18, 7]);
        assert_eq!(decode(&encode(&removal)), Ok(removal));
    }

    #[test]
    fn malformed_changes_are_refused() {
        assert!(matches!(decode(&[0xff]), Err(ConfChangeError::Decode(_))));
        assert_eq!(decode(&encode(&change(9, 7))), Err(ConfChangeError::UnknownKind(9)));
        let joint = raftpb::Entry { r#type: 2, ..Default::default() };
        assert_eq!(check_proposal(&[joint]), Err(ConfChangeError::Joint));
    }
}
