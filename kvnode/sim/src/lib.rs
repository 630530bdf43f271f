//! Whole kvnode clusters in one thread, from one seed: for tests only.
//!
//! A [`Sim`] is a handful of members made of the real parts (raft core, log and checkpoints, state machine) on simulated
//! disks, a network that loses, delays, duplicates and reorders, clients, a clock, and somebody who pulls plugs, cuts
//! cables, adds and removes members. Everything that happens is drawn from the seed, so a failure can be run again.
//!
//! Who judges is [`oracle`]: logs agree, acknowledged writes stay, reads are linearizable, members at the same index have
//! the same hash, terms and votes never go back, no term has two leaders. What the simulation leaves out: gRPC, TLS, the
//! peers' HTTP, real threads; those are tested on real processes.
//!
//! [`machine`] mirrors what the server's threads do with the parts; read it beside `kvnode/src/node`.

mod clients;
mod disturb;
mod machine;
mod network;
mod oracle;
mod random;
mod sim;
mod stats;

pub use oracle::Violation;
pub use sim::{Settings, Sim};
pub use stats::Stats;
