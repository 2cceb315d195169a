//! The mark in the directory that says "closed in order": without it the next start checks every page.
//!
//! Journal and store share one [`CleanMark`]; the last of them to be closed writes the mark, and only if nothing
//! failed. A process that is killed writes none.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The name of the mark in the data directory.
const MARK_FILE: &str = "clean";

/// Writes the mark when the last holder lets go of it.
#[derive(Debug)]
pub(super) struct CleanMark {
    dir: Option<PathBuf>,
    spoiled: AtomicBool,
}

impl CleanMark {
    /// Takes the mark off a directory; true = there was one. `None` = no directory, no mark.
    pub(super) fn take(dir: Option<&Path>) -> io::Result<(CleanMark, bool)> {
        let found = match dir {
            None => false,
            Some(dir) => match fs::remove_file(dir.join(MARK_FILE)) {
                Ok(()) => {
                    sync_dir(dir)?;
                    true
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            },
        };
        Ok((CleanMark { dir: dir.map(Path::to_path_buf), spoiled: AtomicBool::new(false) }, found))
    }

    /// Something failed: no mark will be written.
    pub(super) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Release);
    }
}

impl Drop for CleanMark {
    fn drop(&mut self) {
        let Some(dir) = &self.dir else { return };
        if self.spoiled.load(Ordering::Acquire) {
            return;
        }
        let written = File::create(dir.join(MARK_FILE)).and_then(|file| file.sync_all());
        // Without the mark the next start takes longer, and that is all.
        if let Err(error) = written.and_then(|()| sync_dir(dir)) {
            tracing::warn!(%error, "cannot mark the data directory as closed in order");
        }
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
