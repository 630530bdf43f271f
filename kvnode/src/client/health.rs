//! What health checks and metrics may ask, whether or not the member serves yet.

use std::sync::{Arc, OnceLock};

use kvnode_proto::etcdserverpb::AlarmType;

use crate::node::{Boot, Node};

/// The member as seen from outside: starting, then serving.
pub struct Health {
    boot: Arc<Boot>,
    node: OnceLock<Node>,
}

/// Versions that the cluster agreed on; `None` until it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    pub cluster: Option<String>,
    pub storage: Option<String>,
}

impl Health {
    pub fn new(boot: Arc<Boot>) -> Self {
        Self { boot, node: OnceLock::new() }
    }

    /// From now on the member serves.
    pub fn serves(&self, node: Node) {
        // A process starts one node, so nothing is replaced.
        let _ = self.node.set(node);
    }

    /// The member, once it serves.
    pub fn node(&self) -> Option<&Node> {
        self.node.get()
    }

    /// What the member waits for before it serves.
    pub fn waiting(&self) -> Option<String> {
        match self.node.get() {
            Some(_) => None,
            None => Some(self.boot.waiting_for().unwrap_or_else(|| "the member is starting".to_owned())),
        }
    }

    /// Names of raised alarms.
    pub fn alarms(&self) -> Vec<&'static str> {
        let Some(node) = self.node() else {
            return Vec::new();
        };
        let raised = node.reader().view().alarms(AlarmType::None);
        raised
            .iter()
            .map(|alarm| match alarm.alarm() {
                AlarmType::Nospace => "NOSPACE",
                AlarmType::Corrupt => "CORRUPT",
                AlarmType::None => "UNKNOWN",
            })
            .collect()
    }

    pub fn has_leader(&self) -> bool {
        self.node().is_some_and(|node| node.status().leader.0 != 0)
    }

    pub fn is_learner(&self) -> bool {
        self.node().is_some_and(Node::is_learner)
    }

    /// A round of consensus, as a linearizable read makes one.
    ///
    /// # Errors
    /// Why there was none, in etcd's words.
    pub async fn linearize(&self) -> Result<(), String> {
        match self.node() {
            Some(node) => node.linearize().await.map_err(|error| error.to_string()),
            None => Err("the member is starting".to_owned()),
        }
    }

    pub fn versions(&self) -> Versions {
        self.node().map_or_else(Versions::default, |node| {
            let view = node.reader().view();
            Versions { cluster: view.cluster_version(), storage: node.storage_version(&view) }
        })
    }
}
