//! What every pass may use: clients, caches and the little memory that only saves work or words.
//!
//! Never: truth. Losing everything here, as a restart does, changes no decision.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crds::names::FIELD_MANAGER;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use operator_plan::observed::{FailedAction, Settings};

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
    failed_actions: Mutex<HashMap<String, FailedAction>>,
}

impl Context {
    /// A context for one scope.
    pub fn new(client: Client, caches: Caches, shared: Shared) -> Self {
        let Shared { settings, pool, http, metrics, leadership, identity } = shared;
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(identity) };
        Self {
            applier: Applier::new(client.clone(), FIELD_MANAGER),
            recorder: Recorder::new(client.clone(), reporter),
            client,
            caches,
            settings,
            pool,
            http,
            metrics,
            leadership,
            backoff: Backoff::default(),
            failed_actions: Mutex::default(),
        }
    }

    /// The last action on the object of this UID, if it failed and nothing succeeded since.
    pub fn failed_action(&self, uid: &str) -> Option<FailedAction> {
        self.failed_actions.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// Remembers, or with `None` forgets, a failed action, to be shown.
    pub fn set_failed_action(&self, uid: &str, failed: Option<FailedAction>) {
        let mut actions = self.failed_actions.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            Some(failed) => actions.insert(uid.to_owned(), failed),
            None => actions.remove(uid),
        };
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
    written: Mutex<HashMap<String, Arc<K>>>,
}

impl<K> Default for Newest<K> {
    fn default() -> Self {
        Self { written: Mutex::default() }
    }
}

impl<K: Resource + Clone> Newest<K> {
    /// The newer of what the watch saw and what we wrote.
    pub fn of(&self, seen: Arc<K>) -> Arc<K> {
        let Some(uid) = seen.uid() else { return seen };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get(&uid) {
            Some(ours) if version(ours.as_ref()) > version(seen.as_ref()) => Arc::clone(ours),
            Some(_) => {
                written.remove(&uid);
                seen
            }
            None => seen,
        }
    }

    /// We wrote this.
    pub fn wrote(&self, object: K) {
        if let Some(uid) = object.uid() {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, Arc::new(object));
        }
    }
}

/// Resource versions are decimal numbers that grow; one that is not counts as oldest, so the watch wins.
fn version<K: Resource>(object: &K) -> u128 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}
