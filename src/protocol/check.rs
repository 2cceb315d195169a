//! What the fields of an order must hold to, for the binary protocol and REST alike. Reads no clock: `now` is given.

use std::fmt;

use super::error::Code;
use super::fields::PlayerRef;
use super::json::is_object;
use super::publish::{OrderHead, Publish, PublishCommand};
use crate::limits::{
    AHEAD_MS_MAX, COMMAND_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, METADATA_BYTES_MAX, ORDER_COMMANDS_MAX,
    PLAYER_NAME_BYTES_MAX, REFERENCE_BYTES_MAX, STAGE_BYTES_MAX,
};
use crate::time::UnixMs;

/// A field that is not as it must be. Its text names the field and the range, and holds no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid {
    /// `invalid_command`, `invalid_field` or `too_many_commands`.
    pub code: Code,
    /// Which command of the order, from 0.
    pub command: Option<usize>,
    /// The field, as REST and protocol.md name it.
    pub field: &'static str,
    /// What is wrong.
    pub why: Why,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its length in bytes.
    Bytes {
        /// As given.
        len: usize,
        /// Allowed from.
        min: usize,
        /// Allowed up to.
        max: usize,
    },
    /// How many there are.
    Count {
        /// As given.
        count: usize,
        /// Allowed from.
        min: usize,
        /// Allowed up to.
        max: usize,
    },
    /// Holds a character that is not allowed.
    Character {
        /// Its name.
        name: &'static str,
        /// Its place in bytes, from 0.
        at: usize,
    },
    /// Further ahead than a time may be, in milliseconds.
    TooFarAhead {
        /// Allowed up to.
        max: u64,
    },
    /// Something else, as the end of a sentence.
    Because(&'static str),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command {
            Some(index) => write!(f, "commands[{index}].{}: {}", self.field, self.why),
            None => write!(f, "{}: {}", self.field, self.why),
        }
    }
}

impl std::error::Error for Invalid {}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Bytes { len, min, max } => write!(f, "has {len} bytes, must have {min} to {max}"),
            Why::Count { count, min, max } => write!(f, "has {count} entries, must have {min} to {max}"),
            Why::Character { name, at } => write!(f, "holds {name} at byte {at}, which is not allowed"),
            Why::TooFarAhead { max } => write!(f, "is more than {max} ms ahead"),
            Why::Because(why) => f.write_str(why),
        }
    }
}

fn invalid(field: &'static str, why: Why) -> Invalid {
    Invalid { code: Code::InvalidField, command: None, field, why }
}

/// A text of `min` to `max` bytes.
///
/// # Errors
/// `invalid_field` with the field's name.
pub fn length(field: &'static str, text: &str, min: usize, max: usize) -> Result<(), Invalid> {
    if text.len() < min || text.len() > max {
        return Err(invalid(field, Why::Bytes { len: text.len(), min, max }));
    }
    Ok(())
}

/// A short text for people and logs: `min` to `max` bytes, no control characters.
///
/// # Errors
/// `invalid_field` with the field's name.
pub fn label(field: &'static str, text: &str, min: usize, max: usize) -> Result<(), Invalid> {
    length(field, text, min, max)?;
    // Most have none, and to look at all bytes takes a fraction of the time that decoding the characters does.
    if !any(text, may_be_control) {
        return Ok(());
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, _)) => Err(invalid(field, Why::Character { name: "a control character", at })),
        None => Ok(()),
    }
}

/// Whether any byte is so. Looks at all of them, many at a time.
fn any(text: &str, is_so: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(false, |any, byte| any | is_so(byte))
}

/// True of every byte with which a control character begins, and of one with which others begin, too.
fn may_be_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f || byte == 0xc2
}

fn ends_command(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

/// The text of a command: 1 to `COMMAND_BYTES_MAX` bytes, not only blanks, no CR, LF or NUL.
///
/// # Errors
/// `invalid_command` for the field `command`.
pub fn command_text(text: &str) -> Result<(), Invalid> {
    let refuse = |why| Err(Invalid { code: Code::InvalidCommand, ..invalid("command", why) });
    if text.is_empty() || text.len() > COMMAND_BYTES_MAX {
        return refuse(Why::Bytes { len: text.len(), min: 1, max: COMMAND_BYTES_MAX });
    }
    if any(text, ends_command)
        && let Some(at) = text.bytes().position(ends_command)
    {
        let name = match text.as_bytes()[at] {
            b'\r' => "CR",
            b'\n' => "LF",
            _ => "NUL",
        };
        return refuse(Why::Character { name, at });
    }
    if text.trim().is_empty() {
        return refuse(Why::Because("is blank"));
    }
    Ok(())
}

/// An idempotency key: 1 to `IDEMPOTENCY_KEY_BYTES_MAX` bytes, no control characters.
///
/// # Errors
/// `invalid_field` for `idempotency_key`.
pub fn idempotency_key(key: &str) -> Result<(), Invalid> {
    label("idempotency_key", key, 1, IDEMPOTENCY_KEY_BYTES_MAX)
}

/// An order's reference: 1 to `REFERENCE_BYTES_MAX` bytes, no control characters.
///
/// # Errors
/// `invalid_field` for `reference`.
pub fn reference(text: &str) -> Result<(), Invalid> {
    label("reference", text, 1, REFERENCE_BYTES_MAX)
}

/// A player's name: 1 to `PLAYER_NAME_BYTES_MAX` bytes, no control characters.
///
/// # Errors
/// `invalid_field` for `player.name`.
pub fn player_name(name: &str) -> Result<(), Invalid> {
    label("player.name", name, 1, PLAYER_NAME_BYTES_MAX)
}

/// A command's stage: 1 to `STAGE_BYTES_MAX` bytes, no control characters.
///
/// # Errors
/// `invalid_field` for `stage`.
pub fn stage(text: &str) -> Result<(), Invalid> {
    label("stage", text, 1, STAGE_BYTES_MAX)
}

/// A command's metadata: a JSON object as text, 1 to `METADATA_BYTES_MAX` bytes, at most 32 levels deep, that any parser
/// reads: no number beyond a double, no half of a surrogate pair.
///
/// # Errors
/// `invalid_field` for `metadata`.
pub fn metadata(json: &str) -> Result<(), Invalid> {
    length("metadata", json, 1, METADATA_BYTES_MAX)?;
    if !is_object(json) {
        return Err(invalid(
            "metadata",
            Why::Because("is not a JSON object of at most 32 levels that any parser reads"),
        ));
    }
    Ok(())
}

/// When a command may run, as spans and instants in milliseconds. A time that has passed is fine (a late `not_before`
/// does not wait, a late `expires_at` expires at once): a publish that is repeated later must stay valid.
///
/// # Errors
/// `invalid_field` for what is more than `AHEAD_MS_MAX` ahead, and for `expires_at` not after `not_before`.
pub fn times(
    now: UnixMs,
    delay_ms: Option<u64>,
    not_before: Option<UnixMs>,
    expires_at: Option<UnixMs>,
) -> Result<(), Invalid> {
    let starts = delay_ms.map(|delay| UnixMs(now.0.saturating_add(delay)));
    for (field, at) in [("delay", starts), ("not_before", not_before), ("expires_at", expires_at)] {
        if at.is_some_and(|at| (at - now).0 > AHEAD_MS_MAX) {
            return Err(invalid(field, Why::TooFarAhead { max: AHEAD_MS_MAX }));
        }
    }
    match (not_before, expires_at) {
        (Some(from), Some(to)) if to <= from => {
            Err(invalid("expires_at", Why::Because("is not after not_before")))
        }
        _ => Ok(()),
    }
}

/// The number of commands in one order: 1 to `ORDER_COMMANDS_MAX`.
///
/// # Errors
/// `invalid_field` for none, `too_many_commands` for too many.
pub fn command_count(count: usize) -> Result<(), Invalid> {
    let code = match count {
        0 => Code::InvalidField,
        1..=ORDER_COMMANDS_MAX => return Ok(()),
        _ => Code::TooManyCommands,
    };
    let why = Why::Count { count, min: 1, max: ORDER_COMMANDS_MAX };
    Err(Invalid { code, ..invalid("commands", why) })
}

/// What is said of a whole order.
///
/// # Errors
/// The first field that is not as it must be.
pub fn order(order: &OrderHead<'_>) -> Result<(), Invalid> {
    order.key.map_or(Ok(()), idempotency_key)?;
    order.reference.map_or(Ok(()), reference)?;
    order.player.map_or(Ok(()), |player| player_name(player.name))
}

/// One command of an order whose player is `of_order`.
///
/// # Errors
/// The first field that is not as it must be.
pub fn command(
    now: UnixMs,
    of_order: Option<PlayerRef<'_>>,
    command: &PublishCommand<'_>,
) -> Result<(), Invalid> {
    command_text(command.text)?;
    command.player.map_or(Ok(()), |player| player_name(player.name))?;
    if command.require_online && command.player.or(of_order).is_none() {
        return Err(invalid("require_online", Why::Because("needs a player")));
    }
    command.stage.map_or(Ok(()), stage)?;
    command.metadata.map_or(Ok(()), metadata)?;
    times(now, command.delay_ms, command.not_before.map(UnixMs), command.expires_at.map(UnixMs))
}

/// A whole publish, so that only servers are left to look up.
///
/// # Errors
/// The first field that is not as it must be, with the index of its command.
pub fn publish(now: UnixMs, publish: &Publish<'_>) -> Result<(), Invalid> {
    command_count(publish.commands.len())?;
    order(&publish.order)?;
    for (index, each) in publish.commands.iter().enumerate() {
        command(now, publish.order.player, &each)
            .map_err(|invalid| Invalid { command: Some(index), ..invalid })?;
    }
    Ok(())
}

/// The longest start of `text` that has at most `max` bytes and ends between characters.
pub fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
