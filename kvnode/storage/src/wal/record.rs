//! The data inside log records: entries, hard states, metadata and snapshot marks, byte for byte as etcd writes them.

use bytes::Bytes;
use kvnode_proto::{
    raftpb::{ConfState, Entry, EntryType, HardState},
    walpb,
};
use prost::Message;

use crate::pb::{Value, put_varint, put_varint_field, take_field};

/// Whose log it is. Written once and repeated in every segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The member's id.
    pub node_id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
}

impl Metadata {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint_field(&mut out, 1, self.node_id);
        put_varint_field(&mut out, 2, self.cluster_id);
        out
    }

    pub(super) fn decode(mut data: &[u8]) -> Option<Self> {
        let mut ids = [0; 2];
        while !data.is_empty() {
            match take_field(&mut data)? {
                (field @ 1..=2, Value::Varint(id)) => ids[usize::from(field == 2)] = id,
                _ => return None,
            }
        }
        Some(Self { node_id: ids[0], cluster_id: ids[1] })
    }
}

/// Everything of an entry but its data, in `scratch`.
pub fn entry_head<'a>(scratch: &'a mut Vec<u8>, entry: &Entry) -> &'a [u8] {
    scratch.clear();
    put_varint_field(scratch, 1, u64::from(entry.r#type.unsigned_abs()));
    put_varint_field(scratch, 2, entry.term);
    put_varint_field(scratch, 3, entry.index);
    if !entry.data.is_empty() {
        scratch.push(4 << 3 | 2);
        put_varint(scratch, entry.data.len() as u64);
    }
    scratch
}

/// Reads an entry. `None` if it has anything that an entry never has.
pub fn decode_entry(mut data: &[u8]) -> Option<Entry> {
    let mut entry = Entry::default();
    while !data.is_empty() {
        match take_field(&mut data)? {
            (1, Value::Varint(kind)) => entry.r#type = i32::try_from(kind).ok()?,
            (2, Value::Varint(term)) => entry.term = term,
            (3, Value::Varint(index)) => entry.index = index,
            (4, Value::Bytes(bytes)) => entry.data = Bytes::copy_from_slice(bytes),
            _ => return None,
        }
    }
    let empty_change = entry.r#type != i32::from(EntryType::EntryNormal) && entry.data.is_empty();
    let known = EntryType::try_from(entry.r#type).is_ok() && !empty_change;
    (known && entry.term > 0 && entry.index > 0).then_some(entry)
}

/// A hard state in `scratch`.
pub fn encode_state<'a>(scratch: &'a mut Vec<u8>, state: &HardState) -> &'a [u8] {
    scratch.clear();
    put_varint_field(scratch, 1, state.term);
    put_varint_field(scratch, 2, state.vote);
    put_varint_field(scratch, 3, state.commit);
    scratch
}

/// Reads a hard state. `None` if it has anything that one never has; a written one always has a term.
pub fn decode_state(mut data: &[u8]) -> Option<HardState> {
    let mut state = HardState::default();
    while !data.is_empty() {
        match take_field(&mut data)? {
            (1, Value::Varint(term)) => state.term = term,
            (2, Value::Varint(vote)) => state.vote = vote,
            (3, Value::Varint(commit)) => state.commit = commit,
            _ => return None,
        }
    }
    (state.term > 0).then_some(state)
}

/// A snapshot mark. Index and term are written even when zero: etcd's writer insists on their presence.
pub fn encode_mark(mark: &walpb::Snapshot) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint_field(&mut out, 1, mark.index);
    put_varint_field(&mut out, 2, mark.term);
    if let Some(members) = &mark.conf_state {
        let members: &ConfState = members;
        out.push(3 << 3 | 2);
        put_varint(&mut out, members.encoded_len() as u64);
        out.extend_from_slice(&members.encode_to_vec());
    }
    out
}

/// Reads a snapshot mark.
pub fn decode_mark(data: &[u8]) -> Option<walpb::Snapshot> {
    walpb::Snapshot::decode(data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_hold_what_etcd_puts_in_them() {
        let mut scratch = Vec::new();
        let entry = Entry { r#type: 0, term: 2, index: 300, data: Bytes::from_static(b"xy") };
        assert_eq!(entry_head(&mut scratch, &entry), [0x08, 0, 0x10, 2, 0x18, 0xac, 2, 0x22, 2]);
        scratch.extend_from_slice(&entry.data);
        assert_eq!(decode_entry(&scratch), Some(entry));
        let state = HardState { term: 1, vote: 0, commit: 0 };
        assert_eq!(encode_state(&mut scratch, &state), [0x08, 1, 0x10, 0, 0x18, 0]);
        assert_eq!(decode_state(&scratch), Some(state));
        assert_eq!(encode_mark(&walpb::Snapshot::default()), [0x08, 0, 0x10, 0]);
        let mark = walpb::Snapshot {
            index: 5,
            term: 1,
            conf_state: Some(ConfState { voters: vec![9], ..Default::default() }),
        };
        assert_eq!(encode_mark(&mark), [0x08, 5, 0x10, 1, 0x1a, 2, 0x08, 9]);
        assert_eq!(decode_mark(&encode_mark(&mark)), Some(mark));
        let metadata = Metadata { node_id: 1, cluster_id: 128 };
        assert_eq!(metadata.encode(), [0x08, 1, 0x10, 0x80, 1]);
        assert_eq!(Metadata::decode(&metadata.encode()), Some(metadata));
    }

    /// The record type is outside the checksum; an entry and a state differ in it by one bit.
    #[test]
    fn an_entry_never_passes_for_a_state_nor_a_state_for_an_entry() {
        let mut scratch = Vec::new();
        let empty = Entry { term: 3, index: 9, ..Entry::default() };
        assert_eq!(decode_state(entry_head(&mut scratch, &empty)), None);
        for (term, vote, commit) in [(1, 0, 0), (1, 5, 7), (2, 5, 7), (3, 5, 7), (u64::MAX, 5, 7)] {
            let state = HardState { term, vote, commit };
            assert_eq!(decode_entry(encode_state(&mut scratch, &state)), None, "{state:?}");
        }
    }
}
