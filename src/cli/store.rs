//! `fluxrelay store` and `fluxrelay key`: tenants and their API keys, and the care of what is stored (`care.rs`). A key is
//! printed once and never again.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::args::Remote;
use super::care::{self, DataDir};
use super::exit::CliError;
use super::output::{self, BOLD, Cell, DIM, styled};
use super::rest::{Rest, escape};
use super::server::{confirmed, text};

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Make a store: a tenant whose keys see only what is its own
    #[command(after_help = "Examples:\n  fluxrelay store add 'Skyblock shop'")]
    Add {
        /// Its name, unique, up to 100 bytes
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// List the stores
    #[command(after_help = "Examples:\n  fluxrelay store list\n  fluxrelay store list --json | jq '.[].id'")]
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Check everything in the data directory of a stopped broker, or in a backup; changes nothing
    #[command(after_help = "Examples:
  fluxrelay store check
  fluxrelay store check --data-dir /var/lib/fluxrelay/backups/2026-01-31
  fluxrelay store check --json | jq '.findings[]'

Every page, every row of every table, what rows say of each other, and the small files. Exit code 0: clean
(warnings may be printed). 5: damage was found; each damaged record is named with what to do. 6: there is
nothing to check, or a broker has it open.")]
    Check {
        #[command(flatten)]
        at: DataDir,
        /// Only the rows of this file, one finding a line; redb may panic
        #[arg(long, hide = true, value_name = "FILE")]
        rows_of: Option<String>,
    },
    /// Have a running broker make a backup of itself, on its own machine
    #[command(after_help = "Examples:
  fluxrelay store backup
  fluxrelay store backup before-upgrade
  fluxrelay store backup --json | jq -r .directory

It is made in the broker's backup_dir (DATA_DIR/backups unless it is set), under NAME or the time. Every order
that was acknowledged before is in it; the broker goes on meanwhile. It is durable and was checked when this
returns. It holds the secrets of the broker: keep it as safe as the data directory, on another disk.")]
    Backup {
        /// Its name: A-Z a-z 0-9 - _ and . [default: the time in UTC]
        name: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make a data directory from a backup
    #[command(after_help = "Examples:
  fluxrelay store restore /var/lib/fluxrelay/backups/2026-01-31
  fluxrelay store restore /mnt/backups/before-upgrade --data-dir /var/lib/fluxrelay

The data directory must be empty or missing. The backup is checked before, the result after. All numbers begin
above those that were given out since the backup was made, so copy no backup into place by hand.
Commands that ran since are offered again; docs/storage.md (Backup and care) says what that means.")]
    Restore {
        /// The backup's directory
        backup: PathBuf,
        #[command(flatten)]
        at: DataDir,
    },
}

/// What a key may do in its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyScope {
    /// Publish, operate, manage servers and read
    Publish,
    /// Read
    Read,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make an API key of a store; it is shown once
    #[command(after_help = "Examples:
  fluxrelay key add 'web shop backend'
  fluxrelay key add --store 'Skyblock shop' --scope read dashboard
  fluxrelay key add backend --json | jq -r .key > key")]
    Add {
        /// Its name, for people, up to 100 bytes
        name: String,
        /// Id or name of its store
        #[arg(long, default_value = "sto_1")]
        store: String,
        /// What it may do
        #[arg(long, value_enum, default_value = "publish")]
        scope: KeyScope,
        #[command(flatten)]
        remote: Remote,
    },
    /// List the keys of a store, without their secrets
    #[command(after_help = "Examples:\n  fluxrelay key list\n  fluxrelay key list --store sto_2 --json")]
    List {
        /// Id or name of the store
        #[arg(long, default_value = "sto_1")]
        store: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Remove a key; it is dead at once and its connections end
    #[command(after_help = "Examples:\n  fluxrelay key remove key_3\n  fluxrelay key remove key_3 --yes")]
    Remove {
        /// The key's id
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Runs `fluxrelay store`.
pub(super) fn run(command: StoreCommand) -> Result<(), CliError> {
    match command {
        StoreCommand::Add { name, remote } => {
            let made = Rest::open(&remote)?.post("/v1/stores", &json!({"name": name}))?;
            if remote.json {
                return Ok(output::json(&made)?);
            }
            let name = output::printable(&name);
            Ok(output::line(format_args!("Made {} as {}.", styled(BOLD, name), text(&made, "id")))?)
        }
        StoreCommand::List { remote } => {
            let (stores, _) = Rest::open(&remote)?.pages("/v1/stores?limit=1000", "stores", true)?;
            show(&stores, &["id", "name", "created_at"], remote.json)
        }
        StoreCommand::Check { at, rows_of } => care::check(&at.data_dir, rows_of.as_deref(), at.json),
        StoreCommand::Backup { name, remote } => care::backup(name, &remote),
        StoreCommand::Restore { backup, at } => care::restore(&backup, &at.data_dir, at.json),
    }
}

/// Runs `fluxrelay key`.
pub(super) fn run_key(command: KeyCommand) -> Result<(), CliError> {
    match command {
        KeyCommand::Add { name, store, scope, remote } => {
            let rest = Rest::open(&remote)?;
            let scope = match scope {
                KeyScope::Publish => "publish",
                KeyScope::Read => "read",
            };
            let path = format!("/v1/stores/{}/keys", escape(&rest.store_id(&store)?));
            let made = rest.post(&path, &json!({"name": name, "scope": scope}))?;
            if remote.json {
                return Ok(output::json(&made)?);
            }
            output::line(format_args!("Made {} of {}.", text(&made, "id"), text(&made, "store")))?;
            output::line(format_args!("\n  key  {}\n", styled(BOLD, text(&made, "key"))))?;
            output::line(styled(DIM, "It is shown only now."))?;
            Ok(())
        }
        KeyCommand::List { store, remote } => {
            let rest = Rest::open(&remote)?;
            let path = format!("/v1/stores/{}/keys?limit=1000", escape(&rest.store_id(&store)?));
            let (keys, _) = rest.pages(&path, "keys", true)?;
            show(&keys, &["id", "scope", "name", "created_at"], remote.json)
        }
        KeyCommand::Remove { id, yes, remote } => {
            let rest = Rest::open(&remote)?;
            let question = format!("Remove {id} and end its connections?");
            if !yes && !confirmed("key remove", &question)? {
                return Ok(output::line("Nothing was changed.")?);
            }
            rest.call("DELETE", &format!("/v1/keys/{}", escape(&id)), None, &[])?;
            if remote.json {
                return Ok(output::json(&json!({"id": id, "removed": true}))?);
            }
            Ok(output::line(format_args!("Removed {id}."))?)
        }
    }
}

/// A table of these fields, or all as JSON.
fn show(rows: &[Value], fields: &[&str], as_json: bool) -> Result<(), CliError> {
    if as_json {
        return Ok(output::json(&Value::Array(rows.to_vec()))?);
    }
    let headings: Vec<String> = fields.iter().map(|field| field.replace('_', " ").to_uppercase()).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let row = |row: &Value| fields.iter().map(|field| Cell::new(text(row, field))).collect();
    let rows: Vec<Vec<Cell>> = rows.iter().map(row).collect();
    Ok(output::table(&headings, &rows)?)
}
