//! A second copy of a data directory on another path: made when it is opened, written with every commit, and put in the
//! place of what is damaged. Never used as a source when it is not known to be in step.
//!
//! What must stay true:
//! * A commit returns when both sides have it, or when the mirror is durably marked as stale (`pair`).
//! * Therefore each side's copy of a file holds every commit that returned, and at most the one more that was under way.
//!   One file rests on another only by commits that returned before it went on, so copies of different sides make a
//!   directory that a crash of one could have left: a damaged file is replaced alone.
//! * Of two sound journals that differ the one that recovers further is put first (`further`).
//! * While both hold the same, both are written from the first byte on. Otherwise the data directory is opened alone, and
//!   only when all of it was read and is sound, the mirror is made the same, marked as stale meanwhile.
//! * Whoever opens one side alone marks that first ([`Mirror::left_alone`]).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::clean;
use super::error::{DbFile, StorageError};
use super::open::{JOURNAL_FILE, STORE_FILE, make_dir};
use super::registry::REGISTRY_FILE;
use files::{Failed, Locked};
use mark::{Mark, SMALL_FILES, Side};

mod files;
mod further;
mod heal;
mod look;
mod mark;
mod pair;

pub use pair::{Link, Pair, Tap};

/// What is written to both sides. A journal of format 1 is not among them: it is only read, and gone when a start is done.
pub const MIRRORED_FILES: [&str; 3] = [JOURNAL_FILE, STORE_FILE, REGISTRY_FILE];

/// A mirror of one data directory, for one start of a broker.
#[derive(Debug, Clone)]
pub struct Mirror(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    marks: Arc<Marks>,
    link: Arc<Link>,
    /// By [`MIRRORED_FILES`].
    taps: Vec<Arc<Tap>>,
    /// The mirror cannot be reached since the start: why.
    away: Option<String>,
    source: Mutex<Source>,
    /// Nobody else uses the directories as one of a pair.
    _locks: Vec<File>,
}

/// What the mirror can stand in for.
#[derive(Debug)]
struct Source {
    /// It was in step when the last broker ended, and was not written since.
    usable: bool,
    healed: Vec<heal::Healed>,
}

/// The two directories and the mark of the first.
#[derive(Debug)]
struct Marks {
    data: PathBuf,
    dir: PathBuf,
    mark: Mutex<Mark>,
}

impl Marks {
    /// Writes the data directory's mark down, and keeps it in mind.
    fn set(&self, known: &mut Mark, mark: Mark) -> io::Result<()> {
        mark::write(&self.data, &mark)?;
        *known = mark;
        Ok(())
    }

    /// The mirror failed: durable in the data directory when this returns. The mirror is told too, if it can be.
    fn set_stale(&self, error: &io::Error) -> io::Result<()> {
        let mut known = self.mark.lock();
        let stale = known.stale();
        self.set(&mut known, stale.clone())?;
        // A device that hangs would hang here as well.
        if error.kind() != io::ErrorKind::TimedOut
            && let Err(error) = mark::write(&self.dir, &stale.on(Side::Mirror))
        {
            tracing::debug!(%error, "the mirror cannot be told that it is stale");
        }
        Ok(())
    }
}

impl Mirror {
    /// Looks at both directories, which are made if they are missing, before anything in them is opened: refuses what is
    /// no pair, and puts back what is missing in `data`, if the mirror was in step.
    ///
    /// # Errors
    /// `Mirror` for directories that cannot be a pair, or when something is missing and the mirror cannot stand in;
    /// `InUse`; `Io` for the data directory. A mirror that was there and cannot be reached is no error.
    pub fn look(data: &Path, dir: &Path) -> Result<Mirror, StorageError> {
        look::look(data, dir)
    }

    /// Notes that a data directory is opened without its mirror, or a mirror by itself, which is then one no longer.
    /// Nothing may have been changed in it yet.
    ///
    /// # Errors
    /// `Mirror` for a mirror that was not in step; `InUse` while a broker has it as one of a pair; `Io`.
    pub fn left_alone(data: &Path) -> Result<(), StorageError> {
        let Some(mark) = mark::read(data) else { return Ok(()) };
        let io = |operation| move |error: io::Error| DbFile::new(data).io(operation, &error);
        let lock = files::lock(data).map_err(io("lock"))?;
        if lock.is_none() {
            return Err(StorageError::InUse { file: data.to_path_buf() });
        }
        let alone = match mark.side {
            Side::Data if !mark.in_step => return Ok(()),
            Side::Data => {
                tracing::warn!(
                    "started without its mirror, which is stale from now on: give mirror_dir again"
                );
                mark.stale()
            }
            Side::Mirror if !mark.in_step => return Err(refused(data, STALE_ALONE)),
            Side::Mirror => {
                tracing::warn!("started on what was a mirror: it is a data directory of its own from now on");
                Mark::new_pair().map_err(io("mark"))?
            }
        };
        mark::write(data, &alone).map_err(io("mark"))
    }

    /// Where the writes of a database go besides.
    ///
    /// # Panics
    /// When the file is not one of [`MIRRORED_FILES`].
    pub(super) fn tap(&self, name: &str) -> Arc<Tap> {
        let place = MIRRORED_FILES.iter().position(|file| *file == name).expect("one of the mirrored files");
        Arc::clone(&self.0.taps[place])
    }

    /// Everything is written to both sides.
    pub fn is_in_step(&self) -> bool {
        self.0.link.is_in_step()
    }

    /// The databases were opened, read whole, and are sound, and nobody writes to them: brings the mirror into step. It
    /// is no error when that cannot be done: then it is marked, logged, and there is one copy.
    ///
    /// # Errors
    /// The data directory cannot be read or marked; `InUse` when another process has a file of the mirror open.
    pub fn attach(&self) -> Result<(), StorageError> {
        let shared = &*self.0;
        let done = match self.is_in_step() {
            true => self.copy_small_files(),
            false => self.bring_into_step(),
        };
        let data_failed = |error: io::Error| DbFile::new(&shared.marks.data).io("copy", &error);
        match done {
            Ok(()) => Ok(()),
            Err(Failed::Data(error)) => Err(data_failed(error)),
            Err(Failed::InUse(file)) => Err(StorageError::InUse { file }),
            Err(Failed::Mirror(error)) => {
                shared.link.fail(&shared.marks.dir.to_string_lossy(), &error).map_err(data_failed)
            }
        }
    }

    fn bring_into_step(&self) -> Result<(), Failed> {
        let Shared { marks, link, taps, away, source, .. } = &*self.0;
        let mut known = marks.mark.lock();
        let was_in_step = known.in_step;
        source.lock().usable = false;
        let stale = known.stale();
        marks.set(&mut known, stale.clone()).map_err(Failed::Data)?;
        // Who fails now marks it again, which takes the lock.
        drop(known);
        if let Some(why) = away {
            return Err(Failed::Mirror(io::Error::other(why.clone())));
        }
        mark::write(&marks.dir, &stale.on(Side::Mirror)).map_err(Failed::Mirror)?;
        let mut opened = Vec::with_capacity(taps.len());
        let mut bytes = 0;
        for name in MIRRORED_FILES {
            let data = File::open(marks.data.join(name)).map_err(Failed::Data)?;
            let mirror = Locked::open(&marks.dir.join(name), true)?;
            files::chill(&mirror.file).map_err(Failed::Mirror)?;
            bytes += files::bring(&data, &mirror.file)?;
            opened.push(mirror.backend);
        }
        let small = copy_all_small(marks)?;
        clean::sync_dir(&marks.dir).map_err(Failed::Mirror)?;
        let in_step = Mark { in_step: true, small, ..stale };
        mark::write(&marks.dir, &in_step.on(Side::Mirror)).map_err(Failed::Mirror)?;
        marks.set(&mut marks.mark.lock(), in_step).map_err(Failed::Data)?;
        for (tap, mirror) in taps.iter().zip(opened) {
            tap.attach(mirror).map_err(Failed::Mirror)?;
        }
        link.set_in_step();
        let dir = marks.dir.display();
        if was_in_step {
            tracing::info!(mirror = %dir, bytes, "the mirror was brought into step after an unclean end");
        } else {
            tracing::warn!(mirror = %dir, bytes, "the mirror was made anew and is in step");
        }
        Ok(())
    }

    /// Copies those that differ. What the mirror has beyond is removed: an operator removed it.
    fn copy_small_files(&self) -> Result<(), Failed> {
        let marks = &self.0.marks;
        let mut known = marks.mark.lock();
        let small = copy_all_small(marks)?;
        // Written in any case: one of the copies may be lost.
        let mark = Mark { small, ..known.clone() };
        mark::write(&marks.dir, &mark.on(Side::Mirror)).map_err(Failed::Mirror)?;
        marks.set(&mut known, mark).map_err(Failed::Data)
    }

    /// Copies a small file that was just written, if it is one of those that are kept; durable on both sides when this
    /// returns. A mirror that fails is marked, as with a commit.
    pub fn copy_small(&self, name: &str) {
        let Some(place) = SMALL_FILES.iter().position(|file| *file == name) else { return };
        if !self.is_in_step() {
            return;
        }
        let marks = &self.0.marks;
        let copied = || -> Result<(), Failed> {
            let mut known = marks.mark.lock();
            let sum = files::sum_of(&marks.data.join(name)).map_err(Failed::Data)?;
            if sum == known.small[place] || sum == mark::NO_FILE {
                return Ok(());
            }
            files::replace(&marks.data.join(name), &marks.dir.join(name)).map_err(Failed::Mirror)?;
            let mut mark = known.clone();
            mark.small[place] = sum;
            mark::write(&marks.dir, &mark.on(Side::Mirror)).map_err(Failed::Mirror)?;
            marks.set(&mut known, mark).map_err(Failed::Data)
        };
        let told = match copied() {
            Ok(()) | Err(Failed::InUse(_)) => Ok(()),
            Err(Failed::Data(error)) => Err(error),
            Err(Failed::Mirror(error)) => self.0.link.fail(name, &error),
        };
        if let Err(error) = told {
            tracing::warn!(file = name, %error, "a file cannot be copied to the mirror");
        }
    }
}

/// Makes the small files of the mirror those of the data directory; returns their sums.
fn copy_all_small(marks: &Marks) -> Result<[mark::Sum; SMALL_FILES.len()], Failed> {
    let mut sums = [mark::NO_FILE; SMALL_FILES.len()];
    for (name, sum) in SMALL_FILES.iter().zip(&mut sums) {
        let (data, mirror) = (marks.data.join(name), marks.dir.join(name));
        *sum = files::sum_of(&data).map_err(Failed::Data)?;
        // What cannot be read is replaced.
        if files::sum_of(&mirror).is_ok_and(|found| found == *sum) {
            continue;
        }
        if *sum == mark::NO_FILE {
            fs::remove_file(&mirror).map_err(Failed::Mirror)?;
            tracing::info!(file = name, "removed in the mirror too");
        } else {
            files::replace(&data, &mirror).map_err(Failed::Mirror)?;
        }
    }
    Ok(sums)
}

/// What is told of a mirror that somebody wants to start on.
const STALE_ALONE: &str = "it is a mirror that was not in step, so it may be old or half copied: start on its data \
    directory; if that is lost, restore a backup, or remove mirror-1.mark and mirror-2.mark here to start with what there is";

fn refused(dir: &Path, problem: impl Into<String>) -> StorageError {
    StorageError::Mirror { dir: dir.to_path_buf(), problem: problem.into() }
}
