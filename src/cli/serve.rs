//! `fluxrelay serve`: composes broker, REST and transport, and waits for a signal.

use super::exit::{CliError, Exit};

/// Settings from flags and environment.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {}

/// Runs a broker until SIGTERM, Ctrl-C or a storage failure.
pub(super) fn run(_args: ServeArgs) -> Result<(), CliError> {
    Err(CliError::new(Exit::Local, "serve is not composed yet"))
}
