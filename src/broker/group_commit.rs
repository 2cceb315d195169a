//! Group commit: everything that waits goes into one durable commit, then the shards are told.
//!
//! There is no thread for it. Whoever brings something commits for all who have brought something by then, unless another
//! thread is at it: that one lets the next shard commit what has come meanwhile. A thread of its own would have to be woken for
//! each commit, and would have to wake the shard after it, and either takes a good part of what a sync takes.

use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use super::baton::Baton;
use super::inbox::{Envelope, ToJournal};
use super::lines::Lines;
use crate::ids::{FrameNo, ShardNo};
use crate::storage::{CommitNo, EncodedFrame, Journal, StorageError};

/// Bytes gathered for one commit before it is made.
const COMMIT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The journal, and what waits for it.
pub(super) struct SharedJournal<J> {
    baton: Baton,
    sender: Sender<ToJournal>,
    messages: Receiver<ToJournal>,
    commit: Mutex<Place<J>>,
}

struct Place<J> {
    /// `None` once it has ended. One that failed stays: room may be being made in its file, which must be nobody else's.
    commit: Option<GroupCommit<J>>,
    /// It failed: nobody is answered any more.
    failed: bool,
}

impl<J> Place<J> {
    fn open(&mut self) -> Option<&mut GroupCommit<J>> {
        self.commit.as_mut().filter(|_| !self.failed)
    }
}

/// What became of a [`SharedJournal::commit`].
pub(super) struct Committed {
    /// The latest frame of the caller's own shard that is durable now and was not before. That shard was not told.
    pub(super) own: Option<FrameNo>,
    /// Nothing waits any more. Otherwise the caller commits once more, or lets somebody else.
    pub(super) all: bool,
    /// It failed: this is the first error, and the last.
    pub(super) failed: Option<StorageError>,
}

impl<J: Journal> SharedJournal<J> {
    pub(super) fn new(commit: GroupCommit<J>) -> SharedJournal<J> {
        let (sender, messages) = unbounded();
        let commit = Mutex::new(Place { commit: Some(commit), failed: false });
        SharedJournal { baton: Baton::new(), sender, messages, commit }
    }

    /// Adds a message. True = nobody is at it: the caller has to [`SharedJournal::commit`] soon.
    #[must_use]
    pub(super) fn send(&self, message: ToJournal) -> bool {
        // This is its other end, too.
        let _ = self.sender.send(message);
        self.baton.bring()
    }

    /// Commits what waits; only for whoever was told to.
    pub(super) fn commit(&self, own: Option<ShardNo>, lines: &impl Lines) -> Committed {
        let brought = self.baton.brought();
        let (own, failed) = self.take(brought, own, lines);
        Committed { own, all: self.baton.done(brought), failed }
    }

    fn take(
        &self,
        most: usize,
        own: Option<ShardNo>,
        lines: &impl Lines,
    ) -> (Option<FrameNo>, Option<StorageError>) {
        let mut place = self.commit.lock();
        let messages = self.messages.try_iter().take(most);
        let taken = place.open().map_or(Ok(None), |commit| commit.commit(messages, own, lines));
        match taken {
            Ok(own) if place.open().is_some() => (own, None),
            taken => {
                place.failed = true;
                // Senders of barriers see their channel closed.
                self.messages.try_iter().for_each(drop);
                (None, taken.err())
            }
        }
    }

    /// Commits what still waits, and closes. Nobody sends any more, nor makes room.
    pub(super) fn end(&self, lines: &impl Lines) -> Option<StorageError> {
        let (_, failed) = self.take(usize::MAX, None, lines);
        self.commit.lock().commit = None;
        failed
    }

    /// Does what the journal has put off: for when nothing was committed for a while.
    pub(super) fn rest(&self) -> Result<(), StorageError> {
        let mut place = self.commit.lock();
        let rested = place.open().map_or(Ok(()), |commit| commit.journal.idle());
        place.failed |= rested.is_err();
        rested
    }

    /// Makes room in the journal until there is enough. Waits for the disk, beside the commits.
    pub(super) fn make_room(&self) {
        let claim = || self.commit.lock().open()?.journal.claim_room();
        while let Some(room) = claim() {
            let made = room.make();
            if let Some(commit) = &mut self.commit.lock().commit {
                commit.journal.bring_room(room);
            }
            if let Err(error) = made {
                // What is wrong with the disk the next commit says, if it is.
                return tracing::warn!(%error, "cannot make room in the journal ahead of time");
            }
        }
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

    /// Takes messages and commits what they bring; see [`Committed::own`].
    pub(super) fn commit(
        &mut self,
        messages: impl Iterator<Item = ToJournal>,
        own: Option<ShardNo>,
        lines: &impl Lines,
    ) -> Result<Option<FrameNo>, StorageError> {
        let mut durable = None;
        for message in messages {
            durable = self.take(message, own, lines)?.or(durable);
            if self.bytes >= COMMIT_BYTES_MAX {
                durable = self.make(own, lines)?.or(durable);
            }
        }
        Ok(self.make(own, lines)?.or(durable))
    }

    /// Takes a message; what had to be committed for it of the caller's own shard is the answer.
    fn take(
        &mut self,
        message: ToJournal,
        own: Option<ShardNo>,
        lines: &impl Lines,
    ) -> Result<Option<FrameNo>, StorageError> {
        let mut durable = None;
        match message {
            ToJournal::Append(frame) => {
                self.bytes += frame.bytes.len();
                self.frames.push(frame);
            }
            ToJournal::Trim(upto) => self.journal.trim(upto)?,
            ToJournal::Barrier(answer) => {
                durable = self.make(own, lines)?;
                let _ = answer.send(self.last);
            }
        }
        Ok(durable)
    }

    /// Makes one durable commit of what was gathered and tells the shards, but for the caller's own: its frame is the answer.
    fn make(&mut self, own: Option<ShardNo>, lines: &impl Lines) -> Result<Option<FrameNo>, StorageError> {
        if self.frames.is_empty() {
            return Ok(None);
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
        let own = own.and_then(|own| durable[usize::from(own.0)].take());
        for (shard, frame) in lines.shards().iter().zip(durable) {
            if let Some(frame) = frame {
                shard.send_now(Envelope::Durable { frame });
            }
        }
        if self.journal.wants_room() {
            lines.make_room();
        }
        Ok(own)
    }
}

#[cfg(test)]
#[path = "group_commit_tests.rs"]
mod tests;
