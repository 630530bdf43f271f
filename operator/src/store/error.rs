//! One sentence for everything that can be wrong with an object store: what was attempted, on what, and the next step.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;

use object_store::client::{HttpError, HttpErrorKind};
use thiserror::Error;

/// What was being done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Looking whether it is there.
    Looking,
    /// Uploading it.
    Writing,
    /// Downloading it.
    Reading,
    /// Deleting it.
    Deleting,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Looking => "looking for",
            Self::Writing => "writing",
            Self::Reading => "reading",
            Self::Deleting => "deleting",
        })
    }
}

/// Why a store could not be opened or used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Not exactly one kind of store is named.
    #[error("the store names none or several of s3, gcs, azure and local; set exactly one")]
    NotOne,
    /// A key that no store takes.
    #[error("the object key {key:?} cannot be used: {source}; change the prefix or the name")]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it.
        source: object_store::path::Error,
    },
    /// A local store without a mounted volume.
    #[error("a local store needs --local-root, the directory where its volume is mounted")]
    NoLocalRoot,
    /// The settings do not make a client.
    #[error("the settings of the store of {location} cannot be used: {source}; correct spec.store")]
    Settings {
        /// The object.
        location: String,
        /// What is wrong.
        source: object_store::Error,
    },
    /// A key is missing in the credentials Secret.
    #[error(
        "reading {key} of the credentials Secret failed: {source}; add the key {key} to the Secret that credentialsSecretRef names"
    )]
    Credential {
        /// Key in the Secret.
        key: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A key is empty in the credentials Secret.
    #[error("{key} in the credentials Secret is empty; set it in the Secret that credentialsSecretRef names")]
    EmptyCredential {
        /// Key in the Secret.
        key: &'static str,
    },
    /// The CA bundle is not there.
    #[error(
        "reading the store's authorities from {file} failed: {source}; set ca.crt in the Secret that caSecretRef names"
    )]
    CaFile {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The CA bundle holds no certificate.
    #[error(
        "{file} holds no PEM certificate; set ca.crt in the Secret that caSecretRef names to the store's authority"
    )]
    CaBundle {
        /// The file.
        file: PathBuf,
    },
    /// No connection.
    #[error(
        "cannot reach the object store at {endpoint} while {doing} {location}: {cause}; check that the endpoint is right and that pods may connect to it"
    )]
    Unreachable {
        /// What was attempted.
        doing: Doing,
        /// On which object.
        location: String,
        /// Where requests go.
        endpoint: String,
        /// The innermost reason.
        cause: String,
    },
    /// The store's certificate is not trusted.
    #[error(
        "the certificate of the object store at {endpoint} is not trusted while {doing} {location}: {cause}; name its authority with caSecretRef"
    )]
    Untrusted {
        /// What was attempted.
        doing: Doing,
        /// On which object.
        location: String,
        /// Where requests go.
        endpoint: String,
        /// The innermost reason.
        cause: String,
    },
    /// The store does not accept the credentials.
    #[error(
        "the object store at {endpoint} refused the credentials while {doing} {location} ({cause}); check the keys in the credentials Secret and the permissions of their owner"
    )]
    Credentials {
        /// What was attempted.
        doing: Doing,
        /// On which object.
        location: String,
        /// Where requests go.
        endpoint: String,
        /// What the store answered.
        cause: String,
    },
    /// No such bucket or container.
    #[error(
        "the {what} of {location} does not exist at {endpoint}; create it or correct the {what}'s name in spec.store", what = holder(.location)
    )]
    NoBucket {
        /// On which object.
        location: String,
        /// Where requests go.
        endpoint: String,
    },
    /// No such object.
    #[error("{location} does not exist at {endpoint}; check the key and whether the backup was deleted")]
    NoObject {
        /// The object.
        location: String,
        /// Where requests go.
        endpoint: String,
    },
    /// A backup must not replace another one.
    #[error(
        "{location} exists already and backups are never overwritten; delete it or give the backup another name"
    )]
    Exists {
        /// The object.
        location: String,
    },
    /// Anything else the store said.
    #[error("{doing} {location} at {endpoint} failed: {cause}; it is tried again")]
    Other {
        /// What was attempted.
        doing: Doing,
        /// On which object.
        location: String,
        /// Where requests go.
        endpoint: String,
        /// What the store answered.
        cause: String,
    },
}

impl StoreError {
    /// Finds the sentence for what the store's client returned.
    pub fn from_store(doing: Doing, location: &str, endpoint: &str, error: object_store::Error) -> Self {
        let (location, endpoint) = (location.to_owned(), endpoint.to_owned());
        let text = error.to_string();
        let code = code_in(&text);
        let cause = code.clone().unwrap_or_else(|| innermost(&error));
        // Statuses differ between servers (an unknown key is 403 here, 404 or 400 there), so the code goes first.
        match code.as_deref() {
            Some("NoSuchBucket" | "ContainerNotFound") => return Self::NoBucket { location, endpoint },
            Some(code) if REFUSALS.iter().any(|refusal| code.contains(refusal)) => {
                return Self::Credentials { doing, location, endpoint, cause };
            }
            _ => {}
        }
        match error {
            object_store::Error::NotFound { .. } if doing == Doing::Writing => {
                Self::NoBucket { location, endpoint }
            }
            object_store::Error::NotFound { .. } => Self::NoObject { location, endpoint },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Credentials { doing, location, endpoint, cause }
            }
            _ if cause.contains("certificate") => Self::Untrusted { doing, location, endpoint, cause },
            error if not_connected(&error) => Self::Unreachable { doing, location, endpoint, cause },
            _ => Self::Other { doing, location, endpoint, cause },
        }
    }
}

/// Parts of error codes that mean that the credentials are not accepted.
const REFUSALS: [&str; 7] = [
    "AccessDenied",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "UserNotFound",
];

/// What Azure calls a container is a bucket elsewhere.
fn holder(location: &str) -> &'static str {
    if location.starts_with("az://") { "container" } else { "bucket" }
}

/// The reason at the bottom: the layers above it only repeat that something failed.
fn innermost(error: &dyn StdError) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let text = one_line(&deepest.to_string());
    // An answer without a body ends in a colon and begins with what every failed request has in common.
    text.trim_end_matches(':').trim_start_matches("Server returned non-2xx status code: ").to_owned()
}

fn not_connected(error: &(dyn StdError + 'static)) -> bool {
    let mut layer = Some(error);
    while let Some(current) = layer {
        if let Some(http) = current.downcast_ref::<HttpError>() {
            return matches!(
                http.kind(),
                HttpErrorKind::Connect | HttpErrorKind::Timeout | HttpErrorKind::Interrupted
            );
        }
        layer = current.source();
    }
    false
}

/// The `<Code>` of an S3 or Azure error document: stable, short, and free of anything secret.
fn code_in(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    Some(one_line(code))
}

fn one_line(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    crds::units::bounded(&joined, 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(doing: Doing, error: object_store::Error) -> String {
        StoreError::from_store(doing, "s3://b/k", "http://store:7070", error).to_string()
    }

    fn because(text: &str) -> Box<dyn StdError + Send + Sync> {
        text.to_owned().into()
    }

    #[test]
    fn refused_credentials_name_object_store_and_next_step() {
        let body =
            "status 403: <Error><Code>SignatureDoesNotMatch</Code><Message>secret things</Message></Error>";
        let error = object_store::Error::PermissionDenied { path: "k".to_owned(), source: because(body) };
        let text = explain(Doing::Writing, error);
        assert_eq!(
            text,
            "the object store at http://store:7070 refused the credentials while writing s3://b/k \
             (SignatureDoesNotMatch); check the keys in the credentials Secret and the permissions of their owner"
        );
    }

    #[test]
    fn a_missing_bucket_is_not_a_missing_object() {
        let bucket = object_store::Error::NotFound {
            path: "k".to_owned(),
            source: because("<Code>NoSuchBucket</Code>"),
        };
        assert!(explain(Doing::Reading, bucket).starts_with("the bucket of s3://b/k does not exist"));
        let object =
            object_store::Error::NotFound { path: "k".to_owned(), source: because("<Code>NoSuchKey</Code>") };
        assert!(explain(Doing::Reading, object).starts_with("s3://b/k does not exist at http://store:7070"));
    }

    #[test]
    fn other_errors_stay_on_one_line() {
        let error = object_store::Error::Generic { store: "S3", source: because("line one\n  line two") };
        assert!(!explain(Doing::Deleting, error).contains('\n'));
    }
}
