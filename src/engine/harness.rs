//! Test harness: a shard whose frames become durable at once, unless a test holds them back.

use super::*;
use crate::ids::{CommandId, ConnId, FrameNo, OrderId, ServerId, ShardNo, StoreId};
use crate::time::UnixMs;

pub(super) const STORE: StoreId = StoreId(1);
pub(super) const SERVER: ServerId = ServerId(1);

/// See the module.
pub(super) struct Rig {
    pub(super) shard: Shard,
    pub(super) now: u64,
    pub(super) auto: bool,
    /// Every frame that was sealed.
    pub(super) journal: Vec<(FrameNo, Vec<Change>)>,
    requests: u64,
}

/// A command's builder.
pub(super) fn command(text: &str) -> NewCommand {
    NewCommand {
        server: SERVER,
        text: text.into(),
        player: None,
        require_online: false,
        not_before: None,
        expires_at: None,
        on_doubt: OnDoubt::Hold,
        labels: None,
    }
}

pub(super) fn player(name: &str) -> Player {
    Player { name: name.into(), uuid: None }
}

pub(super) fn for_player(text: &str, name: &str) -> NewCommand {
    NewCommand { player: Some(player(name)), require_online: true, ..command(text) }
}

pub(super) fn order(commands: Vec<NewCommand>) -> NewOrder {
    NewOrder {
        store: STORE,
        key: None,
        reference: None,
        player: None,
        ordered: false,
        commands: commands.into(),
    }
}

pub(super) fn keyed(key: u64, body: u64) -> NewOrder {
    NewOrder { key: Some(KeyDigest { key, body }), ..order(vec![command("a")]) }
}

pub(super) fn hello(window: u32) -> Hello {
    Hello { window, ..Hello::default() }
}

pub(super) fn result(seq: Seq, outcome: Outcome) -> CommandResult {
    CommandResult { seq, attempt: None, outcome, error: None, output: None }
}

impl Rig {
    pub(super) fn new() -> Rig {
        Rig::with(Settings::default())
    }

    pub(super) fn with(settings: Settings) -> Rig {
        let mut shard = Shard::new(settings, ShardNo(0), 1, 1, UnixMs(1_000_000));
        shard.restore_server(SERVER, STORE);
        shard.restore_server(ServerId(2), STORE);
        Rig { shard, now: 1_000_000, auto: true, journal: Vec::new(), requests: 0 }
    }

    /// One input, and ticks and durability until nothing is left to do.
    pub(super) fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.shard.handle(UnixMs(self.now), input, &mut out);
        self.settle(&mut out);
        out
    }

    pub(super) fn settle(&mut self, out: &mut Vec<Output>) {
        loop {
            if self.auto && self.seal().is_some() {
                let last = self.journal.last().map(|(no, _)| *no).unwrap();
                self.shard.handle(UnixMs(self.now), Input::Durable(last), out);
            } else if self.shard.has_work() {
                self.shard.handle(UnixMs(self.now), Input::Tick, out);
            } else {
                return;
            }
        }
    }

    pub(super) fn seal(&mut self) -> Option<FrameNo> {
        let (no, changes) = self.shard.seal()?;
        self.journal.push((no, changes));
        Some(no)
    }

    /// Lets time pass, millisecond-exact at every timer.
    pub(super) fn wait(&mut self, ms: u64) -> Vec<Output> {
        let end = self.now + ms;
        let mut out = Vec::new();
        while let Some(due) = self.shard.next_due().filter(|due| due.0 <= end) {
            self.now = self.now.max(due.0);
            out.extend(self.step(Input::Tick));
        }
        self.now = end;
        out.extend(self.step(Input::Tick));
        out
    }

    pub(super) fn reply_to(&mut self) -> ReplyTo {
        self.requests += 1;
        ReplyTo { port: ConnId(0), request: self.requests }
    }

    /// Asks, and returns the only answer.
    pub(super) fn ask(&mut self, make: impl FnOnce(ReplyTo) -> Input) -> Reply {
        let from = self.reply_to();
        let out = self.step(make(from));
        let mut replies = replies(&out, from);
        assert_eq!(replies.len(), 1, "exactly one answer");
        replies.pop().unwrap()
    }

    pub(super) fn publish(&mut self, new: NewOrder) -> (OrderId, Vec<CommandId>) {
        match self.ask(|from| Input::Publish { from, order: Box::new(new) }) {
            Reply::Published { order, commands, .. } => (order, commands.to_vec()),
            other => panic!("not published: {other:?}"),
        }
    }

    pub(super) fn publish_one(&mut self, new: NewCommand) -> CommandId {
        self.publish(order(vec![new])).1[0]
    }

    pub(super) fn connect(&mut self, conn: u64, hello: Hello) -> Vec<Output> {
        self.step(Input::Connect { conn: ConnId(conn), server: SERVER, hello: Box::new(hello) })
    }

    pub(super) fn results(&mut self, conn: u64, results: Vec<CommandResult>) -> Vec<Output> {
        self.step(Input::Results { conn: ConnId(conn), batch: 1, results })
    }

    pub(super) fn operate(&mut self, id: CommandId, operation: Operation) -> Reply {
        self.ask(|from| Input::Operate { from, id, operation })
    }

    pub(super) fn row(&mut self, id: CommandId) -> CommandRow {
        match self.ask(|from| Input::Read { from, query: Query::Command(id) }) {
            Reply::Command(row) => *row,
            other => panic!("no row: {other:?}"),
        }
    }

    pub(super) fn status(&mut self, id: CommandId) -> Status {
        self.row(id).status
    }

    /// Statuses and notes of a command's history.
    pub(super) fn story(&mut self, id: CommandId) -> Vec<(Status, Note)> {
        self.row(id).history.iter().map(|entry| (entry.status, entry.note)).collect()
    }
}

pub(super) fn replies(out: &[Output], from: ReplyTo) -> Vec<Reply> {
    out.iter()
        .filter_map(|output| match output {
            Output::Reply { to, reply } if *to == from => Some(reply.clone()),
            _ => None,
        })
        .collect()
}

/// The seqs delivered to a connection, in order.
pub(super) fn delivered(out: &[Output], to: u64) -> Vec<Seq> {
    deliveries(out, to).iter().map(|delivery| delivery.seq).collect()
}

pub(super) fn deliveries(out: &[Output], to: u64) -> Vec<Delivery> {
    out.iter()
        .filter_map(|output| match output {
            Output::Plugin { conn, message: PluginOut::Deliver(list) } if conn.0 == to => Some(list.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

/// Everything said to connections, as text.
pub(super) fn said(out: &[Output], to: u64) -> Vec<String> {
    out.iter()
        .filter_map(|output| match output {
            Output::Plugin { conn, message } if conn.0 == to => Some(match message {
                PluginOut::Welcome { forget, .. } => format!("welcome {}", forget.len()),
                PluginOut::Deliver(list) => format!("deliver {}", list.len()),
                PluginOut::Confirm { batch } => format!("confirm {batch}"),
                PluginOut::Close(reason) => format!("close {reason:?}"),
            }),
            _ => None,
        })
        .collect()
}

/// The statuses announced by events.
pub(super) fn announced(out: &[Output]) -> Vec<Status> {
    out.iter()
        .filter_map(|output| match output {
            Output::Event(Event { what: EventKind::Command { status, .. }, .. }) => Some(*status),
            _ => None,
        })
        .collect()
}
