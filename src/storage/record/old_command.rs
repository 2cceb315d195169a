//! A command with its history, as formats 1 and 2 have it: in `live` and `ended`, each sealed by itself under its seq. Read once, by
//! the upgrade.

use std::sync::Arc;

use rkyv::with::{InlineAsBox, MapNiche, Niche};
use rkyv::{Archive, Serialize};

#[cfg(any(test, fuzzing))]
use super::seal;
use super::vocabulary::{
    LabelsRecord, PlayerRecord, ScheduleRecord, instant, labels, note, on_doubt, player, status, text,
};
use super::{Flaw, Kind, access, unseal};
use crate::engine::{CommandRow, HistoryEntry};
use crate::ids::{CommandId, OrderId, Seq, ServerId, StoreId};
use crate::time::UnixMs;

/// The row; its seq is its key.
#[derive(Archive, Serialize)]
#[cfg_attr(not(any(test, fuzzing)), expect(dead_code, reason = "only what it is archived as is read"))]
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

/// A line of a command's history.
#[derive(Archive, Serialize)]
struct EntryRecord<'a> {
    status: u8,
    at: u64,
    attempt: u16,
    note: u8,
    #[rkyv(with = MapNiche<InlineAsBox>)]
    error: Option<&'a str>,
}

#[cfg(any(test, fuzzing))]
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

#[cfg(any(test, fuzzing))]
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
            history: self.history.iter().map(|entry| entry.read()).collect::<Result<_, _>>()?,
        })
    }
}

/// The sealed row.
///
/// # Panics
/// Without the text.
#[cfg(any(test, fuzzing))]
pub(crate) fn encode_old_command(row: &CommandRow) -> Vec<u8> {
    seal(Kind::OldCommand, row.id.seq.0, &CommandRecord::new(row))
}

/// Reads what [`encode_old_command`] wrote under this seq.
pub(crate) fn decode_old_command(seq: Seq, row: &[u8]) -> Result<CommandRow, Flaw> {
    access::<ArchivedCommandRecord<'_>>(unseal(Kind::OldCommand, seq.0, row)?)?.read(seq)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, assert_golden};
    use super::*;

    #[test]
    fn commands_read_back() {
        for row in [samples::full_command(), samples::plain_command(128)] {
            assert_eq!(decode_old_command(row.id.seq, &encode_old_command(&row)), Ok(row));
        }
    }

    #[test]
    fn bytes_are_golden() {
        assert_golden("old_command_full", &encode_old_command(&samples::full_command()));
        assert_golden("old_command_plain", &encode_old_command(&samples::plain_command(16)));
    }

    #[test]
    fn another_key_is_a_flaw() {
        let row = encode_old_command(&samples::plain_command(16));
        assert!(decode_old_command(Seq(1), &row).is_err());
    }
}
