//! The disk: the journal (what happened, in order) and the store at rest (what it amounts to).
//!
//! Both stand behind a small trait. Nothing here knows a socket, a clock or a queue.

mod backup;
mod blocks;
mod check;
mod clean;
mod contract;
mod error;
mod frame;
mod journal;
pub mod mirror;
mod open;
mod pieces;
mod record;
mod recovery;
pub mod registry;
mod rest;
mod tables;

pub use backup::{BackupSource, Floors, Snapshot, raise};
pub use check::{
    CheckReport, DATABASE_FILES, Finding, Severity, TableCount, Unwatched, Watcher, check, check_rows,
};
pub use contract::{
    Checkpoint, CommitNo, EncodedFrame, EndedCursor, EndedPage, Journal, NextPart, Recovered, RecoveredFrame,
    Rest,
};
pub use error::StorageError;
pub use frame::{FrameEncoder, FrameHash};
pub use journal::{LogJournal, Room};
pub use open::{JOURNAL_FILE, OpenOptions, STORE_FILE, open, open_mirrored, open_with_backends};
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use record::check_record::check_record;
pub use recovery::{MissingFrames, Recovery, RecoveryReport, ShardEnd};
pub use rest::RedbRest;

/// Makes the record of the audit trail that has this number.
pub type AuditRecordMaker<'a> = &'a dyn Fn(u64) -> std::sync::Arc<registry::AuditRecord>;
