//! The body of a journal frame: its changes, in order.

use rkyv::vec::ArchivedVec;
use rkyv::with::AsBox;
use rkyv::{Archive, Serialize};

use super::accepted::AcceptedRecord;
use super::change::{BatchRecord, EditedRecord, ResentRecord, StatusRecord};
use super::{Flaw, access, archive};
use crate::engine::Change;

/// One change. The order of variants is stored: only add at the end.
#[derive(Archive, Serialize)]
enum ChangeRecord<'a> {
    Order(#[rkyv(with = AsBox)] AcceptedRecord<'a>),
    Delivered(#[rkyv(with = AsBox)] BatchRecord),
    Completed(#[rkyv(with = AsBox)] BatchRecord),
    Status(#[rkyv(with = AsBox)] StatusRecord<'a>),
    Edited(#[rkyv(with = AsBox)] EditedRecord<'a>),
    Resent(#[rkyv(with = AsBox)] ResentRecord),
}

impl<'a> ChangeRecord<'a> {
    fn new(change: &'a Change) -> ChangeRecord<'a> {
        match change {
            Change::Order(change) => ChangeRecord::Order(AcceptedRecord::new(change)),
            Change::Delivered(change) => ChangeRecord::Delivered(BatchRecord::delivered(change)),
            Change::Completed(change) => ChangeRecord::Completed(BatchRecord::completed(change)),
            Change::Status(change) => ChangeRecord::Status(StatusRecord::new(change)),
            Change::Edited(change) => ChangeRecord::Edited(EditedRecord::new(change)),
            Change::Resent(change) => ChangeRecord::Resent(ResentRecord::new(change)),
        }
    }
}

impl ArchivedChangeRecord<'_> {
    fn read(&self) -> Result<Change, Flaw> {
        Ok(match self {
            ArchivedChangeRecord::Order(change) => Change::Order(Box::new(change.read()?)),
            ArchivedChangeRecord::Delivered(change) => Change::Delivered(change.read_delivered()),
            ArchivedChangeRecord::Completed(change) => Change::Completed(change.read_completed()),
            ArchivedChangeRecord::Status(change) => Change::Status(Box::new(change.read()?)),
            ArchivedChangeRecord::Edited(change) => Change::Edited(Box::new(change.read())),
            ArchivedChangeRecord::Resent(change) => Change::Resent(Box::new(change.read())),
        })
    }
}

/// Bytes of an order beside its commands, at most without reference and player.
const ORDER_BYTES: usize = 80;
/// Bytes of a command of an order beside its text, at most without player, schedule and labels.
const COMMAND_BYTES: usize = 40;
/// Bytes of a change of several commands beside them, and of a command in one that has its seq and revision.
const BATCH_BYTES: usize = 32;
const REVISION_BYTES: usize = 12;
/// Bytes of a command that is offered again, with its server and revision.
const RESENT_BYTES: usize = 16;
/// Bytes of another change beside its text, at most without what a plugin said of it.
const OTHER_BYTES: usize = 128;

/// Bytes that the archive of `changes` takes as a rule: room for as many is seldom made larger while they are written.
pub(crate) fn changes_bytes(changes: &[Change]) -> usize {
    let of_batch = |commands: usize, each: usize| BATCH_BYTES + commands * each;
    let bytes = changes.iter().map(|change| match change {
        Change::Order(order) => {
            let commands = order.commands.iter().map(|command| COMMAND_BYTES + command.text.len());
            ORDER_BYTES + commands.sum::<usize>()
        }
        Change::Delivered(batch) => of_batch(batch.commands.len(), REVISION_BYTES),
        Change::Completed(batch) => of_batch(batch.commands.len(), REVISION_BYTES),
        Change::Resent(batch) => of_batch(batch.commands.len(), RESENT_BYTES),
        Change::Edited(edited) => OTHER_BYTES + edited.text.len(),
        Change::Status(_) => OTHER_BYTES,
    });
    bytes.sum()
}

/// Appends the archive of `changes` to `bytes`.
pub(crate) fn encode_changes(changes: &[Change], bytes: Vec<u8>) -> Vec<u8> {
    let records: Vec<ChangeRecord<'_>> = changes.iter().map(ChangeRecord::new).collect();
    archive(&records, bytes)
}

/// Reads what [`encode_changes`] wrote.
pub(crate) fn decode_changes(body: &[u8]) -> Result<Vec<Change>, Flaw> {
    access::<ArchivedVec<ArchivedChangeRecord<'_>>>(body)?.iter().map(ArchivedChangeRecord::read).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, assert_golden};
    use super::*;

    #[test]
    fn changes_read_back() {
        for changes in [samples::changes(), Vec::new()] {
            assert_eq!(decode_changes(&encode_changes(&changes, Vec::new())), Ok(changes));
        }
    }

    #[test]
    fn bytes_are_golden() {
        assert_golden("changes", &encode_changes(&samples::changes(), Vec::new()));
    }

    #[test]
    fn any_cut_is_a_flaw_or_another_list_never_a_panic() {
        let bytes = encode_changes(&samples::changes(), Vec::new());
        for length in 0..bytes.len() {
            let _ = decode_changes(&bytes[..length]);
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x81;
            let _ = decode_changes(&damaged);
        }
    }

    #[test]
    fn usual_changes_have_the_room_that_was_made_for_them() {
        let key = Some(samples::keys()[0].digest);
        let with_key = |change| match change {
            Change::Order(mut order) => {
                order.row.key = key;
                Change::Order(order)
            }
            other => other,
        };
        let batches: Vec<Change> = samples::changes()
            .into_iter()
            .filter(|change| matches!(change, Change::Delivered(_) | Change::Completed(_)))
            .collect();
        assert_eq!(batches.len(), 2);
        for text in [1, 128, 4096] {
            let changes: Vec<Change> =
                (0..20).map(|_| with_key(samples::plain_order(text))).chain(batches.clone()).collect();
            let (room, bytes) = (changes_bytes(&changes), encode_changes(&changes, Vec::new()).len());
            assert!(bytes <= room && room < bytes + bytes / 4, "{room} bytes of room for {bytes}");
        }
    }

    #[test]
    fn a_plain_command_is_compact() {
        let order = samples::plain_order(128);
        let bytes = encode_changes(&[order], Vec::new());
        assert!(bytes.len() <= 128 + 96, "{} bytes", bytes.len());
    }
}
