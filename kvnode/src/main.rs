//! The `kvnode` program.

fn main() {}
