//! A kvnode process with its directory, ports and log; and the tools that speak to it.

pub mod certificates;
pub mod cluster;
pub mod etcdctl;
pub mod facts;
pub mod http;
pub mod member;
pub mod writer;

use std::net::TcpListener;

pub use etcdctl::Etcdctl;
pub use member::{KVNODE, Member, Options};

/// Ports that nobody listens on right now.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A runtime for one test's calls.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
