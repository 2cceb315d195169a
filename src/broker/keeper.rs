//! The thread in the background: checkpoints, so that the journal can be trimmed, and the end of retention.
//!
//! A checkpoint needs no pause: shards copy changed rows in small parts while they go on, and replay skips what a
//! row has already. Only commits that every shard had handled before the first row was copied are trimmed.
//!
//! Backups begin here because nothing is trimmed while this thread looks at the files; they are copied beside it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tokio::sync::oneshot;

use super::Inner;
use super::backups::{BackupAnswer, Backups};
use super::care::BackupError;
use super::inbox::{Envelope, ToJournal};
use super::lines::Lines;
use crate::engine::Input;
use crate::pace;
use crate::storage::{CommitNo, NextPart, StorageError};
use crate::time::{Millis, UnixMs};

/// Journal bytes after which a checkpoint is made before its time.
const JOURNAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How often the journal's size is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Without a commit for so long, the journal does what it has put off.
const IDLE_AFTER: Millis = Millis::seconds(1);
/// Parts on their way from the shards.
const PARTS_MAX: usize = 16;
/// For how long a checkpoint lets others go first, at most: what comes meanwhile makes the journal longer, and a stop waits.
const LEISURE_MAX: Millis = Millis(2_500);
/// Rows removed in one transaction at the end of their retention.
const EXPIRE_ROWS: usize = 5_000;
/// How often retention is looked at.
const EXPIRE_EVERY: Millis = Millis::seconds(60);

/// A message to the keeper.
pub(super) enum ToKeeper {
    /// Make a backup of this name.
    Backup { name: String, answer: oneshot::Sender<BackupAnswer> },
    /// Make a last checkpoint, then end.
    Stop,
}

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeeperSettings {
    pub(super) checkpoint_every: Millis,
    pub(super) ended_kept: Millis,
    pub(super) keys_kept: Millis,
    /// The journal held frames at the start: they are checkpointed at once, so that a broker that is killed again
    /// and again does not replay an ever longer journal.
    pub(super) journal_recovered: bool,
}

/// Runs until told to stop, or until the first error.
pub(super) fn run(
    settings: KeeperSettings,
    mut backups: Backups,
    messages: Receiver<ToKeeper>,
    inner: Arc<Inner>,
) {
    let mut keeper = Keeper::new(settings, inner.clock.now());
    if let Err(error) = serve(&mut keeper, &mut backups, &messages, &inner) {
        inner.fail(error);
    }
    backups.end();
}

/// Looks until there is nothing left to do.
fn serve(
    keeper: &mut Keeper,
    backups: &mut Backups,
    messages: &Receiver<ToKeeper>,
    inner: &Arc<Inner>,
) -> Result<(), StorageError> {
    let mut quiet = Quiet::new(inner.clock.now());
    let mut wait = Blocking(inner);
    loop {
        if quiet.is_due(inner.journal_stats.messages(), inner.clock.now()) {
            inner.journal.rest()?;
        }
        let stop = match messages.recv_timeout(LOOK_EVERY) {
            Err(RecvTimeoutError::Timeout) => false,
            // Whoever asked may have gone away; then nobody needs the answer.
            Ok(ToKeeper::Backup { answer, .. }) if backups.is_running() => {
                let _ = answer.send(Err(BackupError::Running));
                false
            }
            Ok(ToKeeper::Backup { name, answer }) => {
                // What the journal holds beyond it is all that a restored directory has to replay.
                wait.take_time(Millis(0));
                if checkpoint(inner, &mut wait)?.is_none() {
                    return Ok(());
                }
                backups.begin(&name, answer, inner);
                false
            }
            Ok(ToKeeper::Stop) | Err(RecvTimeoutError::Disconnected) => true,
        };
        if !keeper.look(inner.clock.now(), stop, inner, &mut wait)? {
            return Ok(());
        }
    }
}

/// Notices, once each time, that nothing came to the journal for a while.
struct Quiet {
    came: u64,
    since: UnixMs,
    noticed: bool,
}

impl Quiet {
    fn new(now: UnixMs) -> Quiet {
        Quiet { came: 0, since: now, noticed: false }
    }

    /// So much came up to now.
    fn is_due(&mut self, came: u64, now: UnixMs) -> bool {
        if came != self.came {
            *self = Quiet { came, ..Quiet::new(now) };
        }
        !self.noticed && {
            self.noticed = now - self.since >= IDLE_AFTER;
            self.noticed
        }
    }
}

/// How the keeper waits.
pub(super) trait Wait {
    /// For an answer of another thread. `None` = there will be none.
    fn receive<T>(&mut self, from: &Receiver<T>) -> Option<T>;
    /// For others to go first, in what it does from now on and for so long at most.
    fn take_time(&mut self, most: Millis);
}

/// Waits as a thread does.
struct Blocking<'a>(&'a Inner);

impl Wait for Blocking<'_> {
    fn receive<T>(&mut self, from: &Receiver<T>) -> Option<T> {
        if self.0.is_stopping() {
            self.take_time(Millis(0));
        }
        pace::breathe();
        let received = from.recv().ok();
        pace::has_waited();
        received
    }

    fn take_time(&mut self, most: Millis) {
        pace::take_time(Duration::from_millis(most.0));
    }
}

/// What the keeper knows between two looks.
pub(super) struct Keeper {
    settings: KeeperSettings,
    checkpointed: UnixMs,
    expired: UnixMs,
    bytes_then: u64,
    first: bool,
}

impl Keeper {
    pub(super) fn new(settings: KeeperSettings, now: UnixMs) -> Keeper {
        let first = settings.journal_recovered;
        Keeper { settings, checkpointed: now, expired: UnixMs(0), bytes_then: 0, first }
    }

    /// Does what is due; false when there is nothing left to do, ever.
    pub(super) fn look(
        &mut self,
        now: UnixMs,
        stop: bool,
        lines: &impl Lines,
        wait: &mut impl Wait,
    ) -> Result<bool, StorageError> {
        let bytes = lines.journal_stats().bytes.load(Ordering::Relaxed);
        let due = now - self.checkpointed >= self.settings.checkpoint_every && bytes > self.bytes_then;
        // The other half is for what is more than it can do like that.
        let leisure = LEISURE_MAX.min(Millis(self.settings.checkpoint_every.0 / 2));
        let early = std::mem::take(&mut self.first) || bytes - self.bytes_then >= JOURNAL_BYTES_MAX;
        if early || due || stop {
            self.bytes_then = bytes;
            self.checkpointed = now;
            wait.take_time(if early || stop { Millis(0) } else { leisure });
            if checkpoint(lines, wait)?.is_none() {
                return Ok(false);
            }
            lines.journal_stats().bytes_at_rest.store(bytes, Ordering::Relaxed);
        }
        if stop {
            return Ok(false);
        }
        if now - self.expired >= EXPIRE_EVERY {
            let before = |kept: Millis| UnixMs(now.0.saturating_sub(kept.0));
            let (ended, keys) = (before(self.settings.ended_kept), before(self.settings.keys_kept));
            wait.take_time(Millis(0));
            // Nothing is left to remove: look again later. Otherwise go on at the next look.
            if lines.rest().expire(ended, keys, EXPIRE_ROWS)? < EXPIRE_ROWS {
                self.expired = now;
                lines.expire_audit(now)?;
            }
        }
        Ok(true)
    }
}

/// Makes one checkpoint of all shards; `None` when the broker has failed meanwhile.
fn checkpoint(lines: &impl Lines, wait: &mut impl Wait) -> Result<Option<()>, StorageError> {
    let Some(upto) = handled_by_all(lines, wait) else { return Ok(None) };
    let shards = lines.shards().len();
    let (began, begins) = bounded(shards);
    let (sender, parts) = bounded(PARTS_MAX);
    for shard in lines.shards() {
        shard.send_now(Envelope::Checkpoint { began: began.clone(), parts: sender.clone() });
    }
    drop((began, sender));
    let mut totals = Vec::with_capacity(shards);
    for _ in 0..shards {
        let Some(total) = wait.receive(&begins) else { return Ok(None) };
        totals.push(total);
    }
    let mut complete = 0;
    let mut next = || {
        if complete == shards {
            return NextPart::Complete;
        }
        // The senders are gone before the last part: the shards have failed or ended.
        let Some((_, part)) = wait.receive(&parts) else { return NextPart::Abandoned };
        complete += usize::from(part.last);
        NextPart::Part(Box::new(part))
    };
    if !lines.rest().write_parts(&totals, &mut next)? {
        return Ok(None);
    }
    for shard in lines.shards() {
        shard.send_now(Envelope::Plain(Input::CheckpointDone));
    }
    to_journal(lines, ToJournal::Trim(upto));
    lines.journal_stats().checkpoints.fetch_add(1, Ordering::Relaxed);
    Ok(Some(()))
}

fn to_journal(lines: &impl Lines, message: ToJournal) {
    if lines.to_journal(message) {
        lines.commit(None);
    }
}

/// The latest commit of which every shard has handled its part, handovers to others included.
fn handled_by_all(lines: &impl Lines, wait: &mut impl Wait) -> Option<CommitNo> {
    let (sender, answer) = bounded(1);
    to_journal(lines, ToJournal::Barrier(sender));
    let upto = wait.receive(&answer)?;
    let (sender, done): (Sender<()>, _) = bounded(lines.shards().len());
    for shard in lines.shards() {
        shard.send_now(Envelope::Barrier(sender.clone()));
    }
    drop(sender);
    let mut count = 0;
    while wait.receive(&done).is_some() {
        count += 1;
    }
    (count == lines.shards().len()).then_some(upto)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_is_noticed_once() {
        let mut quiet = Quiet::new(UnixMs(0));
        let looks = [
            (0, 999),
            (0, 1000),
            (0, 5000),
            (1, 5250),
            (1, 6000),
            (2, 6250),
            (2, 7249),
            (2, 7250),
            (2, 9000),
        ];
        let due = looks.map(|(came, now)| quiet.is_due(came, UnixMs(now)));
        assert_eq!(due, [false, true, false, false, false, false, false, true, false]);
    }
}
