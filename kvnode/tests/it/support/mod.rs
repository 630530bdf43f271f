//! A kvnode process with its directory, ports and log; and the tools that speak to it.

pub mod certificates;
pub mod cluster;
pub mod etcdctl;
pub mod facts;
pub mod http;
pub mod member;
pub mod writer;

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
};

pub use etcdctl::Etcdctl;
pub use member::{KVNODE, Member, Options};

/// Ports that nobody listens on right now. Not from the range out of which the system serves outgoing connections and
/// listeners of port 0, or one of those could take a port before its member does; and never the same one twice.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    std::array::from_fn(|_| {
        loop {
            // Other test processes begin elsewhere.
            let n = std::process::id().wrapping_mul(211).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
            let port = 10_000 + u16::try_from(n % 20_000).unwrap();
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    })
}

/// A runtime for one test's calls.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
