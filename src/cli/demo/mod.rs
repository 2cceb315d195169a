//! `fluxrelay demo`.

use super::args::DemoArgs;
use super::exit::{CliError, Exit};

/// Tells the story.
pub(super) fn run(_args: &DemoArgs) -> Result<(), CliError> {
    Err(CliError::new(Exit::Local, "demo is not composed yet"))
}
