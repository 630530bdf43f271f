//! Promises of the planner, told as scripts, as a toy world with faults, and as single cases.

mod backups;
mod certificates;
mod operations;
mod rendered;
mod schedules;
mod script;
mod toy;
mod volumes;
mod world;
