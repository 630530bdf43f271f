//! Which certificates a cluster needs now, and what stands in the way.
//!
//! Replacing an authority (it is due, or its Secret was deleted) never leaves members that distrust each other:
//! first every Secret trusts both, then, when that has had time to reach every member, leaves are issued by the
//! new one; the former is dropped when those are renewed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::Reason;
use crds::cluster::ProvidedTls;
use crds::conditions::whole_seconds;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::check::{Chain, Purpose, SecretProblem, Usage, check};
use super::{CA_CRT, IssueRequest, KeptCertificate, OPERATOR_USER, Role, TLS_CRT, TLS_KEY};
use crate::limits;
use crate::resources::{Component, may_apply, metadata};
use crate::validate::{Tls, ValidatedCluster};

/// Annotation on a Secret: since when it trusts the cluster's present authority beside a former one.
pub const TRUSTED_SINCE_ANNOTATION: &str = "kvnode.io/trusted-since";

/// What stands in the way of good certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateTrouble {
    /// Reason of the closed set.
    pub reason: Reason,
    /// Names the Secret and the next step.
    pub message: String,
}

/// The certificates of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CertificatesPlan {
    /// To issue now, in order.
    pub issue: Vec<IssueRequest>,
    /// What stands in the way, if something does.
    pub trouble: Option<CertificateTrouble>,
    /// First end of validity among those in use.
    pub expires: Option<Timestamp>,
    /// A certificate that ends soon and is not ours to renew.
    pub warning: Option<CertificateTrouble>,
}

impl CertificatesPlan {
    /// True if members can be started with what is there.
    pub fn usable(&self) -> bool {
        self.trouble.is_none() && self.expires.is_some()
    }
}

/// Looks at all Secrets of a cluster.
pub fn plan_certificates(
    cluster: &ValidatedCluster,
    secrets: &BTreeMap<String, Secret>,
    now: Timestamp,
) -> CertificatesPlan {
    match &cluster.tls {
        Tls::Managed => managed(cluster, secrets, now),
        Tls::Provided(provided) => user_provided(cluster, provided, secrets, now),
    }
}

const LEAVES: [Role; 4] = [Role::Server, Role::Peer, Role::Client, Role::Operator];

fn managed(
    cluster: &ValidatedCluster,
    secrets: &BTreeMap<String, Secret>,
    now: Timestamp,
) -> CertificatesPlan {
    let mut plan = CertificatesPlan::default();
    for role in [Role::Authority].into_iter().chain(LEAVES) {
        let name = secret_name(cluster, role);
        if let Some(secret) = secrets.get(&name)
            && may_apply(&secret.metadata, &cluster.uid).is_err()
        {
            plan.trouble = Some(CertificateTrouble {
                reason: Reason::ObjectNotOwned,
                message: format!(
                    "Secret {name} exists and is not controlled by this cluster; rename or delete it, or use \
                     another cluster name"
                ),
            });
            return plan;
        }
    }
    let authority = match authority(cluster, secrets, now) {
        Ok(chain) => chain,
        Err(outcome) => return *outcome,
    };
    let ca = authority.anchor;
    let leaves = LEAVES.map(|role| (role, leaf(cluster, secrets, role, &ca, now)));
    let spreading = leaves.iter().any(|(_, leaf)| matches!(leaf, Leaf::Distrusts { .. }));
    // What one Secret shows, holders of every other must trust: the last one counts for all.
    let trusted_since =
        LEAVES.iter().filter_map(|role| trusts_since(secrets.get(&secret_name(cluster, *role))?)).max();
    let carried = carried_trust(cluster, secrets, &ca, now);
    let mut ends = vec![authority.not_after];
    for (role, leaf) in leaves {
        let name = secret_name(cluster, role);
        let ask =
            |why: String| IssueRequest { carried_trust: carried.clone(), ..request(cluster, role, now, why) };
        ends.extend(leaf.until());
        match leaf {
            Leaf::Good { .. } => {}
            Leaf::Due { why, .. } => plan.issue.push(ask(why)),
            Leaf::Bad { why } => {
                plan.issue.push(ask(why));
                let (reason, message) = (Reason::CertificatesIssued, format!("issuing {name}"));
                plan.trouble = Some(CertificateTrouble { reason, message });
            }
            Leaf::Distrusts { .. } => {
                plan.issue.extend(secrets.get(&name).map(|s| widen(ask(TRUST_FIRST.to_owned()), s, now)));
            }
            Leaf::Former { trusts_since, .. } => {
                let since = trusted_since.unwrap_or(trusts_since);
                let spread = now.as_second() - since.as_second() >= limits::TRUST_SPREADS_SECONDS;
                if spread && !spreading {
                    plan.issue.push(ask("the cluster's authority was replaced".to_owned()));
                } else {
                    plan.warning = Some(CertificateTrouble {
                        reason: Reason::AuthorityReplaced,
                        message: format!(
                            "the authority was replaced at {since}; certificates follow once all trust it"
                        ),
                    });
                }
            }
        }
    }
    plan.expires = ends.into_iter().min();
    plan
}

const TRUST_FIRST: &str = "the authority was replaced: both are trusted before anything it signed is shown";

/// The authority's chain, or the plan that results from not having one. An authority that is lost or due is
/// replaced; its successor is trusted everywhere before it signs anything.
fn authority(
    cluster: &ValidatedCluster,
    secrets: &BTreeMap<String, Secret>,
    now: Timestamp,
) -> Result<Chain, Box<CertificatesPlan>> {
    let name = secret_name(cluster, Role::Authority);
    let why = match secrets.get(&name).map(|s| check(s, &Purpose::default(), now)) {
        Some(Ok(chain)) if now < renew_at(&chain) => return Ok(chain),
        Some(Ok(chain)) => format!("it is due for renewal since {}", renew_at(&chain)),
        Some(Err(problem)) => problem.to_string(),
        None => "it does not exist".to_owned(),
    };
    let in_use = LEAVES
        .into_iter()
        .filter_map(|role| check(secrets.get(&secret_name(cluster, role))?, &Purpose::default(), now).ok())
        .map(|chain| chain.not_after)
        .min();
    let issuing =
        CertificateTrouble { reason: Reason::CertificatesIssued, message: format!("issuing {name}") };
    Err(Box::new(CertificatesPlan {
        issue: vec![request(cluster, Role::Authority, now, why)],
        // What is in use stays so.
        trouble: in_use.is_none().then_some(issuing),
        expires: in_use,
        warning: None,
    }))
}

/// How a leaf stands to the cluster's present authority.
enum Leaf {
    /// Signed by it, and good.
    Good { until: Timestamp },
    /// Still serves, and is to be issued anew.
    Due { why: String, until: Option<Timestamp> },
    /// Does not serve.
    Bad { why: String },
    /// Of a former authority, in a Secret that does not trust the present one yet, or does not say since when.
    Distrusts { until: Timestamp },
    /// Of a former authority, in a Secret that trusts both.
    Former { until: Timestamp, trusts_since: Timestamp },
}

impl Leaf {
    /// End of validity of what serves now.
    fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Good { until } | Self::Distrusts { until } | Self::Former { until, .. } => Some(*until),
            Self::Due { until, .. } => *until,
            Self::Bad { .. } => None,
        }
    }
}

fn leaf(
    cluster: &ValidatedCluster,
    secrets: &BTreeMap<String, Secret>,
    role: Role,
    ca: &[u8],
    now: Timestamp,
) -> Leaf {
    let Some(secret) = secrets.get(&secret_name(cluster, role)) else {
        return Leaf::Bad { why: "it does not exist".to_owned() };
    };
    let chain = match check(secret, &purpose(cluster, role), now) {
        Ok(chain) => chain,
        Err(problem @ (SecretProblem::MissingName(_) | SecretProblem::MissingUsage(_))) => {
            let until = check(secret, &Purpose::default(), now).ok().map(|c| c.not_after);
            return Leaf::Due { why: problem.to_string(), until };
        }
        Err(problem) => return Leaf::Bad { why: problem.to_string() },
    };
    let until = chain.not_after;
    if chain.anchor != ca {
        let trusts = chain.trusted.iter().any(|der| der == ca);
        // One that came back is trusted without a note of since when; the count begins with a note in any case,
        // for too late does no harm, too early does.
        return match trusts_since(secret) {
            Some(trusts_since) if trusts => Leaf::Former { until, trusts_since },
            Some(_) | None => Leaf::Distrusts { until },
        };
    }
    let due = renew_at(&chain);
    if now >= due {
        return Leaf::Due { why: format!("it is due for renewal since {due}"), until: Some(until) };
    }
    Leaf::Good { until }
}

fn trusts_since(secret: &Secret) -> Option<Timestamp> {
    secret.metadata.annotations.as_ref()?.get(TRUSTED_SINCE_ANNOTATION)?.parse().ok()
}

/// The same certificate, with the present authority trusted beside the former one.
fn widen(request: IssueRequest, secret: &Secret, now: Timestamp) -> IssueRequest {
    let bytes =
        |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.clone()).unwrap_or_default();
    let kept = KeptCertificate { certificate: bytes(TLS_CRT), key: bytes(TLS_KEY) };
    let annotation = (TRUSTED_SINCE_ANNOTATION.to_owned(), whole_seconds(now).to_string());
    let metadata =
        ObjectMeta { annotations: Some([annotation].into_iter().collect()), ..request.metadata.clone() };
    let carried_trust = String::from_utf8(bytes(CA_CRT)).unwrap_or_default();
    IssueRequest { kept: Some(kept), metadata, carried_trust, ..request }
}

/// What is trusted beside the present authority as long as any leaf in use is of a former one, PEM.
fn carried_trust(
    cluster: &ValidatedCluster,
    secrets: &BTreeMap<String, Secret>,
    ca: &[u8],
    now: Timestamp,
) -> String {
    let of_former = LEAVES.into_iter().find_map(|role| {
        let secret = secrets.get(&secret_name(cluster, role))?;
        let chain = check(secret, &Purpose::default(), now).ok()?;
        (chain.anchor != ca).then_some(secret)
    });
    let bundle = of_former.and_then(|s| s.data.as_ref()).and_then(|d| d.get(CA_CRT));
    bundle.and_then(|b| String::from_utf8(b.0.clone()).ok()).unwrap_or_default()
}

/// Two thirds of the lifetime: a third is left to repair whatever prevents renewal.
fn renew_at(chain: &Chain) -> Timestamp {
    let lifetime = chain.not_after.as_second() - chain.not_before.as_second();
    Timestamp::from_second(chain.not_before.as_second() + lifetime / 3 * 2).unwrap_or(chain.not_after)
}

fn user_provided(
    cluster: &ValidatedCluster,
    provided: &ProvidedTls,
    secrets: &BTreeMap<String, Secret>,
    now: Timestamp,
) -> CertificatesPlan {
    let mut plan = CertificatesPlan::default();
    let wanted = [
        (&provided.server_secret_ref.name, "spec.tls.serverSecretRef", Role::Server),
        (&provided.peer_secret_ref.name, "spec.tls.peerSecretRef", Role::Peer),
        (&provided.operator_secret_ref.name, "spec.tls.operatorSecretRef", Role::Operator),
    ];
    for (name, field, role) in wanted {
        let chain = match secrets.get(name).map(|s| check(s, &purpose(cluster, role), now)) {
            Some(Ok(chain)) => chain,
            Some(Err(problem)) => {
                let reason = match problem.is_malformed() {
                    true => Reason::SecretMalformed,
                    false => Reason::CertificateInvalid,
                };
                let message = format!("Secret {name} ({field}): {problem}; replace the Secret's content");
                plan.trouble = Some(CertificateTrouble { reason, message });
                return plan;
            }
            None => {
                let message = format!(
                    "Secret {name} ({field}) does not exist; create it with the keys ca.crt, tls.crt and tls.key"
                );
                plan.trouble = Some(CertificateTrouble { reason: Reason::SecretMissing, message });
                return plan;
            }
        };
        let left = chain.not_after.as_second() - now.as_second();
        if left < limits::PROVIDED_EXPIRY_WARNING_SECONDS && plan.warning.is_none() {
            plan.warning = Some(CertificateTrouble {
                reason: Reason::CertificateExpiring,
                message: format!(
                    "the certificate in Secret {name} expires at {}; replace the Secret's content",
                    chain.not_after
                ),
            });
        }
        plan.expires = Some(plan.expires.map_or(chain.not_after, |at| at.min(chain.not_after)));
    }
    plan
}

fn secret_name(cluster: &ValidatedCluster, role: Role) -> String {
    match role {
        Role::Authority => cluster.names.ca_secret(),
        Role::Server => cluster.names.server_secret(),
        Role::Peer => cluster.names.peer_secret(),
        Role::Client => cluster.names.client_secret(),
        Role::Operator => cluster.names.operator_secret(),
    }
}

/// What the certificate of a role has to be good for.
fn purpose(cluster: &ValidatedCluster, role: Role) -> Purpose {
    let names = &cluster.names;
    let (namespace, domain) = (names.namespace(), &cluster.dns_domain);
    let members = format!("*.{}.{namespace}.svc", names.peer_service());
    let service = names.client_service();
    let loopback = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    match role {
        Role::Server => Purpose {
            dns_names: vec![
                members.clone(),
                format!("{members}.{domain}"),
                service.clone(),
                format!("{service}.{namespace}"),
                format!("{service}.{namespace}.svc"),
                format!("{service}.{namespace}.svc.{domain}"),
                "localhost".to_owned(),
            ],
            ip_addresses: loopback,
            usages: vec![Usage::Server, Usage::Client],
        }
        .without_loopback_if_provided(cluster),
        Role::Peer => Purpose {
            dns_names: vec![members.clone(), format!("{members}.{domain}")],
            ip_addresses: Vec::new(),
            usages: vec![Usage::Server, Usage::Client],
        }
        .without_loopback_if_provided(cluster),
        Role::Client | Role::Operator => Purpose { usages: vec![Usage::Client], ..Purpose::default() },
        Role::Authority => Purpose::default(),
    }
}

impl Purpose {
    /// From a user's certificate only what the operator itself uses is demanded: the members' names.
    fn without_loopback_if_provided(mut self, cluster: &ValidatedCluster) -> Self {
        if cluster.tls != Tls::Managed {
            self.ip_addresses.clear();
            self.dns_names.truncate(1);
        }
        self
    }
}

fn request(cluster: &ValidatedCluster, role: Role, now: Timestamp, why: String) -> IssueRequest {
    let purpose = purpose(cluster, role);
    let name = secret_name(cluster, role);
    let (common_name, lifetime) = match role {
        Role::Authority => {
            // The UID tells the authorities of clusters of the same name apart.
            let short: String = cluster.uid.chars().take(8).collect();
            let who = format!("{}.{}", cluster.names.cluster(), cluster.names.namespace());
            (format!("kvnode {who} {short}"), limits::AUTHORITY_LIFETIME_SECONDS)
        }
        Role::Server => (cluster.names.client_service(), limits::LEAF_LIFETIME_SECONDS),
        Role::Peer => (cluster.names.peer_service(), limits::LEAF_LIFETIME_SECONDS),
        Role::Client => (format!("{}-client", cluster.names.cluster()), limits::LEAF_LIFETIME_SECONDS),
        Role::Operator => (OPERATOR_USER.to_owned(), limits::LEAF_LIFETIME_SECONDS),
    };
    let shift = |seconds: i64| now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
    IssueRequest {
        role,
        metadata: metadata(cluster, name, Component::Certificates),
        common_name: common_name.chars().take(64).collect(),
        dns_names: purpose.dns_names,
        ip_addresses: purpose.ip_addresses,
        not_before: shift(-limits::CERTIFICATE_BACKDATE_SECONDS),
        not_after: shift(lifetime),
        carried_trust: String::new(),
        kept: None,
        why,
    }
}
