//! `fluxrelay events`: one line for each event, for as long as the reader wants.
//!
//! A lost connection is taken up after the last event that was printed; what the broker no longer remembers is said.

use std::time::Duration;

use serde_json::{Value, json};

use super::args::EventsArgs;
use super::exit::{CliError, Exit};
use super::output::{self, BOLD, DIM, ERROR, printable, status_style, styled};
use super::rest::Rest;
use super::sse::{SseEvent, SseReader};

/// First wait before connecting again; doubles up to the last.
const AGAIN_FIRST: Duration = Duration::from_millis(250);
/// Longest wait.
const AGAIN_MAX: Duration = Duration::from_secs(8);

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
    args.kinds.is_empty() || args.kinds.iter().any(|kind| event.kind.starts_with(kind.as_str()))
}

fn print(event: &SseEvent, as_json: bool) -> Result<(), CliError> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_else(|_| json!(event.data));
    if as_json {
        let whole = json!({"id": event.id, "type": event.kind, "data": data});
        return Ok(output::line(whole)?);
    }
    let status = event.kind.rsplit('.').next().unwrap_or_default();
    let style = match event.kind.as_str() {
        "lost" => ERROR,
        _ => status_style(status),
    };
    let mut line = styled(style, format_args!("{:<24}", printable(&event.kind)));
    if let Value::Object(fields) = &data {
        for (name, value) in fields {
            let value = value.as_str().map(printable).unwrap_or_else(|| value.to_string());
            line.push_str(&format!(" {}{value}", styled(DIM, format_args!("{name}="))));
        }
    } else {
        line.push_str(&format!(" {}", styled(BOLD, printable(&event.data))));
    }
    Ok(output::line(line)?)
}
