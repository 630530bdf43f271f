//! Promises of the `kvnode` program, kept by running it: processes, sockets, files, and etcd's own tools.

mod checkpoint;
mod cluster;
mod corruption;
mod discovery;
mod downgrade;
mod gateway;
mod gateway_streams;
mod health;
mod interchange;
mod kv;
mod lease;
mod maintenance;
mod mixed;
mod peers;
mod process;
mod rbac;
mod recipes;
mod snapshot;
mod support;
mod tls;
mod watch;
