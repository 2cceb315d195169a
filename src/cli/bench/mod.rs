//! `fluxrelay bench`: end to end over real sockets.

mod args;

use super::exit::{CliError, Exit};
pub(super) use args::BenchArgs;

/// Measures.
pub(super) fn run(_args: &BenchArgs) -> Result<(), CliError> {
    Err(CliError::new(Exit::Local, "bench is not composed yet"))
}
