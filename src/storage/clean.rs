//! The mark in the directory that says "closed in order": without it the next start reads the files cold, from the disk.
//!
//! Journal and store share one [`CleanMark`]. The last of them to close writes the mark while it still holds the
//! lock on its file, so that no other process can have opened the directory by then; and only if nothing failed. A
//! process that is killed writes none.

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The name of the mark in the data directory.
const MARK_FILE: &str = "clean";

/// Files that have to be closed in order for the mark to be written.
const FILES: usize = 2;

/// Decides whether the mark is written.
#[derive(Debug)]
pub(super) struct CleanMark {
    dir: Option<PathBuf>,
    closed: AtomicUsize,
    spoiled: AtomicBool,
}

impl CleanMark {
    /// Takes the mark off a directory; true = there was one. `None` = no directory, no mark.
    pub(super) fn take(dir: Option<&Path>) -> io::Result<(CleanMark, bool)> {
        let mark = CleanMark {
            dir: dir.map(Path::to_path_buf),
            closed: AtomicUsize::new(0),
            spoiled: AtomicBool::new(false),
        };
        let found = mark.remove()?;
        Ok((mark, found))
    }

    /// Something failed: no mark will be written.
    pub(super) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Release);
    }

    /// Closes a file; `None` = it cannot be closed in order, and there is no mark then.
    pub(super) fn close<E: Display>(&self, close: Option<impl FnOnce() -> Result<(), E>>) {
        let Some(close) = close else { return self.spoil() };
        let last = self.closed.fetch_add(1, Ordering::AcqRel) + 1 == FILES;
        if last && !self.spoiled.load(Ordering::Acquire) {
            // Without the mark the next start takes longer, and that is all.
            if let Err(error) = self.write() {
                tracing::warn!(%error, "cannot mark the data directory as closed in order");
            }
        }
        if let Err(error) = close() {
            tracing::warn!(%error, "cannot close a file in order");
            self.spoil();
            if let Err(error) = self.remove() {
                tracing::warn!(%error, "cannot take the clean mark off the data directory");
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        File::create(dir.join(MARK_FILE))?.sync_all()?;
        sync_dir(dir)
    }

    fn remove(&self) -> io::Result<bool> {
        let Some(dir) = &self.dir else { return Ok(false) };
        match fs::remove_file(dir.join(MARK_FILE)) {
            Ok(()) => sync_dir(dir).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether the mark is in a directory: it was closed in order, and nobody has opened it since.
pub(super) fn is_marked(dir: &Path) -> bool {
    dir.join(MARK_FILE).exists()
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_in_which_nothing_failed_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        for (spoiled, marked) in [(false, true), (true, false)] {
            let (mark, _) = CleanMark::take(Some(dir.path())).unwrap();
            if spoiled {
                mark.spoil();
            }
            for _ in 0..FILES {
                assert!(!dir.path().join(MARK_FILE).exists(), "the last one to close writes it");
                mark.close(Some(|| io::Result::Ok(())));
            }
            assert_eq!(dir.path().join(MARK_FILE).exists(), marked);
        }
    }
}
