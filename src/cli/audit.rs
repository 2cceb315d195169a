//! `fluxrelay audit`: who did what, from where, to what.

use clap::Subcommand;
use serde_json::Value;

use super::args::Remote;
use super::exit::CliError;
use super::output::{self, Cell, DIM, styled};
use super::rest::{Rest, escape};
use super::server::text;
use crate::values;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List the audit trail, newest first
    #[command(after_help = "Examples:
  fluxrelay audit list
  fluxrelay audit list --action token.regenerate --limit 500
  fluxrelay audit list --from 2030-01-31T00:00:00Z --to 2030-02-01T00:00:00Z --all
  fluxrelay audit list --all --json | jq '.[] | select(.by_key == \"key_3\")'

It needs the admin key.")]
    List {
        /// Written at or after this instant, for example 2030-01-31T12:00:00Z
        #[arg(long, value_name = "TIME", value_parser = values::instant)]
        from: Option<String>,
        /// Written before this instant
        #[arg(long, value_name = "TIME", value_parser = values::instant)]
        to: Option<String>,
        /// Only this action, for example command.cancel
        #[arg(long)]
        action: Option<String>,
        /// Records at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
        /// Every page, however many
        #[arg(long, conflicts_with = "limit")]
        all: bool,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Runs the subcommand.
pub(super) fn run(command: AuditCommand) -> Result<(), CliError> {
    let AuditCommand::List { from, to, action, limit, all, remote } = command;
    let rest = Rest::open(&remote)?;
    let mut path = format!("/v1/audit?limit={}", if all { 1000 } else { limit });
    for (name, value) in [("from", from), ("to", to), ("action", action)] {
        path.extend(value.map(|value| format!("&{name}={}", escape(&value))));
    }
    let progress = output::spinner("reading pages", !all || remote.json);
    let (records, more) = read(&rest, &path, limit, all)?;
    progress.finish_and_clear();
    if remote.json {
        return Ok(output::json(&Value::Array(records))?);
    }
    let rows: Vec<Vec<Cell>> = records.iter().map(row).collect();
    output::table(&["ID", "AT", "ACTION", "BY", "ADDRESS", "ON", "NAME"], &rows)?;
    if more {
        output::line(styled(DIM, "There are more: --all, or a larger --limit."))?;
    }
    Ok(())
}

/// All pages, or as many as give `limit` records: a page may be short although more follow.
fn read(rest: &Rest, path: &str, limit: u64, all: bool) -> Result<(Vec<Value>, bool), CliError> {
    if all {
        return rest.pages(path, "records", true);
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut next = path.to_owned();
    loop {
        let mut page = rest.get(&next)?;
        let cursor = page["next_cursor"].as_str().map(escape);
        if let Value::Array(records) = page["records"].take() {
            found.extend(records);
        }
        let more = cursor.is_some() || found.len() > limit;
        match cursor {
            Some(cursor) if found.len() < limit => next = format!("{path}&cursor={cursor}"),
            _ => {
                found.truncate(limit);
                return Ok((found, more));
            }
        }
    }
}

fn row(record: &Value) -> Vec<Cell> {
    let by = match text(record, "by_key") {
        "" => text(record, "by").to_owned(),
        key => format!("{key} ({})", text(record, "by")),
    };
    let mut action = text(record, "action").to_owned();
    if text(record, "outcome") != "done" {
        action = format!("{action} ({})", text(record, "outcome"));
    }
    // The narrowest thing that is named says what it was done to.
    let on = ["command", "key", "server", "store"].map(|field| text(record, field));
    let mut on = on.into_iter().find(|id| !id.is_empty()).unwrap_or_default().to_owned();
    if let Some(count) = record["commands"].as_u64() {
        on = format!("{on} ({count} commands)");
    }
    let cells = [text(record, "id"), text(record, "at"), &action, &by, text(record, "address"), &on];
    let mut cells: Vec<Cell> = cells.into_iter().map(Cell::new).collect();
    cells.push(Cell::new(text(record, "name")));
    cells
}
