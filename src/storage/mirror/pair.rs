//! A storage backend that writes everything to a second file too, and returns from a sync when both have it. Never reads
//! the second file, and never lets its failure stop the first.
//!
//! What must stay true: a sync returns only when the mirror has all that the first file has, or when it is durably
//! marked as stale. A [`Courier`]'s thread writes the mirror: what is to be synced is handed over in one piece, so that
//! both disks work at the same time, and a device that hangs can be given up.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

use crate::limits::{MIRROR_BATCH_BYTES, MIRROR_BATCHES_MAX, MIRROR_WAIT_MS_MAX};

/// Not yet brought into step: nothing is written to the mirror.
const APART: u8 = 0;
/// Everything is written to both.
const IN_STEP: u8 = 1;
/// It failed, which is durably marked: nothing is written to it any more.
const STALE: u8 = 2;

/// Marks the mirror as stale; it is durable when this returns.
type MarkStale = Box<dyn FnMut(&io::Error) -> io::Result<()> + Send>;

/// What all files of one mirror share.
pub struct Link {
    state: AtomicU8,
    /// How long a commit waits for the mirror.
    wait_max: Duration,
    mark_stale: Mutex<MarkStale>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Link {
    /// Not in step yet. `mark_stale` is called at the first failure, and again until it succeeds once.
    pub fn new(mark_stale: impl FnMut(&io::Error) -> io::Result<()> + Send + 'static) -> Arc<Link> {
        Link::with_wait(Duration::from_millis(MIRROR_WAIT_MS_MAX), mark_stale)
    }

    fn with_wait(
        wait_max: Duration,
        mark_stale: impl FnMut(&io::Error) -> io::Result<()> + Send + 'static,
    ) -> Arc<Link> {
        Arc::new(Link { state: AtomicU8::new(APART), wait_max, mark_stale: Mutex::new(Box::new(mark_stale)) })
    }

    /// Everything is written to both sides.
    pub fn is_in_step(&self) -> bool {
        self.state.load(Ordering::Acquire) == IN_STEP
    }

    fn is_stale(&self) -> bool {
        self.state.load(Ordering::Acquire) == STALE
    }

    /// Both sides hold the same, and every file has its courier.
    pub fn set_in_step(&self) {
        self.state.store(IN_STEP, Ordering::Release);
    }

    /// They are no longer written together, because nobody has the files open.
    pub(super) fn set_apart(&self) {
        self.state.store(APART, Ordering::Release);
    }

    /// The mirror failed. When this returns without an error it is durably marked; other files wait for that too, since
    /// the state changes only then.
    ///
    /// # Errors
    /// It cannot be marked: nothing may be acknowledged.
    pub(super) fn fail(&self, file: &str, error: &io::Error) -> io::Result<()> {
        let mut mark_stale = self.mark_stale.lock();
        if self.is_stale() {
            return Ok(());
        }
        tracing::error!(file, %error, "the mirror failed: from now on there is one copy; mend it and restart");
        mark_stale(error)?;
        self.state.store(STALE, Ordering::Release);
        Ok(())
    }
}

/// Where the writes of one file go besides: nowhere until it has a courier.
#[derive(Debug)]
pub struct Tap {
    file: &'static str,
    link: Arc<Link>,
    courier: Mutex<Option<Courier>>,
}

impl Tap {
    /// For a file of this name.
    pub fn new(file: &'static str, link: &Arc<Link>) -> Arc<Tap> {
        Arc::new(Tap { file, link: Arc::clone(link), courier: Mutex::new(None) })
    }

    /// From now on everything is written to `mirror` too, which holds the same as the first file does.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn attach(&self, mirror: impl StorageBackend) -> io::Result<()> {
        *self.courier.lock() = Some(Courier::start(mirror, self.link.wait_max)?);
        Ok(())
    }

    fn push(&self, make: impl FnOnce() -> (Step, usize)) {
        if let Some(courier) = &mut *self.courier.lock() {
            let (step, bytes) = make();
            courier.push(step, bytes);
        }
    }

    /// Syncs both sides, side by side.
    fn sync(&self, primary: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut courier = self.courier.lock();
        if self.link.is_stale() {
            *courier = None;
        }
        let Some(open) = &mut *courier else {
            drop(courier);
            return primary();
        };
        open.begin_sync();
        let synced = primary();
        let mirrored = open.end_sync();
        synced?;
        if let Err(error) = mirrored {
            *courier = None;
            self.link.fail(self.file, &error)?;
        }
        Ok(())
    }

    /// Lets go of the mirror's file, if nobody who closes the first file has yet.
    pub(super) fn detach(&self) {
        if let Some(courier) = self.courier.lock().take() {
            courier.join();
        }
    }

    /// Writes what is left, lets go of the mirror's file.
    pub(super) fn close(&self) {
        let Some(mut courier) = self.courier.lock().take() else { return };
        if self.link.is_stale() {
            return;
        }
        courier.begin_sync();
        let closed = courier.end_sync().or_else(|error| self.link.fail(self.file, &error));
        match closed {
            Ok(()) if self.link.is_stale() => {}
            Ok(()) => courier.join(),
            Err(error) => tracing::error!(file = self.file, %error, "the mirror cannot be marked as stale"),
        }
    }
}

/// What is to be done to the mirror.
enum Step {
    Write { offset: u64, data: Box<[u8]> },
    SetLen(u64),
    Sync,
}

/// The way to the thread that writes one file of the mirror. A dropped one is given up; its thread ends by itself.
struct Courier {
    steps: Vec<Step>,
    bytes: usize,
    batches: Sender<Vec<Step>>,
    synced: Receiver<io::Result<()>>,
    thread: JoinHandle<()>,
    wait_max: Duration,
    /// Why nothing more is handed over.
    broken: Option<io::Error>,
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}

impl Courier {
    fn start(mirror: impl StorageBackend, wait_max: Duration) -> io::Result<Courier> {
        let (batches, taken) = bounded(MIRROR_BATCHES_MAX);
        let (done, synced) = bounded(1);
        let run = move || run(&mirror, &taken, &done);
        let thread = thread::Builder::new().name("mirror".into()).spawn(run)?;
        Ok(Courier { steps: Vec::new(), bytes: 0, batches, synced, thread, wait_max, broken: None })
    }

    fn push(&mut self, step: Step, bytes: usize) {
        if self.broken.is_some() {
            return;
        }
        self.steps.push(step);
        self.bytes += bytes;
        if self.bytes >= MIRROR_BATCH_BYTES {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        self.bytes = 0;
        match self.batches.send_timeout(std::mem::take(&mut self.steps), self.wait_max) {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(_)) => self.broken = Some(self.hangs()),
            Err(SendTimeoutError::Disconnected(_)) => self.broken = Some(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn begin_sync(&mut self) {
        self.push(Step::Sync, MIRROR_BATCH_BYTES);
    }

    fn end_sync(&mut self) -> io::Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        match self.synced.recv_timeout(self.wait_max) {
            Ok(synced) => synced,
            Err(RecvTimeoutError::Timeout) => Err(self.hangs()),
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn hangs(&self) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, format!("it did not answer within {:?}", self.wait_max))
    }

    fn join(self) {
        drop(self.batches);
        // It only fails when it panicked, which was reported there.
        let _ = self.thread.join();
    }
}

/// Does what it is told until there is nobody to tell it; after the first error nothing but saying so.
fn run(mirror: &impl StorageBackend, batches: &Receiver<Vec<Step>>, done: &Sender<io::Result<()>>) {
    let mut failed: Option<io::Error> = None;
    for step in batches.into_iter().flatten() {
        let is_sync = matches!(step, Step::Sync);
        if failed.is_none() {
            let applied = match step {
                Step::Write { offset, data } => mirror.write(offset, &data),
                Step::SetLen(len) => mirror.set_len(len),
                Step::Sync => mirror.sync_data(),
            };
            failed = applied.err();
        }
        if is_sync {
            let error = failed.as_ref().map(|error| io::Error::new(error.kind(), error.to_string()));
            // Whoever waited has given up.
            let _ = done.send(error.map_or(Ok(()), Err));
        }
    }
    if let Err(error) = mirror.close() {
        tracing::debug!(%error, "cannot close a file of the mirror");
    }
}

/// See the module.
#[derive(Debug)]
pub struct Pair<P> {
    primary: P,
    tap: Arc<Tap>,
}

impl<P: StorageBackend> Pair<P> {
    /// Over a first file; what is written to it goes through `tap` too.
    pub fn new(primary: P, tap: Arc<Tap>) -> Pair<P> {
        Pair { primary, tap }
    }
}

impl<P: StorageBackend> StorageBackend for Pair<P> {
    fn len(&self) -> Result<u64, io::Error> {
        self.primary.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.primary.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.primary.set_len(len)?;
        self.tap.push(|| (Step::SetLen(len), 0));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.tap.sync(|| self.primary.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.primary.write(offset, data)?;
        self.tap.push(|| (Step::Write { offset, data: data.into() }, data.len()));
        Ok(())
    }

    fn close(&self) -> Result<(), io::Error> {
        self.tap.close();
        self.primary.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.primary.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.primary.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.primary.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.primary.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.primary.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.primary.query_lock_range(start, end)
    }
}

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
