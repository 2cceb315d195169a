//! The way into a shard's thread: one channel, bounded by permits so that async senders can wait for room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::{Semaphore, oneshot};

use super::mailbox::Mailbox;
use super::request::BrokerError;
use crate::engine::{Hello, ImagePart, Input, NewOrder, Reply};
use crate::ids::{ConnId, FrameNo, ServerId, ShardNo};
use crate::storage::{CommitNo, EncodedFrame};

/// Room for messages of connections and calls waiting for one shard: one each, and one more per `BYTES_PER_ROOM`.
const ROOM: usize = 16_384;
/// Bytes that take one more room.
const BYTES_PER_ROOM: usize = 1_024;
/// The most that one message takes, so that the largest frame fits.
const ROOM_EACH_MAX: u32 = 2_048;
/// Room that the shard's thread keeps before it gives it back: a small part of all.
const ROOM_OWED_MAX: usize = ROOM / 16;
/// Room of messages that are taken together, but for the last of them: beside `ROOM`, the shard's thread has no more in hand.
const ROOM_TOGETHER_MAX: u32 = 64;

/// One message to a shard's thread.
pub(super) enum Envelope {
    /// An input without an answer, or whose answers go to connections.
    Plain(Input),
    /// An input of a waiting call; `request` is the one in its `ReplyTo`.
    Call { input: Input, request: u64, reply: oneshot::Sender<Reply> },
    /// A publish of a connection.
    Publish { conn: ConnId, request: u64, order: Box<NewOrder> },
    /// A publisher's connection, before its first publish.
    Attach { conn: ConnId, mailbox: Arc<Mailbox> },
    /// A publisher's connection is gone.
    Detach { conn: ConnId },
    /// A plugin's connection.
    Connect { conn: ConnId, server: ServerId, hello: Box<Hello>, mailbox: Arc<Mailbox> },
    /// This frame is durable.
    Durable { frame: FrameNo },
    /// A look at [`Outlet::must_commit`] is due.
    Commit,
    /// Everything sent before this has been handled once it answers.
    Barrier(Sender<()>),
    /// Start a checkpoint and send its parts there; the first answer is the frame at which totals are exact.
    Checkpoint { began: Sender<(ShardNo, FrameNo)>, parts: Sender<(ShardNo, ImagePart)> },
    /// Tell every connection to go and to come back later, spread over this many milliseconds.
    GoAway { spread_ms: u32 },
    /// The storage failed: nothing is acknowledged any more.
    Failed,
    /// Store what is open, answer, end.
    Stop,
}

/// An envelope and the room that it took.
type Posted = (Envelope, u32);

/// The sending side; cheap to clone.
#[derive(Clone)]
pub(super) struct Inbox {
    sender: Sender<Posted>,
    room: Arc<Semaphore>,
    commits: Arc<AtomicBool>,
}

/// The receiving side.
pub(super) struct Outlet {
    receiver: Receiver<Posted>,
    room: Arc<Semaphore>,
    commits: Arc<AtomicBool>,
    /// Room of messages that were taken, not given back yet: many at once cost one lock.
    owed: usize,
}

pub(super) fn inbox() -> (Inbox, Outlet) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let (room, commits) = (Arc::new(Semaphore::new(ROOM)), Arc::default());
    let inbox = Inbox { sender, room: Arc::clone(&room), commits: Arc::clone(&commits) };
    (inbox, Outlet { receiver, room, commits, owed: 0 })
}

impl Inbox {
    /// Sends for a connection or a call that brings `bytes`: waits while the shard has too much to do.
    pub(super) async fn send(&self, envelope: Envelope, bytes: usize) -> Result<(), BrokerError> {
        let room = 1 + u32::try_from(bytes / BYTES_PER_ROOM).unwrap_or(u32::MAX).min(ROOM_EACH_MAX);
        self.room.acquire_many(room).await.map_err(|_| BrokerError::Stopping)?.forget();
        self.sender.send((envelope, room)).map_err(|_| BrokerError::Stopping)
    }

    /// Sends from inside the broker, or a goodbye: few, and never to wait.
    pub(super) fn send_now(&self, envelope: Envelope) {
        // A shard that has ended needs no message any more.
        let _ = self.sender.send((envelope, 0));
    }

    /// Something waits for the journal, and this shard's thread is to commit it: before what waits in here.
    pub(super) fn commit(&self) {
        self.commits.store(true, Ordering::Release);
        self.send_now(Envelope::Commit);
    }

    /// Messages waiting now.
    pub(super) fn waiting(&self) -> usize {
        self.sender.len()
    }
}

impl Outlet {
    /// The next message, if one comes within `wait`.
    pub(super) fn next(&mut self, wait: Duration) -> Option<Envelope> {
        let posted = self.receiver.try_recv().ok().or_else(|| {
            self.give_back();
            if wait.is_zero() { None } else { self.receiver.recv_timeout(wait).ok() }
        });
        posted.map(|(envelope, room)| {
            self.owe(room);
            envelope
        })
    }

    /// Takes `most` messages at most of those that wait, fewer where they are large.
    pub(super) fn take_some(&mut self, most: usize, into: &mut VecDeque<Envelope>) {
        let mut together = 0;
        for _ in 0..most {
            let Ok((envelope, room)) = self.receiver.try_recv() else { return self.give_back() };
            self.owe(room);
            into.push_back(envelope);
            together += room;
            if together >= ROOM_TOGETHER_MAX {
                return;
            }
        }
    }

    fn owe(&mut self, room: u32) {
        self.owed += room as usize;
        if self.owed >= ROOM_OWED_MAX {
            self.give_back();
        }
    }

    /// Whether [`Inbox::commit`] was called since the last time.
    pub(super) fn must_commit(&self) -> bool {
        self.commits.load(Ordering::Relaxed) && self.commits.swap(false, Ordering::Acquire)
    }

    fn give_back(&mut self) {
        if self.owed > 0 {
            self.room.add_permits(std::mem::take(&mut self.owed));
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.room.close();
    }
}

/// A message to the journal.
pub(super) enum ToJournal {
    /// Store it with the next group commit.
    Append(EncodedFrame),
    /// Forget commits up to this one.
    Trim(CommitNo),
    /// Answer with the latest commit, once the shards have been told of it. The one that makes the commit is not told: it acts
    /// on it before it takes its next message, which comes to the same for who sends it one after this answer.
    Barrier(Sender<CommitNo>),
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn many_small_messages_are_taken_together_and_few_large_ones() {
        let (inbox, mut outlet) = inbox();
        let send = |count: usize, bytes| {
            for _ in 0..count {
                inbox.send(Envelope::Commit, bytes).now_or_never().expect("there is room").unwrap();
            }
        };
        let mut taken = VecDeque::new();
        let mut take = |most| {
            taken.clear();
            outlet.take_some(most, &mut taken);
            taken.len()
        };
        send(40, 0);
        assert_eq!([take(16), take(0), take(16), take(16), take(16)], [16, 0, 16, 8, 0]);
        assert_eq!(inbox.room.available_permits(), ROOM, "all room is given back once nothing waits");
        send(3, 1 << 20);
        send(2, 0);
        assert_eq!([take(16), take(16), take(16), take(16)], [1, 1, 1, 2]);
        assert_eq!(inbox.room.available_permits(), ROOM);
    }
}
