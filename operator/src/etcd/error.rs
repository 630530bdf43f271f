//! What can go wrong between the operator and a member. Not answering is a value here like any other.

use std::error::Error as StdError;
use std::time::Duration;

use thiserror::Error;
use tonic::{Code, Status};

/// Why a call to a member has no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EtcdError {
    /// No connection, or one that broke.
    #[error("{endpoint} cannot be reached for {call}: {cause}")]
    Unreachable {
        /// URL of the member.
        endpoint: String,
        /// Name of the call.
        call: &'static str,
        /// The innermost reason.
        cause: String,
    },
    /// Connected or connecting, but no answer in time.
    #[error("{endpoint} did not answer {call} within {waited:?}")]
    TimedOut {
        /// URL of the member.
        endpoint: String,
        /// Name of the call.
        call: &'static str,
        /// The deadline.
        waited: Duration,
    },
    /// The member answered with an error.
    #[error("{endpoint} refused {call}: {message}")]
    Refused {
        /// URL of the member.
        endpoint: String,
        /// Name of the call.
        call: &'static str,
        /// gRPC code.
        code: Code,
        /// etcd's text.
        message: String,
    },
    /// The URL or the certificates do not make a connection.
    #[error(
        "the URL {endpoint} or the certificates for it cannot be used: {cause}; check the operator's TLS Secret"
    )]
    Settings {
        /// URL of the member.
        endpoint: String,
        /// What is wrong.
        cause: String,
    },
}

impl EtcdError {
    /// True if the member's connection should not be used again.
    pub fn is_broken_connection(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. })
    }

    /// True if the member answered that the operator may not. It does so for a read only after it has asked a quorum.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { code: Code::PermissionDenied, .. })
    }

    /// True if the member would do it, only not now: right after a change etcd wants connections to have stood for some
    /// seconds (`ErrUnhealthy`), and a learner to have caught up (`ErrLearnerNotReady`), before the next one.
    pub fn is_not_yet(&self) -> bool {
        const NOT_YET: [&str; 2] = ["unhealthy cluster", "learner member which is in sync"];
        matches!(self, Self::Refused { message, .. } if NOT_YET.iter().any(|text| message.contains(text)))
    }

    pub(super) fn from_status(endpoint: &str, call: &'static str, status: &Status) -> Self {
        let endpoint = endpoint.to_owned();
        // The transport reports its own failures as Unavailable or Unknown with a source; etcd's answers have none.
        match status.source() {
            Some(source) => Self::Unreachable { endpoint, call, cause: innermost(source) },
            None => {
                Self::Refused { endpoint, call, code: status.code(), message: status.message().to_owned() }
            }
        }
    }
}

/// The reason at the bottom of a chain: the layers above only say "transport error".
pub(super) fn innermost(error: &dyn StdError) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    crds::units::bounded(&deepest.to_string().replace('\n', " "), 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> EtcdError {
        EtcdError::from_status("https://core-0", "MemberAdd", &Status::unavailable(message))
    }

    #[test]
    fn a_lack_of_rights_is_told_from_a_lack_of_quorum() {
        let status = |status| EtcdError::from_status("https://core-0", "Range", &status);
        assert!(status(Status::permission_denied("etcdserver: permission denied")).is_denied());
        assert!(!status(Status::unavailable("etcdserver: request timed out")).is_denied());
    }

    #[test]
    fn a_refusal_for_now_is_told_from_one_for_good() {
        assert!(refused("etcdserver: unhealthy cluster").is_not_yet());
        assert!(
            refused("etcdserver: can only promote a learner member which is in sync with leader")
                .is_not_yet()
        );
        assert!(!refused("etcdserver: Peer URLs already exists").is_not_yet());
    }
}
