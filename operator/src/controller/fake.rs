//! A Kubernetes API in memory for tests: objects, versions, apply, watches, and a record of every write.
//!
//! It knows no controllers, defaults or validation: what tests need is that reads, writes and watches agree.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body as Answer;
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Map, Value, json};

/// Where an object or a collection is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    prefix: String,
    plural: String,
    namespace: String,
    name: String,
}

struct Watch {
    prefix: String,
    plural: String,
    namespace: String,
    selector: String,
    lines: mpsc::UnboundedSender<Bytes>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    version: u64,
    writes: Vec<String>,
    watches: Vec<Watch>,
    terminating: bool,
    /// Kinds that may neither be read nor written.
    forbidden: Vec<&'static str>,
}

/// The API.
#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<State>>);

impl FakeApi {
    /// A client of it.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// The writes so far, as `METHOD plural/name[/subresource]`, and forgets them.
    pub fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().writes)
    }

    /// Puts an object there as somebody else would, without it counting as a write of ours.
    pub fn put(&self, path: &str, object: Value) {
        let mut state = self.0.lock().unwrap();
        let (key, _) = parse(path);
        state.store(&key, object);
    }

    /// An object, if it is there.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(&parse(path).0).cloned()
    }

    /// Changes an object as somebody else would.
    pub fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap();
        change(&mut object);
        self.put(path, object);
    }

    /// Removes an object as somebody else would.
    pub fn remove(&self, path: &str) {
        let mut state = self.0.lock().unwrap();
        let (key, _) = parse(path);
        let object = state.objects.remove(&key).unwrap();
        state.tell("DELETED", &key, &object);
    }

    /// The namespace is being deleted from now on: nothing new may be created.
    pub fn terminate_namespace(&self, name: &str) {
        self.put(
            &format!("/api/v1/namespaces/{name}"),
            json!({"metadata": {"deletionTimestamp": "2026-11-22T11:00:00Z"}}),
        );
        self.0.lock().unwrap().terminating = true;
    }

    /// The rights to these kinds are lost.
    pub fn forbid(&self, plurals: &[&'static str]) {
        self.0.lock().unwrap().forbidden = plurals.to_vec();
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (mut key, sub) = parse(parts.uri.path());
        let query = parts.uri.query().unwrap_or_default();
        let mut state = self.0.lock().unwrap();
        if state.forbidden.iter().any(|plural| *plural == key.plural) {
            return failure(StatusCode::FORBIDDEN, "Forbidden");
        }
        if parts.method == Method::GET {
            return state.read(&key, query);
        }
        if key.name.is_empty() {
            key.name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        }
        let written = format!(
            "{} {}/{}{}",
            parts.method,
            key.plural,
            key.name,
            sub.map(|s| format!("/{s}")).unwrap_or_default()
        );
        state.writes.push(written);
        let is_apply =
            parts.headers.get("content-type").is_some_and(|t| t.as_bytes().starts_with(b"application/apply"));
        state.write(&parts.method, &key, sub, &body, is_apply)
    }
}

impl State {
    fn read(&mut self, key: &Key, query: &str) -> Response<Answer> {
        let argument = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(&format!("{name}=")))
                .unwrap_or_default()
                .to_owned()
        };
        let selector = argument("labelSelector").replace("%3D", "=").replace("%2F", "/");
        if !argument("watch").is_empty() {
            let (lines, received) = mpsc::unbounded();
            let Key { prefix, plural, namespace, .. } = key.clone();
            self.watches.push(Watch { prefix, plural, namespace, selector, lines });
            let lines = received.map(Ok::<_, Infallible>).chain(stream::pending());
            return Response::new(Answer::from_stream(lines));
        }
        if !key.name.is_empty() {
            return match self.objects.get(key) {
                Some(object) => reply(StatusCode::OK, object),
                None => failure(StatusCode::NOT_FOUND, "NotFound"),
            };
        }
        let items: Vec<_> = self
            .objects
            .iter()
            .filter(|(k, object)| {
                k.prefix == key.prefix
                    && k.plural == key.plural
                    && (key.namespace.is_empty() || k.namespace == key.namespace)
                    && selected(object, &selector)
            })
            .map(|(_, object)| object.clone())
            .collect();
        reply(
            StatusCode::OK,
            &json!({"metadata": {"resourceVersion": self.version.to_string()}, "items": items}),
        )
    }

    fn write(
        &mut self,
        method: &Method,
        key: &Key,
        sub: Option<&str>,
        body: &Value,
        is_apply: bool,
    ) -> Response<Answer> {
        let current = self.objects.get(key).cloned();
        if let (Some(wanted), Some(current)) =
            (body.pointer("/metadata/uid").and_then(Value::as_str), &current)
            && current.pointer("/metadata/uid").and_then(Value::as_str) != Some(wanted)
        {
            return failure(StatusCode::CONFLICT, "Conflict");
        }
        match (method.as_str(), current) {
            ("POST", _) if self.terminating => namespace_terminating(),
            ("POST", Some(_)) => failure(StatusCode::CONFLICT, "AlreadyExists"),
            ("POST", None) => reply(StatusCode::CREATED, &self.store(key, body.clone())),
            ("DELETE", Some(current)) => {
                let wanted = body.pointer("/preconditions/uid").and_then(Value::as_str);
                if wanted.is_some() && wanted != current.pointer("/metadata/uid").and_then(Value::as_str) {
                    return failure(StatusCode::CONFLICT, "Conflict");
                }
                self.objects.remove(key);
                self.tell("DELETED", key, &current);
                reply(StatusCode::OK, &current)
            }
            ("PATCH", current) if is_apply || current.is_some() => {
                let mut object = current.unwrap_or_else(|| json!({}));
                match sub {
                    Some("status") => object["status"] = body["status"].clone(),
                    _ => merge(&mut object, body),
                }
                reply(StatusCode::OK, &self.store(key, object))
            }
            ("PUT", Some(_)) => reply(StatusCode::OK, &self.store(key, body.clone())),
            _ => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    /// Stores an object with what the server adds; an unchanged one gets no new version.
    fn store(&mut self, key: &Key, mut object: Value) -> Value {
        let before = self.objects.get(key).cloned();
        if let Some(before) = &before {
            object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            if *before == object {
                return object;
            }
        }
        self.version += 1;
        let metadata = &mut object["metadata"];
        if !metadata.is_object() {
            *metadata = Value::Object(Map::new());
        }
        metadata["name"] = json!(key.name);
        metadata["namespace"] = json!(key.namespace);
        metadata["resourceVersion"] = json!(self.version.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{}-{}", key.plural, self.version));
            metadata["creationTimestamp"] = json!("2026-11-22T10:00:00Z");
        }
        self.objects.insert(key.clone(), object.clone());
        self.tell(if before.is_some() { "MODIFIED" } else { "ADDED" }, key, &object);
        object
    }

    fn tell(&mut self, kind: &str, key: &Key, object: &Value) {
        let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        self.watches.retain(|watch| {
            let concerned = watch.prefix == key.prefix
                && watch.plural == key.plural
                && (watch.namespace.is_empty() || watch.namespace == key.namespace)
                && selected(object, &watch.selector);
            !concerned || watch.lines.unbounded_send(line.clone()).is_ok()
        });
    }
}

fn parse(path: &str) -> (Key, Option<&str>) {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let skip = if parts[0] == "api" { 2 } else { 3 };
    let prefix = parts[..skip].join("/");
    let (namespace, plural, mut rest) = match &parts[skip..] {
        ["namespaces", namespace, plural, rest @ ..] => (*namespace, *plural, rest.iter().copied()),
        [plural, rest @ ..] => ("", *plural, rest.iter().copied()),
        [] => ("", "", [].iter().copied()),
    };
    let name = rest.next().unwrap_or_default();
    let key =
        Key { prefix, plural: plural.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() };
    (key, rest.next())
}

/// One term: `key` or `key=value`.
fn selected(object: &Value, selector: &str) -> bool {
    let labels = object.pointer("/metadata/labels");
    match selector.split_once('=') {
        _ if selector.is_empty() => true,
        Some((key, value)) => labels.and_then(|l| l.get(key)).and_then(Value::as_str) == Some(value),
        None => labels.and_then(|l| l.get(selector)).is_some(),
    }
}

fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    object.remove(key);
                } else if key == "ownerReferences" {
                    merge_owners(object.entry(key.clone()).or_insert(Value::Null), value);
                } else {
                    merge(object.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

/// Owners are a map by UID to the server, in an apply and in a strategic merge patch.
fn merge_owners(owners: &mut Value, patch: &Value) {
    let mut all = owners.as_array().cloned().unwrap_or_default();
    for owner in patch.as_array().into_iter().flatten() {
        all.retain(|other| other["uid"] != owner["uid"]);
        if owner["$patch"] != "delete" {
            all.push(owner.clone());
        }
    }
    *owners = Value::Array(all);
}

fn reply(status: StatusCode, body: &Value) -> Response<Answer> {
    Response::builder().status(status).body(Answer::from(body.to_string())).unwrap()
}

fn failure(status: StatusCode, reason: &str) -> Response<Answer> {
    let code = status.as_u16();
    reply(
        status,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code}),
    )
}

/// The answer of the real API server's admission.
fn namespace_terminating() -> Response<Answer> {
    let cause = json!({"reason": "NamespaceTerminating", "field": "metadata.namespace"});
    reply(
        StatusCode::FORBIDDEN,
        &json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "forbidden: the namespace is being terminated", "details": {"causes": [cause]},
        }),
    )
}
