//! Tests of the state machine through its public API, in one binary.

mod command;
mod model;
mod render;
mod scripted;
mod watch;
