//! The thread in the background: checkpoints, so that the journal can be trimmed, and the end of retention.
//!
//! A checkpoint needs no pause: shards copy changed rows in small parts while they go on, and replay skips what a
//! row has already. Only commits that every shard had handled before the first row was copied are trimmed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::Inner;
use super::inbox::{Envelope, ToJournal};
use crate::engine::Input;
use crate::storage::{CommitNo, NextPart, StorageError};
use crate::time::{Millis, UnixMs};

/// Journal bytes after which a checkpoint is made before its time.
const JOURNAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How often the journal's size is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Parts on their way from the shards.
const PARTS_MAX: usize = 16;
/// Rows removed in one transaction at the end of their retention.
const EXPIRE_ROWS: usize = 5_000;
/// How often retention is looked at.
const EXPIRE_EVERY: Millis = Millis::seconds(60);

/// A message to the keeper.
pub(super) enum ToKeeper {
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
pub(super) fn run(settings: KeeperSettings, messages: Receiver<ToKeeper>, inner: Arc<Inner>) {
    if let Err(error) = serve(settings, &messages, &inner) {
        inner.fail(error);
    }
}

fn serve(settings: KeeperSettings, messages: &Receiver<ToKeeper>, inner: &Inner) -> Result<(), StorageError> {
    let mut checkpointed = inner.clock.now();
    let mut expired = UnixMs(0);
    let mut bytes_then = 0;
    let mut first = settings.journal_recovered;
    loop {
        let stop = !matches!(messages.recv_timeout(LOOK_EVERY), Err(RecvTimeoutError::Timeout));
        let now = inner.clock.now();
        let bytes = inner.journal_stats.bytes.load(Ordering::Relaxed);
        let due = now - checkpointed >= settings.checkpoint_every && bytes > bytes_then;
        if std::mem::take(&mut first) || due || stop || bytes - bytes_then >= JOURNAL_BYTES_MAX {
            bytes_then = bytes;
            checkpointed = now;
            if checkpoint(inner)?.is_none() {
                return Ok(());
            }
        }
        if stop {
            return Ok(());
        }
        if now - expired >= EXPIRE_EVERY {
            let before = |kept: Millis| UnixMs(now.0.saturating_sub(kept.0));
            let gone =
                inner.rest.expire(before(settings.ended_kept), before(settings.keys_kept), EXPIRE_ROWS)?;
            // Nothing is left to remove: look again later. Otherwise go on at the next look.
            if gone < EXPIRE_ROWS {
                expired = now;
                inner.registry.expire_audit(now)?;
            }
        }
    }
}

/// Makes one checkpoint of all shards; `None` when the broker has failed meanwhile.
fn checkpoint(inner: &Inner) -> Result<Option<()>, StorageError> {
    let Some(upto) = handled_by_all(inner) else { return Ok(None) };
    let shards = inner.shards.len();
    let (began, begins) = bounded(shards);
    let (sender, parts) = bounded(PARTS_MAX);
    for shard in &inner.shards {
        shard.send_now(Envelope::Checkpoint { began: began.clone(), parts: sender.clone() });
    }
    drop((began, sender));
    let totals: Vec<_> = begins.iter().take(shards).collect();
    if totals.len() < shards {
        return Ok(None);
    }
    let mut complete = 0;
    let mut next = || {
        if complete == shards {
            return NextPart::Complete;
        }
        // The senders are gone before the last part: the shards have failed or ended.
        let Ok((_, part)) = parts.recv() else { return NextPart::Abandoned };
        complete += usize::from(part.last);
        NextPart::Part(Box::new(part))
    };
    if !inner.rest.write_parts(&totals, &mut next)? {
        return Ok(None);
    }
    for shard in &inner.shards {
        shard.send_now(Envelope::Plain(Input::CheckpointDone));
    }
    let _ = inner.journal.send(ToJournal::Trim(upto));
    inner.journal_stats.checkpoints.fetch_add(1, Ordering::Relaxed);
    Ok(Some(()))
}

/// The latest commit of which every shard has handled its part, handovers to others included.
fn handled_by_all(inner: &Inner) -> Option<CommitNo> {
    let (sender, answer) = bounded(1);
    let _ = inner.journal.send(ToJournal::Barrier(sender));
    let upto = answer.recv().ok()?;
    let (sender, done): (Sender<()>, _) = bounded(inner.shards.len());
    for shard in &inner.shards {
        shard.send_now(Envelope::Barrier(sender.clone()));
    }
    drop(sender);
    (done.iter().count() == inner.shards.len()).then_some(upto)
}
