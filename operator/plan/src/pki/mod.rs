//! Certificates: what has to be issued, whether what is there is good, and the signing itself.
//!
//! The decision (an [`IssueRequest`]) is pure. Key pairs are made by the shell, which owns randomness, and
//! come in as arguments; signing an ECDSA certificate draws its nonce inside ring, so [`issue`] is called by
//! the shell, never by the planner.

mod check;
mod issue;
mod wants;

pub use check::{Chain, Purpose, SecretProblem, Usage, check};
pub use issue::{IssueError, issue};
pub use wants::{CertificateTrouble, CertificatesPlan, plan_certificates};

use crds::Reason;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::report::{Note, NoteKind, Related};

/// Common name of the operator's certificate: its user once authentication is enabled.
pub const OPERATOR_USER: &str = "kvnode-operator";
/// Secret key of the trusted authorities, PEM.
pub const CA_CRT: &str = "ca.crt";
/// Secret key of the certificate, PEM.
pub const TLS_CRT: &str = "tls.crt";
/// Secret key of the private key, PEM.
pub const TLS_KEY: &str = "tls.key";

/// Who a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The cluster's own authority.
    Authority,
    /// What members show to clients.
    Server,
    /// What members show to each other.
    Peer,
    /// For applications.
    Client,
    /// For the operator and backup Jobs.
    Operator,
}

/// A certificate to issue and the Secret to put it in.
#[derive(Clone, Debug, PartialEq)]
pub struct IssueRequest {
    /// Who it is for.
    pub role: Role,
    /// Name, namespace, labels and owner of the Secret.
    pub metadata: ObjectMeta,
    /// Subject common name.
    pub common_name: String,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub ip_addresses: Vec<std::net::IpAddr>,
    /// Begin of validity; a little in the past, for clocks that lag.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Other authorities to trust beside the cluster's present one, PEM; empty except while it is being replaced.
    pub carried_trust: String,
    /// The certificate and key to keep: only what is trusted changes.
    pub kept: Option<KeptCertificate>,
    /// Why it is issued, for the event.
    pub why: String,
}

/// A certificate that stays as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptCertificate {
    /// `tls.crt`.
    pub certificate: Vec<u8>,
    /// `tls.key`.
    pub key: Vec<u8>,
}

/// Without the key: this may end in a log.
impl std::fmt::Debug for KeptCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptCertificate").finish_non_exhaustive()
    }
}

impl IssueRequest {
    /// The event to emit once the Secret was written.
    pub fn event(&self) -> Note {
        let name = self.metadata.name.clone().unwrap_or_default();
        Note {
            kind: NoteKind::Normal,
            reason: Reason::CertificatesIssued,
            action: "IssueCertificate",
            message: format!(
                "wrote the certificate in Secret {name}, valid until {}: {}",
                self.not_after, self.why
            ),
            related: Some(Related { api_version: "v1", kind: "Secret", name }),
        }
    }
}
