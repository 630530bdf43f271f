//! The state as etcd's files hold it: named buckets of sorted rows (etcd: `server/storage/schema`).
//!
//! A checkpoint, a snapshot for clients and a snapshot for a lagging member are all this. [`crate::restore`] reads it
//! back.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvnode_proto::{etcdserverpb::AlarmType, leasepb, raftpb::ConfState};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{
    ids::Revision,
    log::RevisionKey,
    membership::json::{encode_downgrade, encode_member, go_json},
    state::View,
};

/// All buckets, sorted by name. etcd creates them all at once, so a file has them also when they are empty.
pub const BUCKETS: [&str; 10] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    "key",
    "lease",
    "members",
    "members_removed",
    "meta",
];

/// What a removed member's row says.
const REMOVED: &[u8] = b"removed";

const TOMBSTONE_MARK: u8 = b't';

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

impl View {
    /// Rows of one of [`BUCKETS`], sorted by key; no rows for any other name.
    #[must_use]
    pub fn bucket_items(&self, bucket: &str) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + '_> {
        let rows = match bucket {
            "key" => return Box::new(self.key_rows()),
            "alarm" => self
                .0
                .alarms
                .list(AlarmType::None as i32)
                .iter()
                .map(|a| (a.encode_to_vec(), Vec::new()))
                .collect(),
            "auth" => self.auth_rows(),
            "authRoles" => named(self.0.auth.roles.iter().map(|(name, role)| (name, role.encode_to_vec()))),
            "authUsers" => named(self.0.auth.users.iter().map(|(name, user)| (name, user.encode_to_vec()))),
            "cluster" => self.cluster_rows(),
            "lease" => self.lease_rows(),
            "members" => self
                .0
                .membership
                .members
                .values()
                .map(|m| (m.id.to_string().into_bytes(), encode_member(m)))
                .collect(),
            "members_removed" => {
                let removed = self.0.membership.removed.iter();
                removed.map(|id| (id.to_string().into_bytes(), REMOVED.to_vec())).collect()
            }
            "meta" => self.meta_rows(),
            _ => Rows::new(),
        };
        Box::new(rows.into_iter().map(|(key, value)| (Bytes::from(key), Bytes::from(value))))
    }

    fn key_rows(&self) -> impl Iterator<Item = (Bytes, Bytes)> + '_ {
        self.0.kv.log.from(0).map(|(_, entry)| (entry.key.to_bytes(), entry.record.bytes().clone()))
    }

    fn auth_rows(&self) -> Rows {
        let enabled = self.0.auth.enabled.map(|enabled| (b"authEnabled".to_vec(), vec![u8::from(enabled)]));
        let revision = (b"authRevision".to_vec(), self.0.auth.revision.to_be_bytes().to_vec());
        enabled.into_iter().chain([revision]).collect()
    }

    fn cluster_rows(&self) -> Rows {
        let membership = &self.0.membership;
        let version =
            membership.cluster_version.as_ref().map(|v| (b"clusterVersion".to_vec(), v.clone().into_bytes()));
        let downgrade = membership.downgrade.as_ref().map(|d| (b"downgrade".to_vec(), encode_downgrade(d)));
        version.into_iter().chain(downgrade).collect()
    }

    fn lease_rows(&self) -> Rows {
        let row = |state: &crate::lease::LeaseState| {
            let lease = leasepb::Lease {
                id: state.lease.id.0,
                ttl: state.lease.ttl_seconds,
                remaining_ttl: state.lease.remaining_ttl_seconds,
            };
            (state.lease.id.0.to_be_bytes().to_vec(), lease.encode_to_vec())
        };
        self.0.leases.iter().map(row).collect()
    }

    fn meta_rows(&self) -> Rows {
        let (kv, mut rows) = (&self.0.kv, Rows::new());
        // etcd writes neither before the first entry.
        if self.0.applied.0 > 0 {
            rows.insert(b"consistent_index".to_vec(), self.0.applied.0.to_be_bytes().to_vec());
            if self.0.term.0 > 0 {
                rows.insert(b"term".to_vec(), self.0.term.0.to_be_bytes().to_vec());
            }
        }
        for (name, revision) in [("scheduledCompactRev", kv.compacted), ("finishedCompactRev", kv.scrubbed)] {
            if revision >= Revision(0) {
                let row = RevisionKey { main: revision.0, sub: 0, tombstone: false };
                rows.insert(name.into(), row.to_bytes().to_vec());
            }
        }
        if let Some(conf_state) = &self.0.conf_state {
            rows.insert(b"confState".to_vec(), encode_conf_state(conf_state));
        }
        if let Some(version) = &self.0.storage_version {
            rows.insert(b"storageVersion".to_vec(), version.as_bytes().to_vec());
        }
        rows
    }
}

fn named<'a>(rows: impl Iterator<Item = (&'a String, Vec<u8>)>) -> Rows {
    rows.map(|(name, value)| (name.clone().into_bytes(), value)).collect()
}

impl RevisionKey {
    /// The key of a row in bucket `key`: main and sub-revision in big endian, and a mark for deletions.
    #[must_use]
    pub fn to_bytes(self) -> Bytes {
        let mut bytes = Vec::with_capacity(18);
        bytes.extend_from_slice(&self.main.to_be_bytes());
        bytes.push(b'_');
        bytes.extend_from_slice(&i64::from(self.sub).to_be_bytes());
        if self.tombstone {
            bytes.push(TOMBSTONE_MARK);
        }
        bytes.into()
    }

    /// Reads what [`Self::to_bytes`] or etcd wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (revision, mark) = bytes.split_at_checked(17)?;
        let tombstone = match mark {
            [] => false,
            [TOMBSTONE_MARK] => true,
            _ => return None,
        };
        let main = i64::from_be_bytes(revision[..8].try_into().ok()?);
        let sub = i64::from_be_bytes(revision[9..].try_into().ok()?);
        // The top bit is taken by the mark in memory; no transaction has two thousand million writes.
        let sub = u32::try_from(sub).ok().filter(|sub| *sub < 1 << 31)?;
        (revision[8] == b'_' && main >= 0).then_some(Self { main, sub, tombstone })
    }
}

#[derive(Serialize, Deserialize)]
struct ConfStateJson {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    voters_outgoing: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learners_next: Vec<u64>,
    #[serde(default)]
    auto_leave: bool,
}

fn encode_conf_state(state: &ConfState) -> Vec<u8> {
    go_json(&ConfStateJson {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
    })
}

pub(crate) fn decode_conf_state(bytes: &[u8]) -> Option<ConfState> {
    let json: ConfStateJson = serde_json::from_slice(bytes).ok()?;
    Some(ConfState {
        voters: json.voters,
        learners: json.learners,
        voters_outgoing: json.voters_outgoing,
        learners_next: json.learners_next,
        auto_leave: json.auto_leave,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_keys_are_etcds() {
        let put = RevisionKey { main: 258, sub: 1, tombstone: false };
        assert_eq!(put.to_bytes().as_ref(), b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x01");
        let delete = RevisionKey { tombstone: true, ..put };
        assert_eq!(delete.to_bytes().as_ref(), b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x01t");
        for key in [put, delete] {
            assert_eq!(RevisionKey::from_bytes(&key.to_bytes()), Some(key));
        }
        for bytes in [
            &b""[..],
            b"\0\0\0\0\0\0\x01\x02-\0\0\0\0\0\0\0\x01",
            b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x01x",
        ] {
            assert_eq!(RevisionKey::from_bytes(bytes), None);
        }
    }

    #[test]
    fn conf_state_is_go_json() {
        let state = ConfState { voters: vec![u64::MAX, 1], ..ConfState::default() };
        assert_eq!(encode_conf_state(&state), br#"{"voters":[18446744073709551615,1],"auto_leave":false}"#);
        assert_eq!(decode_conf_state(&encode_conf_state(&state)), Some(state));
        assert_eq!(decode_conf_state(b"{}"), Some(ConfState::default()));
    }
}
