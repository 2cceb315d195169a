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
    fn a_plain_command_is_compact() {
        let order = samples::plain_order(128);
        let bytes = encode_changes(&[order], Vec::new());
        assert!(bytes.len() <= 128 + 96, "{} bytes", bytes.len());
    }
}
