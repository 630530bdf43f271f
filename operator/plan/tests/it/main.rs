//! Promises of the planner, told as scripts, as a toy world with faults, and as single cases.

mod toy;
mod world;
