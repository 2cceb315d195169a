//! `fluxrelay publish`: an order from flags, arguments or lines.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::{OnDoubt, PublishArgs};
use super::exit::CliError;
use super::output::{self, BOLD, Cell, styled};
use super::rest::{Rest, items};
use super::server::text;
use crate::limits;

/// Publishes one order and prints its ids.
pub(super) fn run(args: &PublishArgs) -> Result<(), CliError> {
    let commands = commands(args)?;
    let rest = Rest::open(&args.remote)?;
    let mut servers = Vec::new();
    for server in &args.server {
        servers.push(rest.server_id(server)?);
    }
    let headers: Vec<(&str, &str)> =
        args.idempotency_key.iter().map(|key| ("Idempotency-Key", key.as_str())).collect();
    let answer = rest.call("POST", "/v1/orders", Some(&order(args, &servers, &commands)), &headers)?;
    if args.remote.json {
        return Ok(output::json(&answer)?);
    }
    output::line(format_args!("Accepted as {}.", styled(BOLD, text(&answer, "id"))))?;
    let rows: Vec<Vec<Cell>> = items(answer, "commands")
        .iter()
        .map(|command| {
            let status = Cell::status(text(command, "status"));
            vec![Cell::new(text(command, "id")), Cell::new(text(command, "server")), status]
        })
        .collect();
    Ok(output::table(&["COMMAND", "SERVER", "STATUS"], &rows)?)
}

/// The body of `POST /v1/orders`: each command for each server.
fn order(args: &PublishArgs, servers: &[String], commands: &[String]) -> Value {
    let mut order = Map::new();
    if let Some(reference) = &args.reference {
        order.insert("reference".into(), json!(reference));
    }
    if let Some(name) = &args.player {
        let mut player = json!({"name": name});
        if let Some(uuid) = &args.player_uuid {
            player["uuid"] = json!(uuid);
        }
        order.insert("player".into(), player);
    }
    if args.ordered {
        order.insert("ordered".into(), json!(true));
    }
    let all = servers.iter().flat_map(|server| commands.iter().map(move |command| (server, command)));
    let commands: Vec<Value> = all.map(|(server, command)| one(args, server, command)).collect();
    order.insert("commands".into(), Value::Array(commands));
    Value::Object(order)
}

fn one(args: &PublishArgs, server: &str, command: &str) -> Value {
    let mut one = Map::new();
    one.insert("server".into(), json!(server));
    one.insert("command".into(), json!(command));
    if args.require_online {
        one.insert("require_online".into(), json!(true));
    }
    if let Some(delay) = args.delay {
        // REST counts whole seconds; never earlier than what was asked for.
        one.insert("delay_seconds".into(), json!(delay.as_millis().div_ceil(1000) as u64));
    }
    let texts = [("not_before", &args.not_before), ("expires_at", &args.expires_at), ("stage", &args.stage)];
    for (name, value) in texts {
        if let Some(value) = value {
            one.insert(name.into(), json!(value));
        }
    }
    if args.on_doubt == OnDoubt::Rerun {
        one.insert("on_doubt".into(), json!("rerun"));
    }
    if let Some(metadata) = &args.metadata {
        one.insert("metadata".into(), metadata.clone());
    }
    Value::Object(one)
}

/// The command texts: the arguments, or the lines of a file.
fn commands(args: &PublishArgs) -> Result<Vec<String>, CliError> {
    match &args.file {
        Some(file) if file == Path::new("-") => lines(std::io::stdin().lock(), "standard input"),
        Some(file) => {
            let name = file.display().to_string();
            let opened = std::fs::File::open(file);
            let opened = opened.map_err(|error| CliError::local(format!("cannot read {name}"), error))?;
            lines(BufReader::new(opened), &name)
        }
        None if args.commands.len() > 1 && args.commands.iter().all(|text| !text.contains(' ')) => {
            // `publish --server a give Steve diamond` would otherwise run `give`, `Steve` and `diamond`.
            let joined = args.commands.join(" ");
            Err(CliError::usage(format!("these are {} commands of one word each", args.commands.len())).hint(
                format!("quote a command: '{joined}'; or give one-word commands by line with --file -"),
            ))
        }
        None => Ok(args.commands.clone()),
    }
}

fn lines(from: impl BufRead, name: &str) -> Result<Vec<String>, CliError> {
    let bytes_max = (limits::BODY_BYTES_MAX + 1) as u64;
    let mut commands = Vec::new();
    for (place, line) in from.take(bytes_max).lines().enumerate() {
        let line = line.map_err(|error| CliError::local(format!("cannot read {name}"), error))?;
        if line.trim().is_empty() {
            continue;
        }
        if line.len() > limits::COMMAND_BYTES_MAX {
            let (number, max) = (place + 1, limits::COMMAND_BYTES_MAX);
            let message = format!("{name}, line {number}: {} bytes; a command has at most {max}", line.len());
            return Err(CliError::usage(message));
        }
        commands.push(line);
    }
    match commands.len() {
        0 => Err(CliError::usage(format!("{name} holds no command"))),
        count if count > limits::ORDER_COMMANDS_MAX => {
            let max = limits::ORDER_COMMANDS_MAX;
            Err(CliError::usage(format!("{name} holds {count} commands; an order has at most {max}")))
        }
        _ => Ok(commands),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::{Action, Cli};
    use super::*;

    fn parsed(words: &[&str]) -> PublishArgs {
        let words = ["fluxrelay", "publish"].iter().chain(words);
        match Cli::try_parse_from(words).expect("good arguments").action {
            Action::Publish(args) => args,
            _ => panic!("not a publish"),
        }
    }

    #[test]
    fn flags_become_the_fields_of_rest() {
        let args = parsed(&[
            "--server",
            "srv_1",
            "--player",
            "Steve",
            "--require-online",
            "--delay",
            "1500ms",
            "--on-doubt",
            "rerun",
            "--metadata",
            "{\"basket\":7}",
            "give Steve diamond 64",
        ]);
        let body = order(&args, &["srv_1".into()], &commands(&args).expect("a command"));
        let expected = json!({
            "player": {"name": "Steve"},
            "commands": [{
                "server": "srv_1", "command": "give Steve diamond 64", "require_online": true,
                "delay_seconds": 2, "on_doubt": "rerun", "metadata": {"basket": 7},
            }],
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn an_unquoted_command_is_not_taken_for_many() {
        assert!(commands(&parsed(&["--server", "srv_1", "give", "Steve", "diamond"])).is_err());
        assert_eq!(commands(&parsed(&["--server", "srv_1", "save-all"])).expect("one word"), ["save-all"]);
        assert_eq!(commands(&parsed(&["--server", "s", "say a b", "stop"])).expect("two").len(), 2);
    }

    #[test]
    fn lines_are_commands_and_empty_ones_are_not() {
        assert_eq!(lines(&b"say a\n\nsay b\r\n"[..], "x").expect("two"), ["say a", "say b"]);
        assert!(lines(&b"\n\n"[..], "x").is_err());
        let long = vec![b'a'; limits::COMMAND_BYTES_MAX + 1];
        assert!(lines(&long[..], "x").is_err_and(|error| error.message.contains("line 1")));
    }

    #[test]
    fn an_order_is_one_command_for_each_server() {
        let args = parsed(&["--server", "srv_1", "--server", "srv_2", "say hi"]);
        let body = order(&args, &["srv_1".into(), "srv_2".into()], &["say hi".into(), "stop".into()]);
        assert_eq!(body["commands"].as_array().map(Vec::len), Some(4));
    }
}
