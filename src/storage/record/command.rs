//! A command with its history, as it lies in `live` and `ended` under its seq.

use std::sync::Arc;

use rkyv::with::{InlineAsBox, MapNiche, Niche};
use rkyv::{Archive, Serialize};

use super::vocabulary::{
    LabelsRecord, PlayerRecord, ScheduleRecord, instant, labels, note, on_doubt, player, status, text,
};
use super::{Flaw, Kind, access, seal, unseal};
use crate::engine::{CommandRow, HistoryEntry};
use crate::ids::{CommandId, OrderId, Seq, ServerId, StoreId};
use crate::time::UnixMs;

/// The row; its seq is its key.
#[derive(Archive, Serialize)]
struct CommandRecord<'a> {
    server: u32,
    store: u32,
    order: u64,
    rev: u32,
    status: u8,
    status_at: u64,
    accepted_at: u64,
    attempt: u16,
    retries: u16,
    unanswered: u16,
    #[rkyv(with = InlineAsBox)]
    text: &'a str,
    #[rkyv(with = Niche)]
    player: Option<Box<PlayerRecord<'a>>>,
    require_online: bool,
    on_doubt: u8,
    #[rkyv(with = Niche)]
    schedule: Option<Box<ScheduleRecord>>,
    #[rkyv(with = Niche)]
    labels: Option<Box<LabelsRecord<'a>>>,
    #[rkyv(with = MapNiche<InlineAsBox>)]
    error: Option<&'a str>,
    #[rkyv(with = MapNiche<InlineAsBox>)]
    output: Option<&'a str>,
    history: Vec<EntryRecord<'a>>,
}

#[derive(Archive, Serialize)]
struct EntryRecord<'a> {
    status: u8,
    at: u64,
    attempt: u16,
    note: u8,
    #[rkyv(with = MapNiche<InlineAsBox>)]
    error: Option<&'a str>,
}

impl<'a> CommandRecord<'a> {
    fn new(row: &'a CommandRow) -> CommandRecord<'a> {
        CommandRecord {
            server: row.id.server.0,
            store: row.order.store.0,
            order: row.order.seq.0,
            rev: row.rev,
            status: row.status as u8,
            status_at: row.status_at.0,
            accepted_at: row.accepted_at.0,
            attempt: row.attempt,
            retries: row.retries,
            unanswered: row.unanswered,
            text: row.text.as_deref().expect("rows are whole when they are written"),
            player: PlayerRecord::new(row.player.as_ref()),
            require_online: row.require_online,
            on_doubt: row.on_doubt as u8,
            schedule: ScheduleRecord {
                next_at: row.next_at.map(|at| at.0),
                after: row.after.map(|seq| seq.0),
                not_before: row.not_before.map(|at| at.0),
                expires_at: row.expires_at.map(|at| at.0),
            }
            .compact(),
            labels: LabelsRecord::new(row.labels.as_deref()),
            error: row.error.as_deref(),
            output: row.output.as_deref(),
            history: row.history.iter().map(EntryRecord::new).collect(),
        }
    }
}

impl<'a> EntryRecord<'a> {
    fn new(entry: &'a HistoryEntry) -> EntryRecord<'a> {
        EntryRecord {
            status: entry.status as u8,
            at: entry.at.0,
            attempt: entry.attempt,
            note: entry.note as u8,
            error: entry.error.as_deref(),
        }
    }
}

impl ArchivedEntryRecord<'_> {
    fn read(&self) -> Result<HistoryEntry, Flaw> {
        Ok(HistoryEntry {
            status: status(self.status)?,
            at: UnixMs(self.at.to_native()),
            attempt: self.attempt.to_native(),
            note: note(self.note)?,
            error: text(&self.error),
        })
    }
}

impl ArchivedCommandRecord<'_> {
    fn read(&self, seq: Seq) -> Result<CommandRow, Flaw> {
        let schedule = self.schedule.as_ref();
        Ok(CommandRow {
            id: CommandId { server: ServerId(self.server.to_native()), seq },
            order: OrderId { store: StoreId(self.store.to_native()), seq: Seq(self.order.to_native()) },
            rev: self.rev.to_native(),
            status: status(self.status)?,
            status_at: UnixMs(self.status_at.to_native()),
            accepted_at: UnixMs(self.accepted_at.to_native()),
            attempt: self.attempt.to_native(),
            retries: self.retries.to_native(),
            unanswered: self.unanswered.to_native(),
            next_at: schedule.and_then(|schedule| instant(&schedule.next_at)),
            after: schedule.and_then(|schedule| schedule.after.as_ref()).map(|seq| Seq(seq.to_native())),
            text: Some(Arc::from(&*self.text)),
            player: player(&self.player),
            require_online: self.require_online,
            not_before: schedule.and_then(|schedule| instant(&schedule.not_before)),
            expires_at: schedule.and_then(|schedule| instant(&schedule.expires_at)),
            on_doubt: on_doubt(self.on_doubt)?,
            labels: labels(&self.labels),
            error: text(&self.error),
            output: text(&self.output),
            history: self.history.iter().map(ArchivedEntryRecord::read).collect::<Result<_, _>>()?,
        })
    }
}

/// The sealed row.
///
/// # Panics
/// Without the text.
pub(crate) fn encode_command(row: &CommandRow) -> Vec<u8> {
    seal(Kind::Command, row.id.seq.0, &CommandRecord::new(row))
}

/// Reads what [`encode_command`] wrote under this seq.
pub(crate) fn decode_command(seq: Seq, row: &[u8]) -> Result<CommandRow, Flaw> {
    access::<ArchivedCommandRecord<'_>>(unseal(Kind::Command, seq.0, row)?)?.read(seq)
}

/// The text of what [`encode_command`] wrote under this seq.
pub(crate) fn decode_text(seq: Seq, row: &[u8]) -> Result<Arc<str>, Flaw> {
    let record = access::<ArchivedCommandRecord<'_>>(unseal(Kind::Command, seq.0, row)?)?;
    Ok(Arc::from(&*record.text))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, assert_golden};
    use super::*;

    #[test]
    fn commands_read_back() {
        for row in [samples::full_command(), samples::plain_command(128)] {
            let bytes = encode_command(&row);
            assert_eq!(decode_text(row.id.seq, &bytes).ok(), row.text);
            assert_eq!(decode_command(row.id.seq, &bytes), Ok(row));
        }
    }

    #[test]
    fn bytes_are_golden() {
        assert_golden("command_full", &encode_command(&samples::full_command()));
        assert_golden("command_plain", &encode_command(&samples::plain_command(16)));
    }

    #[test]
    fn another_key_is_a_flaw() {
        let row = encode_command(&samples::plain_command(16));
        assert!(decode_command(Seq(1), &row).is_err());
    }

    #[test]
    fn a_plain_row_is_compact() {
        let bytes = encode_command(&samples::plain_command(128));
        assert!(bytes.len() <= 128 + 128, "{} bytes", bytes.len());
    }
}
