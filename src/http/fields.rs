//! The meaning of single fields: what each accepts, and the problem that names it when it does not fit.
//!
//! Shape is checked by `body.rs`; what needs the state of the broker is checked there.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::error::{Code, Problem};
use super::words::PlayerBody;
use crate::engine::Player;
use crate::limits::{
    ADDRESS_BYTES_MAX, COMMAND_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX,
    PLAYER_NAME_BYTES_MAX, REFERENCE_BYTES_MAX, STAGE_BYTES_MAX,
};

/// Levels of metadata: a listing that holds it must stay readable for parsers with a bound of 128.
const METADATA_DEPTH_MAX: usize = 32;

/// A text of `min..=max` bytes without control characters.
fn plain_text(field: &str, text: &str, min: usize, max: usize) -> Result<(), Problem> {
    let range = || format!("{min} to {max} bytes of UTF-8 without control characters");
    if !(min..=max).contains(&text.len()) {
        let detail = format!("it is {} bytes long", text.len());
        return Err(Problem::field(field, detail).range(range()));
    }
    if text.chars().any(char::is_control) {
        return Err(Problem::field(field, "it holds a control character").range(range()));
    }
    Ok(())
}

/// The name of a server, store or key.
pub(super) fn name(field: &str, text: &str) -> Result<(), Problem> {
    plain_text(field, text, 1, NAME_BYTES_MAX)
}

/// The address of a server, for people.
pub(super) fn address(field: &str, text: &str) -> Result<(), Problem> {
    plain_text(field, text, 0, ADDRESS_BYTES_MAX)
}

/// The publisher's own name of an order.
pub(super) fn reference(field: &str, text: &str) -> Result<Arc<str>, Problem> {
    plain_text(field, text, 0, REFERENCE_BYTES_MAX).map(|()| text.into())
}

/// The label of a command.
pub(super) fn stage(field: &str, text: &str) -> Result<Arc<str>, Problem> {
    plain_text(field, text, 0, STAGE_BYTES_MAX).map(|()| text.into())
}

/// A command's text: one line for a console.
pub(super) fn command_text(field: &str, text: &str) -> Result<Arc<str>, Problem> {
    let refused = |detail: String| {
        Problem::new(Code::InvalidCommand, detail)
            .at(field)
            .range(format!("1 to {COMMAND_BYTES_MAX} bytes without CR, LF or NUL"))
    };
    if text.is_empty() || text.len() > COMMAND_BYTES_MAX {
        return Err(refused(format!("it is {} bytes long", text.len())));
    }
    if text.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(refused("it holds CR, LF or NUL".to_owned()));
    }
    Ok(text.into())
}

/// A player.
pub(super) fn player(field: &str, body: &PlayerBody) -> Result<Player, Problem> {
    plain_text(&format!("{field}.name"), &body.name, 1, PLAYER_NAME_BYTES_MAX)?;
    Ok(Player { name: body.name.as_str().into(), uuid: body.uuid.map(|uuid| uuid.0) })
}

/// The JSON object of a command's metadata, kept as it was written.
pub(super) fn metadata(field: &str, json: &RawValue) -> Result<Arc<str>, Problem> {
    let text = json.get();
    if !text.starts_with('{') {
        return Err(Problem::field(field, "it is not a JSON object").range("a JSON object"));
    }
    if text.len() > METADATA_BYTES_MAX {
        let detail = format!("it is {} bytes long", text.len());
        return Err(Problem::field(field, detail).range(format!("0 to {METADATA_BYTES_MAX} bytes of JSON")));
    }
    if depth(text) > METADATA_DEPTH_MAX {
        return Err(Problem::field(field, "it is nested too deep").range(format!("1 to {METADATA_DEPTH_MAX} levels")));
    }
    Ok(text.into())
}

/// How deep well-formed JSON is nested.
fn depth(json: &str) -> usize {
    let (mut now, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The value of the header `Idempotency-Key`.
pub(super) fn idempotency_key(bytes: &[u8]) -> Result<Arc<str>, Problem> {
    let visible = bytes.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(bytes).ok().filter(|_| visible);
    text.filter(|text| (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len())).map(Arc::from).ok_or_else(|| {
        Problem::field("Idempotency-Key", "the key does not fit; a UUID does")
            .range(format!("1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"))
    })
}

/// The longest beginning of a text that has at most `max` bytes.
pub(super) fn cut(text: &str, max: usize) -> Arc<str> {
    text[..text.floor_char_boundary(max)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_one_line() {
        assert!(command_text("command", "give Steve diamond 64").is_ok());
        assert!(command_text("command", &"x".repeat(COMMAND_BYTES_MAX)).is_ok());
        for text in ["", "a\nb", "a\rb", "a\0b", &"x".repeat(COMMAND_BYTES_MAX + 1)] {
            let refused = command_text("commands[0].command", text).unwrap_err();
            assert_eq!(refused.parts().2, Some("commands[0].command"));
            assert!(refused.parts().3.unwrap().starts_with("1 to 4096 bytes"));
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
        let nested = |levels: usize| format!("{}1{}", "{\"[\\\"{\":".repeat(levels), "}".repeat(levels));
        assert!(metadata("metadata", &raw(&nested(METADATA_DEPTH_MAX))).is_ok());
        assert!(metadata("metadata", &raw(&nested(METADATA_DEPTH_MAX + 1))).is_err());
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

    #[test]
    fn a_cut_keeps_characters_whole() {
        assert_eq!(cut("aü", 2).as_ref(), "a");
        assert_eq!(cut("aü", 3).as_ref(), "aü");
        assert_eq!(cut("", 3).as_ref(), "");
    }
}
