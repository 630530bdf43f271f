//! What every pass may use: clients, caches and the little memory that only saves work or words.
//!
//! Never: truth. Losing everything here, as a restart does, changes no decision.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crds::names::FIELD_MANAGER;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use operator_plan::Failures;
use operator_plan::observed::Settings;

use super::apply::Applier;
use super::backoff::Backoff;
use super::caches::Caches;
use crate::etcd::Pool;
use crate::lease::Leadership;
use crate::metrics::Metrics;

/// Shared by all passes of one scope.
pub struct Context {
    /// The Kubernetes API.
    pub client: Client,
    /// What the watches saw.
    pub caches: Caches,
    /// How the operator was installed.
    pub settings: Settings,
    /// Connections to members.
    pub pool: Arc<Pool>,
    /// Plain HTTP to members' health ports.
    pub http: reqwest::Client,
    /// Writer of objects.
    pub applier: Applier,
    /// Writer of events.
    pub recorder: Recorder,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Proof of leadership.
    pub leadership: Leadership,
    /// Waits after failures.
    pub backoff: Backoff,
    failures: Mutex<HashMap<Name, (String, Failures)>>,
}

/// Namespace and name of an object.
type Name = (String, String);

/// What an object is called.
pub fn name_of<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

impl Context {
    /// A context for one scope.
    pub fn new(client: Client, caches: Caches, shared: Shared) -> Self {
        let Shared { settings, pool, http, metrics, leadership, identity } = shared;
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(identity) };
        Self {
            applier: Applier::new(client.clone(), FIELD_MANAGER, leadership.clone()),
            recorder: Recorder::new(client.clone(), reporter),
            client,
            caches,
            settings,
            pool,
            http,
            metrics,
            leadership,
            backoff: Backoff::default(),
            failures: Mutex::default(),
        }
    }

    /// What failed lately on this very object.
    pub fn failures<K: Resource>(&self, object: &K) -> Failures {
        let all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&name_of(object)).filter(|(uid, _)| Some(uid) == object.uid().as_ref());
        known.map(|(_, failures)| failures.clone()).unwrap_or_default()
    }

    /// Notes what failed, or does not fail any more.
    pub fn note_failures<K: Resource>(&self, object: &K, note: impl FnOnce(&mut Failures)) {
        let (name, uid) = (name_of(object), object.uid().unwrap_or_default());
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.remove(&name).filter(|(of, _)| *of == uid);
        let mut failures = known.map(|(_, failures)| failures).unwrap_or_default();
        note(&mut failures);
        if failures != Failures::default() {
            all.insert(name, (uid, failures));
        }
    }

    /// The object is gone: nothing about it is kept.
    pub fn forget(&self, name: &(String, String)) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// What all scopes share.
#[derive(Clone)]
pub struct Shared {
    /// How the operator was installed.
    pub settings: Settings,
    /// Connections to members.
    pub pool: Arc<Pool>,
    /// Plain HTTP to members' health ports.
    pub http: reqwest::Client,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Proof of leadership.
    pub leadership: Leadership,
    /// Name of this replica.
    pub identity: String,
}

/// The newest version we know of each object whose status we write.
///
/// A watch delivers our own status write a moment later; a pass in between would see the old status and tell the same
/// news twice.
pub struct Newest<K> {
    written: Mutex<HashMap<Name, Arc<K>>>,
}

impl<K> Default for Newest<K> {
    fn default() -> Self {
        Self { written: Mutex::default() }
    }
}

impl<K: Resource + Clone> Newest<K> {
    /// The newer of what the watch saw and what we wrote. An object made anew under the name is never mixed up.
    pub fn of(&self, seen: Arc<K>) -> Arc<K> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let name = name_of(seen.as_ref());
        match written.get(&name) {
            Some(ours) if ours.uid() == seen.uid() && version(ours.as_ref()) > version(seen.as_ref()) => {
                Arc::clone(ours)
            }
            Some(_) => {
                written.remove(&name);
                seen
            }
            None => seen,
        }
    }

    /// We wrote this.
    pub fn wrote(&self, object: K) {
        let name = name_of(&object);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(object));
    }

    /// The object is gone.
    pub fn forget(&self, name: &(String, String)) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Resource versions are decimal numbers that grow; one that is not counts as oldest, so the watch wins.
fn version<K: Resource>(object: &K) -> u128 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn pod(uid: &str, version: &str) -> Pod {
        let metadata = json!({"namespace": "db", "name": "core-0", "uid": uid, "resourceVersion": version});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn our_own_write_counts_until_the_watch_has_caught_up() {
        let newest = Newest::default();
        newest.wrote(pod("a", "10"));
        assert_eq!(newest.of(Arc::new(pod("a", "9"))).resource_version().as_deref(), Some("10"));
        assert_eq!(newest.of(Arc::new(pod("a", "11"))).resource_version().as_deref(), Some("11"));
        assert_eq!(newest.of(Arc::new(pod("a", "9"))).resource_version().as_deref(), Some("9"), "forgotten");
    }

    #[test]
    fn another_object_of_the_name_is_taken_as_it_is() {
        let newest = Newest::default();
        newest.wrote(pod("a", "10"));
        assert_eq!(newest.of(Arc::new(pod("b", "9"))).uid().as_deref(), Some("b"));
    }
}
