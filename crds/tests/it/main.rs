//! Promises of the API: what admission refuses and with which words, and that the committed manifests are current.

mod admission;
mod manifests;
