//! Whose volume this is: `member/identity.json`, written once before the member first takes part, and checked at
//! every start. A volume of another cluster, or of a program newer than this, is refused.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    layout::DataDir,
    limits::IDENTITY_BYTES_MAX,
    vfs::{self, OpenMode, Vfs},
};

/// The newest version of the file that is understood.
pub const IDENTITY_VERSION: u32 = 1;

/// An error about the identity. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}; check the disk and its permissions", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not what this program wrote.
    #[error("{} is malformed: {reason}; restore it from a backup of the volume or start with an empty one", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Written by a newer program.
    #[error("{} has version {found}, newer than {IDENTITY_VERSION} that this program understands; start a newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Another cluster's volume.
    #[error(
        "{} says that this volume belongs to cluster {found}, not {expected}; mount the right volume or an empty one",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The cluster in the file.
        found: String,
        /// The cluster asked for.
        expected: String,
    },
}

/// A raft or cluster id, written as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexId(pub u64);

impl fmt::Display for HexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for HexId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() <= 16 && !text.starts_with('+');
        digits
            .then(|| u64::from_str_radix(text, 16).ok().map(HexId))
            .flatten()
            .ok_or_else(|| format!("{text:?} is not an id of up to 16 hex digits"))
    }
}

impl TryFrom<String> for HexId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HexId> for String {
    fn from(id: HexId) -> Self {
        id.to_string()
    }
}

/// How a member came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// It was among the first members of the cluster.
    Created,
    /// It was added to a running cluster.
    Joined,
    /// Its data came from a backup.
    Restored,
}

/// Whose volume this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Version of the file's format.
    pub version: u32,
    /// The initial cluster token: the UID of the cluster's object when an operator runs it.
    #[serde(rename = "clusterUID")]
    pub cluster_uid: String,
    /// The cluster's id.
    #[serde(rename = "clusterID")]
    pub cluster_id: HexId,
    /// This member's id.
    #[serde(rename = "memberID")]
    pub member_id: HexId,
    /// This member's name when it was made.
    pub name: String,
    /// How it came to be.
    pub origin: Origin,
}

/// Only the version, which is read first: the rest of a newer file may look different.
#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

impl Identity {
    /// Reads the identity of a data directory; `None` if it has none yet.
    pub fn load(vfs: &dyn Vfs, data_dir: &DataDir) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.identity();
        let io = |action| {
            let path = path.clone();
            move |source| IdentityError::Io { action, path, source }
        };
        if !vfs.exists(&path).map_err(io("look for"))? {
            return Ok(None);
        }
        let file = vfs.open(&path, OpenMode::Read).map_err(io("open"))?;
        if file.length().map_err(io("measure"))? > IDENTITY_BYTES_MAX {
            return Err(IdentityError::Malformed { path, reason: "it is too long".into() });
        }
        let text = vfs::read_all(&*file).map_err(io("read"))?;
        let malformed = |error: serde_json::Error| IdentityError::Malformed {
            path: path.clone(),
            reason: error.to_string(),
        };
        let VersionOnly { version } = serde_json::from_slice(&text).map_err(malformed)?;
        if version > IDENTITY_VERSION {
            return Err(IdentityError::Newer { path, found: version });
        }
        serde_json::from_slice(&text).map(Some).map_err(malformed)
    }

    /// Writes it durably, creating `member` if needed.
    pub fn store(&self, vfs: &dyn Vfs, data_dir: &DataDir) -> Result<(), IdentityError> {
        self.store_at(vfs, &data_dir.identity())
    }

    pub(crate) fn store_at(&self, vfs: &dyn Vfs, path: &Path) -> Result<(), IdentityError> {
        let io = |source| IdentityError::Io { action: "write", path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            vfs::create_dir_durably(vfs, parent).map_err(io)?;
        }
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| io(error.into()))?;
        text.push(b'\n');
        vfs::replace_file(vfs, path, &text).map_err(io)
    }

    /// Refuses the volume of another cluster.
    ///
    /// # Errors
    /// [`IdentityError::Foreign`] names both.
    pub fn check_cluster(&self, data_dir: &DataDir, cluster_uid: &str) -> Result<(), IdentityError> {
        if self.cluster_uid == cluster_uid {
            return Ok(());
        }
        Err(IdentityError::Foreign {
            path: data_dir.identity(),
            found: self.cluster_uid.clone(),
            expected: cluster_uid.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::SimDisk;

    fn identity() -> Identity {
        Identity {
            version: IDENTITY_VERSION,
            cluster_uid: "3f0c".into(),
            cluster_id: HexId(0xAB),
            member_id: HexId(7),
            name: "core-0".into(),
            origin: Origin::Created,
        }
    }

    #[test]
    fn it_is_read_back_and_ids_are_hex() {
        let (disk, dir) = (SimDisk::new(), DataDir::new("/data"));
        assert_eq!(Identity::load(&disk, &dir).unwrap(), None);
        identity().store(&disk, &dir).unwrap();
        let after = disk.crash(1);
        assert_eq!(Identity::load(&after, &dir).unwrap(), Some(identity()));
        let text = String::from_utf8(vfs::read_file(&after, &dir.identity()).unwrap()).unwrap();
        assert!(text.contains(r#""memberID": "0000000000000007""#), "{text}");
    }

    #[test]
    fn another_clusters_volume_and_a_newer_file_are_refused_by_name() {
        let (disk, dir) = (SimDisk::new(), DataDir::new("/data"));
        let error = identity().check_cluster(&dir, "4a4a").unwrap_err().to_string();
        assert_eq!(
            error,
            "/data/member/identity.json says that this volume belongs to cluster 3f0c, not 4a4a; mount the right \
             volume or an empty one"
        );
        disk.create_dir_all(&dir.member()).unwrap();
        vfs::replace_file(&disk, &dir.identity(), br#"{"version":2,"shape":"new"}"#).unwrap();
        assert!(matches!(Identity::load(&disk, &dir), Err(IdentityError::Newer { found: 2, .. })));
        vfs::replace_file(&disk, &dir.identity(), b"{").unwrap();
        assert!(matches!(Identity::load(&disk, &dir), Err(IdentityError::Malformed { .. })));
    }
}
