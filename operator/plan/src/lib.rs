//! Decisions of the operator, without any IO: what should exist, the one next action, and what to tell.
//!
//! ```text
//! Observed -> validate -> plan_cluster -> Plan { objects, action, waiting, report, recheck }
//! ```
//! Time, randomness and the state of the world come in as arguments; the same arguments give the same plan.
//! Nothing here is stored between passes: membership is derived from what members and volumes say each time.
//! What is never here: a client, a clock, a random number, an `async fn`.
//!
//! Read next: [`observed`] (input), [`plan`] (output), then `membership` for the order of changes.

pub mod action;
pub mod backup;
mod cluster;
mod facts;
pub mod failures;
mod formation;
pub mod identity;
pub mod ids;
pub mod limits;
mod membership;
pub mod observed;
pub mod operation;
pub mod pki;
pub mod plan;
pub mod reading;
pub mod report;
pub mod resources;
mod restore;
mod rollout;
mod safety;
pub mod ticket;
pub mod validate;
mod volumes;
pub mod waiting;
mod wanted;

pub use action::Action;
pub use cluster::{plan_cluster, plan_cluster_given};
pub use failures::{Failure, Failures};
pub use observed::Observed;
pub use plan::{Objects, Plan};
pub use reading::Reading;
pub use report::{Note, NoteKind, Report};
pub use waiting::Waiting;
pub use wanted::{operator_secret, wanted_backup_secrets, wanted_secrets};
