//! From a spec as written to a cluster that can be planned, or the field that prevents it.
//!
//! Admission refuses most of this already; what is checked again here is what an older definition of the kind
//! may have let in, and what only the operator can know.

use crds::EtcdCluster;
use crds::cluster::{DeletionPolicy, EtcdClusterSpec, ProvidedTls};
use crds::names::{self, ClusterNames};

use crate::observed::Settings;

/// A spec that cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}; {next_step}")]
pub struct Invalid {
    /// The field, as a path.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
    /// What to do.
    pub next_step: &'static str,
}

/// Whether the operator may change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It may.
    Active,
    /// `spec.paused` or the annotation forbids it.
    Paused,
    /// The object is being deleted: garbage collection does the rest.
    Deleting,
}

/// Where the members' certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// From the cluster's own authority.
    Managed,
    /// From Secrets of the user, which are only ever read.
    Provided(ProvidedTls),
}

/// A cluster that can be planned: the only form later steps see.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedCluster {
    /// Names of its objects.
    pub names: ClusterNames,
    /// UID of the object: owner of everything and initial cluster token.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// Wished-for members.
    pub replicas: u32,
    /// Image of the members.
    pub image: String,
    /// Where certificates come from.
    pub tls: Tls,
    /// Whether anything may be changed.
    pub mode: Mode,
    /// Value of the restart annotation.
    pub restarted_at: Option<String>,
    /// DNS suffix of the Kubernetes cluster.
    pub dns_domain: String,
    /// Pull policy of the members' image.
    pub image_pull_policy: Option<String>,
    /// The rest, as written.
    pub spec: EtcdClusterSpec,
}

impl ValidatedCluster {
    /// Name of the Secret members show to clients.
    pub fn server_secret(&self) -> String {
        match &self.tls {
            Tls::Managed => self.names.server_secret(),
            Tls::Provided(provided) => provided.server_secret_ref.name.clone(),
        }
    }

    /// Name of the Secret members show to each other.
    pub fn peer_secret(&self) -> String {
        match &self.tls {
            Tls::Managed => self.names.peer_secret(),
            Tls::Provided(provided) => provided.peer_secret_ref.name.clone(),
        }
    }

    /// True if volumes go with the object.
    pub fn deletes_volumes(&self) -> bool {
        self.spec.deletion_policy == DeletionPolicy::Delete
    }
}

/// Checks a cluster.
///
/// # Errors
/// The first field that prevents planning, and what to do about it.
pub fn validate(cluster: &EtcdCluster, settings: &Settings) -> Result<ValidatedCluster, Invalid> {
    let meta = &cluster.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let namespace = meta.namespace.clone().unwrap_or_default();
    let uid = meta.uid.clone().unwrap_or_default();
    if uid.is_empty() || name.is_empty() || namespace.is_empty() {
        return Err(Invalid {
            field: "metadata",
            why: "name, namespace or uid is empty".to_owned(),
            next_step: "read the object from the API server",
        });
    }
    let spec = cluster.spec.clone();
    let replicas = replicas(spec.replicas)?;
    storage_size(&spec.storage.size)?;
    let annotation = |key: &str| meta.annotations.as_ref().and_then(|a| a.get(key).cloned());
    let paused = spec.paused || annotation(names::PAUSED_ANNOTATION).as_deref() == Some("true");
    let mode = match (meta.deletion_timestamp.is_some(), paused) {
        (true, _) => Mode::Deleting,
        (false, true) => Mode::Paused,
        (false, false) => Mode::Active,
    };
    Ok(ValidatedCluster {
        names: ClusterNames::new(&namespace, &name),
        uid,
        generation: meta.generation,
        replicas,
        image: spec.image.clone().unwrap_or_else(|| settings.node_image.clone()),
        tls: spec.tls.clone().map_or(Tls::Managed, Tls::Provided),
        mode,
        restarted_at: annotation(names::RESTARTED_AT_ANNOTATION),
        dns_domain: settings.dns_domain.clone(),
        image_pull_policy: settings.node_image_pull_policy.clone(),
        spec,
    })
}

fn replicas(wished: i32) -> Result<u32, Invalid> {
    match wished {
        1 | 3 | 5 | 7 => Ok(wished.unsigned_abs()),
        _ => Err(Invalid {
            field: "spec.replicas",
            why: format!("{wished} is not 1, 3, 5 or 7"),
            next_step: "use an odd number: an even member adds cost and no fault tolerance",
        }),
    }
}

fn storage_size(text: &str) -> Result<u64, Invalid> {
    quantity_bytes(text).filter(|bytes| *bytes > 0).ok_or_else(|| Invalid {
        field: "spec.storage.size",
        why: format!("{text:?} is not a size"),
        next_step: "use a quantity such as 8Gi",
    })
}

/// Bytes of a size such as `8Gi`, `1.5G` or `4096`; `None` if it is not one or does not fit.
pub fn quantity_bytes(text: &str) -> Option<u64> {
    const SUFFIXES: [(&str, u64); 11] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("m", 0),
    ];
    let (digits, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|digits| (digits, *factor)))
        .unwrap_or((text, 1));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    // Thousandths of bytes: Kubernetes itself writes them when a fraction does not divide.
    if factor == 0 {
        return whole.parse::<u64>().ok().map(|thousandths| thousandths.div_ceil(1000));
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let part = fraction.checked_mul(u128::from(factor))?.div_ceil(scale);
    whole.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_reads_them() {
        for (text, bytes) in [
            ("1Ki", Some(1024)),
            ("8Gi", Some(8 << 30)),
            ("1.5G", Some(1_500_000_000)),
            ("0.5Ki", Some(512)),
            ("4096", Some(4096)),
            ("1500m", Some(2)),
            ("Gi", None),
            ("1e3", None),
            ("-1Gi", None),
            ("", None),
            ("99999999999Pi", None),
        ] {
            assert_eq!(quantity_bytes(text), bytes, "{text}");
        }
    }
}
