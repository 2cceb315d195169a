//! The broker as the outer layers see it: every call that transport, REST and the demo may make.

use std::collections::HashSet;
use std::sync::Arc;

use super::Inner;
use super::cursor::Cursor;
use super::events::{EventId, EventStream};
use super::inbox::Envelope;
use super::inner::order_bytes;
use super::limited::Limit;
use super::mailbox::{Mailbox, ToPeer};
use super::quotas::{Gate, QuotaSettings};
use super::registry::Registry;
use super::request::{BrokerError, CommandPage, OrderRequest, Published, ResendFilter};
use super::shard_thread::refused;
use super::stats::Snapshot;
use crate::credentials::Ticket;
use crate::engine::{
    CloseReason, CollectFilter, CommandResult, CommandRow, Delivery, Hello, Input, Operation, OrderRow,
    PlayerNews, Query, Refusal, Reply, Seq, ServerState, Status,
};
use crate::ids::{CommandId, ConnId, OrderId, ServerId, ShardNo, StoreId};
use crate::limits::PAGE_MAX;
use crate::storage::mirror::Mirror;
use crate::time::UnixMs;

/// The broker. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) inner: Arc<Inner>,
}

/// Calls of publishers and operators. All are answered once what they promise is durable.
impl Handle {
    /// Servers, stores, keys; and who may do what.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// The current time, from the one clock.
    pub fn now(&self) -> UnixMs {
        self.inner.clock.now()
    }

    /// What stores, keys and servers may take.
    pub fn quotas(&self) -> QuotaSettings {
        self.inner.quota_settings
    }

    /// Accepts an order whole, or refuses it whole.
    ///
    /// # Errors
    /// Any [`BrokerError`]; after `Stopping` the order may have been accepted (repeat it with the same key).
    pub async fn publish(&self, store: StoreId, request: OrderRequest) -> Result<Published, BrokerError> {
        let gate = self.inner.quotas.gate(store, self.now());
        match self.inner.admit(store, &gate, request).await {
            Ok(order) => self.inner.publish(order).await,
            Err(unresolved) => self.inner.publish_unresolved(store, unresolved).await,
        }
    }

    /// One command of any status.
    ///
    /// # Errors
    /// `NotFound`, `Stopping`.
    pub async fn command(&self, id: CommandId) -> Result<CommandRow, BrokerError> {
        match self.read(id.server, Query::Command(id)).await? {
            Reply::Command(row) => self.complete_one(*row).await,
            Reply::NotHere => {
                let found = self.inner.at_rest(move |inner| inner.storage(|rest| rest.command(id))).await?;
                found.ok_or(BrokerError::NotFound)
            }
            other => unexpected(other),
        }
    }

    /// One order.
    ///
    /// # Errors
    /// `NotFound`, `Stopping`.
    pub async fn order(&self, id: OrderId) -> Result<OrderRow, BrokerError> {
        let query = Query::Order(id);
        match self.inner.call(self.inner.desk(id.store), 0, |from| Input::Read { from, query }).await? {
            Reply::Order(row) => Ok(*row),
            Reply::NotHere => self.inner.at_rest(move |inner| inner.order_at_rest(id)).await,
            other => unexpected(other),
        }
    }

    /// A page of a server's commands; `cursor` as a page before gave it.
    ///
    /// # Errors
    /// `NotFound` for a cursor that no page gave, `Stopping`.
    pub async fn commands(
        &self,
        server: ServerId,
        status: Option<Status>,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<CommandPage, BrokerError> {
        let cursor = cursor.map_or(Some(Cursor::Memory(None)), Cursor::parse).ok_or(BrokerError::NotFound)?;
        let limit = limit.clamp(1, PAGE_MAX);
        let mut page = CommandPage::default();
        let mut from = None;
        match cursor {
            Cursor::Memory(after) => {
                let query = Query::Commands { server, status, after, limit };
                match self.read(server, query).await? {
                    Reply::Commands(rows) => page.commands = rows,
                    other => return unexpected(other),
                }
                let (full, last) = (page.commands.len() == limit, page.commands.last().map(|row| row.id.seq));
                page.commands = self.complete(page.commands).await?;
                // One may have changed since.
                page.commands.retain(|row| status.is_none_or(|status| row.status == status));
                if full {
                    page.next = Some(Cursor::Memory(last).to_string());
                    return Ok(page);
                }
            }
            Cursor::Rest(cursor) => from = Some(cursor),
        }
        let room = limit - page.commands.len();
        let ended = self
            .inner
            .at_rest(move |inner| inner.storage(|rest| rest.ended(server, status, from, room)))
            .await?;
        // What ended a moment ago may be in memory and at rest: show it once.
        let in_memory: HashSet<Seq> = page.commands.iter().map(|row| row.id.seq).collect();
        page.commands.extend(ended.commands.into_iter().filter(|row| !in_memory.contains(&row.id.seq)));
        page.next = ended.next.map(|cursor| Cursor::Rest(cursor).to_string());
        Ok(page)
    }

    /// The state of servers, in the same order.
    ///
    /// # Errors
    /// `Stopping`.
    pub async fn server_states(&self, servers: &[ServerId]) -> Result<Vec<ServerState>, BrokerError> {
        let mut states = vec![ServerState::default(); servers.len()];
        for shard in 0..self.inner.shards.len() {
            let here = |server: &ServerId| usize::from(self.inner.owner(*server).0) == shard;
            let places: Vec<usize> = (0..servers.len()).filter(|&at| here(&servers[at])).collect();
            if places.is_empty() {
                continue;
            }
            let query = Query::Servers(places.iter().map(|&at| servers[at]).collect());
            let shard = ShardNo(u16::try_from(shard).expect("there are at most SHARDS_MAX shards"));
            match self.inner.call(shard, 0, |from| Input::Read { from, query }).await? {
                Reply::Servers(found) => places.into_iter().zip(found).for_each(|(at, s)| states[at] = s),
                other => return unexpected(other),
            }
        }
        Ok(states)
    }

    /// Cancel, resend, edit. The command as it is afterwards.
    ///
    /// # Errors
    /// `NotFound`, `Refused(WrongStatus)` (also for one that has ended and is at rest), `Stopping`.
    pub async fn operate(&self, id: CommandId, operation: Operation) -> Result<CommandRow, BrokerError> {
        let shard = self.inner.owner(id.server);
        match self.inner.call(shard, 0, |from| Input::Operate { from, id, operation }).await {
            Ok(Reply::Command(row)) => self.complete_one(*row).await,
            Ok(other) => unexpected(other),
            Err(BrokerError::NotFound) => {
                let row = self.command(id).await?;
                Err(BrokerError::Refused(Refusal::WrongStatus(row.status)))
            }
            Err(error) => Err(error),
        }
    }

    /// Bulk resend, atomic: the ids that are offered again, by rising seq.
    ///
    /// # Errors
    /// `Stopping`: it may or may not have happened, whole.
    pub async fn resend_many(&self, filter: ResendFilter) -> Result<Vec<CommandId>, BrokerError> {
        let ResendFilter { store, server, from: since, to, statuses } = filter;
        let filter = CollectFilter { store, server, from: since, to, statuses };
        let mut commands = Vec::new();
        for shard in (0..self.inner.shards_count()).map(ShardNo) {
            if server.is_some_and(|server| self.inner.owner(server) != shard) {
                continue;
            }
            let filter = filter.clone();
            match self.inner.call(shard, 0, |from| Input::Collect { from, filter }).await? {
                Reply::Collected(found) => commands.extend(found),
                other => return unexpected(other),
            }
        }
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        commands.sort_unstable_by_key(|(id, _)| id.seq);
        match self.inner.call(self.inner.desk(store), 0, |from| Input::ResendMany { from, commands }).await? {
            Reply::Resent { commands } => Ok(commands.into_iter().map(|(id, _)| id).collect()),
            other => unexpected(other),
        }
    }

    /// Follows events of one store (`None` = of all), after `since` when it is still remembered.
    pub fn events(&self, store: Option<StoreId>, since: Option<EventId>) -> EventStream {
        self.inner.hub.follow(store, since)
    }

    /// All counters and gauges, for metrics.
    pub fn stats(&self) -> Snapshot {
        self.inner.snapshot()
    }

    /// Notes that a TLS handshake was done.
    pub fn on_handshake(&self, resumed: bool) {
        self.inner.doors.on_handshake(resumed);
    }

    /// Notes that somebody was turned away at a limit.
    pub fn on_limit(&self, limit: Limit) {
        self.inner.limited.on(limit);
    }

    /// How often that was so since the start.
    pub fn limited(&self) -> [(Limit, u64); Limit::ALL.len()] {
        self.inner.limited.counts()
    }

    /// Shards and journal run.
    pub fn is_ready(&self) -> bool {
        !self.inner.is_stopping()
    }

    /// Publishes are refused until there is more disk space; everything else goes on.
    pub fn is_disk_low(&self) -> bool {
        self.inner.space.is_low()
    }

    /// Whether everything is written to the mirror too; `None` = there is no mirror.
    pub fn mirror_in_step(&self) -> Option<bool> {
        self.inner.mirror.as_ref().map(Mirror::is_in_step)
    }

    /// A server was registered, before anybody can publish to it.
    ///
    /// # Errors
    /// `Stopping`.
    pub async fn server_added(&self, server: ServerId, store: StoreId) -> Result<(), BrokerError> {
        self.inner.tell(server, Input::ServerAdded { server, store }).await
    }

    /// A server was removed from the registry: its session ends and its queue is cancelled.
    ///
    /// # Errors
    /// `Stopping`.
    pub async fn server_removed(&self, server: ServerId) -> Result<(), BrokerError> {
        self.inner.tell(server, Input::ServerRemoved { server }).await
    }

    /// Its token was regenerated: its session has ended when this returns.
    ///
    /// # Errors
    /// `Stopping`.
    pub async fn token_regenerated(&self, server: ServerId) -> Result<(), BrokerError> {
        self.inner.tell(server, Input::EndSession { server, reason: CloseReason::TokenRevoked }).await
    }

    /// Adds the texts that only the store at rest has.
    async fn complete(&self, mut rows: Vec<CommandRow>) -> Result<Vec<CommandRow>, BrokerError> {
        if rows.iter().all(|row| row.text.is_some()) {
            return Ok(rows);
        }
        let read = move |inner: &Inner| {
            inner.storage(|rest| rest.complete(&mut rows))?;
            Ok(rows)
        };
        self.inner.at_rest(read).await
    }

    async fn complete_one(&self, row: CommandRow) -> Result<CommandRow, BrokerError> {
        self.complete(vec![row]).await?.pop().ok_or(BrokerError::NotFound)
    }

    async fn read(&self, server: ServerId, query: Query) -> Result<Reply, BrokerError> {
        self.inner.call(self.inner.owner(server), 0, |from| Input::Read { from, query }).await
    }
}

/// The three calls of a polling plugin.
impl Handle {
    /// Commands due now, and when to come again in seconds.
    ///
    /// # Errors
    /// `Stopping`.
    pub async fn poll(&self, server: ServerId) -> Result<(Vec<Delivery>, u32), BrokerError> {
        match self.inner.call(self.inner.owner(server), 0, |from| Input::Poll { from, server }).await? {
            Reply::Polled { commands, next_check_seconds } => Ok((commands, next_check_seconds)),
            other => unexpected(other),
        }
    }

    /// How many results were for a command that had not ended.
    ///
    /// # Errors
    /// `Stopping`: repeat them.
    pub async fn poll_results(
        &self,
        server: ServerId,
        results: Vec<CommandResult>,
    ) -> Result<u32, BrokerError> {
        let shard = self.inner.owner(server);
        match self.inner.call(shard, 0, |from| Input::PollResults { from, server, results }).await? {
            Reply::Accepted { accepted } => Ok(accepted),
            other => unexpected(other),
        }
    }

    /// How many commands no longer wait for a player.
    ///
    /// # Errors
    /// `Stopping`: repeat them.
    pub async fn poll_players(&self, server: ServerId, news: Vec<PlayerNews>) -> Result<u32, BrokerError> {
        let shard = self.inner.owner(server);
        match self.inner.call(shard, 0, |from| Input::PollPlayers { from, server, news }).await? {
            Reply::Released { released } => Ok(released),
            other => unexpected(other),
        }
    }
}

/// Connections. None of these waits for durability: what comes of them arrives in the mailbox.
/// They are `async` because a full shard makes the caller, and so its peer, wait.
impl Handle {
    /// Opens a plugin session; `ToPeer::Plugin(PluginOut::Welcome)` follows in the mailbox.
    ///
    /// # Errors
    /// `Stopping`.
    pub async fn connect_plugin(
        &self,
        server: ServerId,
        hello: Hello,
        mailbox: Arc<Mailbox>,
    ) -> Result<PluginLink, BrokerError> {
        let conn = self.inner.next_conn();
        let hello = Box::new(hello);
        self.inner
            .shard(self.inner.owner(server))
            .send(Envelope::Connect { conn, server, hello, mailbox }, 0)
            .await?;
        Ok(PluginLink { handle: self.clone(), server, conn })
    }

    /// Opens a publisher connection of a store.
    pub fn connect_publisher(&self, store: StoreId, mailbox: Arc<Mailbox>) -> PublisherLink {
        let conn = self.inner.next_conn();
        let attach = Envelope::Attach { conn, mailbox: Arc::clone(&mailbox) };
        self.inner.shard(self.inner.desk(store)).send_now(attach);
        let gate = self.inner.quotas.gate(store, self.now());
        PublisherLink { handle: self.clone(), store, gate, conn, mailbox }
    }
}

/// The sending half of a plugin session; dropping it disconnects.
pub struct PluginLink {
    handle: Handle,
    server: ServerId,
    conn: ConnId,
}

impl PluginLink {
    /// See `Input::Results`.
    ///
    /// # Errors
    /// `Stopping`.
    pub async fn results(&self, batch: u64, results: Vec<CommandResult>) -> Result<(), BrokerError> {
        self.send(Input::Results { conn: self.conn, batch, results }).await
    }

    /// See `Input::Started`.
    ///
    /// # Errors
    /// `Stopping`.
    pub async fn started(&self, seqs: Vec<Seq>) -> Result<(), BrokerError> {
        self.send(Input::Started { conn: self.conn, seqs }).await
    }

    /// See `Input::Credit`.
    ///
    /// # Errors
    /// `Stopping`.
    pub async fn credit(&self, window: u32) -> Result<(), BrokerError> {
        self.send(Input::Credit { conn: self.conn, window }).await
    }

    /// See `Input::Players`.
    ///
    /// # Errors
    /// `Stopping`.
    pub async fn players(&self, news: PlayerNews) -> Result<(), BrokerError> {
        self.send(Input::Players { conn: self.conn, news }).await
    }

    /// A resume ticket for its server at this generation; see [`Registry::give_ticket`].
    pub fn give_ticket(&self, generation: u32) -> Option<(Ticket, UnixMs)> {
        self.handle.registry().give_ticket(self.server, generation)
    }

    /// The current time.
    pub fn now(&self) -> UnixMs {
        self.handle.now()
    }

    async fn send(&self, input: Input) -> Result<(), BrokerError> {
        let inner = &self.handle.inner;
        inner.shard(inner.owner(self.server)).send(Envelope::Plain(input), 0).await
    }
}

impl Drop for PluginLink {
    fn drop(&mut self) {
        let inner = &self.handle.inner;
        let gone = Input::Disconnect { conn: self.conn };
        inner.shard(inner.owner(self.server)).send_now(Envelope::Plain(gone));
    }
}

/// The sending half of a publisher connection; dropping it disconnects.
pub struct PublisherLink {
    handle: Handle,
    store: StoreId,
    gate: Arc<Gate>,
    conn: ConnId,
    mailbox: Arc<Mailbox>,
}

impl PublisherLink {
    /// Exactly one `ToPeer::Published { request, .. }` follows in the mailbox.
    pub async fn publish(&self, request: u64, order: OrderRequest) {
        let inner = &self.handle.inner;
        let result = match inner.admit(self.store, &self.gate, order).await {
            Ok(order) => {
                let bytes = order_bytes(&order);
                let publish = Envelope::Publish { conn: self.conn, request, order };
                match inner.shard(inner.desk(self.store)).send(publish, bytes).await {
                    Ok(()) => return,
                    Err(error) => Err(error),
                }
            }
            Err(unresolved) => inner.publish_unresolved(self.store, unresolved).await,
        };
        self.mailbox.push(ToPeer::Published { request, result });
    }
}

impl Drop for PublisherLink {
    fn drop(&mut self) {
        let inner = &self.handle.inner;
        inner.shard(inner.desk(self.store)).send_now(Envelope::Detach { conn: self.conn });
    }
}

/// An answer that does not fit its request: only a refusal may come instead.
fn unexpected<T>(reply: Reply) -> Result<T, BrokerError> {
    match reply {
        Reply::Refused(refusal) => Err(refused(refusal)),
        other => unreachable!("the engine answered with {other:?}"),
    }
}
