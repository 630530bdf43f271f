//! Going back to the minor version before: asked for by an administrator, decided by the leader as the cluster's version,
//! prepared by every member in its files (etcd: `server/etcdserver/version`).
//!
//! When every member is ready they may be replaced, one by one, by etcd of that version on the same data. kvnode itself is
//! never of the older version, so it is the older members' leader that ends the downgrade.

use std::{sync::atomic::Ordering, time::Duration};

use kvnode_mvcc::View;
use kvnode_proto::{etcdserverpb::InternalRaftRequest, membershippb::DowngradeInfoSetRequest};
use tokio::time;
use tracing::{info, warn};

use super::{Node, NodeError, shared::Shared};
use crate::{flags::usage::ETCD_VERSION, peer::version};

/// How often a member looks whether its files are to be prepared. Nothing waits for it.
const LOOK: Duration = Duration::from_secs(1);

/// Why there is no downgrade, in etcd's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DowngradeError {
    #[error("etcdserver: wrong downgrade target version format")]
    Format,
    #[error("etcdserver: cluster version not found during downgrade")]
    Undecided,
    #[error("etcdserver: invalid downgrade target version")]
    Target,
    #[error("etcdserver: cluster has a downgrade job in progress")]
    InProgress,
    #[error("etcdserver: no inflight downgrade job")]
    None,
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Major and minor, which are all that a cluster's version has.
type Version = (u32, u32);

impl Node {
    /// Whether the cluster could go to the version; answers the one it has.
    ///
    /// # Errors
    /// It could not: the version is none, not the one before, or a downgrade is going on.
    pub async fn validate_downgrade(&self, target: &str) -> Result<String, DowngradeError> {
        let target = parse(target).ok_or(DowngradeError::Format)?;
        cluster_version(&self.reader().view())?;
        self.linearize().await?;
        let view = self.reader().view();
        let now = cluster_version(&view)?;
        if !is_step_down(now, target) {
            return Err(DowngradeError::Target);
        }
        if target_version(&view).is_some() {
            return Err(DowngradeError::InProgress);
        }
        Ok(text(now))
    }

    /// Begins to go to the version; answers the one the cluster has.
    ///
    /// # Errors
    /// As [`Self::validate_downgrade`].
    pub async fn enable_downgrade(&self, target: &str) -> Result<String, DowngradeError> {
        let now = self.validate_downgrade(target).await;
        let now = now.inspect_err(|error| warn!(%error, "reject downgrade request"))?;
        let (major, minor) = parse(target).ok_or(DowngradeError::Format)?;
        self.set_downgrade(DowngradeInfoSetRequest { enabled: true, ver: format!("{major}.{minor}.0") })
            .await?;
        Ok(now)
    }

    /// Stays at the version that the members have; answers the cluster's. That there was nothing to cancel is no error,
    /// as in etcd.
    ///
    /// # Errors
    /// The cluster has no version yet.
    pub async fn cancel_downgrade(&self) -> Result<String, DowngradeError> {
        if let Err(error) = self.try_cancel_downgrade().await {
            warn!(%error, "failed to cancel downgrade");
        }
        cluster_version(&self.reader().view()).map(text)
    }

    /// The version of the schema that this member's files follow. The state may be ahead of them when a downgrade begins.
    #[must_use]
    pub fn storage_version(&self, view: &View) -> Option<String> {
        stored_version(&self.shared, view)
    }

    async fn try_cancel_downgrade(&self) -> Result<(), DowngradeError> {
        self.linearize().await?;
        target_version(&self.reader().view()).ok_or(DowngradeError::None)?;
        self.set_downgrade(DowngradeInfoSetRequest::default()).await
    }

    /// A checkpoint has the version in it, and nothing before it needs to be read again. The first may be one that was
    /// being written already.
    async fn write_files(&self) -> Result<(), NodeError> {
        self.defragment().await?;
        self.defragment().await
    }

    async fn set_downgrade(&self, info: DowngradeInfoSetRequest) -> Result<(), DowngradeError> {
        let request =
            InternalRaftRequest { downgrade_info_set: Some(info), ..InternalRaftRequest::default() };
        self.propose(request).await?;
        Ok(())
    }
}

/// Writes files of the older version when the cluster has gone there, and says so. Runs until the member stops.
pub(super) async fn prepare(node: Node) {
    let stop = node.shared.stopper.token();
    let ready = &node.shared.ready_to_downgrade;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = time::sleep(LOOK) => {}
        }
        let Some(target) = pending(&node.shared, &node.reader().view()) else { continue };
        if let Err(error) = node.write_files().await {
            warn!(%error, "cannot write files of the version to downgrade to; trying again");
            continue;
        }
        // What was written is of before a change of mind, if there was one.
        if pending(&node.shared, &node.reader().view()) != Some(target) {
            continue;
        }
        ready.store(true, Ordering::Relaxed);
        let target = text(target);
        info!("target-version" = target, "server-version" = ETCD_VERSION, "The server is ready to downgrade");
    }
}

/// Where the state went down to while the files have not followed.
fn pending(shared: &Shared, view: &View) -> Option<Version> {
    let stored = view.storage_version().and_then(|text| version(&text));
    target_version(view)
        .filter(|target| stored == Some(*target) && !shared.ready_to_downgrade.load(Ordering::Relaxed))
}

/// The version of the schema that a start would find in this member's files.
pub(super) fn stored_version(shared: &Shared, view: &View) -> Option<String> {
    let before = pending(shared, view).map(|(major, minor)| format!("{major}.{}.0", minor + 1));
    before.or_else(|| view.storage_version())
}

/// What the cluster's version becomes, if it changes: one step down where that was asked for, else up to the oldest
/// member's.
pub(super) fn next_version(now: Version, oldest: Version, target: Option<Version>) -> Option<Version> {
    match target {
        Some(target) if target == now => None,
        Some(target) if is_step_down(now, target) && is_step_down(oldest, target) => Some(target),
        Some(target) => {
            let (now, oldest, target) = (text(now), text(oldest), text(target));
            warn!(
                "downgrade-target" = target,
                "cluster-version" = now,
                "minimal-server-version" = oldest,
                "Cannot downgrade from cluster-version to downgrade-target"
            );
            None
        }
        None => (now < oldest).then_some(oldest),
    }
}

/// Where a downgrade leads that is going on.
pub(super) fn target_version(view: &View) -> Option<Version> {
    version(&view.downgrade()?.target_version?)
}

fn cluster_version(view: &View) -> Result<Version, DowngradeError> {
    view.cluster_version().and_then(|text| version(&text)).ok_or(DowngradeError::Undecided)
}

fn is_step_down((major, minor): Version, target: Version) -> bool {
    minor.checked_sub(1).is_some_and(|minor| target == (major, minor))
}

fn text((major, minor): Version) -> String {
    format!("{major}.{minor}")
}

/// Reads `major.minor`, or a semantic version.
fn parse(text: &str) -> Option<Version> {
    let bare = text.split(['-', '+']).next()?;
    let mut numbers = bare.split('.').map(|part| part.parse::<u32>().ok());
    let version = (numbers.next()??, numbers.next()??);
    match (numbers.next(), numbers.next()) {
        (None | Some(Some(_)), None) => Some(version),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_semantic_versions() {
        for text in ["3.6", "3.6.0", "3.6.16", "3.6.0-rc.1"] {
            assert_eq!(parse(text), Some((3, 6)), "{text}");
        }
        for text in ["", "3", "v3.6.0", "3.6.0.0", "3.x", "3.6.x", "-3.6"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_cluster_goes_down_one_step_and_up_with_its_oldest_member() {
        assert_eq!(next_version((3, 6), (3, 7), None), Some((3, 7)));
        assert_eq!(next_version((3, 7), (3, 7), None), None);
        assert_eq!(next_version((3, 7), (3, 7), Some((3, 6))), Some((3, 6)));
        assert_eq!(next_version((3, 6), (3, 7), Some((3, 6))), None);
        assert_eq!(next_version((3, 7), (3, 7), Some((3, 5))), None);
        assert_eq!(next_version((3, 7), (3, 6), Some((3, 6))), None);
        assert!(!is_step_down((3, 0), (2, 9)));
    }
}
