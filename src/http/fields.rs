//! The meaning of single fields: what each accepts, and the problem that names it when it does not fit.
//!
//! Shape is checked by `body.rs`; what needs the state of the broker is checked there.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::error::Problem;
use super::words::PlayerBody;
use crate::engine::Player;
use crate::limits::{ADDRESS_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, NAME_BYTES_MAX};
use crate::protocol::check::{self, Invalid, Why};
use crate::time::{Millis, UnixMs};

/// The problem of a field that the protocol's own check refuses, under the path that REST has for it.
fn problem(field: &str, invalid: Invalid) -> Problem {
    let problem = Problem::new(invalid.code, invalid.why.to_string()).at(field);
    match invalid.why {
        Why::Bytes { min, max, .. } => problem.range(format!("{min} to {max} bytes")),
        Why::Count { min, max, .. } => problem.range(format!("{min} to {max} entries")),
        Why::Character { .. } => problem.range("text without this character"),
        Why::TooFarAhead { max } => problem.range(format!("at most {} seconds ahead", max / 1000)),
        Why::Because(_) => problem,
    }
}

/// The name of a server, store or key.
pub(super) fn name(field: &'static str, text: &str) -> Result<(), Problem> {
    check::label(field, text, 1, NAME_BYTES_MAX).map_err(|invalid| problem(field, invalid))
}

/// The address of a server, for people.
pub(super) fn address(field: &'static str, text: &str) -> Result<(), Problem> {
    check::label(field, text, 0, ADDRESS_BYTES_MAX).map_err(|invalid| problem(field, invalid))
}

/// The publisher's own name of an order.
pub(super) fn reference(field: &str, text: &str) -> Result<Arc<str>, Problem> {
    check::reference(text).map(|()| text.into()).map_err(|invalid| problem(field, invalid))
}

/// The label of a command.
pub(super) fn stage(field: &str, text: &str) -> Result<Arc<str>, Problem> {
    check::stage(text).map(|()| text.into()).map_err(|invalid| problem(field, invalid))
}

/// A command's text: one line for a console.
pub(super) fn command_text(field: &str, text: &str) -> Result<Arc<str>, Problem> {
    check::command_text(text).map(|()| text.into()).map_err(|invalid| problem(field, invalid))
}

/// A player.
pub(super) fn player(field: &str, body: &PlayerBody) -> Result<Player, Problem> {
    check::player_name(&body.name).map_err(|invalid| problem(&format!("{field}.name"), invalid))?;
    Ok(Player { name: body.name.as_str().into(), uuid: body.uuid.map(|uuid| uuid.0) })
}

/// The JSON object of a command's metadata, kept as it was written.
pub(super) fn metadata(field: &str, json: &RawValue) -> Result<Arc<str>, Problem> {
    check::metadata(json.get()).map(|()| json.get().into()).map_err(|invalid| problem(field, invalid))
}

/// The value of the header `Idempotency-Key`.
pub(super) fn idempotency_key(bytes: &[u8]) -> Result<Arc<str>, Problem> {
    let visible = bytes.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(bytes).ok().filter(|_| visible);
    text.filter(|text| (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len())).map(Arc::from).ok_or_else(
        || {
            Problem::field("Idempotency-Key", "the key does not fit; a UUID does")
                .range(format!("1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"))
        },
    )
}

/// The number of commands in an order.
pub(super) fn command_count(field: &str, count: usize) -> Result<(), Problem> {
    check::command_count(count).map_err(|invalid| problem(field, invalid))
}

/// When a command may run: `at` gives the path of each of the three fields.
pub(super) fn times(
    at: impl Fn(&str) -> String,
    now: UnixMs,
    delay: Option<Millis>,
    not_before: Option<UnixMs>,
    expires_at: Option<UnixMs>,
) -> Result<(), Problem> {
    check::times(now, delay.map(|span| span.0), not_before, expires_at).map_err(|invalid| {
        // REST counts a delay in seconds, and its name says so.
        let field = if invalid.field == "delay" { "delay_seconds" } else { invalid.field };
        problem(&at(field), invalid)
    })
}

/// The longest beginning of a text that has at most `max` bytes.
pub(super) fn cut(text: &str, max: usize) -> Arc<str> {
    check::cut(text, max).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{COMMAND_BYTES_MAX, METADATA_BYTES_MAX};

    #[test]
    fn commands_are_one_line() {
        assert!(command_text("command", "give Steve diamond 64").is_ok());
        assert!(command_text("command", &"x".repeat(COMMAND_BYTES_MAX)).is_ok());
        for text in ["", "a\nb", "a\rb", "a\0b", &"x".repeat(COMMAND_BYTES_MAX + 1)] {
            let refused = command_text("commands[0].command", text).unwrap_err();
            assert_eq!(refused.parts().2, Some("commands[0].command"));
            assert_eq!(refused.parts().0, crate::protocol::Code::InvalidCommand);
        }
    }

    #[test]
    fn names_are_bounded_and_printable() {
        assert!(name("name", "Überleben").is_ok());
        assert!(name("name", &"n".repeat(NAME_BYTES_MAX)).is_ok());
        for text in ["", "a\tb", "a\u{7f}", &"n".repeat(NAME_BYTES_MAX + 1)] {
            assert!(name("name", text).is_err(), "{text:?}");
        }
        assert!(address("address", "").is_ok());
    }

    #[test]
    fn players_need_a_name() {
        let steve = PlayerBody { name: "Steve".into(), uuid: None };
        assert_eq!(player("player", &steve).unwrap().name.as_ref(), "Steve");
        let nobody = PlayerBody { name: String::new(), uuid: None };
        assert_eq!(player("player", &nobody).unwrap_err().parts().2, Some("player.name"));
    }

    #[test]
    fn metadata_is_an_object_kept_as_it_is() {
        let raw = |text: &str| serde_json::from_str::<Box<RawValue>>(text).unwrap();
        let exact = r#"{"price":12345678901234567890.123}"#;
        assert_eq!(metadata("metadata", &raw(exact)).unwrap().as_ref(), exact);
        assert!(metadata("metadata", &raw("[1]")).is_err());
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(METADATA_BYTES_MAX));
        assert!(metadata("metadata", &raw(&long)).is_err());
    }

    #[test]
    fn idempotency_keys_are_visible_ascii() {
        assert_eq!(idempotency_key(b"a-1").unwrap().as_ref(), "a-1");
        assert!(idempotency_key(&[b'k'; IDEMPOTENCY_KEY_BYTES_MAX]).is_ok());
        for bytes in [&b""[..], b"a b", b"\xff", "ü".as_bytes(), &[b'k'; IDEMPOTENCY_KEY_BYTES_MAX + 1]] {
            assert!(idempotency_key(bytes).is_err(), "{bytes:?}");
        }
    }
}
