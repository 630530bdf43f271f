//! What every end-to-end test stands on: a real Kubernetes cluster with the operator on it.
//!
//! A test is one promise to a user and reads like one: it applies what a user would apply, disturbs what may go wrong,
//! and waits on what a user would look at. This crate never looks inside the operator; it knows the API types, `kubectl`,
//! `helm`, and etcd's protocol. Start reading at [`scenario::Scenario`]; the promises are under `tests/it/`.

pub mod cluster;
pub mod command;
pub mod manifests;
pub mod member;
pub mod operator;
pub mod scenario;
pub mod store;
pub mod wait;
pub mod writer;

#[cfg(test)]
mod tidy;
