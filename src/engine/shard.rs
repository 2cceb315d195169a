//! The shard: all state of a slice of servers and stores, and the one `handle`. Must never read a clock, allocate
//! without bound, or let a promise out before it is durable.

use std::collections::VecDeque;

use super::checkpoint::Checkpoint;
use super::command::Command;
use super::counters::Counters;
use super::desk::Desk;
use super::io::{Change, Handover, Input, Output};
use super::outbox::{Held, Outbox};
use super::server::Servers;
use super::settings::Settings;
use super::slab::Slab;
use super::sweep::Sweep;
use super::timers::Timer;
use super::wheel::Wheel;
use crate::ids::{CommandId, FrameNo, NumberMap, Seq, ServerId, ShardNo, StoreId};
use crate::prefetch::AHEAD;
use crate::time::UnixMs;

/// One shard of the broker: a state machine that is stepped by one thread.
///
/// A driver calls [`Shard::handle`] with each input, carries out the outputs, stores the frames that
/// [`Shard::seal`] gives in order, and says [`Input::Durable`] when they are. Outputs that promise come
/// only then. [`Shard::next_due`] and [`Shard::has_work`] say when [`Input::Tick`] is wanted.
#[derive(Debug)]
pub struct Shard {
    pub(super) settings: Settings,
    pub(super) no: ShardNo,
    pub(super) shards: u16,
    pub(super) boot: u32,
    /// Sessions opened since start; the lower half of their epochs.
    pub(super) epochs: u32,
    pub(super) now: UnixMs,
    pub(super) commands: Slab<Command>,
    /// Bytes of their texts that are in memory.
    pub(super) text_bytes: u64,
    pub(super) servers: Servers,
    /// Servers with a session, by connection.
    pub(super) conns: NumberMap<u64, u32>,
    pub(super) desk: Desk,
    pub(super) outbox: Outbox,
    pub(super) wheel: Wheel<Timer>,
    pub(super) fired: Vec<Timer>,
    /// Room for slots of one batch, kept so that it need not be allocated each time.
    pub(super) scratch: Vec<u32>,
    /// Commands that ended in this step and that others wait for.
    pub(super) endings: Vec<u32>,
    /// More timers are due than one step may fire.
    pub(super) timers_left: bool,
    /// Servers that may be sent something, in turn.
    pub(super) ring: VecDeque<u32>,
    /// Removed servers whose commands are being cancelled.
    pub(super) removals: VecDeque<(u32, Seq)>,
    pub(super) sweep: Sweep,
    pub(super) checkpoint: Checkpoint,
    /// Bulk resends found by recovery; carried out, where they still fit, when it is done.
    pub(super) intents: Vec<(CommandId, u32)>,
    pub(super) counters: Counters,
    /// Whether anybody ever followed events.
    pub(super) followed: bool,
}

impl Shard {
    /// An empty shard: number `shard` of `shards`, in the run `boot` of the data directory (rising with each start).
    pub fn new(settings: Settings, shard: ShardNo, shards: u16, boot: u32, now: UnixMs) -> Shard {
        let mut this = Shard {
            no: shard,
            shards,
            boot,
            epochs: 0,
            now,
            commands: Slab::new(),
            text_bytes: 0,
            servers: Servers::default(),
            conns: NumberMap::default(),
            desk: Desk::new(shard),
            outbox: Outbox::new(),
            wheel: Wheel::new(now),
            fired: Vec::new(),
            scratch: Vec::new(),
            endings: Vec::new(),
            timers_left: false,
            ring: VecDeque::new(),
            removals: VecDeque::new(),
            sweep: Sweep::default(),
            checkpoint: Checkpoint::default(),
            intents: Vec::new(),
            counters: Counters::default(),
            followed: true,
            settings,
        };
        this.arm_sweep();
        this
    }

    /// One step: takes an input at `now` (a time before an earlier one counts as that one) and appends what the
    /// driver has to do to `out`. Bounded work: what is left over is done by the next steps, see [`Shard::has_work`]; what can
    /// wait by those with [`Input::Tick`] alone, of which a driver makes one after many others.
    pub fn handle(&mut self, now: UnixMs, input: Input, out: &mut Vec<Output>) {
        self.now = self.now.max(now);
        self.outbox.swap(out);
        let has_time = matches!(input, Input::Tick);
        self.handle_input(input);
        self.fire_timers();
        self.cancel_removed();
        if has_time {
            self.sweep_some();
            self.free_some();
            self.rest_some();
            self.desk.keys.free_some();
        }
        self.dispatch();
        self.hold_endings();
        self.outbox.swap(out);
    }

    fn handle_input(&mut self, input: Input) {
        match input {
            Input::Tick => {}
            Input::Durable(frame) => self.handle_durable(frame),
            Input::Publish { from, order } => self.handle_publish(from, *order),
            Input::Handover(handover) => self.handle_handover(handover),
            Input::QueueFull { server, full } => self.desk.on_queue_full(server, full),
            Input::ServerAdded { server, store } => self.restore_server(server, store),
            Input::ServerRemoved { server } => self.handle_server_removed(server),
            Input::Connect { conn, server, hello } => self.handle_connect(conn, server, *hello),
            Input::Disconnect { conn } => self.handle_disconnect(conn),
            Input::EndSession { server, reason } => self.handle_end_session(server, reason),
            Input::Credit { conn, window } => self.handle_credit(conn, window),
            Input::Started { conn, seqs } => self.handle_started(conn, &seqs),
            Input::Results { conn, batch, results } => self.handle_results(conn, batch, results),
            Input::Players { conn, news } => self.handle_players(conn, &news),
            Input::Poll { from, server } => self.handle_poll(from, server),
            Input::PollResults { from, server, results } => self.handle_poll_results(from, server, results),
            Input::PollPlayers { from, server, news } => self.handle_poll_players(from, server, &news),
            Input::Operate { from, id, operation } => self.handle_operate(from, id, operation),
            Input::Collect { from, filter } => self.handle_collect(from, &filter),
            Input::ResendMany { from, commands } => self.handle_resend_many(from, commands),
            Input::Read { from, query } => self.handle_read(from, query),
            Input::Texts { server, texts } => self.handle_texts(server, texts),
            Input::CheckpointBegin => self.handle_checkpoint_begin(),
            Input::CheckpointDone => self.handle_checkpoint_done(),
        }
    }

    /// Says whether anybody ever followed events: before that none are made; until the first call they are. Not whether somebody
    /// does just now: who comes back asks for what it has missed.
    pub fn set_followed(&mut self, followed: bool) {
        self.followed = followed;
    }

    /// When the earliest timer wants a [`Input::Tick`]; `None` = never.
    pub fn next_due(&self) -> Option<UnixMs> {
        self.wheel.next_due()
    }

    /// Whether work is left over from the last step: the driver says [`Input::Tick`] again as soon as it can.
    pub fn has_work(&self) -> bool {
        self.timers_left
            || !self.ring.is_empty()
            || !self.removals.is_empty()
            || self.sweep.is_running()
            || self.checkpoint.is_freeing()
            || self.desk.keys.is_freeing()
    }

    /// Whether the open frame holds changes.
    pub fn has_changes(&self) -> bool {
        self.outbox.has_changes()
    }

    /// Whether somebody waits for the open frame to be durable. Otherwise it may wait for company: what a crash takes with it is
    /// delivered again, or reported again.
    pub fn is_awaited(&self) -> bool {
        self.outbox.is_awaited()
    }

    /// Closes the open frame and hands out its changes, in order; later changes belong to the next frame.
    /// `None` when there is nothing to store.
    pub fn seal(&mut self) -> Option<(FrameNo, Vec<Change>)> {
        self.outbox.seal()
    }

    /// A copy of the counters and gauges.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        counters.sessions = self.conns.len() as u64;
        counters.in_memory = self.commands.len() as u64;
        counters.held = self.outbox.held() as u64;
        counters.keys = self.desk.keys.len() as u64;
        counters.keys_bytes = self.desk.keys.bytes() as u64;
        counters
    }

    /// Releases what waited for this frame.
    fn handle_durable(&mut self, frame: FrameNo) {
        self.outbox.on_durable(frame);
        for released in 0.. {
            if released % AHEAD == 0 {
                self.fetch_released();
            }
            let Some(held) = self.outbox.take_released() else { return };
            match held {
                Held::Output(output) => self.outbox.send_now(output),
                Held::Accept(slot) => self.accept(slot),
                Held::Ended(slot) => self.on_end_durable(slot),
                Held::Attempt(slot, attempt) => self.on_attempt_durable(slot, attempt),
                Held::Resent(commands) => self.resend_collected(&commands),
                Held::Welcome(server, conn, output) => {
                    self.outbox.send_now(*output);
                    self.on_welcomed(server, conn);
                }
            }
        }
    }

    fn handle_handover(&mut self, handover: Handover) {
        match handover {
            Handover::Accepted { order, at, commands } => self.accept_from_desk(order, at, commands),
            Handover::Resent { at: _, commands } => self.resend_collected(&commands),
        }
    }

    /// Which shard owns a server.
    pub(super) fn owns(&self, server: ServerId) -> bool {
        server.shard(self.shards) == self.no
    }

    /// Which shard's desk accepts a store's orders.
    pub(super) fn is_desk_of(&self, store: StoreId) -> bool {
        store.shard(self.shards) == self.no
    }
}
