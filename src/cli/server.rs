//! `fluxrelay server`: register, list, new token, remove. A token is printed once and never again.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use super::args::ServerCommand;
use super::exit::CliError;
use super::output::{self, BOLD, Cell, DIM, styled};
use super::rest::{Rest, escape};

/// Runs one of the subcommands.
pub(super) fn run(command: ServerCommand) -> Result<(), CliError> {
    match command {
        ServerCommand::Add { name, address, remote } => {
            let body = json!({"name": name, "address": address});
            let made = Rest::open(&remote)?.post("/v1/servers", &body)?;
            if remote.json {
                return Ok(output::json(&made)?);
            }
            output::line(format_args!("Registered {} as {}.", styled(BOLD, &name), text(&made, "id")))?;
            show_token(&made)
        }
        ServerCommand::List { remote } => {
            let servers = Rest::open(&remote)?.servers()?;
            if remote.json { Ok(output::json(&Value::Array(servers))?) } else { list(&servers) }
        }
        ServerCommand::Token { server, remote } => {
            let rest = Rest::open(&remote)?;
            let id = rest.server_id(&server)?;
            let made = rest.post(&format!("/v1/servers/{}/token", escape(&id)), &json!({}))?;
            if remote.json {
                return Ok(output::json(&made)?);
            }
            output::line(format_args!("New token for {id}; the old one is dead."))?;
            show_token(&made)
        }
        ServerCommand::Remove { server, yes, remote } => {
            let rest = Rest::open(&remote)?;
            let id = rest.server_id(&server)?;
            let question = format!("Remove {server} and cancel its commands that have not run?");
            if !yes && !confirmed("server remove", &question)? {
                return output::line("Nothing was changed.").map_err(Into::into);
            }
            rest.call("DELETE", &format!("/v1/servers/{}", escape(&id)), None, &[])?;
            if remote.json {
                return Ok(output::json(&json!({"id": id, "removed": true}))?);
            }
            output::line(format_args!("Removed {id}; its commands that had not run are cancelled."))?;
            Ok(())
        }
    }
}

/// A text field of an answer; empty when it is missing.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn show_token(answer: &Value) -> Result<(), CliError> {
    output::line(format_args!("\n  token  {}\n", styled(BOLD, text(answer, "token"))))?;
    output::line(styled(DIM, "It is shown only now. Put it into the plugin's configuration."))?;
    Ok(())
}

fn list(servers: &[Value]) -> Result<(), CliError> {
    if servers.is_empty() {
        output::line("No server yet. Register one: fluxrelay server add NAME")?;
        return Ok(());
    }
    let headings = ["ID", "NAME", "STATUS", "LAST SEEN", "WAITING", "FAILED", "IN DOUBT", "ADDRESS"];
    let rows: Vec<Vec<Cell>> = servers.iter().map(row).collect();
    Ok(output::table(&headings, &rows)?)
}

fn row(server: &Value) -> Vec<Cell> {
    let counts = &server["commands"];
    let count = |status: &str| counts[status].as_u64().unwrap_or(0);
    let waiting = count("pending") + count("delivered") + count("awaiting_player");
    let seen = server["last_seen_at"].as_str().unwrap_or("-");
    vec![
        Cell::new(text(server, "id")),
        Cell::new(text(server, "name")),
        Cell::status(text(server, "status")),
        Cell::new(seen),
        Cell::new(waiting.to_string()),
        Cell::new(count("failed").to_string()),
        Cell::new(count("in_doubt").to_string()),
        Cell::new(text(server, "address")),
    ]
}

/// Asks on a terminal; elsewhere nobody can answer, so the flag is required.
pub(super) fn confirmed(subcommand: &str, question: &str) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(format!("{subcommand} asks first; give --yes when nobody can answer")));
    }
    let mut err = anstream::stderr().lock();
    write!(err, "{} [y/N] ", output::printable(question))?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
