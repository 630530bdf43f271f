//! What a discovery service holds of a cluster that is being formed, and what follows from it. Pure.
//!
//! The service is an etcd. Below `/_etcd/registry/<token>`, `_config/size` is the number of members, which whoever wants the
//! cluster has put there, and `members/<id>` is written by each member: `name=url`, by commas if there are several. Those
//! who came first are the members (etcd's `server/etcdserver/api/v3discovery`).

use kvnode_mvcc::MemberId;
use kvnode_proto::mvccpb::KeyValue;

use super::DiscoveryError;

const REGISTRY: &str = "/_etcd/registry";

/// The keys of one cluster.
#[derive(Debug)]
pub(super) struct Keys {
    cluster: String,
}

impl Keys {
    /// Of the cluster with this token, which is cleaned as a path is.
    pub(super) fn new(token: &str) -> Self {
        let mut parts: Vec<&str> = REGISTRY.split('/').skip(1).collect();
        for part in token.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        Self { cluster: format!("/{}", parts.join("/")) }
    }

    pub(super) fn size(&self) -> String {
        format!("{}/_config/size", self.cluster)
    }

    /// What the keys of all members begin with.
    pub(super) fn members(&self) -> String {
        format!("{}/members", self.cluster)
    }

    pub(super) fn member(&self, id: MemberId) -> String {
        format!("{}/{:x}", self.members(), id.0)
    }
}

/// The registry of one cluster at one revision.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Registry {
    size: usize,
    /// Keys and values in the order in which they were created.
    members: Vec<(String, String)>,
}

impl Registry {
    /// Takes what stands at the size's key and at those of members. A member that does not say its URLs is none.
    pub(super) fn new(keys: &Keys, size: &[KeyValue], members: &[KeyValue]) -> Result<Self, DiscoveryError> {
        let [size] = size else { return Err(DiscoveryError::NoSize { key: keys.size() }) };
        let size = text(&size.value);
        let size = match size.parse::<usize>() {
            Ok(size) if size > 0 => size,
            _ => return Err(DiscoveryError::BadSize { key: keys.size(), value: size }),
        };
        let mut members: Vec<&KeyValue> = members.iter().filter(|kv| kv.value.contains(&b'=')).collect();
        members.sort_by_key(|kv| kv.create_revision);
        let members = members.into_iter().map(|kv| (text(&kv.key), text(&kv.value))).collect();
        Ok(Self { size, members })
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Members that are known, at most as many as there are to be.
    pub(super) fn found(&self) -> usize {
        self.members.len().min(self.size)
    }

    /// Whether the member with this key is one of the cluster's, or there is a place left for it.
    pub(super) fn admits(&self, key: &str) -> bool {
        self.found() < self.size || self.chosen().any(|(chosen, _)| chosen == key)
    }

    /// What `--initial-cluster` would have to be, once all members are there.
    pub(super) fn initial_cluster(&self) -> Option<String> {
        let values: Vec<&str> = self.chosen().map(|(_, value)| value.as_str()).collect();
        (values.len() == self.size).then(|| values.join(","))
    }

    fn chosen(&self) -> impl Iterator<Item = &(String, String)> {
        self.members.iter().take(self.size)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str, value: &str, create_revision: i64) -> KeyValue {
        KeyValue {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            create_revision,
            ..KeyValue::default()
        }
    }

    fn registry(size: &str, members: &[KeyValue]) -> Result<Registry, DiscoveryError> {
        Registry::new(&Keys::new("t"), &[kv("/_etcd/registry/t/_config/size", size, 1)], members)
    }

    #[test]
    fn keys_are_etcds() {
        let keys = Keys::new("8A59");
        assert_eq!(keys.size(), "/_etcd/registry/8A59/_config/size");
        assert_eq!(keys.members(), "/_etcd/registry/8A59/members");
        assert_eq!(keys.member(MemberId(0x0cc1_4be8)), "/_etcd/registry/8A59/members/cc14be8");
        assert_eq!(Keys::new("/a//b/./c/../").members(), "/_etcd/registry/a/b/members");
    }

    #[test]
    fn the_first_to_come_are_the_members() {
        let found =
            [kv("/m/a", "a=http://a:1", 7), kv("/m/b", " b=http://b:1\n", 5), kv("/m/c", "c=http://c:1", 6)];
        let registry = registry("2", &found).unwrap();
        assert_eq!(registry.initial_cluster().as_deref(), Some("b=http://b:1,c=http://c:1"));
        assert_eq!((registry.size(), registry.found()), (2, 2));
        assert!(registry.admits("/m/b") && registry.admits("/m/c"));
        assert!(!registry.admits("/m/a") && !registry.admits("/m/new"));
    }

    #[test]
    fn places_are_open_until_all_are_there() {
        let alone = registry("2", &[kv("/m/a", "a=http://a:1,a=http://a:2", 3)]).unwrap();
        assert_eq!((alone.found(), alone.initial_cluster()), (1, None));
        assert!(alone.admits("/m/a") && alone.admits("/m/new"));
    }

    #[test]
    fn what_does_not_say_its_urls_is_no_member() {
        let found = [kv("/m/x", "http://x:1", 2), kv("/m/a", "a=http://a:1", 3)];
        assert_eq!(registry("1", &found).unwrap().initial_cluster().as_deref(), Some("a=http://a:1"));
    }

    #[test]
    fn without_a_size_there_is_no_cluster() {
        let missing = Registry::new(&Keys::new("t"), &[], &[]).unwrap_err().to_string();
        assert!(missing.contains("size key not found") && missing.contains("/_etcd/registry/t/_config/size"));
        for size in ["", "0", "-1", "three", "1.5"] {
            let error = registry(size, &[]).unwrap_err().to_string();
            assert!(error.contains("size key is bad"), "{size}: {error}");
        }
        assert_eq!(registry(" 3\n", &[]).unwrap().size(), 3);
    }
}
