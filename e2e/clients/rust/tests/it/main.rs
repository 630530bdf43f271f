//! Holds the server to what the Rust client `etcd-client` expects of it. Servers come from the environment, which
//! kind/clients.sh describes and sets.

mod auth;
mod cluster;
mod kv;
mod lease;
mod lock;
mod support;
mod tls;
mod watch;
