//! The thread of group commit: everything that waits goes into one durable commit, then the shards are told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Inner;
use super::inbox::{Envelope, ToJournal};
use super::lines::Lines;
use crate::ids::FrameNo;
use crate::storage::{CommitNo, EncodedFrame, Journal, StorageError};

/// Bytes gathered for one commit before it is made.
const COMMIT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Without a message for so long, the journal does what it has put off.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Runs until told to stop, or until the first error: then nothing is acknowledged any more.
pub(super) fn run(mut commit: GroupCommit<impl Journal>, messages: Receiver<ToJournal>, inner: Arc<Inner>) {
    if let Err(error) = serve(&mut commit, &messages, &inner) {
        inner.fail(error);
        // Answer nobody; senders of barriers see their channel closed.
        for message in messages {
            if matches!(message, ToJournal::Stop) {
                return;
            }
        }
    }
}

fn serve(
    commit: &mut GroupCommit<impl Journal>,
    messages: &Receiver<ToJournal>,
    lines: &impl Lines,
) -> Result<(), StorageError> {
    let mut rested = false;
    loop {
        let first = if rested {
            messages.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            messages.recv_timeout(IDLE_AFTER)
        };
        let mut next = match first {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => {
                commit.journal.idle()?;
                rested = true;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        rested = false;
        while let Some(message) = next.take() {
            if !commit.take(message, lines)? {
                return Ok(());
            }
            if !commit.is_full() {
                next = messages.try_recv().ok();
            }
        }
        commit.make(lines)?;
    }
}

/// The commit that is being gathered.
pub(super) struct GroupCommit<J> {
    journal: J,
    frames: Vec<EncodedFrame>,
    bytes: usize,
    last: CommitNo,
}

impl<J: Journal> GroupCommit<J> {
    /// `last`: the latest commit in the journal.
    pub(super) fn new(journal: J, last: CommitNo) -> GroupCommit<J> {
        GroupCommit { journal, frames: Vec::new(), bytes: 0, last }
    }

    /// So much was gathered that it is time to make it.
    fn is_full(&self) -> bool {
        self.bytes >= COMMIT_BYTES_MAX
    }

    /// Takes a message; false when it was the last one.
    pub(super) fn take(&mut self, message: ToJournal, lines: &impl Lines) -> Result<bool, StorageError> {
        match message {
            ToJournal::Append(frame) => {
                self.bytes += frame.bytes.len();
                self.frames.push(frame);
            }
            ToJournal::Trim(upto) => self.journal.trim(upto)?,
            ToJournal::Barrier(answer) => {
                self.make(lines)?;
                let _ = answer.send(self.last);
            }
            ToJournal::Stop => {
                self.make(lines)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes one durable commit of what was gathered and tells the shards.
    pub(super) fn make(&mut self, lines: &impl Lines) -> Result<(), StorageError> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let begun = lines.nanos();
        self.last = self.journal.append(&self.frames)?;
        let (stats, bytes) = (lines.journal_stats(), std::mem::take(&mut self.bytes));
        stats.commits.fetch_add(1, Ordering::Relaxed);
        stats.nanos.fetch_add(lines.nanos() - begun, Ordering::Relaxed);
        stats.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut durable: Vec<Option<FrameNo>> = vec![None; lines.shards().len()];
        for frame in self.frames.drain(..) {
            durable[usize::from(frame.shard.0)] = Some(frame.no);
        }
        for (shard, frame) in lines.shards().iter().zip(durable) {
            if let Some(frame) = frame {
                shard.send_now(Envelope::Durable { frame });
            }
        }
        Ok(())
    }
}
