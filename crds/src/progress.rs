//! The one progress record for all long work: scaling, replacing, rolling, backing up, restoring.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of work is under way on a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OperationType {
    /// The first member is being created, or the others are joining it for the first time.
    Bootstrap,
    /// The first member's volume is being filled from a backup.
    Restore,
    /// Members are being added.
    ScaleUp,
    /// Members are being removed.
    ScaleDown,
    /// A broken member is being replaced under the same ordinal.
    Replace,
    /// Pods are being restarted one at a time because their template changed.
    Roll,
}

impl OperationType {
    /// The name as status shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrap => "Bootstrap",
            Self::Restore => "Restore",
            Self::ScaleUp => "ScaleUp",
            Self::ScaleDown => "ScaleDown",
            Self::Replace => "Replace",
            Self::Roll => "Roll",
        }
    }
}

/// Work under way: what, since when, how far, and what it waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationProgress {
    /// What kind of work.
    #[serde(rename = "type")]
    pub type_: OperationType,
    /// When it began.
    pub started_at: Time,
    /// Steps finished; never goes back while the same work lasts.
    pub steps_done: u32,
    /// Steps in all, known at the start.
    pub steps_total: u32,
    /// What it waits for right now, naming the thing.
    #[schemars(length(max = 1024))]
    pub waiting_on: String,
    /// When `waitingOn` last became another thing.
    pub waiting_since: Time,
}
