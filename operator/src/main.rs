//! The `operator` binary. Everything it does is in the library; read [`operator::run`] next.

use std::process::ExitCode;

fn main() -> ExitCode {
    operator::run()
}
