//! Arguments, start, stop, exit code; no logic.

use std::process::ExitCode;

fn main() -> ExitCode {
    fluxrelay::cli::run()
}
