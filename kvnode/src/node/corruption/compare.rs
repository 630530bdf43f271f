//! What the hashes of several members say about them (etcd: `server/etcdserver/corrupt.go`). Pure.

use std::collections::BTreeMap;

use kvnode_mvcc::{KeyHash, MemberId, ReadError, Revision};

/// What one peer answered when it was asked for its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerHash {
    pub(crate) member: MemberId,
    pub(crate) urls: Vec<String>,
    pub(crate) answer: Result<PeerAnswer, PeerSilence>,
}

/// A peer's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerAnswer {
    pub(crate) hash: KeyHash,
    /// Its current revision.
    pub(crate) revision: Revision,
}

/// Why a peer gave no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerSilence {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("etcdserver: cluster ID mismatch")]
    OtherCluster,
    #[error("{0}")]
    Unreachable(String),
}

/// How a peer's hash at a revision compares with one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    /// It holds other data.
    Different,
    /// It was compacted elsewhere: nothing follows from the difference.
    OtherCompaction,
}

/// Compares two hashes up to the same revision.
pub(crate) fn compare(own: &KeyHash, other: &KeyHash) -> Comparison {
    if own.hash == other.hash {
        Comparison::Equal
    } else if own.compact_revision == other.compact_revision {
        Comparison::Different
    } else {
        Comparison::OtherCompaction
    }
}

/// Why a leader believes that a member's data is corrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Suspicion {
    /// The leader's own hash changed although nothing else did.
    #[error("found hash mismatch")]
    Itself,
    #[error("revision from follower must be less than or equal to leader's")]
    AheadOfLeader,
    #[error("compact revision from follower must be less than or equal to leader's")]
    CompactedBeyondLeader,
    #[error("same compact revision then hashes must match")]
    OtherHash,
}

/// What a leader concludes from its own hashes before and after it asked its peers. `current` is its revision afterwards,
/// when every peer's answer had been given.
pub(crate) fn suspects(
    own: MemberId,
    before: &KeyHash,
    after: &KeyHash,
    current: Revision,
    peers: &[PeerHash],
) -> Vec<(MemberId, Suspicion)> {
    let mut found = Vec::new();
    let same_state =
        after.hash_revision == before.hash_revision && after.compact_revision == before.compact_revision;
    if same_state && after.hash != before.hash {
        found.push((own, Suspicion::Itself));
    }
    for peer in peers {
        let Ok(answer) = &peer.answer else { continue };
        let mut suspect = |suspicion| found.push((peer.member, suspicion));
        if answer.revision > current {
            suspect(Suspicion::AheadOfLeader);
        }
        if answer.hash.compact_revision > after.compact_revision {
            suspect(Suspicion::CompactedBeyondLeader);
        }
        if answer.hash.compact_revision == before.compact_revision && answer.hash.hash != before.hash {
            suspect(Suspicion::OtherHash);
        }
    }
    found
}

/// What the hashes of one compaction say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CompactionVerdict {
    /// All members have the same.
    Consistent,
    /// Those that could be compared have the same; of others nothing is known.
    Incomplete { checked: usize },
    /// They differ: by hash, the members outside the majority, or all of them if there is none.
    Corrupt { quorum: bool, groups: BTreeMap<u32, Vec<MemberId>> },
}

impl CompactionVerdict {
    /// Whom to raise alarms for; member 0 is the whole cluster.
    pub(crate) fn alarms(&self) -> Vec<MemberId> {
        match self {
            Self::Corrupt { quorum: false, .. } => vec![MemberId(0)],
            Self::Corrupt { groups, .. } => groups.values().flatten().copied().collect(),
            Self::Consistent | Self::Incomplete { .. } => Vec::new(),
        }
    }
}

/// Judges the hashes of one compaction: the leader's own and what its peers answered.
pub(crate) fn judge_compaction(own: MemberId, hash: &KeyHash, peers: &[PeerHash]) -> CompactionVerdict {
    let comparable = |peer: &&PeerHash| {
        peer.answer.as_ref().is_ok_and(|a| a.hash.compact_revision == hash.compact_revision)
    };
    let mut groups = BTreeMap::from([(hash.hash, vec![own])]);
    let mut checked = 0;
    for peer in peers.iter().filter(comparable) {
        let Ok(answer) = &peer.answer else { continue };
        checked += 1;
        groups.entry(answer.hash.hash).or_default().push(peer.member);
    }
    if groups.len() == 1 {
        let all = checked == peers.len();
        return if all { CompactionVerdict::Consistent } else { CompactionVerdict::Incomplete { checked } };
    }
    let quorum = peers.len().div_ceil(2) + 1;
    let majority = groups.iter().find(|(_, members)| members.len() >= quorum).map(|(hash, _)| *hash);
    if let Some(hash) = majority {
        groups.remove(&hash);
    }
    CompactionVerdict::Corrupt { quorum: majority.is_some(), groups }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(hash: u32, compacted: i64, revision: i64) -> KeyHash {
        KeyHash { hash, compact_revision: Revision(compacted), hash_revision: Revision(revision) }
    }

    fn peer(id: u64, key_hash: KeyHash, revision: i64) -> PeerHash {
        let answer = Ok(PeerAnswer { hash: key_hash, revision: Revision(revision) });
        PeerHash { member: MemberId(id), urls: Vec::new(), answer }
    }

    fn silent(id: u64) -> PeerHash {
        let answer = Err(PeerSilence::Unreachable("refused".into()));
        PeerHash { member: MemberId(id), urls: Vec::new(), answer }
    }

    #[test]
    fn only_hashes_of_the_same_compaction_compare() {
        assert_eq!(compare(&hash(1, 5, 9), &hash(1, 6, 9)), Comparison::Equal);
        assert_eq!(compare(&hash(1, 5, 9), &hash(2, 5, 9)), Comparison::Different);
        assert_eq!(compare(&hash(1, 5, 9), &hash(2, 6, 9)), Comparison::OtherCompaction);
    }

    #[test]
    fn a_leader_suspects_whom_its_log_cannot_explain() {
        let own = hash(1, 5, 9);
        let of = |peers: &[PeerHash]| suspects(MemberId(1), &own, &own, Revision(9), peers);
        assert_eq!(of(&[peer(2, own, 9), silent(3)]), []);
        assert_eq!(of(&[peer(2, hash(2, 5, 9), 9)]), [(MemberId(2), Suspicion::OtherHash)]);
        assert_eq!(of(&[peer(2, hash(2, 4, 9), 9)]), [], "it will compact, too");
        assert_eq!(of(&[peer(2, own, 10)]), [(MemberId(2), Suspicion::AheadOfLeader)]);
        assert_eq!(of(&[peer(2, hash(1, 6, 9), 9)]), [(MemberId(2), Suspicion::CompactedBeyondLeader)]);
        let changed = suspects(MemberId(1), &own, &hash(2, 5, 9), Revision(9), &[]);
        assert_eq!(changed, [(MemberId(1), Suspicion::Itself)]);
        assert_eq!(suspects(MemberId(1), &own, &hash(2, 5, 10), Revision(10), &[]), []);
    }

    #[test]
    fn the_majority_is_right_and_without_one_nobody_is() {
        let own = hash(1, 5, 9);
        let judge = |peers: &[PeerHash]| judge_compaction(MemberId(1), &own, peers);
        let same = |id| peer(id, own, 20);
        let other = |id, value| peer(id, hash(value, 5, 9), 20);
        assert_eq!(judge(&[same(2), same(3)]), CompactionVerdict::Consistent);
        assert_eq!(judge(&[same(2), silent(3)]), CompactionVerdict::Incomplete { checked: 1 });
        let earlier = peer(3, hash(7, 4, 9), 20);
        assert_eq!(judge(&[same(2), earlier]), CompactionVerdict::Incomplete { checked: 1 });
        assert_eq!(judge(&[same(2), other(3, 2)]).alarms(), [MemberId(3)]);
        assert_eq!(judge(&[other(2, 2), other(3, 2)]).alarms(), [MemberId(1)], "the leader itself");
        assert_eq!(judge(&[other(2, 2), other(3, 3)]).alarms(), [MemberId(0)]);
        assert_eq!(judge(&[other(2, 2)]).alarms(), [MemberId(0)], "two members have no majority");
        assert_eq!(judge(&[other(2, 2), silent(3)]).alarms(), [MemberId(0)]);
    }
}
