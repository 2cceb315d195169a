//! `fluxrelay command`: show with history, list, resend, cancel.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::args::{CommandCommand, Remote, Resendable};
use super::exit::CliError;
use super::output::{self, BOLD, Cell, DIM, printable, status_style, styled};
use super::rest::{Rest, escape};
use super::server::text;

/// Runs one of the subcommands.
pub(super) fn run(command: CommandCommand) -> Result<(), CliError> {
    match command {
        CommandCommand::Show { id, remote } => {
            let command = Rest::open(&remote)?.get(&format!("/v1/commands/{}", escape(&id)))?;
            if remote.json { Ok(output::json(&command)?) } else { show(&command) }
        }
        CommandCommand::List { server, status, limit, all, remote } => {
            let rest = Rest::open(&remote)?;
            let mut query = format!("?limit={}", if all { 1000 } else { limit });
            if let Some(status) = status {
                query.push_str(&format!("&status={}", name(status)));
            }
            list(&rest, &rest.server_id(&server)?, &query, all, remote.json)
        }
        CommandCommand::Resend { ids, from: Some(from), to: Some(to), server, status, remote } => {
            debug_assert!(ids.is_empty(), "clap refuses ids together with a span");
            resend_span(&remote, &from, &to, server.as_deref(), &status)
        }
        CommandCommand::Resend { ids, remote, .. } => operate("resend", &ids, &remote),
        CommandCommand::Cancel { ids, remote } => operate("cancel", &ids, &remote),
    }
}

fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// One line for each fact that the command has, then its history.
fn show(command: &Value) -> Result<(), CliError> {
    let status = text(command, "status");
    output::line(format_args!(
        "{}  {}",
        styled(BOLD, text(command, "id")),
        styled(status_style(status), status)
    ))?;
    for (label, field) in FACTS {
        let value = match &command[*field] {
            Value::Null => continue,
            Value::String(value) => printable(value),
            Value::Object(player) if *field == "player" => printable(text_of(player.get("name"))),
            value => value.to_string(),
        };
        output::line(format_args!("  {label:<14} {value}"))?;
    }
    let Some(history) = command["history"].as_array() else { return Ok(()) };
    output::line(styled(BOLD, "\nHistory"))?;
    for entry in history {
        let status = text(entry, "status");
        let attempt = entry["attempt"].as_u64().map(|n| format!("attempt {n}")).unwrap_or_default();
        let line = format!(
            "  {}  {}  {attempt:<10}  {}",
            text(entry, "at"),
            styled(status_style(status), format_args!("{status:<15}")),
            styled(DIM, printable(text(entry, "note")))
        );
        output::line(line.trim_end())?;
    }
    Ok(())
}

/// What `show` prints and under which name, in this order.
const FACTS: &[(&str, &str)] = &[
    ("command", "command"),
    ("server", "server"),
    ("order", "order"),
    ("player", "player"),
    ("require online", "require_online"),
    ("attempts", "attempts"),
    ("next attempt", "next_attempt_at"),
    ("not before", "not_before"),
    ("expires", "expires_at"),
    ("on doubt", "on_doubt"),
    ("waits for", "after"),
    ("stage", "stage"),
    ("metadata", "metadata"),
    ("error", "error"),
    ("output", "output"),
    ("accepted", "accepted_at"),
];

fn text_of(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

fn list(rest: &Rest, server: &str, query: &str, all: bool, as_json: bool) -> Result<(), CliError> {
    let path = format!("/v1/servers/{}/commands{query}", escape(server));
    let progress = output::spinner("reading pages", !all || as_json);
    let (commands, more) = rest.pages(&path, "commands", all)?;
    progress.finish_and_clear();
    if as_json {
        return Ok(output::json(&Value::Array(commands))?);
    }
    let rows: Vec<Vec<Cell>> = commands
        .iter()
        .map(|command| {
            let player = text_of(command["player"].get("name"));
            vec![
                Cell::new(text(command, "id")),
                Cell::status(text(command, "status")),
                Cell::new(command["attempts"].to_string()),
                Cell::new(player),
                Cell::new(text(command, "command")),
            ]
        })
        .collect();
    output::table(&["ID", "STATUS", "ATTEMPTS", "PLAYER", "COMMAND"], &rows)?;
    if more {
        output::line(styled(DIM, "There are more: --all, or a larger --limit."))?;
    }
    Ok(())
}

/// The same operation on each id; stops at the first that is refused, naming it.
fn operate(operation: &str, ids: &[String], remote: &Remote) -> Result<(), CliError> {
    let rest = Rest::open(remote)?;
    let mut done = Vec::new();
    for id in ids {
        let command = rest.post(&format!("/v1/commands/{}/{operation}", escape(id)), &json!({}));
        let command = command.map_err(|mut error| {
            error.message = format!("{id}: {}", error.message);
            error
        })?;
        if !remote.json {
            let status = text(&command, "status");
            output::line(format_args!("{id}  {}", styled(status_style(status), status)))?;
        }
        done.push(command);
    }
    if remote.json {
        output::json(&Value::Array(done))?;
    }
    Ok(())
}

fn resend_span(
    remote: &Remote,
    from: &str,
    to: &str,
    server: Option<&str>,
    statuses: &[Resendable],
) -> Result<(), CliError> {
    let rest = Rest::open(remote)?;
    let mut body = json!({"from": from, "to": to});
    if let Some(server) = server {
        body["server"] = json!(rest.server_id(server)?);
    }
    if !statuses.is_empty() {
        body["statuses"] = statuses.iter().map(|status| json!(name(*status))).collect();
    }
    let progress = output::spinner("resending", remote.json);
    let answer = rest.post("/v1/commands/resend", &body)?;
    progress.finish_and_clear();
    if remote.json {
        return Ok(output::json(&answer)?);
    }
    let count = answer["resent"].as_u64().unwrap_or(0);
    output::line(format_args!("{count} commands are offered again."))?;
    Ok(())
}
