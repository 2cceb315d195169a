//! The core of a broker without its threads: the same steps, made one at a time by whoever owns it, at a time that it
//! says. For simulations, which have to do the same thing again; never for a broker that serves anybody.
//!
//! What is not here: the registry (the owner says which servers there are), quotas, login and sockets.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use parking_lot::Mutex;
use redb::StorageBackend;
use tokio::sync::oneshot;

use super::group_commit::GroupCommit;
use super::inbox::{Envelope, Inbox, ToJournal, inbox};
use super::keeper::{Keeper, Wait};
use super::lines::Lines;
use super::mailbox::{Mailbox, ToPeer};
use super::replay::{recover, shard_threads};
use super::request::{BrokerError, Published};
use super::shard_thread::{CALLS, ShardThread};
use super::start::{Settings, keeper_settings};
use super::stats::JournalStats;
use super::texts_thread::{self, Wanted};
use crate::engine::{Counters, Event, Hello, Input, NewOrder, Reply, ReplyTo};
use crate::ids::{ConnId, FrameNo, OrderId, ServerId, ShardNo, StoreId};
use crate::storage::{
    LogJournal, OpenOptions, RecoveryReport, RedbRest, Rest, StorageError, open_with_backends,
};
use crate::time::{Millis, UnixMs};

/// Bytes of pages that redb keeps of the store: a simulation's files are small, and there are many.
const CACHE_BYTES: usize = 1024 * 1024;
/// Bytes of a segment of the journal, so that it goes through many.
const SEGMENT_BYTES: u32 = 16 * 1024;

/// See the module.
pub struct Stepped {
    lines: Arc<SteppedLines>,
    /// `None` once it has ended.
    shards: Vec<Option<ShardThread<Arc<SteppedLines>>>>,
    /// `None` once it has ended or failed.
    commit: Option<GroupCommit<LogJournal>>,
    messages: Receiver<ToJournal>,
    keeper: Option<Keeper>,
    report: RecoveryReport,
    next_number: u64,
}

/// Where the lines of the stepped threads end.
struct SteppedLines {
    shards: Vec<Inbox>,
    journal: Sender<ToJournal>,
    journal_stats: JournalStats,
    rest: RedbRest,
    events: Mutex<Vec<Event>>,
    failure: Mutex<Option<StorageError>>,
}

impl SteppedLines {
    /// As `Inner::fail`: the shards learn of it, and the first error is the one that is told.
    fn fail(&self, error: StorageError) {
        self.shards.iter().for_each(|shard| shard.send_now(Envelope::Failed));
        self.failure.lock().get_or_insert(error);
    }
}

impl Lines for Arc<SteppedLines> {
    fn shards(&self) -> &[Inbox] {
        &self.shards
    }

    /// Whoever owns it steps the journal, too.
    fn to_journal(&self, message: ToJournal) -> bool {
        // The other end goes away at the end only.
        let _ = self.journal.send(message);
        false
    }

    fn commit(&self, _: Option<ShardNo>) -> Option<FrameNo> {
        None
    }

    fn journal_stats(&self) -> &JournalStats {
        &self.journal_stats
    }

    fn rest(&self) -> &dyn Rest {
        &self.rest
    }

    fn nanos(&self) -> u64 {
        0
    }

    fn is_followed(&self) -> bool {
        true
    }

    fn publish(&self, mut events: Vec<Event>) {
        self.events.lock().append(&mut events);
    }

    fn find_order(&self, order: OrderId, mailbox: Arc<Mailbox>, request: u64) {
        let result = match self.rest.order(order) {
            Ok(Some(row)) => Ok(Published { order, replayed: true, commands: row.commands }),
            Ok(None) => Err(BrokerError::NotFound),
            Err(error) => {
                self.fail(error);
                Err(BrokerError::Stopping)
            }
        };
        mailbox.push(ToPeer::Published { request, result });
    }

    fn read_texts(&self, wanted: Wanted) {
        match texts_thread::read(&self.rest, &wanted) {
            Ok(answer) => self.shards[usize::from(wanted.shard.0)].send_now(answer),
            Err(error) => self.fail(error),
        }
    }

    // A test drives one step after the other, so there is nobody to make it beside them.
    fn make_room(&self) {}

    fn expire_audit(&self, _: UnixMs) -> Result<(), StorageError> {
        Ok(())
    }
}

impl Stepped {
    /// Opens journal and store at rest and recovers what is in them, as a start does.
    ///
    /// # Errors
    /// Whatever keeps the storage from being opened or read whole.
    pub fn open(
        journal: impl StorageBackend,
        store: impl StorageBackend,
        settings: &Settings,
        servers: impl IntoIterator<Item = (ServerId, StoreId)>,
        now: UnixMs,
    ) -> Result<Stepped, StorageError> {
        let options = OpenOptions { journal_segment_bytes: SEGMENT_BYTES, store_cache_bytes: CACHE_BYTES };
        let (rest, recovery) = open_with_backends(journal, store, options)?;
        let (journal, shards, report) = recover(settings, recovery, &rest, servers, now)?;
        let (senders, outlets): (Vec<_>, Vec<_>) = shards.iter().map(|_| inbox()).unzip();
        let (to_journal, messages) = unbounded();
        let lines = Arc::new(SteppedLines {
            shards: senders,
            journal: to_journal,
            journal_stats: JournalStats::default(),
            rest,
            events: Mutex::default(),
            failure: Mutex::default(),
        });
        let shards = shard_threads(shards, outlets, &report, now, &lines);
        let keeper = Keeper::new(keeper_settings(settings, &report), now);
        let commit = GroupCommit::new(journal, report.last_commit);
        Ok(Stepped {
            lines,
            shards: shards.into_iter().map(Some).collect(),
            commit: Some(commit),
            messages,
            keeper: Some(keeper),
            report,
            next_number: 1,
        })
    }

    /// What was found on disk.
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("there are at most SHARDS_MAX shards")
    }

    /// Why nothing is acknowledged any more.
    pub fn failure(&self) -> Option<StorageError> {
        self.lines.failure.lock().clone()
    }

    /// Events since the last call.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.lines.events.lock())
    }

    /// The store at rest, for look-ups.
    pub fn rest(&self) -> &dyn Rest {
        &self.lines.rest
    }

    /// What a shard counts; nothing once it has ended.
    pub fn counters(&self, shard: ShardNo) -> Counters {
        self.shards[usize::from(shard.0)].as_ref().map_or_else(Counters::default, ShardThread::counters)
    }
}

/// What connections and calls do.
impl Stepped {
    fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn send(&self, shard: ShardNo, envelope: Envelope) {
        self.lines.shards[usize::from(shard.0)].send_now(envelope);
    }

    /// Opens a plugin session, as `Handle::connect_plugin`.
    pub fn connect_plugin(&mut self, server: ServerId, hello: Hello, mailbox: Arc<Mailbox>) -> ConnId {
        let conn = ConnId(self.next_number());
        let hello = Box::new(hello);
        self.send(server.shard(self.shards()), Envelope::Connect { conn, server, hello, mailbox });
        conn
    }

    /// Tells the shard of a server something that has no answer, or one in a mailbox.
    pub fn tell(&self, server: ServerId, input: Input) {
        self.send(server.shard(self.shards()), Envelope::Plain(input));
    }

    /// Opens a publisher's connection of a store.
    pub fn connect_publisher(&mut self, store: StoreId, mailbox: Arc<Mailbox>) -> ConnId {
        let conn = ConnId(self.next_number());
        self.send(store.shard(self.shards()), Envelope::Attach { conn, mailbox });
        conn
    }

    /// Publishes on a publisher's connection.
    pub fn publish(&self, conn: ConnId, request: u64, order: NewOrder) {
        let desk = order.store.shard(self.shards());
        self.send(desk, Envelope::Publish { conn, request, order: Box::new(order) });
    }

    /// A publisher's connection is gone.
    pub fn disconnect_publisher(&self, store: StoreId, conn: ConnId) {
        self.send(store.shard(self.shards()), Envelope::Detach { conn });
    }

    /// Asks a shard; the answer comes with a later step, or the other end goes away.
    pub fn call(&mut self, shard: ShardNo, input: impl FnOnce(ReplyTo) -> Input) -> oneshot::Receiver<Reply> {
        let request = self.next_number();
        let input = input(ReplyTo { port: CALLS, request });
        let (reply, answer) = oneshot::channel();
        self.send(shard, Envelope::Call { input, request, reply });
        answer
    }

    /// Tells every connection to go, as an orderly stop does first.
    pub fn go_away(&self, spread_ms: u32) {
        self.lines.shards.iter().for_each(|shard| shard.send_now(Envelope::GoAway { spread_ms }));
    }
}

/// Steps.
impl Stepped {
    /// Messages that wait for a shard.
    pub fn waiting(&self, shard: ShardNo) -> usize {
        self.lines.shards[usize::from(shard.0)].waiting()
    }

    /// How long a shard would sleep if no message came.
    pub fn sleep(&self, shard: ShardNo, now: UnixMs) -> Duration {
        self.shards[usize::from(shard.0)].as_ref().map_or(Duration::MAX, |thread| thread.sleep(now))
    }

    /// One turn of a shard's thread, with `most` messages.
    pub fn step_shard(&mut self, shard: ShardNo, now: UnixMs, most: usize) {
        let place = &mut self.shards[usize::from(shard.0)];
        let Some(thread) = place else { return };
        let first = if most == 0 { None } else { thread.next_message() };
        if thread.turn(now, first, most) {
            thread.finish_turn(now);
        } else {
            *place = None;
        }
    }

    /// Messages that wait for the journal.
    pub fn journal_waiting(&self) -> usize {
        self.messages.len()
    }

    /// One group commit, by the thread of a shard or by the keeper: takes `most` messages and commits what they bring.
    pub fn step_journal(&mut self, by: Option<ShardNo>, now: UnixMs, most: usize) {
        let Some(commit) = &mut self.commit else {
            // Nobody is answered any more.
            while self.messages.try_recv().is_ok() {}
            return;
        };
        let own = by.filter(|no| self.shards[usize::from(no.0)].is_some());
        match commit.commit(self.messages.try_iter().take(most), own, &self.lines) {
            Ok(frame) => {
                let thread = own.and_then(|no| self.shards[usize::from(no.0)].as_mut());
                if let Some((thread, frame)) = thread.zip(frame) {
                    thread.on_own_durable(now, frame);
                    thread.finish_turn(now);
                }
            }
            Err(error) => {
                self.lines.fail(error);
                self.commit = None;
            }
        }
    }

    /// Takes the keeper out for its look, during which the rest is stepped; `None` while it is out, or has ended.
    pub fn take_keeper(&mut self) -> Option<SteppedKeeper> {
        let keeper = self.keeper.take()?;
        Some(SteppedKeeper { keeper, lines: Arc::clone(&self.lines) })
    }

    /// Gives it back after a look that was not the last.
    pub fn put_keeper(&mut self, keeper: SteppedKeeper) {
        self.keeper = Some(keeper.keeper);
    }

    /// Ends in order, after the keeper's last look: the shards, then the journal.
    pub fn end(mut self, now: UnixMs) {
        for no in (0..self.shards()).map(ShardNo) {
            self.send(no, Envelope::Stop);
        }
        for no in (0..self.shards()).map(ShardNo) {
            while self.shards[usize::from(no.0)].is_some() {
                self.step_shard(no, now, usize::MAX);
            }
        }
        self.step_journal(None, now, usize::MAX);
        self.commit = None;
    }
}

/// The keeper, while it looks.
pub struct SteppedKeeper {
    keeper: Keeper,
    lines: Arc<SteppedLines>,
}

impl SteppedKeeper {
    /// One look, the last one if `stop`. While it waits, `step` is called to make the others go on; it returns false
    /// when they never will again. False = the keeper has ended.
    pub fn look(&mut self, now: UnixMs, stop: bool, step: &mut dyn FnMut() -> bool) -> bool {
        match self.keeper.look(now, stop, &self.lines, &mut Stepping(step)) {
            Ok(go_on) => go_on,
            Err(error) => {
                self.lines.fail(error);
                false
            }
        }
    }
}

/// Waits by letting the others go on.
struct Stepping<'a>(&'a mut dyn FnMut() -> bool);

impl Wait for Stepping<'_> {
    fn receive<T>(&mut self, from: &Receiver<T>) -> Option<T> {
        loop {
            match from.try_recv() {
                Ok(received) => return Some(received),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if (self.0)() => {}
                Err(TryRecvError::Empty) => return None,
            }
        }
    }

    /// Nobody is kept waiting.
    fn take_time(&mut self, _: Millis) {}
}
