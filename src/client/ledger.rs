//! The plugin's memory of what it runs: each (command, attempt) runs at most once, across crashes of the plugin. One whose player
//! is absent does not run, and is begun again when it comes again.
//!
//! Before commands run, their intents are written and synced, many per sync. After a run, the outcome is written,
//! not synced: if the process dies the page cache keeps it, and if the machine loses power before it reaches the
//! disk, the intent alone is left and the command is *in doubt*, which claims less than happened and never more.
//! An entry is forgotten once the broker answers for it: its result is confirmed, or the broker has been told of
//! the doubt. Losing a `forgotten` record only makes the plugin report again, and a result counts once.
//!
//! The file is rewritten (temporary file, sync, rename) when little of it is still of use. After any failed write or
//! sync the ledger refuses everything: what it could not write down must not run.

use std::path::{Path, PathBuf};

use super::ledger_entries::Entries;
use super::ledger_file::{LedgerFile, NamedFile};
use super::ledger_record::{self as record, BadHeader, GROUP_MAX, HEADER_BYTES, Place, Record, Scanned};
use super::report::Report;
use crate::ids::{Seq, ServerId};
use crate::protocol::Outcome;

/// A file smaller than this is never rewritten.
const REWRITE_BYTES_MIN: u64 = 256 * 1024;
/// Bytes of a ledger file at most: more than a full window of the largest outcomes, and a rewrite's slack.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why a ledger cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// A read, write or sync failed; nothing runs any more until the plugin is restarted.
    #[error("cannot {operation} the ledger {file}: {detail}")]
    Io {
        /// For example `sync`.
        operation: &'static str,
        /// The ledger.
        file: PathBuf,
        /// The system's own words.
        detail: String,
    },
    /// Another process has it open.
    #[error("the ledger {file} is in use by another process: stop it, or choose another file")]
    InUse {
        /// The ledger.
        file: PathBuf,
    },
    /// Not a ledger at all.
    #[error(
        "{file} is not a ledger (or its first {HEADER_BYTES} bytes are damaged): choose another file, or move it away"
    )]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// Written by a newer program.
    #[error("the ledger {file} has format version {found}: use a newer fluxrelay")]
    TooNew {
        /// The ledger.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It belongs to another server.
    #[error("the ledger {file} belongs to {owner}, not to {server}: each server needs its own file")]
    OtherServer {
        /// The ledger.
        file: PathBuf,
        /// Whose it is.
        owner: ServerId,
        /// Who asks.
        server: ServerId,
    },
    /// A record that had been durable cannot be read.
    #[error(
        "the ledger {file} is damaged at byte {offset}: restore it, or move it away and check by hand which of the \
         server's delivered commands ran (what it recorded as started could otherwise run again)"
    )]
    Damaged {
        /// The ledger.
        file: PathBuf,
        /// Where.
        offset: u64,
    },
}

/// Where a command of this plugin stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// Running in this process.
    Started(u16),
    /// Started by an earlier process that left no outcome.
    InDoubt(u16),
    /// It ran; the broker has not confirmed the report.
    Finished(Report),
}

impl Entry {
    fn attempt(&self) -> u16 {
        match self {
            Entry::Started(attempt) | Entry::InDoubt(attempt) => *attempt,
            Entry::Finished(report) => report.attempt,
        }
    }

    /// Bytes that a rewritten file needs for it, roughly.
    fn bytes(&self) -> u64 {
        match self {
            Entry::Started(_) | Entry::InDoubt(_) => 10,
            Entry::Finished(report) => {
                let text = |text: &Option<String>| text.as_ref().map_or(0, |text| text.len() as u64);
                64 + text(&report.error) + text(&report.output)
            }
        }
    }
}

/// The ledger. Without a file it still keeps one process from running anything twice.
#[derive(Debug)]
pub struct Ledger {
    entries: Entries,
    entries_bytes: u64,
    disk: Option<Disk>,
}

#[derive(Debug)]
struct Disk {
    path: PathBuf,
    server: ServerId,
    file: Box<dyn LedgerFile>,
    length: u64,
    synced: u64,
    failed: bool,
}

impl Ledger {
    /// A ledger that forgets everything when the process ends: after a crash, commands that were running are offered
    /// again without doubt. For tests, benches and plugins whose commands may all be repeated.
    pub fn in_memory() -> Ledger {
        Ledger { entries: Entries::default(), entries_bytes: 0, disk: None }
    }

    /// Opens or creates the ledger of a server. A torn tail is cut off. Blocks for disk syncs, and for half a second while
    /// another process has it.
    ///
    /// # Errors
    /// In use, not a ledger of this server, damaged, or the disk fails.
    pub fn open(path: &Path, server: ServerId) -> Result<Ledger, LedgerError> {
        let (file, bytes) = NamedFile::open(path, FILE_BYTES_MAX)?;
        Ledger::open_on(Box::new(file), &bytes, path, server)
    }

    /// Opens the ledger of a server in `file`, which holds `bytes`; errors name it by `path`. A torn tail is cut off.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_on(
        file: Box<dyn LedgerFile>,
        bytes: &[u8],
        path: &Path,
        server: ServerId,
    ) -> Result<Ledger, LedgerError> {
        let mut ledger = Ledger::in_memory();
        // A crash during creation leaves a header that was never synced: nothing can have been written down after it.
        let fresh = bytes.len() < HEADER_BYTES && record::encode_header(server).starts_with(bytes);
        if !fresh {
            record::check_header(bytes, server).map_err(|bad| foreign(bad, path, server))?;
            ledger.read(bytes, path)?;
        }
        ledger.disk = Some(Disk { path: path.to_owned(), server, file, length: 0, synced: 0, failed: false });
        ledger.rewrite()?;
        Ok(ledger)
    }

    fn read(&mut self, bytes: &[u8], path: &Path) -> Result<(), LedgerError> {
        let scanned = record::scan(bytes, |record| match record {
            Record::Intents(commands) => {
                for (seq, attempt) in commands {
                    self.set(seq, Entry::InDoubt(attempt));
                }
            }
            Record::Outcome(report) => self.set(report.seq, Entry::Finished(report)),
            Record::Forgotten(seqs) => {
                for seq in seqs {
                    self.unset(seq);
                }
            }
        });
        match scanned {
            Scanned::Whole => {}
            Scanned::Torn(offset) => {
                let dropped = bytes.len() as u64 - offset;
                tracing::info!(file = %path.display(), offset, dropped, "ledger: cut off an unfinished write");
            }
            Scanned::Damaged(offset) => {
                return Err(LedgerError::Damaged { file: path.to_owned(), offset });
            }
        }
        Ok(())
    }

    /// What is known of a command, for the attempt that was delivered.
    pub fn entry(&self, seq: Seq) -> Option<&Entry> {
        self.entries.get(seq)
    }

    /// True when this attempt was never begun, and no later one; or when it was answered that its player is absent, so that it
    /// did not run.
    pub fn is_new(&self, seq: Seq, attempt: u16) -> bool {
        self.entries.get(seq).is_none_or(|entry| match entry {
            Entry::Finished(report) if report.outcome == Outcome::AwaitingPlayer => report.attempt <= attempt,
            entry => entry.attempt() < attempt,
        })
    }

    /// All entries by rising seq.
    pub fn entries(&self) -> impl Iterator<Item = (Seq, &Entry)> {
        self.entries.iter()
    }

    /// How many commands it knows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when it knows none.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// True when [`Ledger::begin`] touches a disk.
    pub(super) fn has_file(&self) -> bool {
        self.disk.is_some()
    }

    /// Writes down, durably, that these are about to run. Blocks for one disk sync.
    ///
    /// # Errors
    /// None of them may run; the ledger refuses everything from then on.
    pub fn begin(&mut self, commands: &[(Seq, u16)]) -> Result<(), LedgerError> {
        if let Some(disk) = &mut self.disk {
            let (place, mut bytes) = (disk.place(), Vec::new());
            commands.chunks(GROUP_MAX).for_each(|group| record::put_intents(group, place, &mut bytes));
            disk.write(&bytes)?;
            disk.sync()?;
        }
        for (seq, attempt) in commands {
            self.set(*seq, Entry::Started(*attempt));
        }
        Ok(())
    }

    /// Writes down what came of commands, and adds to `taken` those that were running; other reports are dropped.
    ///
    /// # Errors
    /// The outcomes are known to this process all the same, so that they can be reported.
    pub fn finish(
        &mut self,
        reports: impl IntoIterator<Item = Report>,
        taken: &mut impl Extend<Seq>,
    ) -> Result<(), LedgerError> {
        let place = self.disk.as_ref().map(Disk::place);
        let mut bytes = Vec::new();
        for report in reports {
            let seq = report.seq;
            if self.entries.get(seq) != Some(&Entry::Started(report.attempt)) {
                tracing::debug!(
                    seq = seq.0,
                    attempt = report.attempt,
                    "report of a command that is not running"
                );
                continue;
            }
            let report = report.cut();
            if let Some(place) = place {
                record::put_outcome(&report, place, &mut bytes);
            }
            self.set(seq, Entry::Finished(report));
            taken.extend([seq]);
        }
        match &mut self.disk {
            Some(disk) => disk.write(&bytes),
            None => Ok(()),
        }
    }

    /// Forgets commands for which the broker answers now.
    ///
    /// # Errors
    /// They are forgotten by this process all the same.
    pub fn forget(&mut self, seqs: &[Seq]) -> Result<(), LedgerError> {
        if self.disk.is_none() {
            for seq in seqs {
                self.unset(*seq);
            }
            return Ok(());
        }
        let known: Vec<Seq> = seqs.iter().copied().filter(|seq| self.unset(*seq)).collect();
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let (place, mut bytes) = (disk.place(), Vec::new());
        known.chunks(GROUP_MAX).for_each(|group| record::put_forgotten(group, place, &mut bytes));
        disk.write(&bytes)?;
        if disk.length > REWRITE_BYTES_MIN && self.entries_bytes * 2 < disk.length {
            self.rewrite()
        } else {
            Ok(())
        }
    }

    fn set(&mut self, seq: Seq, entry: Entry) {
        self.entries_bytes += entry.bytes();
        if let Some(old) = self.entries.insert(seq, entry) {
            self.entries_bytes -= old.bytes();
        }
    }

    /// False = it was not there.
    fn unset(&mut self, seq: Seq) -> bool {
        let old = self.entries.remove(seq);
        self.entries_bytes -= old.as_ref().map_or(0, Entry::bytes);
        old.is_some()
    }

    /// Replaces the file by one that holds the current entries only, durably.
    fn rewrite(&mut self) -> Result<(), LedgerError> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let place = Place { base: 0, synced: 0 };
        let mut bytes = record::encode_header(disk.server).to_vec();
        let intents: Vec<(Seq, u16)> =
            self.entries.iter().map(|(seq, entry)| (seq, entry.attempt())).collect();
        intents.chunks(GROUP_MAX).for_each(|group| record::put_intents(group, place, &mut bytes));
        for (_, entry) in self.entries.iter() {
            if let Entry::Finished(report) = entry {
                record::put_outcome(report, place, &mut bytes);
            }
        }
        disk.replace(&bytes)
    }
}

impl Disk {
    /// Where the next record goes.
    fn place(&self) -> Place {
        Place { base: self.length, synced: self.synced }
    }

    fn check(&self) -> Result<(), LedgerError> {
        if self.failed {
            Err(self.error("use", "an earlier write failed: restart the plugin"))
        } else {
            Ok(())
        }
    }

    fn error(&self, operation: &'static str, detail: impl ToString) -> LedgerError {
        LedgerError::Io { operation, file: self.path.clone(), detail: detail.to_string() }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        self.check()?;
        match self.file.append(bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                Err(self.error("write", error))
            }
        }
    }

    fn sync(&mut self) -> Result<(), LedgerError> {
        self.check()?;
        if let Err(error) = self.file.sync() {
            self.failed = true;
            return Err(self.error("sync", error));
        }
        self.synced = self.length;
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        self.check()?;
        self.failed = true;
        self.file.replace(bytes)?;
        self.length = bytes.len() as u64;
        self.synced = self.length;
        self.failed = false;
        Ok(())
    }
}

fn foreign(bad: BadHeader, path: &Path, server: ServerId) -> LedgerError {
    let file = path.to_owned();
    match bad {
        BadHeader::Foreign => LedgerError::Foreign { file },
        BadHeader::TooNew(found) => LedgerError::TooNew { file, found },
        BadHeader::OtherServer(owner) => LedgerError::OtherServer { file, owner, server },
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
