//! Identifiers as types, and etcd's arithmetic for member and cluster IDs.

use std::fmt;

use sha1::{Digest, Sha1};

/// The number at the end of a member's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u32);

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// Sixteen hexadecimal digits, as tickets and the identity record hold it.
            pub fn hex16(self) -> String {
                format!("{:016x}", self.0)
            }

            /// Reads hexadecimal digits.
            pub fn from_hex(text: &str) -> Option<Self> {
                (!text.starts_with('+')).then(|| u64::from_str_radix(text, 16).ok().map(Self))?
            }
        }

        /// Hexadecimal without leading zeros, as etcdctl prints it.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }
    };
}

hex_id! {
    /// A member's ID in the cluster.
    MemberId
}
hex_id! {
    /// A cluster's ID.
    ClusterId
}

/// The ID etcd gives a member of an initial cluster: SHA-1 over its sorted peer URLs and the token, first
/// eight bytes. etcd: `server/etcdserver/api/membership/member.go`, computeMemberID without a time.
pub fn initial_member_id(peer_urls: &[String], token: &str) -> MemberId {
    let mut sorted = peer_urls.to_vec();
    sorted.sort_unstable();
    let digest = Sha1::new().chain_update(sorted.concat()).chain_update(token).finalize();
    MemberId(leading_u64(&digest))
}

/// The ID etcd gives an initial cluster: SHA-1 over its sorted member IDs, big-endian, first eight bytes.
/// etcd: `server/etcdserver/api/membership/cluster.go`, genID.
pub fn initial_cluster_id(members: &[MemberId]) -> ClusterId {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    let digest = sorted.iter().fold(Sha1::new(), |hash, id| hash.chain_update(id.0.to_be_bytes())).finalize();
    ClusterId(leading_u64(&digest))
}

fn leading_u64(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_etcd_computes() {
        // etcd --name default with default URLs and token prints these two IDs on its first start.
        let id = initial_member_id(&["http://localhost:2380".into()], "etcd-cluster");
        assert_eq!(id.to_string(), "8e9e05c52164694d");
        assert_eq!(initial_cluster_id(&[id]).to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn hex_forms_round_trip() {
        let id = MemberId(0x1f);
        assert_eq!((id.hex16().as_str(), id.to_string().as_str()), ("000000000000001f", "1f"));
        assert_eq!(MemberId::from_hex(&id.hex16()), Some(id));
        assert_eq!(MemberId::from_hex("+1"), None);
        assert_eq!(MemberId::from_hex("core"), None);
    }
}
