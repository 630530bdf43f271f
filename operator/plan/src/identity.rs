//! The identity record: the one fact about a cluster kept outside what can be observed.
//!
//! It is written before the create ticket leaves, lives as long as the volumes (no owner unless
//! `deletionPolicy: Delete`), and makes a second creation impossible: once `formedAt` is set, nothing here
//! ever grants creation again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::ids::{ClusterId, MemberId};

/// How the first member gets its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A create ticket, given to one pod on one volume.
    Created {
        /// The pod that was given the ticket.
        pod_uid: String,
        /// The claim it was to write to.
        claim_uid: String,
    },
    /// A restore Job wrote the volume.
    Restored {
        /// The claim it was to write to.
        claim_uid: String,
    },
}

/// What ConfigMap `<cluster>-identity` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRecord {
    /// UID of the `EtcdCluster`, which is the initial cluster token.
    pub cluster_uid: String,
    /// ID the cluster has.
    pub cluster_id: ClusterId,
    /// ID of the member that creates it.
    pub seed_member_id: MemberId,
    /// How it begins.
    pub origin: Origin,
    /// When creation was granted.
    pub granted_at: Timestamp,
    /// When the cluster was first seen serving; from then on nothing may create it again.
    pub formed_at: Option<Timestamp>,
}

/// Why an identity ConfigMap does not read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// A key is not there.
    #[error("key {0} is missing")]
    Missing(&'static str),
    /// A key does not hold what it should.
    #[error("key {key} holds {value:?}, which is not {expected}")]
    Malformed {
        /// The key.
        key: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
}

impl IdentityRecord {
    /// The ConfigMap's data.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let mut data = BTreeMap::from([
            ("version".to_owned(), "1".to_owned()),
            ("clusterUID".to_owned(), self.cluster_uid.clone()),
            ("clusterID".to_owned(), self.cluster_id.hex16()),
            ("seedMemberID".to_owned(), self.seed_member_id.hex16()),
            ("grantedAt".to_owned(), self.granted_at.to_string()),
        ]);
        match &self.origin {
            Origin::Created { pod_uid, claim_uid } => {
                data.insert("origin".to_owned(), "created".to_owned());
                data.insert("seedPodUID".to_owned(), pod_uid.clone());
                data.insert("seedClaimUID".to_owned(), claim_uid.clone());
            }
            Origin::Restored { claim_uid } => {
                data.insert("origin".to_owned(), "restored".to_owned());
                data.insert("seedClaimUID".to_owned(), claim_uid.clone());
            }
        }
        if let Some(formed) = self.formed_at {
            data.insert("formedAt".to_owned(), formed.to_string());
        }
        data
    }

    /// Reads a ConfigMap.
    ///
    /// # Errors
    /// If a key is missing or malformed; the caller must not guess.
    pub fn from_config_map(map: &ConfigMap) -> Result<Self, IdentityError> {
        let data = map.data.as_ref().ok_or(IdentityError::Missing("clusterUID"))?;
        let text = |key: &'static str| data.get(key).cloned().ok_or(IdentityError::Missing(key));
        let time = |key: &'static str, value: String| {
            value.parse().map_err(|_| malformed(key, value, "an RFC 3339 time"))
        };
        let version = text("version")?;
        if version != "1" {
            return Err(malformed("version", version, "a version this operator knows (1)"));
        }
        let claim_uid = text("seedClaimUID")?;
        let origin = match text("origin")?.as_str() {
            "created" => Origin::Created { pod_uid: text("seedPodUID")?, claim_uid },
            "restored" => Origin::Restored { claim_uid },
            other => return Err(malformed("origin", other.to_owned(), "created or restored")),
        };
        let cluster_id = text("clusterID")?;
        let seed = text("seedMemberID")?;
        Ok(Self {
            cluster_uid: text("clusterUID")?,
            cluster_id: ClusterId::from_hex(&cluster_id)
                .ok_or_else(|| malformed("clusterID", cluster_id, "hexadecimal"))?,
            seed_member_id: MemberId::from_hex(&seed)
                .ok_or_else(|| malformed("seedMemberID", seed, "hexadecimal"))?,
            origin,
            granted_at: time("grantedAt", text("grantedAt")?)?,
            formed_at: data.get("formedAt").map(|t| time("formedAt", t.clone())).transpose()?,
        })
    }
}

fn malformed(key: &'static str, value: String, expected: &'static str) -> IdentityError {
    IdentityError::Malformed { key, value, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(origin: Origin, formed_at: Option<Timestamp>) -> IdentityRecord {
        IdentityRecord {
            cluster_uid: "u-1".into(),
            cluster_id: ClusterId(0xabc),
            seed_member_id: MemberId(7),
            origin,
            granted_at: "2026-11-22T10:00:00Z".parse().unwrap(),
            formed_at,
        }
    }

    fn map(record: &IdentityRecord) -> ConfigMap {
        ConfigMap { data: Some(record.to_data()), ..ConfigMap::default() }
    }

    #[test]
    fn a_record_reads_back_as_written() {
        let created = Origin::Created { pod_uid: "p".into(), claim_uid: "c".into() };
        for record in [
            record(created, None),
            record(Origin::Restored { claim_uid: "c".into() }, Some(Timestamp::UNIX_EPOCH)),
        ] {
            assert_eq!(IdentityRecord::from_config_map(&map(&record)).as_ref(), Ok(&record));
        }
    }

    #[test]
    fn a_damaged_record_is_refused_by_key() {
        let good = record(Origin::Restored { claim_uid: "c".into() }, None);
        for key in
            ["version", "clusterUID", "clusterID", "seedMemberID", "grantedAt", "origin", "seedClaimUID"]
        {
            let mut lacking = map(&good);
            lacking.data.as_mut().unwrap().remove(key);
            assert_eq!(IdentityRecord::from_config_map(&lacking), Err(IdentityError::Missing(key)), "{key}");
        }
        let mut newer = map(&good);
        newer.data.as_mut().unwrap().insert("version".into(), "2".into());
        assert!(IdentityRecord::from_config_map(&newer).is_err());
    }
}
