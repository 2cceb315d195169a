//! `fluxrelay plugin`: the plugin of any program that takes commands on its standard input.

mod args;
mod child;
mod console;

use std::process::ExitCode;

use super::exit::{CliError, Exit};
pub(super) use args::PluginArgs;

/// Runs the program until it ends.
pub(super) fn run(_args: &PluginArgs) -> Result<ExitCode, CliError> {
    Err(CliError::new(Exit::Local, "plugin is not composed yet"))
}
