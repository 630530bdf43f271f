//! Which certificates a cluster needs now, and what stands in the way.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::Reason;
use crds::cluster::ProvidedTls;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;

use super::check::{Chain, Purpose, SecretProblem, Usage, check};
use super::{IssueRequest, Role};
use crate::limits;
use crate::resources::{Component, may_apply, metadata};
use crate::validate::{Tls, ValidatedCluster};

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
    let trusted = authority.trusted;
    let mut ends = vec![authority.not_after];
    for role in LEAVES {
        match leaf(cluster, secrets, role, &trusted, now) {
            Ok(chain) => ends.push(chain.not_after),
            Err((why, still_good)) => {
                // A certificate that is merely due keeps serving until its successor is there.
                match still_good {
                    Some(until) => ends.push(until),
                    None => {
                        plan.trouble = Some(CertificateTrouble {
                            reason: Reason::CertificatesIssued,
                            message: format!("issuing {}", secret_name(cluster, role)),
                        });
                    }
                }
                plan.issue.push(request(cluster, role, now, why));
            }
        }
    }
    plan.expires = ends.into_iter().min();
    plan
}

/// The authority's chain, or the plan that results from not having one.
fn authority(
    cluster: &ValidatedCluster,
    secrets: &BTreeMap<String, Secret>,
    now: Timestamp,
) -> Result<Chain, Box<CertificatesPlan>> {
    let name = secret_name(cluster, Role::Authority);
    let problem = match secrets.get(&name).map(|s| check(s, &Purpose::default(), now)) {
        Some(Ok(chain)) => return Ok(chain),
        Some(Err(problem)) => Some(problem),
        None => None,
    };
    let in_use: Vec<String> = LEAVES
        .into_iter()
        .map(|role| secret_name(cluster, role))
        .filter(|leaf| secrets.get(leaf).is_some_and(|s| check(s, &Purpose::default(), now).is_ok()))
        .collect();
    if in_use.is_empty() {
        let why = problem.map_or_else(|| "the cluster has none".to_owned(), |p| p.to_string());
        return Err(Box::new(CertificatesPlan {
            issue: vec![request(cluster, Role::Authority, now, why)],
            trouble: Some(CertificateTrouble {
                reason: Reason::CertificatesIssued,
                message: format!("issuing {name}"),
            }),
            ..CertificatesPlan::default()
        }));
    }
    // A new authority now would be one that running members do not trust.
    let what = problem.map_or_else(|| "does not exist".to_owned(), |p| format!("is not usable: {p}"));
    Err(Box::new(CertificatesPlan {
        trouble: Some(CertificateTrouble {
            reason: Reason::AuthorityMissing,
            message: format!(
                "Secret {name} {what}, while certificates it signed are in use; restore it from your copy. \
                 Members keep serving until their certificates end"
            ),
        }),
        ..CertificatesPlan::default()
    }))
}

/// A leaf's chain, or why it has to be issued anew and until when the present one still serves.
fn leaf(
    cluster: &ValidatedCluster,
    secrets: &BTreeMap<String, Secret>,
    role: Role,
    trusted: &[Vec<u8>],
    now: Timestamp,
) -> Result<Chain, (String, Option<Timestamp>)> {
    let secret =
        secrets.get(&secret_name(cluster, role)).ok_or_else(|| ("it does not exist".to_owned(), None))?;
    let chain = match check(secret, &purpose(cluster, role), now) {
        Ok(chain) => chain,
        Err(problem @ (SecretProblem::MissingName(_) | SecretProblem::MissingUsage(_))) => {
            let usable = check(secret, &Purpose::default(), now).ok().map(|c| c.not_after);
            return Err((problem.to_string(), usable));
        }
        Err(problem) => return Err((problem.to_string(), None)),
    };
    if chain.trusted != trusted {
        return Err(("it is not of the cluster's present authority".to_owned(), Some(chain.not_after)));
    }
    let due = renew_at(&chain);
    if now >= due {
        return Err((format!("it is due for renewal since {due}"), Some(chain.not_after)));
    }
    Ok(chain)
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
        Role::Operator => ("kvnode-operator".to_owned(), limits::LEAF_LIFETIME_SECONDS),
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
        why,
    }
}
