//! The look at both directories before anything in them is opened: whether they are a pair, what is missing, and whether
//! they hold the same. Changes nothing but what is missing.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::files::{self, Failed, Locked};
use super::mark::{self, MARK_FILES, Mark, NO_FILE, SMALL_FILES, Side};
use super::{Link, MIRRORED_FILES, Marks, Mirror, Shared, Source, Tap, make_dir, refused};
use crate::credentials::{ADMIN_FILE, SECRET_FILE};
use crate::storage::error::{DbFile, StorageError};
use crate::storage::journal::OLD_JOURNAL_FILE;
use crate::storage::open::JOURNAL_FILE;
use crate::storage::{DATABASE_FILES, clean};

/// What the marks say.
enum Plan {
    /// There was no mirror, or it is to be made anew.
    Anew(Mark),
    /// The mirror was in step.
    InStep(Mark),
    /// So was it, and all of the data directory is gone.
    Lost(Mark),
}

pub(super) fn look(data: &Path, dir: &Path) -> Result<Mirror, StorageError> {
    let of_data = |operation| move |error: io::Error| DbFile::new(data).io(operation, &error);
    if let Some(problem) = files::conflict(data, dir).map_err(of_data("find"))? {
        return Err(refused(dir, problem));
    }
    make_dir(data).map_err(of_data("make"))?;
    let in_use = |file: &Path| StorageError::InUse { file: file.to_path_buf() };
    let lock = files::lock(data).map_err(of_data("lock"))?.ok_or_else(|| in_use(data))?;
    let known = mark::read(data);
    let reached = make_dir(dir).and_then(|()| Ok((files::lock(dir)?, files::is_empty(dir)?)));
    let (plan, mirror_lock, away) = match (reached, known) {
        (Ok((None, _)), _) => return Err(in_use(dir)),
        (Ok((Some(lock), is_empty)), known) => (plan(data, dir, known, is_empty)?, Some(lock), None),
        // It was there once: one goes on without it, as when it fails later.
        (Err(error), Some(known)) if known.side == Side::Data => {
            (Plan::Anew(known), None, Some(error.to_string()))
        }
        (Err(error), _) => return Err(refused(dir, format!("cannot make or read it: {error}"))),
    };
    let (mark, usable) = match plan {
        Plan::Anew(mark) => (mark, false),
        Plan::InStep(mark) => (mark, true),
        Plan::Lost(mark) => {
            tracing::error!(data = %data.display(), mirror = %dir.display(), "the data directory is empty: it is made from its mirror");
            let mark = mark.on(Side::Data);
            // First of all: what is cut short here goes on at the next start.
            mark::write(data, &mark).map_err(of_data("mark"))?;
            (mark, true)
        }
    };
    let is_pair = mark::read(data).is_some();
    let mirror =
        assemble(data, dir, mark, usable, away, [Some(lock), mirror_lock].into_iter().flatten().collect());
    if usable {
        mirror.put_back_missing()?;
    } else if is_pair {
        mirror.refuse_missing("was not in step, so its copy may be old")?;
    }
    if usable && !mirror.write_both_if_same()? {
        mirror.take_further_journal()?;
    }
    Ok(mirror)
}

fn assemble(
    data: &Path,
    dir: &Path,
    mark: Mark,
    usable: bool,
    away: Option<String>,
    locks: Vec<File>,
) -> Mirror {
    let marks = Arc::new(Marks { data: data.to_path_buf(), dir: dir.to_path_buf(), mark: Mutex::new(mark) });
    let failed = Arc::clone(&marks);
    let link = Link::new(move |error| failed.set_stale(error));
    let taps = MIRRORED_FILES.into_iter().map(|name| Tap::new(name, &link)).collect();
    let source = Mutex::new(Source { usable, healed: Vec::new() });
    Mirror(Arc::new(Shared { marks, link, taps, away, source, _locks: locks }))
}

fn plan(data: &Path, dir: &Path, known: Option<Mark>, is_empty: bool) -> Result<Plan, StorageError> {
    let found = mark::read(dir);
    let (data_name, lost) = (data.display(), files::is_lost(data, &DATABASE_FILES));
    let problem = match (known, found) {
        (Some(known), _) if known.side == Side::Mirror => {
            format!("{data_name} is a mirror itself: start once on it without mirror_dir, which makes it a data directory")
        }
        (_, Some(found)) if found.side == Side::Data => {
            "it is a data directory, not a mirror: if it is the newer one of the two, give it as data_dir and empty \
             the other; else empty it"
                .into()
        }
        (Some(known), Some(found)) if known.pair != found.pair => {
            format!("it is the mirror of another data directory than {data_name}: name this one's, or an empty directory")
        }
        (Some(known), Some(found)) if known.in_step && found.in_step => return Ok(Plan::InStep(known)),
        (Some(known), Some(_)) => return Ok(Plan::Anew(known)),
        (Some(known), None) if is_empty => return Ok(Plan::Anew(known)),
        (None, None) if is_empty => {
            let new = Mark::new_pair().map_err(|error| DbFile::new(data).io("mark", &error))?;
            return Ok(Plan::Anew(new));
        }
        (_, None) => "it is not empty and is no mirror: name an empty directory".into(),
        (None, Some(found)) if lost && found.in_step => return Ok(Plan::Lost(found)),
        (None, Some(_)) if lost => {
            format!("{data_name} is empty, and this mirror was not in step, so it may be old or half copied: restore a backup")
        }
        (None, Some(_)) => format!(
            "it is the mirror of another data directory than {data_name}, or of one from which a backup was restored \
             since: name an empty directory, and keep this one as long as it may be needed"
        ),
    };
    Err(refused(dir, problem))
}

impl Mirror {
    /// Puts the mirror's copies where there is nothing, or a small file that is not what both sides had.
    fn put_back_missing(&self) -> Result<(), StorageError> {
        let marks = &self.0.marks;
        let small = marks.mark.lock().small;
        // It is put back last, so without it the others are put back for the first time, or again.
        let is_remade = !marks.data.join(SECRET_FILE).exists();
        for (name, recorded) in SMALL_FILES.into_iter().zip(small).rev() {
            let (data, mirror) = (marks.data.join(name), marks.dir.join(name));
            // What cannot be read is as good as missing.
            let found = files::sum_of(&data).ok();
            let removed = name == ADMIN_FILE && found == Some(NO_FILE) && !is_remade;
            let is_known = recorded != NO_FILE && files::sum_of(&mirror).is_ok_and(|sum| sum == recorded);
            if found != Some(recorded) && is_known && !removed {
                self.put_back(name)?;
            }
        }
        for name in MIRRORED_FILES {
            if !marks.data.join(name).exists() && marks.dir.join(name).exists() {
                self.put_back(name)?;
            }
        }
        self.refuse_missing("does not have it either")
    }

    /// A database that was there and is gone must not be taken for one that is new.
    fn refuse_missing(&self, why: &str) -> Result<(), StorageError> {
        let marks = &self.0.marks;
        // One that is to be upgraded has no log yet.
        let has = |name: &str| marks.data.join(name).exists();
        let is_there = |name: &str| has(name) || (name == JOURNAL_FILE && has(OLD_JOURNAL_FILE));
        match MIRRORED_FILES.into_iter().find(|name| !is_there(name)) {
            None => Ok(()),
            Some(name) => {
                let file = marks.data.join(name);
                let [first, second] = MARK_FILES;
                Err(refused(
                    &marks.dir,
                    format!(
                        "{} is missing, and the mirror {why}: restore a backup; or, to go on without the file, remove \
                         {first} and {second} from the data directory and name an empty directory as mirror",
                        file.display()
                    ),
                ))
            }
        }
    }

    /// When both sides hold the same, they are written together from the first byte on; else returns false.
    fn write_both_if_same(&self) -> Result<bool, StorageError> {
        let Shared { marks, link, taps, .. } = &*self.0;
        // An upgrade writes to the data directory alone.
        if marks.data.join(OLD_JOURNAL_FILE).exists() {
            return Ok(false);
        }
        let is_clean = clean::is_marked(&marks.data);
        let mut opened = Vec::with_capacity(MIRRORED_FILES.len());
        for name in MIRRORED_FILES {
            let compared = Locked::open(&marks.dir.join(name), false).and_then(|mirror| {
                let same = compare(&marks.data.join(name), &mirror.file, is_clean);
                Ok((same.map_err(Failed::Data)?, mirror.backend))
            });
            match compared {
                Ok((true, mirror)) => opened.push(mirror),
                Err(Failed::InUse(file)) => return Err(StorageError::InUse { file }),
                // Which of the two it is, or what cannot be read, shows when the data directory is opened.
                Ok((false, _)) | Err(Failed::Data(_) | Failed::Mirror(_)) => return Ok(false),
            }
        }
        for (tap, mirror) in taps.iter().zip(opened) {
            tap.attach(mirror).map_err(|error| DbFile::new(&marks.dir).io("start a thread for", &error))?;
        }
        link.set_in_step();
        Ok(true)
    }
}

fn compare(data: &Path, mirror: &File, is_clean: bool) -> io::Result<bool> {
    let data = fs::OpenOptions::new().read(true).write(true).open(data)?;
    if !is_clean {
        files::chill(&data)?;
        files::chill(mirror)?;
    }
    files::same(&data, mirror)
}
