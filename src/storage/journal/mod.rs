//! The journal in `journal.log`: a file of segments that is synced by overwriting. Never interprets a change.
//!
//! A group commit is one record, or a part in each of several segments, and one sync. Segments are forgotten whole, once a
//! durable record says that no commit in them is needed, and used again. After the first error it refuses everything: what
//! memory holds may no longer be what is on disk.
//!
//! ```text
//! group commit ─▶ LogJournal ─▶ writer ─▶ file ─▶ StorageBackend      layout: the bytes
//!                     │ start: scan ─▶ walk ─▶ recovery             copy, old: new logs, format 1
//!                     ├ room: segments to come
//!                     └ snapshot ─▶ backups, checks
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::clean::CleanMark;
use super::contract::{CommitNo, EncodedFrame, Journal};
use super::error::{DbFile, StorageError};
use super::frame::FrameView;
use super::record::{ChainBase, Flaw, JournalMeta};
use snapshot::Shape;
use writer::Writer;

mod copy;
mod file;
mod layout;
mod old;
mod room;
mod scan;
mod snapshot;
mod walk;
mod writer;

pub(super) use copy::write_copy;
pub(super) use file::{LogFile, make};
pub(super) use old::{OLD_JOURNAL_FILE, OldJournal, for_each_frame, upgrade};
pub use room::Room;
pub(super) use scan::{Chain, Scanned, scan};
pub(super) use snapshot::{LogSnapshot, Shared};

/// Bytes of a segment: making one takes milliseconds, and what a directory without work takes is a few.
pub(super) const SEGMENT_BYTES: u32 = 1024 * 1024;

/// What errors call the row that says where the journal stands.
pub(super) const JOURNAL_KEY: &str = "journal";

/// [`Journal`] in a file of segments.
#[derive(Debug)]
pub struct LogJournal {
    shared: Arc<Shared>,
    writer: Writer,
    meta: JournalMeta,
    last: CommitNo,
    /// The number of the segment that the first one of this run follows.
    previous: u64,
    trim_upto: CommitNo,
    /// The ends of chains after each commit that is not forgotten.
    bases: VecDeque<(CommitNo, ChainBase)>,
    /// The mark was written after the last sync.
    mark_waits: bool,
    failed: Option<StorageError>,
    mark: Arc<CleanMark>,
}

/// What one step puts into the log.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    /// The first segment of a run.
    Run,
    /// A commit.
    Commit(CommitNo, &'a [EncodedFrame]),
    /// Only what is forgotten.
    Trim,
    /// The next segment, so that the one before it can be forgotten.
    Move,
}

impl LogJournal {
    /// Takes over a log and finds the segments that count. [`LogJournal::go_on`] comes next, with what a walk finds in them, and
    /// then [`LogJournal::set_boot`]: nothing is written before.
    pub(super) fn open(log: LogFile, mark: Arc<CleanMark>) -> Result<(LogJournal, Chain), StorageError> {
        // What a process that was killed wrote may be in memory alone: a segment that it says is free must not be used
        // before that is on the disk.
        log.sync()?;
        let chain = Chain::find(&log)?;
        let writer = Writer::new(log.clone(), 0, 0, std::iter::empty());
        let shared = Shared { log, shape: Mutex::default(), pin: Arc::new(()) };
        let journal = LogJournal {
            shared: Arc::new(shared),
            writer,
            trim_upto: CommitNo(0),
            meta: JournalMeta::default(),
            last: CommitNo(0),
            previous: 0,
            bases: VecDeque::new(),
            mark_waits: false,
            failed: None,
            mark,
        };
        Ok((journal, chain))
    }

    /// Goes on from what was found in the log.
    pub(super) fn go_on(&mut self, found: Scanned) {
        let taken = found.segments.iter().map(|live| live.slot);
        self.writer = Writer::new(self.log().clone(), found.slots, found.newest, taken);
        self.previous = found.segments.back().map_or(0, |live| live.no);
        self.trim_upto = CommitNo(found.meta.trimmed);
        (self.meta, self.last, self.bases) = (found.meta.clone(), found.last, found.bases);
        *self.shared.shape.lock() = Shape { segments: found.segments, meta: found.meta, last: found.last };
    }

    /// The file.
    pub(super) fn log(&self) -> &LogFile {
        &self.shared.log
    }

    /// The name of the file, for the errors about it.
    pub(super) fn file(&self) -> &DbFile {
        &self.shared.log.file
    }

    /// The log, for copies of it. Does not keep it open.
    pub(super) fn source(&self) -> Weak<Shared> {
        Arc::downgrade(&self.shared)
    }

    /// Writes down the number of this run, and where the last one ended, in a segment of its own: durable before anything
    /// is appended.
    pub(super) fn set_boot(&mut self, boot: u32) -> Result<(), StorageError> {
        self.step(Step::Run, JournalMeta { boot, ..self.meta.clone() })
    }

    /// Where the journal will stand once all is forgotten that may be.
    fn trimmed_meta(&self) -> JournalMeta {
        let mut meta = self.meta.clone();
        if meta.trimmed < self.trim_upto.0 {
            let forgotten = self.bases.iter().take_while(|(no, _)| *no <= self.trim_upto);
            forgotten.for_each(|(_, base)| meta.advance(*base));
            meta.trimmed = self.trim_upto.0;
        }
        meta
    }

    /// Makes one step durable unless an earlier one failed; a failure is final.
    fn step(&mut self, step: Step<'_>, meta: JournalMeta) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let done = self.write(step, meta);
        self.note(done)
    }

    /// The first error is the last thing that happens.
    fn note<T>(&mut self, done: Result<T, StorageError>) -> Result<T, StorageError> {
        done.inspect_err(|error| {
            self.mark.spoil();
            self.failed = Some(error.clone());
        })
    }

    fn write(&mut self, step: Step<'_>, meta: JournalMeta) -> Result<(), StorageError> {
        let moved = meta != self.meta;
        if moved {
            self.writer.set_meta(&meta);
        }
        match step {
            Step::Run => self.writer.begin_run(self.last, self.previous)?,
            Step::Move => self.writer.begin_next(self.last)?,
            Step::Commit(..) | Step::Trim if moved => self.writer.put_meta(self.last)?,
            Step::Commit(..) | Step::Trim => {}
        }
        let last = match step {
            Step::Commit(no, frames) => {
                self.writer.put_commit(no, frames.iter().map(|frame| &frame.bytes[..]))?;
                no
            }
            _ => self.last,
        };
        let written = self.writer.make_durable(last)?;
        self.mark_waits = true;
        (self.last, self.meta) = (last, meta);
        let forgotten = self.bases.partition_point(|(no, _)| no.0 <= self.meta.trimmed);
        self.bases.drain(..forgotten);
        self.previous = written.segments.last().map_or(self.previous, |live| live.no);
        let shape = &mut *self.shared.shape.lock();
        if written.continued {
            shape.segments.pop_back();
        }
        shape.segments.extend(written.segments);
        shape.last = last;
        if moved {
            shape.meta = self.meta.clone();
        }
        free_forgotten(shape, &self.shared.pin, &mut self.writer);
        Ok(())
    }

    fn is_trimmed(&self) -> bool {
        self.meta.trimmed >= self.trim_upto.0
    }

    /// Forgets what may be, and gives back what the file does not need.
    fn tidy(&mut self) -> Result<(), StorageError> {
        if !self.is_trimmed() {
            self.step(Step::Trim, self.trimmed_meta())?;
        }
        let live = {
            let shape = &mut *self.shared.shape.lock();
            free_forgotten(shape, &self.shared.pin, &mut self.writer);
            shape.segments.len()
        };
        if live == 1 && self.last.0 <= self.meta.trimmed && self.writer.stands_far(live) {
            self.step(Step::Move, self.meta.clone())?;
        }
        let cut = self.writer.cut(self.last);
        if self.note(cut)? {
            self.mark_waits = false;
        }
        if self.mark_waits {
            let synced = self.shared.log.sync();
            self.note(synced)?;
            self.mark_waits = false;
        }
        Ok(())
    }
}

/// Segments of which a durable record says that no commit is needed may be used again, unless somebody reads them.
fn free_forgotten(shape: &mut Shape, pin: &Arc<()>, writer: &mut Writer) {
    // Those who begin to read take the pin under the lock on the shape.
    if Arc::strong_count(pin) > 1 {
        return;
    }
    while shape.segments.len() > 1 && shape.segments[0].top <= shape.meta.trimmed {
        writer.free(shape.segments.pop_front().map(|live| live.slot).into_iter());
    }
}

impl Journal for LogJournal {
    fn append(&mut self, frames: &[EncodedFrame]) -> Result<CommitNo, StorageError> {
        let no = CommitNo(self.last.0 + 1);
        let flawed = |flaw| self.shared.log.file.damaged("commits", no.0, flaw);
        let mut bases = Vec::with_capacity(frames.len());
        for frame in frames {
            bases.push((no, FrameView::split(&frame.bytes).map_err(flawed)?.0.base()));
        }
        self.step(Step::Commit(no, frames), self.trimmed_meta())?;
        self.bases.extend(bases);
        Ok(no)
    }

    fn trim(&mut self, upto: CommitNo) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.trim_upto = self.trim_upto.max(upto.min(self.last));
        Ok(())
    }

    fn idle(&mut self) -> Result<(), StorageError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.tidy(),
        }
    }

    fn wants_room(&self) -> bool {
        self.failed.is_none() && self.writer.wants_room()
    }

    fn claim_room(&mut self) -> Option<Room> {
        if self.failed.is_some() { None } else { self.writer.claim() }
    }

    fn bring_room(&mut self, room: Room) {
        self.writer.bring_back(room);
    }
}

impl Drop for LogJournal {
    /// Forgets what may be, so that the next start reads nothing twice, and closes.
    fn drop(&mut self) {
        // A log of which no run was begun is left as it was found.
        if self.failed.is_none()
            && self.writer.has_begun()
            && let Err(error) = self.tidy()
        {
            tracing::warn!(%error, "cannot trim the journal");
        }
        let log = &self.shared.log;
        self.mark.close(Some(|| log.close()));
    }
}

/// Calls `each` with every frame of a commit; hashes are not checked.
pub(super) fn for_each_frame_of<'a>(
    mut frames: &'a [u8],
    mut each: impl FnMut(FrameView<'a>) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    while !frames.is_empty() {
        let (frame, after) = FrameView::split(frames)?;
        each(frame)?;
        frames = after;
    }
    Ok(())
}

#[cfg(test)]
#[path = "case_tests.rs"]
mod case_tests;
#[cfg(test)]
#[path = "log_tests.rs"]
mod log_tests;
#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
