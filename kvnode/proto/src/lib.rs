//! The words kvnode speaks: etcd's v3 API, its peers' raft messages and the records of its files.
//!
//! The `.proto` files under `proto/` are our own writing of etcd's public names and numbers. This crate holds nothing
//! but what the compiler makes of them, and the one message it could not make (`txn`): no semantics, no IO. Bytes fields
//! are [`bytes::Bytes`], so a key or value read from the network travels to the log, the store, watchers and answers
//! without being copied.
//!
//! The feature `grpc` adds clients and servers of the services; without it there is no network stack below.

mod txn;

pub use txn::TOO_DEEP;

macro_rules! package {
    ($name:ident, $doc:literal $(, $by_hand:path)?) => {
        #[doc = $doc]
        #[allow(clippy::all, missing_docs, unused_qualifications, reason = "generated code")]
        pub mod $name {
            $(pub use $by_hand;)?
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
        }
    };
}

package!(authpb, "Users, roles and permissions as stored.");
package!(etcdserverpb, "The v3 API and the bodies of raft log entries.", crate::txn::TxnRequest);
package!(leasepb, "Leases as stored.");
package!(membershippb, "Replicated facts about the cluster and its members.");
package!(mvccpb, "Keys at a revision, and changes to them.");
package!(raftpb, "Raft messages, entries and state.");
package!(snappb, "The envelope of a raft snapshot file.");
package!(v3electionpb, "Server-side leader election among clients.");
package!(v3lockpb, "Server-side mutual exclusion.");
package!(walpb, "Records of the write-ahead log.");

/// The messages and services themselves: an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
