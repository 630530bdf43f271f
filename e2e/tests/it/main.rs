//! What users are promised, each checked on a real cluster. One binary; a module per behaviour, a test per promise.

mod backup;
mod bad_input;
mod deletion;
mod install;
mod isolation;
mod leader;
mod pods;
mod ready;
