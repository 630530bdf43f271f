//! Reads state back from buckets, whether kvnode or etcd wrote them (etcd: `store.restore`, `lessor.initAndRecover`,
//! `membership.Recover`, `authStore.Recover`).
//!
//! Nothing that looks wrong is guessed around: a file that is not what it should be is refused with the row that tells.

use std::ops::ControlFlow;

use bytes::Bytes;
use kvnode_proto::{
    authpb::{Role, User},
    etcdserverpb::AlarmMember,
    leasepb,
};
use prost::Message;

use crate::{
    buckets::decode_conf_state,
    ids::{LeaseId, MemberId, RaftIndex, Revision, Term},
    index::Version,
    key_range::KeyRange,
    lease::Lease,
    log::RevisionKey,
    membership::json::{decode_downgrade, decode_member},
    record::Record,
    state::State,
    store::{Config, Store},
};

/// A row that cannot be what etcd or kvnode wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot restore the row {key:?} of bucket {bucket:?}: {why}; restore the member from a snapshot or another member"
)]
pub struct RestoreError {
    /// Where the row stands.
    pub bucket: &'static str,
    /// Its key.
    pub key: Bytes,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Makes errors about rows of one bucket.
#[derive(Clone, Copy)]
struct Bucket(&'static str);

impl Bucket {
    fn error(self, key: &Bytes, why: &'static str) -> RestoreError {
        RestoreError { bucket: self.0, key: key.clone(), why }
    }
}

impl Store {
    /// Rebuilds a store. `rows` gives the rows of a bucket in key order, and none for a bucket that the file lacks. A
    /// compaction that was not finished is taken up again ([`Store::scrub`]).
    ///
    /// # Errors
    /// A row is not what its bucket holds.
    pub fn restore<I>(config: Config, mut rows: impl FnMut(&'static str) -> I) -> Result<Self, RestoreError>
    where
        I: IntoIterator<Item = (Bytes, Bytes)>,
    {
        let mut state = State::default();
        let mut each =
            |bucket, row: fn(&mut State, Config, Bucket, &Bytes, &Bytes) -> Result<(), RestoreError>| {
                rows(bucket)
                    .into_iter()
                    .try_for_each(|(key, value)| row(&mut state, config, Bucket(bucket), &key, &value))
            };
        each("meta", meta)?;
        each("lease", lease)?;
        each("key", key_value)?;
        each("alarm", alarm)?;
        each("auth", auth)?;
        each("authUsers", user)?;
        each("authRoles", role)?;
        each("members", member)?;
        each("members_removed", member_removed)?;
        each("cluster", cluster)?;
        let kv = &mut state.kv;
        // All revisions up to the compacted one may be gone, but never did the revision go back.
        kv.revision = kv.revision.max(kv.compacted);
        // `etcdutl snapshot restore` leaves the configuration of the former cluster, so the members count, as they do for
        // etcd (`buildConfStateFromV3store`).
        if let Some(members) = state.membership.conf_state() {
            state.conf_state = Some(members.into());
        }
        state.auth.refresh();
        attach_leases(&mut state);
        Ok(Self::with_state(config, state))
    }
}

fn meta(
    state: &mut State,
    _: Config,
    bucket: Bucket,
    key: &Bytes,
    value: &Bytes,
) -> Result<(), RestoreError> {
    let number =
        || value.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| bucket.error(key, "not 8 bytes"));
    let revision = || {
        let revision = RevisionKey::from_bytes(value).ok_or_else(|| bucket.error(key, "not a revision"));
        revision.map(|revision| Revision(revision.main))
    };
    match key.as_ref() {
        b"consistent_index" => state.applied = RaftIndex(number()?),
        b"term" => state.term = Term(number()?),
        b"scheduledCompactRev" => state.kv.compacted = state.kv.compacted.max(revision()?),
        b"finishedCompactRev" => {
            state.kv.scrubbed = revision()?;
            state.kv.compacted = state.kv.compacted.max(state.kv.scrubbed);
        }
        b"confState" => {
            let conf_state =
                decode_conf_state(value).ok_or_else(|| bucket.error(key, "not a raft configuration"))?;
            state.conf_state = Some(conf_state.into());
        }
        b"storageVersion" => {
            let version = std::str::from_utf8(value).map_err(|_| bucket.error(key, "not a version"))?;
            state.storage_version = Some(version.into());
        }
        // etcd wrote other rows in other versions.
        _ => {}
    }
    Ok(())
}

fn lease(
    state: &mut State,
    config: Config,
    bucket: Bucket,
    key: &Bytes,
    value: &Bytes,
) -> Result<(), RestoreError> {
    let lease = leasepb::Lease::decode(value.clone()).map_err(|_| bucket.error(key, "not a lease"))?;
    state.leases.insert(Lease {
        id: LeaseId(lease.id),
        ttl_seconds: lease.ttl.max(config.min_lease_ttl_seconds),
        remaining_ttl_seconds: lease.remaining_ttl,
    });
    Ok(())
}

fn key_value(
    state: &mut State,
    _: Config,
    bucket: Bucket,
    key: &Bytes,
    value: &Bytes,
) -> Result<(), RestoreError> {
    let name = RevisionKey::from_bytes(key).ok_or_else(|| bucket.error(key, "not a revision"))?;
    if name.main < state.kv.revision.0 {
        return Err(bucket.error(key, "not in the order of revisions"));
    }
    // A copy: a slice would keep the whole file in memory.
    let record =
        Record::checked(Bytes::copy_from_slice(value)).ok_or_else(|| bucket.error(key, "not a key-value"))?;
    state.kv.revision = Revision(name.main);
    let address = state.kv.log.append(name, record.clone());
    let version = Version { main: name.main, address, tombstone: name.tombstone };
    state.kv.index.upsert(record.key_slice(), |_| version);
    Ok(())
}

fn alarm(state: &mut State, _: Config, bucket: Bucket, key: &Bytes, _: &Bytes) -> Result<(), RestoreError> {
    let alarm = AlarmMember::decode(key.clone()).map_err(|_| bucket.error(key, "not an alarm"))?;
    state.alarms.insert(&alarm);
    Ok(())
}

fn auth(
    state: &mut State,
    _: Config,
    bucket: Bucket,
    key: &Bytes,
    value: &Bytes,
) -> Result<(), RestoreError> {
    match key.as_ref() {
        b"authEnabled" => state.auth.enabled = Some(value.as_ref() == [1]),
        b"authRevision" => {
            let bytes = value.as_ref().try_into().map_err(|_| bucket.error(key, "not 8 bytes"))?;
            // A file from before the first start of authentication has 0; every store starts at 1.
            state.auth.revision = u64::from_be_bytes(bytes).max(1);
        }
        _ => {}
    }
    Ok(())
}

fn name_of(bucket: Bucket, key: &Bytes) -> Result<String, RestoreError> {
    String::from_utf8(key.to_vec()).map_err(|_| bucket.error(key, "not a name"))
}

fn user(
    state: &mut State,
    _: Config,
    bucket: Bucket,
    key: &Bytes,
    value: &Bytes,
) -> Result<(), RestoreError> {
    let user = User::decode(value.clone()).map_err(|_| bucket.error(key, "not a user"))?;
    state.auth.users.insert(name_of(bucket, key)?, user.into());
    Ok(())
}

fn role(
    state: &mut State,
    _: Config,
    bucket: Bucket,
    key: &Bytes,
    value: &Bytes,
) -> Result<(), RestoreError> {
    let role = Role::decode(value.clone()).map_err(|_| bucket.error(key, "not a role"))?;
    state.auth.roles.insert(name_of(bucket, key)?, role.into());
    Ok(())
}

fn member_id(bucket: Bucket, key: &Bytes) -> Result<MemberId, RestoreError> {
    let id = std::str::from_utf8(key).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    id.map(MemberId).ok_or_else(|| bucket.error(key, "not a member id in hexadecimal"))
}

fn member(
    state: &mut State,
    _: Config,
    bucket: Bucket,
    key: &Bytes,
    value: &Bytes,
) -> Result<(), RestoreError> {
    let id = member_id(bucket, key)?;
    let mut member = decode_member(value).map_err(|_| bucket.error(key, "not a member"))?;
    member.id = id;
    state.membership.members.insert(id, member);
    Ok(())
}

fn member_removed(
    state: &mut State,
    _: Config,
    bucket: Bucket,
    key: &Bytes,
    _: &Bytes,
) -> Result<(), RestoreError> {
    state.membership.removed.insert(member_id(bucket, key)?);
    Ok(())
}

fn cluster(
    state: &mut State,
    _: Config,
    bucket: Bucket,
    key: &Bytes,
    value: &Bytes,
) -> Result<(), RestoreError> {
    match key.as_ref() {
        b"clusterVersion" => {
            let version =
                String::from_utf8(value.to_vec()).map_err(|_| bucket.error(key, "not a version"))?;
            state.membership.cluster_version = Some(version);
        }
        b"downgrade" => {
            let downgrade = decode_downgrade(value).map_err(|_| bucket.error(key, "not a downgrade"))?;
            state.membership.downgrade = Some(downgrade);
        }
        _ => {}
    }
    Ok(())
}

/// Which keys hang on a lease is written only in the keys.
fn attach_leases(state: &mut State) {
    let State { kv, leases, .. } = state;
    if leases.len() == 0 {
        return;
    }
    kv.index.visit(&KeyRange::all(), kv.revision.0, |key, version| {
        leases.attach(LeaseId(kv.log.get(version.address).meta().lease), key);
        ControlFlow::Continue(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_count_and_not_the_configuration_beside_them() {
        let rows = |bucket| match bucket {
            "meta" => vec![(Bytes::from("confState"), Bytes::from(r#"{"voters":[7],"auto_leave":false}"#))],
            "members" => vec![
                (Bytes::from("a"), Bytes::from(r#"{"id":10,"peerURLs":["http://a:1"]}"#)),
                (Bytes::from("b"), Bytes::from(r#"{"id":11,"peerURLs":["http://b:1"],"isLearner":true}"#)),
            ],
            _ => Vec::new(),
        };
        let store = Store::restore(Config::default(), rows).expect("sound rows");
        let found = store.view().conf_state().expect("members");
        assert_eq!((found.voters, found.learners), (vec![10], vec![11]));
    }
}
