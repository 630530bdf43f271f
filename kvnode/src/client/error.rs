//! From etcd's error texts to gRPC status codes: the one table.
//!
//! Clients tell errors apart by text, so every error of the cores displays etcd's; this module only adds the code that
//! etcd sends with it (`api/v3rpc/rpctypes/error.go`, `server/etcdserver/api/v3rpc/util.go`). A text that is not listed
//! is sent as `Unknown`, as etcd does.

use std::fmt::Display;

use tonic::{Code, Status};

/// Codes by text, without the prefix `etcdserver: `.
const CODES: &[(Code, &[&str])] = &[
    (
        Code::InvalidArgument,
        &[
            "key is not provided",
            "key not found",
            "value is provided",
            "lease is provided",
            "too many operations in txn request",
            "duplicate key given in txn request",
            "invalid client api version",
            "invalid sort option",
            "given member URLs are invalid",
            "request is too large",
            "user name is empty",
            "role name is empty",
            "authentication failed, invalid user ID or password",
            "permission not given",
            "invalid auth management",
            "revision of auth store is old",
            "wrong downgrade target version format",
            "invalid downgrade target version",
        ],
    ),
    (
        Code::OutOfRange,
        &[
            "mvcc: required revision has been compacted",
            "mvcc: required revision is a future revision",
            "too large lease TTL",
        ],
    ),
    (Code::ResourceExhausted, &["mvcc: database space exceeded"]),
    (Code::NotFound, &["requested lease not found", "member not found"]),
    (
        Code::FailedPrecondition,
        &[
            "lease already exists",
            "member ID already exist",
            "Peer URLs already exists",
            "can only promote a learner member",
            "can only promote a learner member which is in sync with leader",
            "too many learner members in cluster",
            "cluster ID mismatch",
            "root user does not exist",
            "root user does not have root role",
            "user name already exists",
            "user name not found",
            "role name already exists",
            "role name not found",
            "role is not granted to the user",
            "permission is not granted to the role",
            "authentication is not enabled",
            "not leader",
            "not capable",
            "rpc not supported for learner",
            "bad leader transferee",
            "cluster version not found during downgrade",
            "cluster has a downgrade job in progress",
            "no inflight downgrade job",
        ],
    ),
    (Code::PermissionDenied, &["permission denied"]),
    (Code::Unauthenticated, &["invalid auth token"]),
    (
        Code::Unavailable,
        &[
            "no leader",
            "leader changed",
            "server stopped",
            "request timed out",
            "request timed out, possibly due to previous leader failure",
            "request timed out, possibly due to connection lost",
            "request timed out, waiting for the applied index took too long",
            "unhealthy cluster",
        ],
    ),
    (Code::DataLoss, &["corrupt cluster"]),
    (Code::Cancelled, &["watch canceled", "request canceled"]),
    (
        Code::Unknown,
        &[
            // etcd's map holds the client's error for these two, which carries no code.
            "re-configuration failed due to not enough started members",
            "too many requests",
            // And this one is missing there.
            "request timed out, leader transfer took too long",
        ],
    ),
];

/// The status etcd would send for an error with this text.
pub fn status(error: impl Display) -> Status {
    let text = error.to_string();
    Status::new(code(&text), text)
}

fn code(text: &str) -> Code {
    let bare = text.strip_prefix("etcdserver: ").unwrap_or(text);
    let found = CODES.iter().find(|(_, texts)| texts.contains(&bare));
    found.map_or(Code::Unknown, |(code, _)| *code)
}

/// The name that Go's gRPC metrics and texts give a code.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// What etcd says, with the code it says it with.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident = $code:ident $text:literal;)*) => {
        $($(#[$doc])* pub fn $name() -> Status {
            Status::new(Code::$code, concat!("etcdserver: ", $text))
        })*
    };
}

texts! {
    /// A client that asked for a leader, on a member that knows none.
    no_leader = Unavailable "no leader";
    /// A learner that was asked for what only voters do.
    not_supported_for_learner = FailedPrecondition "rpc not supported for learner";
    /// Client metadata that is no text.
    invalid_client_api_version = InvalidArgument "invalid client api version";
    /// A watch stream that the client broke off.
    watch_canceled = Cancelled "watch canceled";
    /// The member is stopping.
    stopped = Unavailable "server stopped";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_etcds() {
        for (text, code) in [
            ("etcdserver: key is not provided", Code::InvalidArgument),
            ("etcdserver: mvcc: required revision has been compacted", Code::OutOfRange),
            ("etcdserver: mvcc: database space exceeded", Code::ResourceExhausted),
            ("etcdserver: requested lease not found", Code::NotFound),
            ("etcdserver: leader changed", Code::Unavailable),
            ("etcdserver: corrupt cluster", Code::DataLoss),
            ("etcdserver: too many requests", Code::Unknown),
            ("etcdserver: request timed out, leader transfer took too long", Code::Unknown),
            ("mvcc: watcher range is empty", Code::Unknown),
        ] {
            let status = status(text);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }

    #[test]
    fn no_text_has_two_codes() {
        let mut seen = std::collections::BTreeSet::new();
        for text in CODES.iter().flat_map(|(_, texts)| texts.iter()) {
            assert!(seen.insert(text), "{text}");
        }
        for made in [
            no_leader(),
            not_supported_for_learner(),
            invalid_client_api_version(),
            watch_canceled(),
            stopped(),
        ] {
            assert_eq!(code(made.message()), made.code());
        }
    }
}
