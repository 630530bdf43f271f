//! What is told: status, and events on transitions.

mod conditions;
mod events;
mod members;
mod operation;
mod status;

use crds::Reason;
use crds::cluster::EtcdClusterStatus;

pub(crate) use status::{Told, cluster, invalid};

/// Normal news or a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// As wished.
    Normal,
    /// A human may want to look.
    Warning,
}

/// Another object an event is about, in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// `apiVersion` of its kind.
    pub api_version: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

impl Related {
    /// A pod.
    pub fn pod(name: &str) -> Option<Self> {
        Some(Self { api_version: "v1", kind: "Pod", name: name.to_owned() })
    }

    /// A volume claim.
    pub fn claim(name: &str) -> Option<Self> {
        Some(Self { api_version: "v1", kind: "PersistentVolumeClaim", name: name.to_owned() })
    }

    /// A Job.
    pub fn job(name: &str) -> Option<Self> {
        Some(Self { api_version: "batch/v1", kind: "Job", name: name.to_owned() })
    }

    /// A backup.
    pub fn backup(name: &str) -> Option<Self> {
        Some(Self { api_version: "kvnode.io/v1alpha1", kind: "EtcdBackup", name: name.to_owned() })
    }
}

/// An event to emit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Normal or Warning.
    pub kind: NoteKind,
    /// Reason of the closed set.
    pub reason: Reason,
    /// What was done, as a CamelCase verb.
    pub action: &'static str,
    /// The sentence.
    pub message: String,
    /// What else it is about.
    pub related: Option<Related>,
}

/// What to tell about a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The whole status; written only if it differs from what is there.
    pub status: EtcdClusterStatus,
    /// Events for what changed since the status that was there.
    pub events: Vec<Note>,
}
