//! Drives one shard: takes messages, steps the shard, carries its outputs away, brings its frames to the journal and, if
//! nobody else is at it, into a commit.
//!
//! The only thread that touches its `Shard`. It waits for no socket and no other shard, and for the disk in a commit alone:
//! what comes meanwhile waits for it, and most of that for the next one anyway.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use tokio::sync::oneshot;

use super::Inner;
use super::inbox::{Envelope, Outlet, ToJournal};
use super::lines::Lines;
use super::mailbox::{Mailbox, ToPeer};
use super::request::{BrokerError, Published};
use super::texts_thread::Wanted;
use crate::engine::{
    Coming, Counters, Event, ImagePart, Input, Output, PluginOut, Refusal, Reply, ReplyTo, Shard,
};
use crate::ids::{ConnId, FrameNo, NumberMap, ShardNo};
use crate::prefetch::{AHEAD, touch};
use crate::storage::FrameEncoder;
use crate::time::{Millis, UnixMs};

/// Messages handled before outputs are carried away and a frame is submitted.
const BATCH_MAX: usize = 512;
/// Rows of a part of a checkpoint.
const EXPORT_ROWS: usize = 256;
/// Rows that are copied in one turn at the least: a pause of a few syncs of a fast disk.
const EXPORT_LEAST: usize = 2 * EXPORT_ROWS;
/// The longest sleep, so that a wrong timer is only late.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// How often a part of a checkpoint that found no room is offered again.
const PART_AGAIN: Duration = Duration::from_millis(1);
/// How long a confirmation waits for company: most then travel with the next delivery, and cost no system call and
/// no wake-up of their own on either side. They are cumulative and nothing waits for them but the plugin's memory.
const CONFIRM_LINGER: Millis = Millis(50);
/// How long changes for which nobody waits stay in the open frame (deliveries, results that have only to be confirmed, whatever else
/// a crash only repeats): most then travel in a commit of this shard that somebody waits for.
const PATIENCE: Millis = Millis(20);
/// The `ReplyTo::port` of calls that wait for their answer.
pub(super) const CALLS: ConnId = ConnId(0);

pub(super) struct ShardThread<L> {
    no: ShardNo,
    shard: Shard,
    encoder: FrameEncoder,
    outlet: Outlet,
    /// Messages that were taken together, of the turn that is under way.
    taken: VecDeque<Envelope>,
    lines: L,
    connections: NumberMap<ConnId, Arc<Mailbox>>,
    calls: NumberMap<u64, oneshot::Sender<Reply>>,
    /// Mailboxes that got something in this turn and ring when it is over.
    to_ring: Vec<Arc<Mailbox>>,
    /// Mailboxes with a confirmation that waits for company, and until when.
    lingering: VecDeque<(UnixMs, Arc<Mailbox>)>,
    outputs: Vec<Output>,
    events: Vec<Event>,
    in_flight: usize,
    /// Since when changes for which nobody waits have been in the open frame.
    patient_since: Option<UnixMs>,
    last_frame: FrameNo,
    durable: FrameNo,
    /// Something of its own waits for the journal, and nobody else is at it.
    commits: bool,
    export: Option<Export>,
    failed: bool,
}

/// A checkpoint under way.
struct Export {
    parts: Sender<(ShardNo, ImagePart)>,
    /// A part that found no room, or the last one, whose frames are not durable yet.
    held: Option<ImagePart>,
}

impl ShardThread<Arc<Inner>> {
    /// Runs until `Envelope::Stop`.
    pub(super) fn run(mut self) {
        let mut now = self.lines.clock.now();
        loop {
            self.finish_turn(now);
            self.lines.counters[usize::from(self.no.0)].lock().clone_from(&self.shard.counters());
            let gather_until = self.commit();
            now = self.lines.clock.now();
            let wait = if gather_until.is_some() { Duration::ZERO } else { self.sleep(now) };
            let mut first = self.outlet.next(wait);
            // It may have slept: what came, came now.
            if !wait.is_zero() {
                now = self.lines.clock.now();
            }
            loop {
                if !self.turn(now, first, BATCH_MAX) {
                    self.commit();
                    return;
                }
                if gather_until.is_none_or(|until| self.lines.nanos() >= until) {
                    break;
                }
                // The slower the disk, the more goes into the next frame.
                let Some(next) = self.outlet.next(Duration::ZERO) else { break };
                self.carry_outputs(now);
                (first, now) = (Some(next), self.lines.clock.now());
            }
        }
    }

    /// Makes a commit if it has to. What waited for it is carried away at once; what comes now may be gathered for as long as the
    /// commit took: until then, by [`Lines::nanos`]. `None`: there was none, or nothing of this shard in it.
    fn commit(&mut self) -> Option<u64> {
        let commits = self.outlet.must_commit() | std::mem::take(&mut self.commits);
        let begun = commits.then(|| self.lines.nanos())?;
        let frame = self.lines.commit(Some(self.no))?;
        let took = self.lines.nanos() - begun;
        self.on_own_durable(self.lines.clock.now(), frame);
        Some(self.lines.nanos() + took)
    }
}

impl<L: Lines> ShardThread<L> {
    /// `outputs` are those of recovery; `last_frame` is the last one before this run.
    pub(super) fn new(
        no: ShardNo,
        shard: Shard,
        (encoder, last_frame): (FrameEncoder, FrameNo),
        outlet: Outlet,
        lines: L,
        outputs: Vec<Output>,
    ) -> ShardThread<L> {
        ShardThread {
            no,
            shard,
            encoder,
            outlet,
            taken: VecDeque::new(),
            lines,
            connections: NumberMap::default(),
            calls: NumberMap::default(),
            to_ring: Vec::new(),
            lingering: VecDeque::new(),
            outputs,
            events: Vec::new(),
            in_flight: 0,
            patient_since: None,
            last_frame,
            durable: last_frame,
            commits: false,
            export: None,
            failed: false,
        }
    }

    /// Carries away what came of the turn before.
    pub(super) fn finish_turn(&mut self, now: UnixMs) {
        self.carry_outputs(now);
        self.nudge(now);
        self.submit(now);
        for _ in 0..self.shard.rows_to_export(EXPORT_LEAST) / EXPORT_ROWS {
            if !self.export_part() {
                break;
            }
        }
    }

    /// A commit of this thread's own made this frame durable.
    pub(super) fn on_own_durable(&mut self, now: UnixMs, frame: FrameNo) {
        self.take(now, Envelope::Durable { frame });
        self.carry_outputs(now);
    }

    /// Handles `first` and what waits behind it, `most` messages in all; false once it was told to stop.
    pub(super) fn turn(&mut self, now: UnixMs, first: Option<Envelope>, most: usize) -> bool {
        let mut next = first;
        let mut handled = 0;
        while let Some(envelope) = next {
            if matches!(envelope, Envelope::Stop) {
                self.carry_outputs(now);
                self.submit_now();
                return false;
            }
            self.take(now, envelope);
            handled += 1;
            next = self.next_of(most.saturating_sub(handled));
        }
        if self.shard.has_work() || self.shard.next_due().is_some_and(|due| due <= now) {
            self.step(now, Input::Tick);
        }
        true
    }

    /// The next message of at most so many. Several are taken together: what they are about is fetched at once.
    fn next_of(&mut self, most: usize) -> Option<Envelope> {
        if self.taken.is_empty() {
            self.outlet.take_some(most.min(AHEAD), &mut self.taken);
            if self.taken.len() > 1 {
                self.shard.fetch(self.taken.iter().filter_map(|envelope| match envelope {
                    Envelope::Plain(input) | Envelope::Call { input, .. } => Some(Coming::Input(input)),
                    Envelope::Publish { order, .. } => Some(Coming::Order(order)),
                    _ => None,
                }));
            }
        }
        self.taken.pop_front()
    }

    /// The next message, if there is one.
    pub(super) fn next_message(&mut self) -> Option<Envelope> {
        self.outlet.next(Duration::ZERO)
    }

    /// What the shard counts.
    pub(super) fn counters(&self) -> Counters {
        self.shard.counters()
    }

    /// How long nothing needs to be done.
    pub(super) fn sleep(&self, now: UnixMs) -> Duration {
        if self.shard.has_work() {
            return Duration::ZERO;
        }
        match &self.export {
            Some(Export { held: None, .. }) => return Duration::ZERO,
            Some(Export { held: Some(_), .. }) => return PART_AGAIN,
            None => {}
        }
        let nudge = self.lingering.front().map(|(due, _)| *due);
        let submit = self.patient_since.map(|since| since + PATIENCE);
        let due = self.shard.next_due().into_iter().chain(nudge).chain(submit).min();
        due.map_or(SLEEP_MAX, |due| Duration::from_millis((due - now).0.max(1))).min(SLEEP_MAX)
    }

    fn take(&mut self, now: UnixMs, envelope: Envelope) {
        if self.failed {
            return self.refuse(envelope);
        }
        match envelope {
            Envelope::Plain(Input::Disconnect { conn }) => {
                self.connections.remove(&conn);
                self.step(now, Input::Disconnect { conn });
            }
            Envelope::Plain(input) => self.step(now, input),
            Envelope::Call { input, request, reply } => {
                self.calls.insert(request, reply);
                self.step(now, input);
            }
            Envelope::Publish { conn, request, order } => {
                self.step(now, Input::Publish { from: ReplyTo { port: conn, request }, order });
            }
            Envelope::Attach { conn, mailbox } => {
                self.connections.insert(conn, mailbox);
            }
            Envelope::Detach { conn } => {
                self.connections.remove(&conn);
            }
            Envelope::Connect { conn, server, hello, mailbox } => {
                self.connections.insert(conn, mailbox);
                self.step(now, Input::Connect { conn, server, hello });
            }
            // A commit of this shard's own was ahead of the message.
            Envelope::Durable { frame } if frame <= self.durable => {}
            Envelope::Durable { frame } => {
                self.in_flight -= usize::try_from(frame.0 - self.durable.0).unwrap_or(usize::MAX);
                self.durable = frame;
                self.step(now, Input::Durable(frame));
            }
            Envelope::Barrier(done) => {
                self.carry_outputs(now);
                let _ = done.send(());
            }
            Envelope::Checkpoint { began, parts } => {
                self.submit_now();
                self.step(now, Input::CheckpointBegin);
                let _ = began.send((self.no, self.last_frame));
                self.export = Some(Export { parts, held: None });
            }
            Envelope::GoAway { spread_ms } => self.go_away(spread_ms),
            Envelope::Failed => self.fail(),
            Envelope::Commit | Envelope::Stop => {}
        }
    }

    fn step(&mut self, now: UnixMs, input: Input) {
        // Asked each time: who follows first and then does something hears of it.
        self.shard.set_followed(self.lines.is_followed());
        self.shard.handle(now, input, &mut self.outputs);
    }

    /// Seals and sends the open frame unless one is on its way, while the next one fills, or nobody waits for it yet.
    fn submit(&mut self, now: UnixMs) {
        if self.in_flight > 0 || self.failed || !self.shard.has_changes() {
            return;
        }
        let since = *self.patient_since.get_or_insert(now);
        let last = self.export.as_ref().and_then(|export| export.held.as_ref()).is_some_and(|part| part.last);
        if self.shard.is_awaited() || last || now - since >= PATIENCE {
            self.submit_now();
        }
    }

    fn submit_now(&mut self) {
        if self.failed || !self.shard.has_changes() {
            return;
        }
        self.patient_since = None;
        if let Some((no, changes)) = self.shard.seal() {
            let frame = self.encoder.encode(no, &changes);
            self.in_flight += 1;
            self.last_frame = no;
            self.commits |= self.lines.to_journal(ToJournal::Append(frame));
        }
    }

    fn carry_outputs(&mut self, now: UnixMs) {
        let mut outputs = std::mem::take(&mut self.outputs);
        let followed = self.lines.is_followed();
        let mut left = outputs.drain(..);
        for carried in 0.. {
            if carried % AHEAD == 0 && left.len() > 1 {
                touch(left.as_slice().iter().take(AHEAD).map(|output| self.look(output)));
            }
            let Some(output) = left.next() else { break };
            match output {
                Output::Plugin { conn, message } => self.tell_plugin(now, conn, message),
                Output::Reply { to, reply } if to.port == CALLS => {
                    if let Some(caller) = self.calls.remove(&to.request) {
                        // A caller that has gone away needs no answer.
                        let _ = caller.send(reply);
                    }
                }
                Output::Reply { to, reply } => self.tell_publisher(to, reply),
                Output::Forward { shard, input } => {
                    self.lines.shards()[usize::from(shard.0)].send_now(Envelope::Plain(*input));
                }
                Output::Event(event) if followed => self.events.push(event),
                Output::Event(_) => {}
                Output::ReadTexts { server, seqs } => {
                    self.lines.read_texts(Wanted { shard: self.no, server, seqs });
                }
            }
        }
        drop(left);
        self.outputs = outputs;
        self.to_ring.drain(..).for_each(|mailbox| mailbox.ring());
        if !self.events.is_empty() {
            self.lines.publish(std::mem::take(&mut self.events));
        }
    }

    /// A look at where an output goes, for [`touch`]. Publishers are few: theirs is at hand.
    fn look(&self, output: &Output) -> u64 {
        let Output::Plugin { conn, .. } = output else { return 0 };
        self.connections.get(conn).map_or(0, |mailbox| mailbox.look())
    }

    fn tell_plugin(&mut self, now: UnixMs, conn: ConnId, message: PluginOut) {
        if matches!(message, PluginOut::Close(_)) {
            if let Some(mailbox) = self.connections.remove(&conn) {
                mailbox.push(ToPeer::Plugin(message));
            }
            return;
        }
        let Some(mailbox) = self.connections.get(&conn) else { return };
        if !matches!(message, PluginOut::Confirm { .. }) {
            if mailbox.put(ToPeer::Plugin(message)) {
                self.to_ring.push(Arc::clone(mailbox));
            }
        } else if mailbox.put_quietly(ToPeer::Plugin(message)) {
            self.lingering.push_back((now + CONFIRM_LINGER, Arc::clone(mailbox)));
        }
    }

    /// Wakes connections whose confirmations found no company in time.
    fn nudge(&mut self, now: UnixMs) {
        while self.lingering.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, mailbox)) = self.lingering.pop_front() {
                mailbox.nudge();
            }
        }
    }

    fn tell_publisher(&mut self, to: ReplyTo, reply: Reply) {
        let Some(mailbox) = self.connections.get(&to.port) else { return };
        let request = to.request;
        let result = match reply {
            Reply::Published { order, replayed, commands } => Ok(Published { order, replayed, commands }),
            Reply::PublishedAtRest { order } => {
                return self.lines.find_order(order, Arc::clone(mailbox), request);
            }
            Reply::Refused(refusal) => Err(refused(refusal)),
            other => unreachable!("a publish is answered with its order or a refusal, not {other:?}"),
        };
        if mailbox.put(ToPeer::Published { request, result }) {
            self.to_ring.push(Arc::clone(mailbox));
        }
    }

    /// Copies the next part of a checkpoint; false when there is none to copy now. The last part waits until what it contains
    /// is durable.
    fn export_part(&mut self) -> bool {
        let Some(export) = &mut self.export else { return false };
        let Some(part) = export.held.take().or_else(|| self.shard.export(EXPORT_ROWS)) else {
            self.export = None;
            return false;
        };
        if part.last && part.contains > self.durable {
            export.held = Some(part);
            return false;
        }
        let last = part.last;
        match export.parts.try_send((self.no, part)) {
            Ok(()) if last => self.export = None,
            Ok(()) => return true,
            Err(TrySendError::Full((_, part))) => export.held = Some(part),
            Err(TrySendError::Disconnected(_)) => self.export = None,
        }
        false
    }

    fn go_away(&mut self, spread_ms: u32) {
        let count = u32::try_from(self.connections.len()).unwrap_or(u32::MAX).max(1);
        for (position, mailbox) in (0_u32..).zip(self.connections.values()) {
            let delay = u64::from(spread_ms) * u64::from(position) / u64::from(count);
            mailbox.push(ToPeer::GoAway { delay_ms: u32::try_from(delay).unwrap_or(spread_ms) });
        }
    }

    /// The storage failed. What waits for durability is never answered; callers and connections learn at once.
    fn fail(&mut self) {
        self.failed = true;
        self.export = None;
        self.patient_since = None;
        self.outputs.clear();
        self.calls.clear();
        self.go_away(0);
        self.connections.clear();
    }

    fn refuse(&self, envelope: Envelope) {
        match envelope {
            Envelope::Barrier(done) => drop(done),
            Envelope::Attach { mailbox, .. } | Envelope::Connect { mailbox, .. } => {
                mailbox.push(ToPeer::GoAway { delay_ms: 0 });
            }
            _ => {}
        }
    }
}

/// A refusal as callers see it; being full is worth another try.
pub(super) fn refused(refusal: Refusal) -> BrokerError {
    match refusal {
        Refusal::UnknownCommand => BrokerError::NotFound,
        other => BrokerError::Refused(other),
    }
}

#[cfg(test)]
#[path = "shard_thread_tests.rs"]
mod tests;
