//! `fluxrelay events`: one line for each event, for as long as the reader wants.
//!
//! A lost connection is taken up after the last event that was printed; what the broker no longer remembers is said.

use std::time::Duration;

use serde_json::{Value, json};

use super::args::EventsArgs;
use super::exit::{CliError, Exit};
use super::output::{self, DIM, ERROR, printable, status_style, styled};
use super::rest::Rest;
use super::sse::{SseEvent, SseReader};

/// First wait before connecting again; doubles up to the last.
const AGAIN_FIRST: Duration = Duration::from_millis(250);
/// Longest wait.
const AGAIN_MAX: Duration = Duration::from_secs(8);

/// The event that says that some are missing.
const LOST: &str = "events.lost";
/// What is printed of an event, in this order.
const FIELDS: &[&str] = &["server", "command", "order", "attempt", "note", "error"];

/// Follows until `--count` is reached or the process is ended.
pub(super) fn run(args: &EventsArgs) -> Result<(), CliError> {
    let rest = Rest::open(&args.remote)?;
    let mut since = args.since.clone();
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut connected_before = false;
    let mut wait = AGAIN_FIRST;
    loop {
        match rest.events(since.as_deref()) {
            Ok(stream) => {
                connected_before = true;
                wait = AGAIN_FIRST;
                let mut reader = SseReader::new(stream);
                while let Ok(Some(event)) = reader.next() {
                    if event.id.is_some() {
                        since.clone_from(&event.id);
                    }
                    if !wanted(args, &event) {
                        continue;
                    }
                    print(&event, args.remote.json)?;
                    left -= 1;
                    if left == 0 {
                        return Ok(());
                    }
                }
            }
            // A broker that has never answered, or that says no, is not waited for.
            Err(error) if !connected_before || error.exit != Exit::Unreachable => return Err(error),
            Err(_) => {}
        }
        anstream::eprintln!("{}", styled(DIM, "connection lost; trying again"));
        std::thread::sleep(wait);
        wait = (wait * 2).min(AGAIN_MAX);
    }
}

fn wanted(args: &EventsArgs, event: &SseEvent) -> bool {
    args.kinds.is_empty()
        || event.kind == LOST
        || args.kinds.iter().any(|kind| event.kind.starts_with(kind.as_str()))
}

fn print(event: &SseEvent, as_json: bool) -> Result<(), CliError> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_else(|_| json!(event.data));
    if as_json {
        let whole = json!({"id": event.id, "type": event.kind, "data": data});
        return Ok(output::line(whole)?);
    }
    let status = event.kind.rsplit('.').next().unwrap_or_default();
    let style = if event.kind == LOST { ERROR } else { status_style(status) };
    let at = data["at"].as_str().unwrap_or("-");
    let kind = styled(style, format_args!("{:<24}", printable(&event.kind)));
    let mut line = format!("{}  {kind}", styled(DIM, printable(at)));
    for name in FIELDS {
        match &data[*name] {
            Value::Null => {}
            Value::String(text) => {
                line.push_str(&format!(" {}{}", styled(DIM, format_args!("{name}=")), printable(text)))
            }
            value => line.push_str(&format!(" {}{value}", styled(DIM, format_args!("{name}=")))),
        }
    }
    if event.kind == LOST {
        line.push_str(" some events are no longer remembered: look at the commands again");
    }
    Ok(output::line(line)?)
}
