//! The changes of commands: delivered, completed, any other status, edited, resent.

use std::sync::Arc;

use rkyv::with::{InlineAsBox, MapNiche};
use rkyv::{Archive, Serialize};

use super::Flaw;
use super::vocabulary::{instant, note, status, text};
use crate::engine::{CompletedChange, DeliveredChange, EditedChange, Few, ResentChange, StatusChange};
use crate::ids::{CommandId, Seq, ServerId};
use crate::time::UnixMs;

/// `Change::Delivered` and `Change::Completed`.
#[derive(Archive, Serialize)]
pub(super) struct BatchRecord {
    server: u32,
    at: u64,
    commands: Vec<SeqRevision>,
}

#[derive(Archive, Serialize)]
struct SeqRevision {
    seq: u64,
    rev: u32,
}

impl BatchRecord {
    fn new(server: ServerId, at: UnixMs, commands: &[(Seq, u32)]) -> BatchRecord {
        BatchRecord {
            server: server.0,
            at: at.0,
            commands: commands.iter().map(|(seq, rev)| SeqRevision { seq: seq.0, rev: *rev }).collect(),
        }
    }

    pub(super) fn delivered(change: &DeliveredChange) -> BatchRecord {
        BatchRecord::new(change.server, change.at, &change.commands)
    }

    pub(super) fn completed(change: &CompletedChange) -> BatchRecord {
        BatchRecord::new(change.server, change.at, &change.commands)
    }
}

impl ArchivedBatchRecord {
    fn commands(&self) -> Few<(Seq, u32)> {
        self.commands.iter().map(|entry| (Seq(entry.seq.to_native()), entry.rev.to_native())).collect()
    }

    pub(super) fn read_delivered(&self) -> DeliveredChange {
        DeliveredChange {
            server: ServerId(self.server.to_native()),
            at: UnixMs(self.at.to_native()),
            commands: self.commands(),
        }
    }

    pub(super) fn read_completed(&self) -> CompletedChange {
        CompletedChange {
            server: ServerId(self.server.to_native()),
            at: UnixMs(self.at.to_native()),
            commands: self.commands(),
        }
    }
}

/// `Change::Status`.
#[derive(Archive, Serialize)]
pub(super) struct StatusRecord<'a> {
    server: u32,
    seq: u64,
    rev: u32,
    status: u8,
    at: u64,
    attempt: u16,
    retries: u16,
    unanswered: u16,
    next_at: Option<u64>,
    note: u8,
    #[rkyv(with = MapNiche<InlineAsBox>)]
    error: Option<&'a str>,
    #[rkyv(with = MapNiche<InlineAsBox>)]
    output: Option<&'a str>,
}

impl<'a> StatusRecord<'a> {
    pub(super) fn new(change: &'a StatusChange) -> StatusRecord<'a> {
        StatusRecord {
            server: change.id.server.0,
            seq: change.id.seq.0,
            rev: change.rev,
            status: change.status as u8,
            at: change.at.0,
            attempt: change.attempt,
            retries: change.retries,
            unanswered: change.unanswered,
            next_at: change.next_at.map(|at| at.0),
            note: change.note as u8,
            error: change.error.as_deref(),
            output: change.output.as_deref(),
        }
    }
}

impl ArchivedStatusRecord<'_> {
    pub(super) fn read(&self) -> Result<StatusChange, Flaw> {
        Ok(StatusChange {
            id: CommandId { server: ServerId(self.server.to_native()), seq: Seq(self.seq.to_native()) },
            rev: self.rev.to_native(),
            status: status(self.status)?,
            at: UnixMs(self.at.to_native()),
            attempt: self.attempt.to_native(),
            retries: self.retries.to_native(),
            unanswered: self.unanswered.to_native(),
            next_at: instant(&self.next_at),
            note: note(self.note)?,
            error: text(&self.error),
            output: text(&self.output),
        })
    }
}

/// `Change::Edited`.
#[derive(Archive, Serialize)]
pub(super) struct EditedRecord<'a> {
    server: u32,
    seq: u64,
    rev: u32,
    at: u64,
    #[rkyv(with = InlineAsBox)]
    text: &'a str,
}

impl<'a> EditedRecord<'a> {
    pub(super) fn new(change: &'a EditedChange) -> EditedRecord<'a> {
        EditedRecord {
            server: change.id.server.0,
            seq: change.id.seq.0,
            rev: change.rev,
            at: change.at.0,
            text: &change.text,
        }
    }
}

impl ArchivedEditedRecord<'_> {
    pub(super) fn read(&self) -> EditedChange {
        EditedChange {
            id: CommandId { server: ServerId(self.server.to_native()), seq: Seq(self.seq.to_native()) },
            rev: self.rev.to_native(),
            at: UnixMs(self.at.to_native()),
            text: Arc::from(&*self.text),
        }
    }
}

/// `Change::Resent`.
#[derive(Archive, Serialize)]
pub(super) struct ResentRecord {
    at: u64,
    commands: Vec<CommandRevision>,
}

#[derive(Archive, Serialize)]
struct CommandRevision {
    server: u32,
    seq: u64,
    rev: u32,
}

impl ResentRecord {
    pub(super) fn new(change: &ResentChange) -> ResentRecord {
        let entry =
            |(id, rev): &(CommandId, u32)| CommandRevision { server: id.server.0, seq: id.seq.0, rev: *rev };
        ResentRecord { at: change.at.0, commands: change.commands.iter().map(entry).collect() }
    }
}

impl ArchivedResentRecord {
    pub(super) fn read(&self) -> ResentChange {
        let entry = |entry: &ArchivedCommandRevision| {
            let id =
                CommandId { server: ServerId(entry.server.to_native()), seq: Seq(entry.seq.to_native()) };
            (id, entry.rev.to_native())
        };
        ResentChange { at: UnixMs(self.at.to_native()), commands: self.commands.iter().map(entry).collect() }
    }
}
