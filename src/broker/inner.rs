//! What all parts of the broker share: the ways to the threads, and the journal, which is all of it that a command's path locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::clock::Clock;
use super::digest::canonical;
use super::events::EventHub;
use super::group_commit::SharedJournal;
use super::inbox::{Envelope, Inbox};
use super::keeper::ToKeeper;
use super::limited::Limited;
use super::quotas::{QuotaSettings, Quotas};
use super::registry::Registry;
use super::request::{BrokerError, OrderRequest, Published, RequestedCommand, Target};
use super::room_thread::ToRoom;
use super::shard_thread::CALLS;
use super::space::Space;
use super::stats::{DoorStats, JournalStats, Snapshot};
use super::texts_thread::Wanted;
use crate::credentials::Fingerprints;
use crate::engine::{
    Counters, Few, Input, KeyDigest, NewCommand, NewOrder, OrderRow, Refusal, Reply, ReplyTo,
};
use crate::ids::{ConnId, OrderId, ServerId, ShardNo, StoreId};
use crate::limits::ORDER_COMMANDS_MAX;
use crate::storage::mirror::Mirror;
use crate::storage::{LogJournal, Rest, StorageError};

pub(crate) struct Inner {
    pub(super) shards: Vec<Inbox>,
    pub(super) journal: SharedJournal<LogJournal>,
    pub(super) keeper: Sender<ToKeeper>,
    pub(super) texts: Sender<Option<Wanted>>,
    pub(super) room: Sender<ToRoom>,
    pub(super) rest: Arc<dyn Rest>,
    pub(super) registry: Registry,
    pub(super) quotas: Quotas,
    pub(super) quota_settings: QuotaSettings,
    pub(super) fingerprints: Fingerprints,
    pub(super) clock: Arc<Clock>,
    pub(super) hub: Arc<EventHub>,
    pub(super) runtime: tokio::runtime::Handle,
    /// One per shard: written by its thread, read for metrics.
    pub(super) counters: Vec<Mutex<Counters>>,
    pub(super) journal_stats: JournalStats,
    pub(super) doors: DoorStats,
    pub(super) limited: Limited,
    pub(super) space: Space,
    pub(super) mirror: Option<Mirror>,
    pub(super) stopping: AtomicBool,
    pub(super) failure: watch::Sender<Option<StorageError>>,
    /// Numbers of connections and calls; `CALLS` is not given out.
    pub(super) next_number: AtomicU64,
}

impl Inner {
    pub(super) fn shards_count(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("there are at most SHARDS_MAX shards")
    }

    /// The shard of a server's queue.
    pub(super) fn owner(&self, server: ServerId) -> ShardNo {
        server.shard(self.shards_count())
    }

    /// The shard of a store's desk.
    pub(super) fn desk(&self, store: StoreId) -> ShardNo {
        store.shard(self.shards_count())
    }

    pub(super) fn shard(&self, shard: ShardNo) -> &Inbox {
        &self.shards[usize::from(shard.0)]
    }

    pub(super) fn next_conn(&self) -> ConnId {
        ConnId(self.next_number.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The storage failed: from now on nothing is acknowledged. The first error is the one that is told.
    pub(super) fn fail(&self, error: StorageError) {
        self.stopping.store(true, Ordering::Release);
        for shard in &self.shards {
            shard.send_now(Envelope::Failed);
        }
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(error);
            first
        });
    }

    /// Asks a shard and waits for the answer; a refusal is an error.
    pub(super) async fn call(
        &self,
        shard: ShardNo,
        bytes: usize,
        input: impl FnOnce(ReplyTo) -> Input,
    ) -> Result<Reply, BrokerError> {
        let request = self.next_number.fetch_add(1, Ordering::Relaxed);
        let input = input(ReplyTo { port: CALLS, request });
        let (reply, answer) = oneshot::channel();
        self.shard(shard).send(Envelope::Call { input, request, reply }, bytes).await?;
        match answer.await {
            Ok(Reply::Refused(refusal)) => Err(super::shard_thread::refused(refusal)),
            Ok(reply) => Ok(reply),
            Err(_) => Err(BrokerError::Stopping),
        }
    }

    /// Tells a server's shard something and waits until it has been handled.
    pub(super) async fn tell(&self, server: ServerId, input: Input) -> Result<(), BrokerError> {
        let shard = self.owner(server);
        self.shard(shard).send(Envelope::Plain(input), 0).await?;
        let query = crate::engine::Query::Servers(vec![server]);
        self.call(shard, 0, |from| Input::Read { from, query }).await.map(drop)
    }

    /// Runs a look-up on disk away from the async threads.
    pub(super) async fn at_rest<T: Send + 'static>(
        self: &Arc<Inner>,
        look_up: impl FnOnce(&Inner) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let inner = Arc::clone(self);
        let found = self.runtime.spawn_blocking(move || look_up(&inner)).await;
        found.unwrap_or(Err(BrokerError::Stopping))
    }

    /// Uses the store at rest; an error ends the process.
    pub(super) fn storage<T>(
        &self,
        look_up: impl FnOnce(&dyn Rest) -> Result<T, StorageError>,
    ) -> Result<T, BrokerError> {
        look_up(&*self.rest).map_err(|error| {
            self.fail(error);
            BrokerError::Stopping
        })
    }

    pub(super) fn order_at_rest(&self, id: OrderId) -> Result<OrderRow, BrokerError> {
        self.storage(|rest| rest.order(id))?.ok_or(BrokerError::NotFound)
    }

    /// Checks an order's servers, expands `"*"`, makes its fingerprints.
    pub(super) fn resolve(&self, store: StoreId, request: OrderRequest) -> Result<Box<NewOrder>, Unresolved> {
        let key = request.key.as_deref().map(|key| KeyDigest {
            key: self.fingerprints.key(store, key),
            body: self.fingerprints.body(&canonical(&request)),
        });
        let OrderRequest { reference, player, ordered, commands: requested, .. } = request;
        let mut commands = Few::default();
        for RequestedCommand { target, delay, mut command } in requested {
            command.not_before = command.not_before.max(delay.map(|delay| self.clock.now() + delay));
            if let Err(error) = self.resolve_target(store, target, command, &mut commands) {
                return Err(Unresolved { error, key });
            }
        }
        if self.is_stopping() {
            return Err(Unresolved { error: BrokerError::Stopping, key: None });
        }
        Ok(Box::new(NewOrder { store, key, reference, player, ordered, commands }))
    }

    /// Accepts an order, or finds the one that has its key.
    pub(super) async fn publish(self: &Arc<Inner>, order: Box<NewOrder>) -> Result<Published, BrokerError> {
        let (shard, bytes) = (self.desk(order.store), order_bytes(&order));
        match self.call(shard, bytes, |from| Input::Publish { from, order }).await? {
            Reply::Published { order, replayed, commands } => Ok(Published { order, replayed, commands }),
            Reply::PublishedAtRest { order } => {
                let row = self.at_rest(move |inner| inner.order_at_rest(order)).await?;
                Ok(Published { order, replayed: true, commands: row.commands })
            }
            other => unreachable!("the engine answered a publish with {other:?}"),
        }
    }

    /// The answer to a publish whose servers could not be resolved: a repeated one is answered as it was, whatever
    /// became of its servers since.
    pub(super) async fn publish_unresolved(
        self: &Arc<Inner>,
        store: StoreId,
        unresolved: Unresolved,
    ) -> Result<Published, BrokerError> {
        let Unresolved { error, key } = unresolved;
        if key.is_none() {
            return Err(self.turned_away(error));
        }
        // An order without commands is never accepted; the desk only looks for its key.
        let (reference, player, commands) = (None, None, Few::default());
        let question = NewOrder { store, key, reference, player, ordered: false, commands };
        match self.publish(Box::new(question)).await {
            Err(BrokerError::Refused(Refusal::Overloaded)) => Err(self.turned_away(error)),
            found => found,
        }
    }

    /// Adds a command once for each server that it is for.
    fn resolve_target(
        &self,
        store: StoreId,
        target: Target,
        mut command: NewCommand,
        commands: &mut Few<NewCommand>,
    ) -> Result<(), BrokerError> {
        let too_many = |count| BrokerError::TooManyCommands { max: ORDER_COMMANDS_MAX, count };
        match target {
            Target::One(server) => {
                if self.registry.store_of(server) != Some(store) {
                    return Err(BrokerError::UnknownServer(server.to_string()));
                }
                if commands.len() == ORDER_COMMANDS_MAX {
                    return Err(too_many(commands.len() + 1));
                }
                command.server = server;
                commands.push(command);
            }
            Target::All => {
                let servers = self.registry.servers(Some(store));
                if servers.is_empty() {
                    return Err(BrokerError::NoServers);
                }
                let count = commands.len() + servers.len();
                if count > ORDER_COMMANDS_MAX {
                    return Err(too_many(count));
                }
                for server in servers {
                    commands.push(NewCommand { server: server.id, ..command.clone() });
                }
            }
        }
        Ok(())
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for counters in &self.counters {
            snapshot.add(&counters.lock());
        }
        self.journal_stats.add_to(&mut snapshot);
        self.doors.add_to(&mut snapshot);
        snapshot.disk_free = self.space.free();
        snapshot.disk_low = self.space.is_low();
        snapshot.mirror_in_step = self.mirror.as_ref().map(Mirror::is_in_step);
        snapshot.queued_inputs = self.shards.iter().map(|shard| shard.waiting() as u64).sum();
        snapshot
    }
}

/// An order that cannot be accepted as its servers are, and the key under which it may have been before.
pub(super) struct Unresolved {
    pub(super) error: BrokerError,
    pub(super) key: Option<KeyDigest>,
}

/// What an order weighs on its way to the desk.
pub(super) fn order_bytes(order: &NewOrder) -> usize {
    order.commands.iter().map(|command| size_of::<NewCommand>() + command.text.len()).sum()
}
