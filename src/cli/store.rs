//! `fluxrelay store` and `fluxrelay key`: tenants and their API keys. A key is printed once and never again.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::args::Remote;
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
