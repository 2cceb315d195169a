//! Opening a data directory: cold after an unclean end, every page checked, once per process. Never opens it twice. Of the
//! journal only the heads are looked at: the recovery goes through it.
//!
//! redb trusts its pages: it may panic at a damaged one, or read past what is lost. So no file of it is used before every
//! page was walked, however its last process ended.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Builder, Database, StorageBackend};
use rustix::fs::{Advice, CWD, RenameFlags, fadvise, renameat_with};
use rustix::io::Errno;

use super::clean::{CleanMark, sync_dir};
use super::error::{DbFile, StorageError};
use super::journal::{self, LogFile, LogJournal, OldJournal, SEGMENT_BYTES, scan};
use super::mirror::{Mirror, Pair};
use super::pieces::{InPieces, Pieces};
use super::recovery::{FoundJournal, Recovery};
use super::rest::RedbRest;

/// The name of the journal in the data directory.
pub const JOURNAL_FILE: &str = "journal.log";
/// The name of the store at rest in the data directory.
pub const STORE_FILE: &str = "store.redb";

/// Bytes that are read ahead of an opening, at most: more would push out of memory what was just read.
const READ_AHEAD_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Bytes asked for at once.
const READ_AHEAD_STEP: u64 = 2 * 1024 * 1024;

/// How to open.
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions {
    /// Bytes of a segment of a journal on storage that holds no journal yet; a multiple of 4,096 from 8 KiB to 64 MiB.
    pub journal_segment_bytes: u32,
    /// Bytes of pages of the store at rest in memory.
    pub store_cache_bytes: usize,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions { journal_segment_bytes: SEGMENT_BYTES, store_cache_bytes: 32 * 1024 * 1024 }
    }
}

/// Opens (or makes) journal and store at rest in `dir`; the journal comes of the recovery. One of format 1 is replaced by a log
/// on the way.
///
/// # Errors
/// `InUse` when another process has them, `TooNew` when a newer program wrote them, `Damaged`, `Full`, `Io`.
pub fn open(dir: &Path, options: OpenOptions) -> Result<(RedbRest, Recovery), StorageError> {
    Prepared::new(dir)?.open(options, |opening, _| opening)
}

/// As [`open`], with a mirror, which looked at `dir` before.
///
/// # Errors
/// As [`open`].
pub fn open_mirrored(
    dir: &Path,
    options: OpenOptions,
    mirror: &Mirror,
) -> Result<(RedbRest, Recovery), StorageError> {
    Prepared::new(dir)?.open(options, |opening, name| opening.mirrored(mirror, name))
}

/// Journal and store at rest, there and cold where they have to be, before they are opened.
struct Prepared {
    mark: CleanMark,
    clean: bool,
    /// The journal that the log was made of.
    old: Option<OldJournal>,
    journal: Opening<FileBackend>,
    store: Opening<FileBackend>,
}

impl Prepared {
    fn new(dir: &Path) -> Result<Prepared, StorageError> {
        let dir_file = DbFile::new(dir);
        make_dir(dir).map_err(|error| dir_file.io("make", &error))?;
        let (mark, clean) =
            CleanMark::take(Some(dir)).map_err(|error| dir_file.io("take the clean mark off", &error))?;
        let old = journal::upgrade(dir, clean)?;
        let journal = Opening::prepare(dir, JOURNAL_FILE, clean)?;
        let store = Opening::prepare(dir, STORE_FILE, clean)?;
        Ok(Prepared { mark, clean, old, journal, store })
    }

    /// Opens both, each over what `over` makes of it.
    fn open<B: StorageBackend>(
        self,
        options: OpenOptions,
        over: impl Fn(Opening<FileBackend>, &str) -> Opening<B>,
    ) -> Result<(RedbRest, Recovery), StorageError> {
        let Prepared { mark, clean, old, journal, store } = self;
        let (journal, store) = (over(journal, JOURNAL_FILE), over(store, STORE_FILE));
        let (rest, recovery) = open_all(journal, store, Arc::new(mark), clean, options, SideBySide::Yes)?;
        Ok((rest, recovery.of(old)))
    }
}

/// Opens journal and store at rest on any storage: for tests that record, fail or tear writes. One after the other, so
/// that the order of operations on both is the same each time.
///
/// # Errors
/// As [`open`].
pub fn open_with_backends(
    journal: impl StorageBackend,
    store: impl StorageBackend,
    options: OpenOptions,
) -> Result<(RedbRest, Recovery), StorageError> {
    let (mark, clean) = CleanMark::take(None).expect("no directory, no failure");
    let (journal, store) = (Opening::over(JOURNAL_FILE, journal), Opening::over(STORE_FILE, store));
    open_all(journal, store, Arc::new(mark), clean, options, SideBySide::No)
}

/// Whether the two files are opened at the same time: the walk over a large store takes seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SideBySide {
    Yes,
    No,
}

fn open_all(
    journal: Opening<impl StorageBackend>,
    store: Opening<impl StorageBackend>,
    mark: Arc<CleanMark>,
    clean: bool,
    options: OpenOptions,
    side_by_side: SideBySide,
) -> Result<(RedbRest, Recovery), StorageError> {
    let store_file = store.file.clone();
    let ahead = journal.ahead;
    let open_journal = || {
        let beside = journal.beside.map(|beside| Arc::new(beside) as Arc<dyn StorageBackend>);
        let log = LogFile::open(Arc::new(journal.backend), journal.file, options.journal_segment_bytes)?;
        let (journal, chain) = LogJournal::open(log.with_beside(beside), Arc::clone(&mark))?;
        Ok(FoundJournal { journal, chain, ahead })
    };
    let open_store = || store.open_in_pieces(options.store_cache_bytes);
    let (journal, store) = match side_by_side {
        SideBySide::No => (open_journal(), open_store()),
        SideBySide::Yes => std::thread::scope(|scope| {
            let store = scope.spawn(open_store);
            let journal = open_journal();
            (journal, store.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        }),
    };
    let spoil = |error| {
        mark.spoil();
        error
    };
    let opened = journal.and_then(|journal| Ok((journal, store?)));
    let (journal, (store, pieces)) = opened.map_err(spoil)?;
    let store = Arc::new(store);
    let store_db = Arc::clone(&store);
    // An earlier program cannot read it any more once it is raised: not for a journal that nobody can read.
    let before_raise = || scan(journal.journal.log()).map(drop);
    let rest = RedbRest::new((store, pieces), store_file.clone(), Arc::clone(&mark), before_raise);
    let rest = rest.map_err(spoil)?;
    let recovery = Recovery::new(journal, (store_db, store_file), &rest, (mark, clean));
    Ok((rest, recovery))
}

/// A file that is about to be opened.
pub(super) struct Opening<B> {
    pub(super) file: DbFile,
    backend: B,
    /// The journal's file once more. With a mirror there is none: what is written beside would be missing there.
    beside: Option<FileBackend>,
    /// The journal's file, to be read ahead of its replay, and not before: its heads, and the other files, would wait behind it.
    ahead: Option<File>,
}

impl Opening<FileBackend> {
    /// Makes the file when it is missing; opens it cold after an unclean end.
    pub(super) fn prepare(dir: &Path, name: &str, clean: bool) -> Result<Opening<FileBackend>, StorageError> {
        let path = dir.join(name);
        let file = DbFile::new(&path);
        let opened = open_file(dir, &path, clean).map_err(|error| file.io("open", &error))?;
        let backend = FileBackend::new(opened).map_err(file.redb("open"))?;
        let once_more = || fs::OpenOptions::new().read(true).write(true).open(&path);
        let beside = (name == JOURNAL_FILE).then(once_more).transpose();
        let beside = beside.map_err(|error| file.io("open", &error))?.map(FileBackend::new);
        let beside = beside.transpose().map_err(file.redb("open"))?;
        // A description of its own, so that no lock hangs on it.
        let ahead = File::open(&path).map_err(|error| file.io("open", &error))?;
        let ahead = if name == JOURNAL_FILE {
            Some(ahead)
        } else {
            read_ahead(ahead);
            None
        };
        Ok(Opening { file, backend, beside, ahead })
    }

    /// What is written to it is written to the mirror's file of this name too.
    pub(super) fn mirrored(self, mirror: &Mirror, name: &str) -> Opening<Pair<FileBackend>> {
        let backend = Pair::new(self.backend, mirror.tap(name));
        Opening { file: self.file, backend, beside: None, ahead: self.ahead }
    }
}

impl<B: StorageBackend> Opening<B> {
    /// On any storage; `name` is what errors show.
    pub(super) fn over(name: &str, backend: B) -> Opening<B> {
        Opening { file: DbFile::new(Path::new(name)), backend, beside: None, ahead: None }
    }

    /// Opens it as a database, after a walk over every page.
    pub(super) fn open(self, cache_bytes: usize) -> Result<Database, StorageError> {
        Builder::new()
            .set_cache_size(cache_bytes)
            .set_check_integrity_on_open(true)
            .create_with_backend(self.backend)
            .map_err(self.file.redb("open"))
    }

    /// As [`Opening::open`], and what is written reaches the disk in pieces.
    fn open_in_pieces(self, cache_bytes: usize) -> Result<(Database, Arc<Pieces>), StorageError> {
        let pieces = Pieces::new(self.backend);
        let backend = InPieces(Arc::clone(&pieces));
        let opening = Opening { file: self.file, backend, beside: None, ahead: None };
        Ok((opening.open(cache_bytes)?, pieces))
    }
}

/// After an unclean end, drops what the system remembers of the file first: after a failed sync, memory may hold
/// what the disk does not.
fn open_file(dir: &Path, path: &Path, clean: bool) -> io::Result<File> {
    if !path.exists() {
        make_file(dir, path)?;
    }
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    refuse_empty(&file)?;
    if !clean {
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(file)
}

/// An empty file is what damage left: redb would make a new database of it, and what it held would be lost without a
/// word.
pub(super) fn refuse_empty(file: &File) -> io::Result<()> {
    match file.metadata()?.len() {
        0 => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty, and was not when it was written")),
        _ => Ok(()),
    }
}

/// Lets the system read the file from front to back while it is opened: redb reads single pages in no order, which
/// takes many times as long on a cold file.
pub(super) fn read_ahead(file: File) {
    let ahead = move || {
        for step in 0..READ_AHEAD_BYTES_MAX / READ_AHEAD_STEP {
            let length = NonZeroU64::new(READ_AHEAD_STEP);
            // Past the end there is nothing to do, and a refusal costs only time.
            if fadvise(&file, step * READ_AHEAD_STEP, length, Advice::WillNeed).is_err() {
                return;
            }
            if file.metadata().map_or(true, |found| found.len() <= (step + 1) * READ_AHEAD_STEP) {
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("read-ahead".into()).spawn(ahead) {
        tracing::warn!(%error, "cannot read ahead");
    }
}

/// The salt of a new log.
pub(super) fn new_salt() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

/// Makes an empty journal or database under another name first: a crash half-way through leaves no file that is none.
fn make_file(dir: &Path, path: &Path) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new)?;
    let synced = file.try_clone()?;
    let error = |error| match redb::Error::from(error) {
        redb::Error::Io(error) => error,
        other => io::Error::other(other),
    };
    let backend = FileBackend::new(file).map_err(error)?;
    if path.ends_with(JOURNAL_FILE) {
        journal::make(&backend, SEGMENT_BYTES, new_salt()?)?;
    } else {
        let made = Builder::new().create_with_backend(backend);
        made.and_then(Database::close).map_err(error)?;
    }
    synced.sync_all()?;
    // Another process may have been faster: its file stays.
    match renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) | Err(Errno::EXIST) => sync_dir(dir),
        Err(error) => Err(error.into()),
    }
}

/// Makes the directory, and its name durable.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_dir(parent.unwrap_or(Path::new(".")))
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
