//! etcd's messages to the raft crate's and back, field by field.
//!
//! Both descend from the same protocol and share names and numbers with three exceptions, which is why nothing here is
//! a cast: the raft crate uses field 13 (etcd's `vote`) for something else, knows fields etcd does not send
//! (`commit_term`, priorities), and numbers membership changes differently. Entry data and contexts are [`bytes::Bytes`]
//! on both sides and are shared, not copied.

use kvnode_proto::raftpb;
use raft::eraftpb;

/// A message from a peer, for the raft core. `None`: a type the core does not know.
pub(crate) fn message_in(m: raftpb::Message) -> Option<eraftpb::Message> {
    let mut out = eraftpb::Message::default();
    out.set_msg_type(message_type_in(m.r#type())?);
    out.to = m.to;
    out.from = m.from;
    out.term = m.term;
    out.log_term = m.log_term;
    out.index = m.index;
    out.set_entries(m.entries.into_iter().map(entry_in).collect::<Vec<_>>().into());
    out.commit = m.commit;
    if let Some(snapshot) = m.snapshot {
        // etcd attaches an empty snapshot to every message; only one with an index is one.
        if snapshot.metadata.as_ref().is_some_and(|meta| meta.index > 0) {
            out.set_snapshot(snapshot_in(snapshot));
        }
    }
    out.reject = m.reject;
    out.reject_hint = m.reject_hint;
    out.context = m.context;
    Some(out)
}

/// A message of the raft core, for a peer.
pub(crate) fn message_out(m: eraftpb::Message) -> raftpb::Message {
    raftpb::Message {
        r#type: message_type_out(m.get_msg_type()) as i32,
        to: m.to,
        from: m.from,
        term: m.term,
        log_term: m.log_term,
        index: m.index,
        entries: m.entries.into_iter().map(entry_out).collect(),
        commit: m.commit,
        snapshot: m.snapshot.into_option().map(snapshot_out),
        reject: m.reject,
        reject_hint: m.reject_hint,
        context: m.context,
        vote: 0,
    }
}

pub(crate) fn entry_in(e: raftpb::Entry) -> eraftpb::Entry {
    let mut out = eraftpb::Entry::default();
    out.set_entry_type(match e.r#type() {
        raftpb::EntryType::EntryNormal => eraftpb::EntryType::EntryNormal,
        raftpb::EntryType::EntryConfChange => eraftpb::EntryType::EntryConfChange,
        raftpb::EntryType::EntryConfChangeV2 => eraftpb::EntryType::EntryConfChangeV2,
    });
    out.term = e.term;
    out.index = e.index;
    out.data = e.data;
    out
}

pub(crate) fn entry_out(e: eraftpb::Entry) -> raftpb::Entry {
    raftpb::Entry {
        r#type: match e.get_entry_type() {
            eraftpb::EntryType::EntryNormal => raftpb::EntryType::EntryNormal,
            eraftpb::EntryType::EntryConfChange => raftpb::EntryType::EntryConfChange,
            eraftpb::EntryType::EntryConfChangeV2 => raftpb::EntryType::EntryConfChangeV2,
        } as i32,
        term: e.term,
        index: e.index,
        data: e.data,
    }
}

pub(crate) fn hard_state_in(hs: raftpb::HardState) -> eraftpb::HardState {
    eraftpb::HardState { term: hs.term, vote: hs.vote, commit: hs.commit, ..Default::default() }
}

pub(crate) fn hard_state_out(hs: &eraftpb::HardState) -> raftpb::HardState {
    raftpb::HardState { term: hs.term, vote: hs.vote, commit: hs.commit }
}

pub(crate) fn conf_state_in(cs: raftpb::ConfState) -> eraftpb::ConfState {
    eraftpb::ConfState {
        voters: cs.voters,
        learners: cs.learners,
        voters_outgoing: cs.voters_outgoing,
        learners_next: cs.learners_next,
        auto_leave: cs.auto_leave,
        ..Default::default()
    }
}

/// Sorted, so that equal configurations are equal messages on every member.
pub(crate) fn conf_state_out(cs: eraftpb::ConfState) -> raftpb::ConfState {
    let sorted = |mut ids: Vec<u64>| {
        ids.sort_unstable();
        ids
    };
    raftpb::ConfState {
        voters: sorted(cs.voters),
        learners: sorted(cs.learners),
        voters_outgoing: sorted(cs.voters_outgoing),
        learners_next: sorted(cs.learners_next),
        auto_leave: cs.auto_leave,
    }
}

fn snapshot_in(s: raftpb::Snapshot) -> eraftpb::Snapshot {
    let mut out = eraftpb::Snapshot { data: s.data, ..Default::default() };
    let metadata = s.metadata.unwrap_or_default();
    let meta = out.mut_metadata();
    meta.index = metadata.index;
    meta.term = metadata.term;
    meta.set_conf_state(conf_state_in(metadata.conf_state.unwrap_or_default()));
    out
}

pub(crate) fn snapshot_out(mut s: eraftpb::Snapshot) -> raftpb::Snapshot {
    let mut meta = s.take_metadata();
    raftpb::Snapshot {
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(conf_state_out(meta.take_conf_state())),
            index: meta.index,
            term: meta.term,
        }),
        data: s.data,
    }
}

fn message_type_in(kind: raftpb::MessageType) -> Option<eraftpb::MessageType> {
    use eraftpb::MessageType as In;
    use raftpb::MessageType as Out;
    Some(match kind {
        Out::MsgHup => In::MsgHup,
        Out::MsgBeat => In::MsgBeat,
        Out::MsgProp => In::MsgPropose,
        Out::MsgApp => In::MsgAppend,
        Out::MsgAppResp => In::MsgAppendResponse,
        Out::MsgVote => In::MsgRequestVote,
        Out::MsgVoteResp => In::MsgRequestVoteResponse,
        Out::MsgSnap => In::MsgSnapshot,
        Out::MsgHeartbeat => In::MsgHeartbeat,
        Out::MsgHeartbeatResp => In::MsgHeartbeatResponse,
        Out::MsgUnreachable => In::MsgUnreachable,
        Out::MsgSnapStatus => In::MsgSnapStatus,
        Out::MsgCheckQuorum => In::MsgCheckQuorum,
        Out::MsgTransferLeader => In::MsgTransferLeader,
        Out::MsgTimeoutNow => In::MsgTimeoutNow,
        Out::MsgReadIndex => In::MsgReadIndex,
        Out::MsgReadIndexResp => In::MsgReadIndexResp,
        Out::MsgPreVote => In::MsgRequestPreVote,
        Out::MsgPreVoteResp => In::MsgRequestPreVoteResponse,
        Out::MsgStorageAppend
        | Out::MsgStorageAppendResp
        | Out::MsgStorageApply
        | Out::MsgStorageApplyResp
        | Out::MsgForgetLeader => return None,
    })
}

fn message_type_out(kind: eraftpb::MessageType) -> raftpb::MessageType {
    use eraftpb::MessageType as In;
    use raftpb::MessageType as Out;
    match kind {
        In::MsgHup => Out::MsgHup,
        In::MsgBeat => Out::MsgBeat,
        In::MsgPropose => Out::MsgProp,
        In::MsgAppend => Out::MsgApp,
        In::MsgAppendResponse => Out::MsgAppResp,
        In::MsgRequestVote => Out::MsgVote,
        In::MsgRequestVoteResponse => Out::MsgVoteResp,
        In::MsgSnapshot => Out::MsgSnap,
        In::MsgHeartbeat => Out::MsgHeartbeat,
        In::MsgHeartbeatResponse => Out::MsgHeartbeatResp,
        In::MsgUnreachable => Out::MsgUnreachable,
        In::MsgSnapStatus => Out::MsgSnapStatus,
        In::MsgCheckQuorum => Out::MsgCheckQuorum,
        In::MsgTransferLeader => Out::MsgTransferLeader,
        In::MsgTimeoutNow => Out::MsgTimeoutNow,
        In::MsgReadIndex => Out::MsgReadIndex,
        In::MsgReadIndexResp => Out::MsgReadIndexResp,
        In::MsgRequestPreVote => Out::MsgPreVote,
        In::MsgRequestPreVoteResponse => Out::MsgPreVoteResp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn every_field_survives_the_round_trip() {
        let m = raftpb::Message {
            r#type: raftpb::MessageType::MsgSnap as i32,
            to: 1,
            from: 2,
            term: 3,
            log_term: 4,
            index: 5,
            entries: vec![raftpb::Entry { r#type: 1, term: 3, index: 6, data: Bytes::from_static(b"data") }],
            commit: 7,
            snapshot: Some(raftpb::Snapshot {
                data: Bytes::from_static(b"state"),
                metadata: Some(raftpb::SnapshotMetadata {
                    conf_state: Some(raftpb::ConfState {
                        voters: vec![1, 2],
                        learners: vec![3],
                        voters_outgoing: vec![4],
                        learners_next: vec![5],
                        auto_leave: true,
                    }),
                    index: 8,
                    term: 9,
                }),
            }),
            reject: true,
            reject_hint: 10,
            context: Bytes::from_static(b"context"),
            vote: 0,
        };
        assert_eq!(message_in(m.clone()).map(message_out), Some(m));
    }

    #[test]
    fn every_type_keeps_its_number() {
        for number in 0..=18 {
            let kind = raftpb::MessageType::try_from(number).expect("a type of etcd's protocol");
            let there = message_type_in(kind).expect("a type that crosses the network");
            assert_eq!(message_type_out(there) as i32, number);
        }
        assert!(message_type_in(raftpb::MessageType::MsgStorageAppend).is_none());
    }

    #[test]
    fn an_empty_snapshot_is_none() {
        let m = raftpb::Message { snapshot: Some(raftpb::Snapshot::default()), ..Default::default() };
        assert!(!message_in(m).expect("MsgHup").has_snapshot());
    }
}
