//! What can go wrong with the disk, and how redb's errors become ours. Never hides a failure.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::Flaw;

/// What can go wrong with the disk. Any of them ends the process: see `docs/storage.md`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The disk is full; nothing was stored.
    #[error("no space left in {file}: free some, then start again")]
    Full {
        /// Which file.
        file: PathBuf,
    },
    /// A read, write or sync failed.
    #[error("cannot {operation} {file}: {detail}")]
    Io {
        /// Which file.
        file: PathBuf,
        /// For example `commit`.
        operation: &'static str,
        /// The system's own words.
        detail: String,
    },
    /// A record is damaged.
    #[error(
        "{file} is damaged at {record}: {detail}; restore it from a backup, or move the file away to start without it"
    )]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Table and key.
        record: String,
        /// What did not hold.
        detail: String,
    },
    /// Written by a newer fluxrelay.
    #[error("{file} has format version {found}, this program reads up to {supported}: use a newer fluxrelay")]
    TooNew {
        /// Which file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The mirror that was named cannot be this data directory's.
    #[error("the mirror {dir} cannot be used: {problem}")]
    Mirror {
        /// Which directory.
        dir: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
    /// Another process has it open.
    #[error("{file} is in use by another process: stop it, or choose another --data-dir")]
    InUse {
        /// Which file.
        file: PathBuf,
    },
}

/// The name of one database file, for the errors about it.
#[derive(Debug, Clone)]
pub(crate) struct DbFile(Arc<Path>);

impl DbFile {
    /// A file by the path that errors show.
    pub(crate) fn new(path: &Path) -> DbFile {
        DbFile(path.into())
    }

    /// The path that errors show.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A record that does not hold what it must.
    pub(crate) fn damaged(&self, table: &str, key: impl Display, flaw: Flaw) -> StorageError {
        self.broken(&format!("{table}/{key}"), flaw)
    }

    /// A part of the file that does not hold what it must.
    pub(crate) fn broken(&self, part: &str, detail: impl Display) -> StorageError {
        let (file, record) = (self.0.to_path_buf(), part.to_owned());
        StorageError::Damaged { file, record, detail: detail.to_string() }
    }

    /// A failure of the system.
    pub(crate) fn io(&self, operation: &'static str, error: &std::io::Error) -> StorageError {
        let file = self.0.to_path_buf();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                StorageError::Full { file }
            }
            // What redb says of a file that does not start as one of its own.
            ErrorKind::InvalidData => {
                StorageError::Damaged { file, record: "header".into(), detail: error.to_string() }
            }
            // Nobody reads past the end of a file that is whole.
            ErrorKind::UnexpectedEof => StorageError::Damaged {
                file,
                record: "its end".into(),
                detail: format!("it is shorter than it was written ({error})"),
            },
            _ => StorageError::Io { file, operation, detail: error.to_string() },
        }
    }

    /// A failure that redb reports while doing `operation`.
    pub(crate) fn redb<E: Into<redb::Error>>(&self, operation: &'static str) -> impl Fn(E) -> StorageError {
        move |error| self.translate(operation, error.into())
    }

    fn translate(&self, operation: &'static str, error: redb::Error) -> StorageError {
        use redb::Error as R;
        let file = self.0.to_path_buf();
        match error {
            R::Io(error) => self.io(operation, &error),
            R::DatabaseAlreadyOpen | R::LockProtocolMismatch => StorageError::InUse { file },
            R::Corrupted(detail) => StorageError::Damaged { file, record: "redb pages".into(), detail },
            R::RepairAborted | R::UpgradeRequired(_) => {
                StorageError::Damaged { file, record: "header".into(), detail: error.to_string() }
            }
            R::TableTypeMismatch { .. }
            | R::TableIsMultimap(_)
            | R::TableIsNotMultimap(_)
            | R::TypeDefinitionChanged { .. }
            | R::TableDoesNotExist(_) => {
                StorageError::Damaged { file, record: "table list".into(), detail: error.to_string() }
            }
            other => StorageError::Io { file, operation, detail: other.to_string() },
        }
    }
}
