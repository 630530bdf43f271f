//! Promises of the planner, told as scripts, as a toy world with faults, and as single cases.

mod backups;
mod cluster_reports;
mod operations;
mod pki;
mod rendered;
mod resources;
mod script;
mod toy;
mod world;
