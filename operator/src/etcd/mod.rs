//! The operator's side of the etcd API: connections ([`pool`]), calls ([`member`]), and errors ([`error`]).
//!
//! Never: a retry, or a call without a deadline. A member that does not answer is an observation.

pub mod error;
pub mod member;
pub mod pool;

pub use error::EtcdError;
pub use member::MemberClient;
pub use pool::{Pool, TlsMaterial};
