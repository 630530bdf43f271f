//! Telling: a status is written only if it differs from the one that is there, an event only for a change.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource, ResourceExt};
use operator_plan::{Note, NoteKind};
use serde::Serialize;
use serde_json::{Value, json};

use super::apply::{ApplyError, Object, failed, kind};

/// Longest note the API takes is 1 kB.
const NOTE_MAX: usize = 1000;

/// Writes `wanted` as the status of `object` if it differs from `current`; returns the object as it is afterwards.
pub async fn status<K: Object, S: Serialize>(
    client: &Client,
    manager: &str,
    object: &K,
    current: Option<&S>,
    wanted: &S,
) -> Result<Option<K>, ApplyError> {
    let name = object.name_any();
    let json_error = |source| ApplyError::Json { kind: kind::<K>(), name: name.clone(), source };
    let wanted = serde_json::to_value(wanted).map_err(json_error)?;
    let current = current.map(serde_json::to_value).transpose().map_err(json_error)?;
    if current.as_ref() == Some(&wanted) {
        return Ok(None);
    }
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let body = status_body::<K>(&name, object.uid().as_deref(), &wanted);
    let answer = api.patch_status(&name, &PatchParams::apply(manager).force(), &Patch::Apply(&body)).await;
    match answer {
        Ok(written) => Ok(Some(written)),
        // Deleted meanwhile: there is nobody left to tell.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(failed::<K>("writing the status of", &name, error)),
    }
}

/// The body of a server-side apply: fields that are not in it any more are removed.
fn status_body<K: Resource<DynamicType = ()>>(name: &str, uid: Option<&str>, status: &Value) -> Value {
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // The UID keeps a status from being written to a newer object of the same name.
        "metadata": {"name": name, "uid": uid},
        "status": status,
    })
}

/// Emits events; one that cannot be written is logged and forgotten, because status says the same.
pub async fn events<K: Resource<DynamicType = ()>>(recorder: &Recorder, about: &K, notes: &[Note]) {
    let reference = about.object_ref(&());
    for note in notes {
        tracing::info!(
            reason = note.reason.as_str(),
            object = reference.name.as_deref().unwrap_or_default(),
            namespace = reference.namespace.as_deref().unwrap_or_default(),
            "{}",
            note.message
        );
        if let Err(error) = recorder.publish(&event(note, &reference), &reference).await {
            tracing::warn!(%error, reason = note.reason.as_str(), "writing an event failed");
        }
    }
}

fn event(note: &Note, about: &ObjectReference) -> Event {
    Event {
        type_: match note.kind {
            NoteKind::Normal => EventType::Normal,
            NoteKind::Warning => EventType::Warning,
        },
        reason: note.reason.as_str().to_owned(),
        note: Some(crds::units::bounded(&note.message, NOTE_MAX)),
        action: note.action.to_owned(),
        secondary: note.related.as_ref().map(|related| ObjectReference {
            api_version: Some(related.api_version.to_owned()),
            kind: Some(related.kind.to_owned()),
            name: Some(related.name.clone()),
            namespace: about.namespace.clone(),
            ..ObjectReference::default()
        }),
    }
}
