//! Promises of the `kvnode` program, kept by running it: processes, sockets, files, and etcd's own tools.

mod cluster;
mod downgrade;
mod gateway;
mod gateway_streams;
mod health;
mod kv;
mod lease;
mod maintenance;
mod process;
mod recipes;
mod snapshot;
mod support;
mod tls;
mod watch;
