//! The client port: gRPC and HTTP on one socket, and further listeners for metrics and health.
//!
//! [`listen`] binds, [`serve`] moves connections to the threads that serve them, [`dispatch`] tells gRPC from HTTP.
//! [`grpc`] answers the one; [`web`] lets the other pass and has it answered by [`http`] or, as calls, by [`gateway`].
//! Nothing here holds state of the cluster; it all lives behind [`crate::node::Node`].

pub mod access;
pub mod dispatch;
pub mod error;
pub mod gateway;
pub mod grpc;
pub mod health;
pub mod http;
pub mod listen;
mod observe;
pub mod serve;
mod trace;
mod vars;
pub mod web;
