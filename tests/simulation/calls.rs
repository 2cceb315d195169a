//! Calls over REST: a request arrives, is answered by a shard, and the answer may get lost on its way. Must never say that
//! an answer came which the broker did not give.

use fluxrelay::engine::{
    CollectFilter, CommandResult, CommandRow, Input, Operation, Outcome, PlayerNews, Query, Refusal, Reply,
    Status,
};
use fluxrelay::ids::{CommandId, Seq, ServerId, ShardNo, StoreId};
use fluxrelay::time::UnixMs;
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

use crate::world::{Event, World};

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum CallKind {
    /// By a process of its plugin, at a time at which its ledger stood so.
    Poll(ServerId, u64),
    PollResults {
        server: ServerId,
        process: u64,
        results: Vec<CommandResult>,
    },
    PollPlayers(ServerId, Vec<PlayerNews>),
    Operate(CommandId, Operation),
    /// One of the look-ups of a bulk resend.
    Collect(u64),
    ResendMany(StoreId, Vec<(CommandId, u32)>),
    /// Look at a command and compare with what is known of it.
    Audit(CommandId),
    /// A server's token was regenerated: its session has ended once this is answered.
    EndSession(ServerId, u32),
}

/// A call that the broker has not answered.
pub(crate) struct Call {
    kind: CallKind,
    answer: Receiver<Reply>,
}

/// A bulk resend that is collecting.
#[derive(Debug)]
pub(crate) struct Bulk {
    store: StoreId,
    left: u16,
    found: Vec<(CommandId, u32)>,
}

impl World {
    /// A request is sent; it arrives later, or never.
    pub(crate) fn call_later(&mut self, kind: CallKind) {
        if self.healing || !self.random.chance(1, 12) {
            let most = if self.random.chance(1, 20) { 6_000 } else { 80 };
            let at = self.now + self.random.below(most);
            self.schedule(at, Event::Call(Box::new(kind)));
        } else {
            self.trace.note(self.now, "request lost", format_args!(""));
        }
    }

    /// A request arrives at the broker.
    pub(crate) fn call(&mut self, kind: CallKind) {
        let Some(broker) = &mut self.broker else { return };
        let shards = broker.shards();
        let owner = |server: &ServerId| server.shard(shards);
        let answer = match kind.clone() {
            CallKind::Poll(server, _) => broker.call(owner(&server), |from| Input::Poll { from, server }),
            CallKind::PollResults { server, results, .. } => {
                broker.call(owner(&server), |from| Input::PollResults { from, server, results })
            }
            CallKind::PollPlayers(server, news) => {
                broker.call(owner(&server), |from| Input::PollPlayers { from, server, news })
            }
            CallKind::Operate(id, operation) => {
                self.checker.on_operate(id, &operation);
                broker.call(owner(&id.server), |from| Input::Operate { from, id, operation })
            }
            CallKind::ResendMany(store, commands) => {
                self.checker.on_resend_many(&commands);
                broker.call(store.shard(shards), |from| Input::ResendMany { from, commands })
            }
            CallKind::Audit(id) => {
                let query = Query::Command(id);
                broker.call(owner(&id.server), |from| Input::Read { from, query })
            }
            CallKind::EndSession(server, _) => {
                let query = Query::Servers(vec![server]);
                broker.call(owner(&server), |from| Input::Read { from, query })
            }
            CallKind::Collect(_) => unreachable!("collecting asks every shard by itself"),
        };
        self.calls.push(Call { kind, answer });
    }

    /// Bulk resend: all shards are asked, then the desk.
    pub(crate) fn resend_all(&mut self, store: StoreId) {
        let Some(broker) = &mut self.broker else { return };
        let (from, to) = (UnixMs(0), UnixMs(u64::MAX));
        let statuses = vec![Status::Failed, Status::InDoubt];
        let filter = CollectFilter { store, server: None, from, to, statuses };
        self.next_bulk += 1;
        let bulk = self.next_bulk;
        self.bulks.insert(bulk, Bulk { store, left: broker.shards(), found: Vec::new() });
        for no in (0..broker.shards()).map(ShardNo) {
            let filter = filter.clone();
            let answer = broker.call(no, |from| Input::Collect { from, filter });
            self.calls.push(Call { kind: CallKind::Collect(bulk), answer });
        }
    }

    /// Answers that the broker has given since.
    pub(crate) fn collect_answers(&mut self, of_sessions: bool) {
        let mut waiting = Vec::with_capacity(self.calls.len());
        for mut call in std::mem::take(&mut self.calls) {
            if of_sessions != matches!(call.kind, CallKind::EndSession(..)) {
                waiting.push(call);
                continue;
            }
            match call.answer.try_recv() {
                Err(TryRecvError::Empty) => waiting.push(call),
                // The broker failed or ended: the client hears nothing of it.
                Err(TryRecvError::Closed) => {}
                Ok(mut reply) => {
                    if self.complete(&mut reply) {
                        self.on_reply(call.kind, reply);
                    }
                }
            }
        }
        waiting.append(&mut self.calls);
        self.calls = waiting;
    }

    /// Adds the text that only the store at rest has; false when it cannot be read, and the broker does not answer.
    fn complete(&mut self, reply: &mut Reply) -> bool {
        let (Some(broker), Reply::Command(row)) = (&self.broker, reply) else { return true };
        let done = broker.rest().complete(std::slice::from_mut(row));
        if let Err(error) = done {
            self.trace.note(self.now, "look-up failed", format_args!("{error}"));
            self.exit_soon();
            return false;
        }
        true
    }

    /// An answer leaves the broker: from now on it is a promise.
    fn on_reply(&mut self, kind: CallKind, reply: Reply) {
        match (&kind, &reply) {
            (CallKind::Poll(server, _), Reply::Polled { commands, .. }) => {
                for delivery in commands {
                    self.trace.note(
                        self.now,
                        "polled",
                        format_args!("{server} {} {}", delivery.seq.0, delivery.attempt),
                    );
                }
                self.checker.on_deliveries(self.now, *server, commands);
            }
            (CallKind::PollResults { server, results, .. }, Reply::Accepted { .. }) => {
                self.trace.note(self.now, "accepted", format_args!("{server} {}", results.len()));
                for result in results {
                    self.trace.whisper(self.now, format_args!("{result:?}"));
                    self.checker.on_confirmed(*server, result);
                }
            }
            (CallKind::PollPlayers(..), Reply::Released { .. }) => {}
            (CallKind::Operate(id, operation), Reply::Command(row)) => {
                self.trace.note(self.now, operation_name(operation), format_args!("{id} {:?}", row.status));
                self.checker.on_operated(*id, operation, row);
            }
            (CallKind::Operate(id, _), Reply::Refused(Refusal::UnknownCommand)) => self.audit_at_rest(*id),
            (CallKind::Operate(..), Reply::Refused(Refusal::WrongStatus(_))) => {}
            (CallKind::Collect(bulk), Reply::Collected(found)) => return self.on_collected(*bulk, found),
            (CallKind::ResendMany(..), Reply::Resent { commands }) => {
                self.trace.note(self.now, "resent in bulk", format_args!("{}", commands.len()));
            }
            (CallKind::Audit(_), Reply::Command(row)) => self.checker.on_row(row),
            (CallKind::Audit(id), Reply::NotHere) => self.audit_at_rest(*id),
            (CallKind::EndSession(server, generation), Reply::Servers(_)) => {
                if let Some(known) = self.registry.get_mut(server) {
                    known.ended_below = known.ended_below.max(*generation);
                }
            }
            // Of a server that was removed meanwhile.
            (
                CallKind::Poll(server, _)
                | CallKind::PollResults { server, .. }
                | CallKind::PollPlayers(server, _),
                Reply::Refused(Refusal::UnknownServer(_)),
            ) if !self.registry.contains_key(server) => {}
            _ => panic!("{reply:?} for {kind:?}"),
        }
        if self.healing || !self.random.chance(1, 12) {
            let at = self.now + self.random.below(100);
            self.schedule(at, Event::Answer(Box::new((kind, reply))));
        } else {
            self.trace.note(self.now, "answer lost", format_args!(""));
        }
    }

    fn on_collected(&mut self, bulk: u64, found: &[(CommandId, u32)]) {
        let Some(collecting) = self.bulks.get_mut(&bulk) else { return };
        collecting.left -= 1;
        collecting.found.extend_from_slice(found);
        if collecting.left > 0 {
            return;
        }
        let Bulk { store, mut found, .. } = self.bulks.remove(&bulk).expect("just found");
        found.sort_unstable_by_key(|(id, _)| id.seq);
        if !found.is_empty() {
            self.schedule(self.now, Event::Call(Box::new(CallKind::ResendMany(store, found))));
        }
    }

    /// What is not in memory has to be at rest, ended.
    fn audit_at_rest(&mut self, id: CommandId) {
        let Some(broker) = &self.broker else { return };
        match broker.rest().command(id) {
            Ok(Some(row)) => {
                assert!(row.status.is_terminal(), "{id} is only at rest, {:?}", row.status);
                self.checker.on_row(&row);
            }
            Ok(None) => panic!("{id} is lost: neither in memory nor at rest"),
            Err(error) => {
                // The process ends, as it does for any look-up that fails.
                self.trace.note(self.now, "look-up failed", format_args!("{error}"));
                self.exit_soon();
            }
        }
    }

    /// An answer reaches its client.
    pub(crate) fn answered(&mut self, kind: CallKind, reply: Reply) {
        match (kind, reply) {
            (CallKind::Poll(server, asked), Reply::Polled { commands, next_check_seconds }) => {
                self.plugin_polled(server, asked, commands, next_check_seconds);
            }
            (CallKind::PollResults { server, process, results }, Reply::Accepted { .. }) => {
                self.plugin_polled_results(server, process, &results);
            }
            _ => {}
        }
    }
}

fn operation_name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Cancel => "cancelled",
        Operation::Resend => "resent",
        Operation::Edit { .. } => "edited",
    }
}

/// A result that no plugin of this server has to tell.
pub(crate) fn forged(seq: Seq, attempt: u16, outcome: Outcome) -> CommandResult {
    let text = Some(FORGED.into());
    CommandResult { seq, attempt: Some(attempt), outcome, error: text.clone(), output: text }
}

/// What a forged result says: no row may hold it.
pub(crate) const FORGED: &str = "FORGED";

/// Whether a row took anything from a forged result.
pub(crate) fn is_forged(row: &CommandRow) -> bool {
    let forged = |text: &Option<std::sync::Arc<str>>| text.as_deref() == Some(FORGED);
    forged(&row.error) || forged(&row.output) || row.history.iter().any(|entry| forged(&entry.error))
}
