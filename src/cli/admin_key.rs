//! `fluxrelay admin-key`: the way back in when the admin key is lost. Works on a stopped broker's files.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::clock;
use super::exit::{CliError, Exit};
use super::output::{self, BOLD, DIM, styled};
use crate::broker::reset_admin_key;
use crate::credentials::HashCost;

#[derive(Debug, Subcommand)]
pub(super) enum AdminKeyCommand {
    /// Make a new admin key in the data directory of a stopped broker; the old one is dead
    #[command(after_help = "Examples:
  fluxrelay admin-key reset
  fluxrelay admin-key reset --data-dir /var/lib/fluxrelay
  fluxrelay admin-key reset --json | jq -r .key

Stop the broker first: while it runs, this is refused. The new key is printed once and kept in
DATA_DIR/admin.key (mode 0600). Run it as the user that the broker runs as.")]
    Reset {
        /// The data directory
        #[arg(long, env = "FLUXRELAY_DATA_DIR", default_value = "fluxrelay-data", value_name = "DIR")]
        data_dir: PathBuf,
        /// Print JSON, for scripts
        #[arg(long)]
        json: bool,
    },
}

/// Runs the subcommand.
pub(super) fn run(command: AdminKeyCommand) -> Result<(), CliError> {
    let AdminKeyCommand::Reset { data_dir, json } = command;
    let key = reset_admin_key(&data_dir, HashCost::STANDARD, clock::unix_now())
        .map_err(|error| CliError::new(Exit::Local, error.to_string()))?;
    if json {
        return Ok(output::json(&json!({"key": key.reveal()}))?);
    }
    output::line("The admin key was replaced; the old one is dead.")?;
    output::line(format_args!("\n  key  {}\n", styled(BOLD, key.reveal())))?;
    let file = data_dir.join("admin.key");
    Ok(output::line(styled(DIM, format_args!("It is shown only now, and kept in {}.", file.display())))?)
}
