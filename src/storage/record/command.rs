//! A command with its history, as a row of a block: docs/storage.md has the layout.

use std::sync::Arc;

use super::Flaw;
use super::pack::{self, Unpack, if_set};
use super::vocabulary::{note, on_doubt, status};
use crate::engine::{CommandRow, HistoryEntry, Labels, Note, Player, Status};
use crate::ids::{CommandId, OrderId, Seq, StoreId};
use crate::time::UnixMs;

/// Added to the number of a note that comes with an error's text.
const WITH_ERROR: u8 = 0x80;
/// Bytes beside the text of a command to which nothing has happened, at most without terms.
const NEW_BYTES: usize = 32;
/// Bytes beside the text of one that was delivered and completed, likewise.
const PAST_BYTES: usize = 96;

/// What the history of a command begins with.
fn acceptance(at: UnixMs) -> HistoryEntry {
    HistoryEntry { status: Status::Pending, at, attempt: 1, note: Note::None, error: None }
}

/// Nothing has happened to it but that it was accepted.
fn is_new(row: &CommandRow) -> bool {
    let CommandRow { rev: 1, status: Status::Pending, attempt: 1, retries: 0, unanswered: 0, .. } = row
    else {
        return false;
    };
    row.status_at == row.accepted_at
        && row.error.is_none()
        && row.output.is_none()
        && row.history == [acceptance(row.accepted_at)]
}

/// Which of the terms are there, in the order in which they are written.
fn terms_of(row: &CommandRow) -> [bool; 9] {
    let labels = row.labels.as_deref();
    [
        row.player.is_some(),
        row.player.as_ref().is_some_and(|player| player.uuid.is_some()),
        row.next_at.is_some(),
        row.after.is_some(),
        row.not_before.is_some(),
        row.expires_at.is_some(),
        labels.is_some(),
        labels.is_some_and(|labels| labels.stage.is_some()),
        labels.is_some_and(|labels| labels.metadata.is_some()),
    ]
}

/// The row.
///
/// # Panics
/// Without the text.
pub(crate) fn encode_command(row: &CommandRow) -> Vec<u8> {
    let command = row.text.as_deref().expect("rows are whole when they are written");
    let (terms, new) = (terms_of(row), is_new(row));
    let mut bytes = Vec::with_capacity(command.len() + if new { NEW_BYTES } else { PAST_BYTES });
    let any_terms = terms.contains(&true);
    pack::number(&mut bytes, pack::flags([row.require_online, row.on_doubt as u8 == 1, any_terms, !new]));
    pack::number(&mut bytes, row.order.store.0.into());
    pack::difference(&mut bytes, row.order.seq.0, row.id.seq.0);
    pack::number(&mut bytes, row.accepted_at.0);
    pack::text(&mut bytes, command);
    if any_terms {
        encode_terms(row, terms, &mut bytes);
    }
    if !new {
        encode_past(row, &mut bytes);
    }
    bytes
}

fn encode_terms(row: &CommandRow, terms: [bool; 9], bytes: &mut Vec<u8>) {
    pack::number(bytes, pack::flags(terms));
    if let Some(player) = &row.player {
        pack::text(bytes, &player.name);
        if let Some(uuid) = player.uuid {
            bytes.extend_from_slice(&uuid.to_le_bytes());
        }
    }
    let after = row.after.map(|seq| (seq.0, row.id.seq.0));
    let instant = |at: Option<UnixMs>| at.map(|at| (at.0, row.accepted_at.0));
    let numbers = [instant(row.next_at), after, instant(row.not_before), instant(row.expires_at)];
    for (value, known) in numbers.into_iter().flatten() {
        pack::difference(bytes, value, known);
    }
    if let Some(labels) = &row.labels {
        [&labels.stage, &labels.metadata].into_iter().flatten().for_each(|label| pack::text(bytes, label));
    }
}

fn encode_past(row: &CommandRow, bytes: &mut Vec<u8>) {
    pack::number(bytes, pack::flags([row.error.is_some(), row.output.is_some()]));
    bytes.push(row.status as u8);
    pack::difference(bytes, row.status_at.0, row.accepted_at.0);
    pack::number(bytes, row.rev.into());
    for count in [row.attempt, row.retries, row.unanswered] {
        pack::number(bytes, count.into());
    }
    [&row.error, &row.output].into_iter().flatten().for_each(|words| pack::text(bytes, words));
    pack::number(bytes, row.history.len() as u64);
    let mut before = row.accepted_at;
    for entry in &row.history {
        bytes.push(entry.status as u8);
        pack::difference(bytes, entry.at.0, before.0);
        pack::number(bytes, entry.attempt.into());
        bytes.push(entry.note as u8 | if entry.error.is_some() { WITH_ERROR } else { 0 });
        entry.error.iter().for_each(|error| pack::text(bytes, error));
        before = entry.at;
    }
}

/// The beginning of a row, up to the text.
struct Head<'a> {
    require_online: bool,
    rerun: bool,
    any_terms: bool,
    any_past: bool,
    order: OrderId,
    accepted_at: UnixMs,
    text: &'a str,
}

impl<'a> Head<'a> {
    fn read(id: CommandId, unpack: &mut Unpack<'a>) -> Result<Head<'a>, Flaw> {
        let [require_online, rerun, any_terms, any_past] = unpack.flags()?;
        let store = StoreId(unpack.small()?);
        let order = OrderId { store, seq: Seq(unpack.difference(id.seq.0)?) };
        let accepted_at = UnixMs(unpack.number()?);
        let text = unpack.str()?;
        Ok(Head { require_online, rerun, any_terms, any_past, order, accepted_at, text })
    }
}

/// Reads what [`encode_command`] wrote for this command.
pub(crate) fn decode_command(id: CommandId, row: &[u8]) -> Result<CommandRow, Flaw> {
    let mut unpack = Unpack(row);
    let head = Head::read(id, &mut unpack)?;
    let mut row = CommandRow {
        id,
        order: head.order,
        rev: 1,
        status: Status::Pending,
        status_at: head.accepted_at,
        accepted_at: head.accepted_at,
        attempt: 1,
        retries: 0,
        unanswered: 0,
        next_at: None,
        after: None,
        text: Some(head.text.into()),
        player: None,
        require_online: head.require_online,
        not_before: None,
        expires_at: None,
        on_doubt: on_doubt(head.rerun.into())?,
        labels: None,
        error: None,
        output: None,
        history: Vec::new(),
    };
    if head.any_terms {
        decode_terms(&mut row, &mut unpack)?;
    }
    match head.any_past {
        true => decode_past(&mut row, &mut unpack)?,
        false => row.history.push(acceptance(row.accepted_at)),
    }
    unpack.end()?;
    Ok(row)
}

fn decode_terms(row: &mut CommandRow, unpack: &mut Unpack<'_>) -> Result<(), Flaw> {
    let terms: [bool; 9] = unpack.flags()?;
    let [named, uuid, next_at, after, not_before, expires_at, labels, stage, metadata] = terms;
    if named {
        let name = unpack.text()?;
        row.player = Some(Player { name, uuid: if_set(uuid, || unpack.array().map(u128::from_le_bytes))? });
    }
    let accepted_at = row.accepted_at.0;
    row.next_at = if_set(next_at, || unpack.difference(accepted_at).map(UnixMs))?;
    row.after = if_set(after, || unpack.difference(row.id.seq.0).map(Seq))?;
    row.not_before = if_set(not_before, || unpack.difference(accepted_at).map(UnixMs))?;
    row.expires_at = if_set(expires_at, || unpack.difference(accepted_at).map(UnixMs))?;
    if labels {
        let stage = if_set(stage, || unpack.text())?;
        row.labels = Some(Box::new(Labels { stage, metadata: if_set(metadata, || unpack.text())? }));
    }
    match terms_of(row) == terms && terms.contains(&true) {
        true => Ok(()),
        false => Err(Flaw::new("a part of what is not there")),
    }
}

fn decode_past(row: &mut CommandRow, unpack: &mut Unpack<'_>) -> Result<(), Flaw> {
    let [error, output] = unpack.flags()?;
    row.status = status(unpack.byte()?)?;
    row.status_at = UnixMs(unpack.difference(row.accepted_at.0)?);
    row.rev = unpack.small()?;
    row.attempt = unpack.small()?;
    row.retries = unpack.small()?;
    row.unanswered = unpack.small()?;
    row.error = if_set(error, || unpack.text())?;
    row.output = if_set(output, || unpack.text())?;
    let count = unpack.number()?;
    let mut before = row.accepted_at;
    for _ in 0..count {
        let status = status(unpack.byte()?)?;
        let at = UnixMs(unpack.difference(before.0)?);
        let attempt = unpack.small()?;
        let number = unpack.byte()?;
        let error = if_set(number & WITH_ERROR != 0, || unpack.text())?;
        row.history.push(HistoryEntry { status, at, attempt, note: note(number & !WITH_ERROR)?, error });
        before = at;
    }
    match is_new(row) {
        false => Ok(()),
        true => Err(Flaw::new("a past in which nothing happened")),
    }
}

/// The text of what [`encode_command`] wrote.
pub(crate) fn decode_text(id: CommandId, row: &[u8]) -> Result<Arc<str>, Flaw> {
    Ok(Head::read(id, &mut Unpack(row))?.text.into())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, assert_golden};
    use super::*;

    /// Each differs in one thing from a command to which nothing has happened.
    fn almost_new() -> Vec<CommandRow> {
        let new = || samples::new_command(16);
        let full = samples::full_command();
        let labels = |stage, metadata| Some(Box::new(Labels { stage, metadata }));
        vec![
            CommandRow { rev: 2, ..new() },
            CommandRow { status: Status::InDoubt, ..new() },
            CommandRow { status_at: UnixMs(1), ..new() },
            CommandRow { attempt: 2, ..new() },
            CommandRow { retries: 1, ..new() },
            CommandRow { unanswered: 1, ..new() },
            CommandRow { next_at: full.next_at, ..new() },
            CommandRow { after: full.after, ..new() },
            CommandRow { not_before: full.not_before, ..new() },
            CommandRow { expires_at: full.expires_at, ..new() },
            CommandRow { player: full.player, ..new() },
            CommandRow { player: Some(Player { name: "".into(), uuid: None }), ..new() },
            CommandRow { require_online: true, ..new() },
            CommandRow { on_doubt: full.on_doubt, ..new() },
            CommandRow { labels: full.labels, ..new() },
            CommandRow { labels: labels(None, None), ..new() },
            CommandRow { labels: labels(None, Some("x".into())), ..new() },
            CommandRow { error: full.error, ..new() },
            CommandRow { output: full.output, ..new() },
            CommandRow { history: full.history, ..new() },
            CommandRow { history: Vec::new(), ..new() },
            CommandRow { accepted_at: UnixMs(u64::MAX), ..new() },
            CommandRow { order: OrderId { store: StoreId(u32::MAX), seq: Seq(u64::MAX) }, ..new() },
        ]
    }

    #[test]
    fn commands_read_back() {
        let rows = [samples::full_command(), samples::new_command(128), samples::new_command(0)];
        for row in rows.into_iter().chain(almost_new()) {
            let bytes = encode_command(&row);
            assert_eq!(decode_text(row.id, &bytes).ok(), row.text);
            for length in 0..bytes.len() {
                assert!(decode_command(row.id, &bytes[..length]).is_err(), "{row:?} cut to {length}");
            }
            assert!(decode_command(row.id, &[&bytes[..], &[0]].concat()).is_err(), "a byte too many");
            assert_eq!(decode_command(row.id, &bytes), Ok(row));
        }
    }

    #[test]
    fn bytes_are_golden() {
        assert_golden("command_full", &encode_command(&samples::full_command()));
        assert_golden("command_new", &encode_command(&samples::new_command(16)));
    }

    #[test]
    fn a_new_command_is_compact() {
        assert_eq!(encode_command(&samples::new_command(128)).len(), 128 + 11);
        assert!(encode_command(&samples::plain_command(128)).len() <= 128 + PAST_BYTES);
    }

    #[test]
    fn what_says_the_same_in_another_way_is_refused() {
        let id = samples::new_command(1).id;
        let head = |flags: u8| [&[flags, 3, 1][..], &[1], &[1, b'x']].concat();
        assert!(decode_command(id, &head(0)).is_ok());
        let refused =
            |flags: u8, more: &[u8]| decode_command(id, &[&head(flags), more].concat()).unwrap_err().0;
        assert_eq!(refused(4, &[0]), "a part of what is not there");
        assert_eq!(refused(4, &[2]), "a part of what is not there", "a uuid of nobody");
        assert_eq!(refused(8, &[0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 0]), "a past in which nothing happened");
    }
}
