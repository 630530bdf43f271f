//! The identity record: the one fact about a cluster kept outside what can be observed.
//!
//! It is written before the create ticket leaves, has no owner, as volumes have none unless
//! `deletionPolicy: Delete`, and makes a second creation impossible: once `formedAt` is set, nothing here
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
    /// The record was lost and written anew from what a serving member proved.
    Observed {
        /// The first member's claim at that time.
        claim_uid: String,
    },
}

/// Permission to begin the cluster, given once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// ID the cluster has.
    pub cluster_id: ClusterId,
    /// ID of the member that creates it.
    pub seed_member_id: MemberId,
    /// How it begins.
    pub origin: Origin,
    /// When it was given.
    pub at: Timestamp,
}

/// What ConfigMap `<cluster>-identity` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRecord {
    /// UID of the `EtcdCluster`, which is the initial cluster token.
    pub cluster_uid: String,
    /// Permission to begin; absent until there is a pod or a claim to give it to.
    pub grant: Option<Grant>,
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
    /// The record of a cluster that has not begun.
    pub fn begun(cluster_uid: &str) -> Self {
        Self { cluster_uid: cluster_uid.to_owned(), grant: None, formed_at: None }
    }

    /// The ConfigMap's data.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let mut data = BTreeMap::from([
            ("version".to_owned(), "1".to_owned()),
            ("clusterUID".to_owned(), self.cluster_uid.clone()),
        ]);
        let mut put = |key: &str, value: String| data.insert(key.to_owned(), value);
        if let Some(grant) = &self.grant {
            put("clusterID", grant.cluster_id.hex16());
            put("seedMemberID", grant.seed_member_id.hex16());
            put("grantedAt", grant.at.to_string());
            match &grant.origin {
                Origin::Created { pod_uid, claim_uid } => {
                    put("origin", "created".to_owned());
                    put("seedPodUID", pod_uid.clone());
                    put("seedClaimUID", claim_uid.clone());
                }
                Origin::Restored { claim_uid } => {
                    put("origin", "restored".to_owned());
                    put("seedClaimUID", claim_uid.clone());
                }
                Origin::Observed { claim_uid } => {
                    put("origin", "observed".to_owned());
                    put("seedClaimUID", claim_uid.clone());
                }
            }
        }
        if let Some(formed) = self.formed_at {
            put("formedAt", formed.to_string());
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
        let version = text("version")?;
        if version != "1" {
            return Err(malformed("version", version, "a version this operator knows (1)"));
        }
        // Any trace of a grant makes all of it mandatory: a damaged grant must not read as none.
        let traces = ["clusterID", "seedMemberID", "grantedAt", "origin", "seedClaimUID", "formedAt"];
        let grant =
            traces.iter().any(|key| data.contains_key(*key)).then(|| Grant::from_text(&text)).transpose()?;
        let formed_at = data.get("formedAt").map(|t| time("formedAt", t.clone())).transpose()?;
        Ok(Self { cluster_uid: text("clusterUID")?, grant, formed_at })
    }
}

impl Grant {
    fn from_text(
        text: &impl Fn(&'static str) -> Result<String, IdentityError>,
    ) -> Result<Self, IdentityError> {
        let claim_uid = text("seedClaimUID")?;
        let origin = match text("origin")?.as_str() {
            "created" => Origin::Created { pod_uid: text("seedPodUID")?, claim_uid },
            "restored" => Origin::Restored { claim_uid },
            "observed" => Origin::Observed { claim_uid },
            other => return Err(malformed("origin", other.to_owned(), "created, restored or observed")),
        };
        let cluster_id = text("clusterID")?;
        let seed = text("seedMemberID")?;
        Ok(Self {
            cluster_id: ClusterId::from_hex(&cluster_id)
                .ok_or_else(|| malformed("clusterID", cluster_id, "hexadecimal"))?,
            seed_member_id: MemberId::from_hex(&seed)
                .ok_or_else(|| malformed("seedMemberID", seed, "hexadecimal"))?,
            origin,
            at: time("grantedAt", text("grantedAt")?)?,
        })
    }

    /// UID of the claim the first member's data is on.
    pub fn claim_uid(&self) -> &str {
        match &self.origin {
            Origin::Created { claim_uid, .. }
            | Origin::Restored { claim_uid }
            | Origin::Observed { claim_uid } => claim_uid,
        }
    }
}

fn time(key: &'static str, value: String) -> Result<Timestamp, IdentityError> {
    value.parse().map_err(|_| malformed(key, value, "an RFC 3339 time"))
}

fn malformed(key: &'static str, value: String, expected: &'static str) -> IdentityError {
    IdentityError::Malformed { key, value, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(origin: Origin, formed_at: Option<Timestamp>) -> IdentityRecord {
        let at = "2026-11-22T10:00:00Z".parse().unwrap();
        let grant = Grant { cluster_id: ClusterId(0xabc), seed_member_id: MemberId(7), origin, at };
        IdentityRecord { cluster_uid: "u-1".into(), grant: Some(grant), formed_at }
    }

    fn map(record: &IdentityRecord) -> ConfigMap {
        ConfigMap { data: Some(record.to_data()), ..ConfigMap::default() }
    }

    #[test]
    fn a_record_reads_back_as_written() {
        let created = Origin::Created { pod_uid: "p".into(), claim_uid: "c".into() };
        for record in [
            IdentityRecord::begun("u-1"),
            record(created, None),
            record(Origin::Restored { claim_uid: "c".into() }, Some(Timestamp::UNIX_EPOCH)),
        ] {
            assert_eq!(IdentityRecord::from_config_map(&map(&record)).as_ref(), Ok(&record));
        }
    }

    #[test]
    fn a_damaged_record_is_refused_by_key() {
        let good = record(Origin::Restored { claim_uid: "c".into() }, Some(Timestamp::UNIX_EPOCH));
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
