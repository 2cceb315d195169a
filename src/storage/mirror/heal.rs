//! Putting the mirror's copy of a file in the place of one that is damaged. Only from a mirror that was in step, and only
//! once for each file; the damaged one is kept under another name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{MIRRORED_FILES, Mirror, Shared, files};
use crate::storage::error::{DbFile, StorageError};

/// A file that was replaced, and what was wrong with it.
#[derive(Debug)]
pub(super) struct Healed {
    name: &'static str,
    aside: Option<PathBuf>,
    flaw: String,
}

impl Mirror {
    /// After a start that failed: puts the mirror's copy in the place of the file that is to blame, so that another try
    /// makes sense. Nothing may have the databases open.
    ///
    /// # Errors
    /// The start's own error when no file is to blame or the mirror is not in step; when both copies are damaged, one
    /// that says so; any other that keeps the file from being replaced.
    pub fn heal(&self, error: StorageError) -> Result<(), StorageError> {
        let Shared { marks, link, taps, source, .. } = &*self.0;
        let Some(name) = to_blame(&marks.data, &error) else { return Err(error) };
        let source = source.lock();
        if !source.usable {
            tracing::error!(file = name, mirror = %marks.dir.display(), "the mirror was not in step: it is not used");
            return Err(error);
        }
        if let Some(healed) = source.healed.iter().find(|healed| healed.name == name) {
            put_own_back(&marks.data.join(name), healed);
            return Err(both_damaged(&marks.data.join(name), &marks.dir.join(name), healed, &error));
        }
        drop(source);
        link.set_apart();
        taps.iter().for_each(|tap| tap.detach());
        tracing::error!(file = name, %error, "damaged: the mirror's copy is put in its place");
        let aside = self.put_back(name)?;
        let healed = Healed { name, aside, flaw: flaw(&error) };
        self.0.source.lock().healed.push(healed);
        Ok(())
    }

    /// Moves the data directory's file aside, if there is one, and puts the mirror's in its place.
    pub(super) fn put_back(&self, name: &str) -> Result<Option<PathBuf>, StorageError> {
        let marks = &self.0.marks;
        let (data, mirror) = (marks.data.join(name), marks.dir.join(name));
        // Copied first: a mirror that cannot be read leaves everything as it is.
        let ready = data.with_added_extension("from-mirror");
        let put = || -> io::Result<Option<PathBuf>> {
            files::replace(&mirror, &ready)?;
            let aside = files::move_aside(&data)?;
            fs::rename(&ready, &data)?;
            crate::storage::clean::sync_dir(&marks.data)?;
            Ok(aside)
        };
        let aside =
            put().map_err(|error| DbFile::new(&data).io("put the mirror's copy in the place of", &error))?;
        let kept = aside.as_ref().map(|path| path.display().to_string());
        tracing::warn!(file = %data.display(), mirror = %mirror.display(), kept, "restored from the mirror");
        Ok(aside)
    }
}

/// The database that an error is about.
fn to_blame(data: &Path, error: &StorageError) -> Option<&'static str> {
    match error {
        StorageError::Damaged { file, .. } => {
            MIRRORED_FILES.into_iter().find(|name| file.file_name().is_some_and(|file| file == *name))
        }
        // A disk that cannot read does not always say of which file.
        StorageError::Io { .. } => MIRRORED_FILES.into_iter().find(|name| !is_readable(&data.join(name))),
        _ => None,
    }
}

/// Whether all of a file can be read. One that may not be opened is no damage.
fn is_readable(path: &Path) -> bool {
    let Ok(mut file) = File::open(path) else { return true };
    let mut bytes = vec![0; 1024 * 1024];
    loop {
        match file.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

fn flaw(error: &StorageError) -> String {
    match error {
        StorageError::Damaged { record, detail, .. } => format!("{record}: {detail}"),
        other => other.to_string(),
    }
}

/// The copy is no better: the data directory gets its own file back. What cannot be done is told; the copy stays then.
fn put_own_back(data: &Path, healed: &Healed) {
    let Some(aside) = &healed.aside else { return };
    if let Err(error) = fs::rename(aside, data) {
        tracing::warn!(%error, kept = %aside.display(), "the file's own bytes stay under another name");
    }
}

fn both_damaged(data: &Path, mirror: &Path, healed: &Healed, error: &StorageError) -> StorageError {
    StorageError::Damaged {
        file: data.to_path_buf(),
        record: healed.flaw.clone(),
        detail: format!("and so is its mirror {} at {}", mirror.display(), flaw(error)),
    }
}
