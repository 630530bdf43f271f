//! How many files this process may have open, and so how many clients.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are kept for the log, checkpoints and other members (etcd's `reservedInternalFDNum`).
const RESERVED: u64 = 150;

/// Raises the limit to what the system allows at most, as every Go program does. Shells and service managers give 1024 for
/// the sake of programs that use `select`, which this one does not.
///
/// # Errors
/// What remains is too little to run on.
pub fn raise_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // The former limit may do.
    let _ = setrlimit(Resource::Nofile, raised);
    match most_clients() {
        0 => Err(io::Error::other(format!("more than {RESERVED} open files are needed"))),
        _ => Ok(()),
    }
}

/// Files that may be open at once.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Connections of clients that leave enough for everything else.
pub fn most_clients() -> usize {
    usize::try_from(limit().saturating_sub(RESERVED)).unwrap_or(usize::MAX)
}
