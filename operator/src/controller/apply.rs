//! Server-side apply of wanted objects, skipped when nothing would change. Every write of an object we own is here.
//!
//! Never: takes over an object that somebody else controls, writes to one that already is as wanted, or writes when the
//! lease is not fresh.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use operator_plan::plan::ClaimOwner;
use operator_plan::resources::may_apply;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;

use super::compare;
use crate::lease::Leadership;
use crate::limits;

/// Why an object could not be made as wanted.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The Kubernetes API refused or did not answer.
    #[error("{doing} {kind} {name} failed: {}", api_words(.source))]
    Api {
        /// What was attempted.
        doing: &'static str,
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// The name is taken.
    #[error("{0}")]
    NotOwned(String),
    /// Another replica may lead.
    #[error("this operator may not write: its lease is not fresh")]
    NotLeading,
    /// The wanted object does not serialize.
    #[error("writing {kind} {name} as JSON failed: {source}; this is a defect, please report it")]
    Json {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The server's own sentence, without the debug form around it.
pub fn api_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} (HTTP {})", status.message, status.code),
        other => other.to_string(),
    }
}

/// True if the object was not there.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// True if the object was there already, or is not the one that was meant.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Kinds that live in a namespace and that we read and write.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// The writer of objects.
pub struct Applier {
    client: Client,
    manager: &'static str,
    leadership: Leadership,
    /// Digests of what the server made of a wish that it does not repeat word by word (a normalised quantity, say), by
    /// UID. Only saves writes: without it, after a restart, each such object is applied once more to no effect.
    accepted: Mutex<HashMap<String, (String, String)>>,
}

impl Applier {
    /// A writer that signs as `manager`, for as long as this replica leads.
    pub fn new(client: Client, manager: &'static str, leadership: Leadership) -> Self {
        Self { client, manager, leadership, accepted: Mutex::default() }
    }

    /// Asked before each write: a pass may have begun long before, and a successor may be at work.
    fn may_write(&self) -> Result<(), ApplyError> {
        if self.leadership.held() { Ok(()) } else { Err(ApplyError::NotLeading) }
    }

    /// Makes `wanted` so in `namespace`, on behalf of the owner `owner_uid`. `live` is the object as last seen.
    pub async fn apply<K: Object>(
        &self,
        namespace: &str,
        owner_uid: &str,
        wanted: &K,
        live: Option<&K>,
    ) -> Result<(), ApplyError> {
        let name = wanted.name_any();
        let json = |source| ApplyError::Json { kind: kind::<K>(), name: name.clone(), source };
        let mut body = serde_json::to_value(wanted).map_err(json)?;
        compare::mark(&mut body);
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        // A cache that lags, or that our label keeps it out of, must not hide somebody else's object.
        let fresh = match live {
            Some(_) => None,
            None => api.get_opt(&name).await.map_err(|e| failed::<K>("reading", &name, e))?,
        };
        let live = live.or(fresh.as_ref());
        if let Some(live) = live {
            may_apply(live.meta(), owner_uid)
                .map_err(|error| ApplyError::NotOwned(not_owned::<K>(&name, &error)))?;
            let live = serde_json::to_value(live).map_err(json)?;
            if compare::contains(&live, &body) || self.was_accepted(&live, &body) {
                return Ok(());
            }
        }
        self.may_write()?;
        let params = PatchParams::apply(self.manager).force();
        let answer = api
            .patch(&name, &params, &Patch::Apply(&body))
            .await
            .map_err(|e| failed::<K>("applying", &name, e))?;
        let answer = serde_json::to_value(&answer).map_err(json)?;
        if !compare::contains(&answer, &body) {
            self.accept(&answer, &body);
        }
        tracing::info!(kind = kind::<K>(), name, namespace, "applied");
        Ok(())
    }

    /// Creates `wanted` if nothing of its name is there; never changes it afterwards.
    pub async fn create<K: Object>(
        &self,
        namespace: &str,
        wanted: &K,
        live: Option<&K>,
    ) -> Result<(), ApplyError> {
        if live.is_some() {
            return Ok(());
        }
        let name = wanted.name_any();
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.may_write()?;
        let params = PostParams { field_manager: Some(self.manager.to_owned()), ..PostParams::default() };
        match api.create(&params, wanted).await {
            Ok(_) => {
                tracing::info!(kind = kind::<K>(), name, namespace, "created");
                Ok(())
            }
            Err(error) if is_conflict(&error) => Ok(()),
            Err(error) => Err(failed::<K>("creating", &name, error)),
        }
    }

    /// Gives a claim an owner besides those it has, or takes one from it. A claim that is gone or another one since is
    /// left alone; the next pass sees.
    pub async fn own(&self, namespace: &str, change: &ClaimOwner) -> Result<(), ApplyError> {
        type Claim = PersistentVolumeClaim;
        let ClaimOwner { claim, owner, owned } = change;
        let (uid, name) = (&owner.uid, &claim.name);
        let owner = if *owned { json!(owner) } else { json!({"$patch": "delete", "uid": uid}) };
        // In a strategic merge patch owners are a map by UID, so those of others are not touched.
        let patch = Patch::Strategic(json!({"metadata": {"uid": claim.uid, "ownerReferences": [owner]}}));
        let params = PatchParams { field_manager: Some(self.manager.to_owned()), ..PatchParams::default() };
        let api: Api<Claim> = Api::namespaced(self.client.clone(), namespace);
        self.may_write()?;
        match api.patch(name, &params, &patch).await {
            Ok(_) => {
                tracing::info!(kind = kind::<Claim>(), name, namespace, owned, "changed who owns it");
                Ok(())
            }
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(error) => Err(failed::<Claim>("changing the owners of", name, error)),
        }
    }

    /// Deletes exactly the object that was seen, and nothing that took its name since.
    pub async fn delete<K: Object>(&self, namespace: &str, live: &K) -> Result<(), ApplyError> {
        let name = live.name_any();
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let preconditions = Preconditions { uid: live.uid(), resource_version: live.resource_version() };
        let params = DeleteParams::background().preconditions(preconditions);
        self.may_write()?;
        match api.delete(&name, &params).await {
            Ok(_) => {
                tracing::info!(kind = kind::<K>(), name, namespace, "deleted");
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(failed::<K>("deleting", &name, error)),
        }
    }

    fn was_accepted(&self, live: &Value, body: &Value) -> bool {
        let Some(uid) = uid(live) else { return false };
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.get(uid).is_some_and(|(wish, made)| {
            *wish == compare::digest(body) && *made == compare::digest(&compare::projection(live, body))
        })
    }

    fn accept(&self, answer: &Value, body: &Value) {
        let Some(uid) = uid(answer) else { return };
        let digests = (compare::digest(body), compare::digest(&compare::projection(answer, body)));
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if accepted.len() >= limits::ACCEPTED_MAX {
            accepted.clear();
        }
        accepted.insert(uid.to_owned(), digests);
    }
}

fn uid(object: &Value) -> Option<&str> {
    object.pointer("/metadata/uid")?.as_str()
}

/// The kind as a human writes it.
pub fn kind<K: Resource<DynamicType = ()>>() -> String {
    K::kind(&()).into_owned()
}

fn not_owned<K: Resource<DynamicType = ()>>(name: &str, error: &impl std::fmt::Display) -> String {
    format!("{} {name}: {error}", kind::<K>())
}

/// An error of the API about an object of kind `K`.
pub fn failed<K: Resource<DynamicType = ()>>(
    doing: &'static str,
    name: &str,
    source: kube::Error,
) -> ApplyError {
    ApplyError::Api { doing, kind: kind::<K>(), name: name.to_owned(), source: Box::new(source) }
}
