//! Where the ledger's bytes are: a file that only one process has, appended to, synced, replaced as a whole. Must never
//! know what the bytes mean.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::ledger::LedgerError;

/// How often a lock that is held is tried again, and after how long: a program that is being started by this process, or by
/// one that has just ended, holds its parent's locks for the moment until it runs.
const LOCK_TRIES: u32 = 25;
const LOCK_WAIT: Duration = Duration::from_millis(20);

/// A place for the ledger's bytes.
pub trait LedgerFile: std::fmt::Debug + Send {
    /// Adds bytes at the end. They need not be durable.
    ///
    /// # Errors
    /// Some or none of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns once everything appended is durable.
    ///
    /// # Errors
    /// Nobody knows what is.
    fn sync(&mut self) -> io::Result<()>;

    /// Puts other bytes in the place of all that are there, durably, all or nothing.
    ///
    /// # Errors
    /// The old or the new ones are there.
    fn replace(&mut self, bytes: &[u8]) -> Result<(), LedgerError>;
}

/// A file with a name, locked.
#[derive(Debug)]
pub(super) struct NamedFile {
    path: PathBuf,
    file: File,
}

impl NamedFile {
    /// Opens or creates it; its content. Waits half a second for another process.
    pub(super) fn open(path: &Path, bytes_max: u64) -> Result<(NamedFile, Vec<u8>), LedgerError> {
        NamedFile::open_patiently(path, bytes_max, |tried| {
            let again = tried < LOCK_TRIES;
            if again {
                thread::sleep(LOCK_WAIT);
            }
            again
        })
    }

    /// As long as another process has it, and `again` says so of the times that it was tried, it is tried again.
    fn open_patiently(
        path: &Path,
        bytes_max: u64,
        mut again: impl FnMut(u32) -> bool,
    ) -> Result<(NamedFile, Vec<u8>), LedgerError> {
        let mut tried = 0;
        loop {
            tried += 1;
            match NamedFile::open_now(path, bytes_max) {
                Err(LedgerError::InUse { .. }) if again(tried) => {}
                opened => return opened,
            }
        }
    }

    fn open_now(path: &Path, bytes_max: u64) -> Result<(NamedFile, Vec<u8>), LedgerError> {
        let io = |operation| {
            move |error: io::Error| LedgerError::Io {
                operation,
                file: path.to_owned(),
                detail: error.to_string(),
            }
        };
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io("open"))?;
        lock(&file, path)?;
        if !still_named(&file, path).map_err(io("open"))? {
            return Err(LedgerError::InUse { file: path.to_owned() });
        }
        let length = file.metadata().map_err(io("read"))?.len();
        if length > bytes_max {
            return Err(LedgerError::Foreign { file: path.to_owned() });
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.read_to_end(&mut bytes).map_err(io("read"))?;
        Ok((NamedFile { path: path.to_owned(), file }, bytes))
    }

    fn error(&self, operation: &'static str) -> impl Fn(io::Error) -> LedgerError {
        move |error| LedgerError::Io { operation, file: self.path.clone(), detail: error.to_string() }
    }
}

impl LedgerFile for NamedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The lock of the new file is taken before it gets the name, and the old one's is held until then, so that no second
    /// process slips in between.
    fn replace(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let temporary = PathBuf::from(name);
        let mut file = File::create(&temporary).map_err(self.error("rewrite"))?;
        lock(&file, &self.path)?;
        file.write_all(bytes).map_err(self.error("rewrite"))?;
        file.sync_all().map_err(self.error("sync"))?;
        std::fs::rename(&temporary, &self.path).map_err(self.error("rename"))?;
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(self.error("sync the folder of"))?;
        self.file = file;
        Ok(())
    }
}

fn lock(file: &File, path: &Path) -> Result<(), LedgerError> {
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => LedgerError::InUse { file: path.to_owned() },
        std::fs::TryLockError::Error(error) => {
            LedgerError::Io { operation: "lock", file: path.to_owned(), detail: error.to_string() }
        }
    })
}

/// A lock counts only while the file still has its name: another process may have rewritten the ledger between our
/// open and our lock.
#[cfg(unix)]
fn still_named(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (ours, named) = (file.metadata()?, std::fs::metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino()))
}

#[cfg(not(unix))]
fn still_named(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_held_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let (held, _) = NamedFile::open_now(&path, 100).unwrap();
        // As a child that was forked and does not run yet: the same lock, held twice.
        let mut child = Some(held.file.try_clone().unwrap());
        drop(held);
        assert!(matches!(NamedFile::open_now(&path, 100), Err(LedgerError::InUse { .. })));
        let opened = NamedFile::open_patiently(&path, 100, |tried| {
            if tried == 3 {
                child = None;
            }
            tried < 5
        });
        assert!(opened.is_ok(), "{opened:?}");
        let refused = NamedFile::open_patiently(&path, 100, |tried| tried < 5);
        assert!(matches!(refused, Err(LedgerError::InUse { .. })));
    }
}
