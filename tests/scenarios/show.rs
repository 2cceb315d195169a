//! Writes what happened as lines of a script. Must never leave anything of an output out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fluxrelay::engine::*;
use fluxrelay::ids::{CommandId, ConnId, OrderId, Seq, ServerId};
use fluxrelay::time::UnixMs;

/// When every script starts: 2026-01-01T00:00:00Z.
pub(crate) const START: UnixMs = UnixMs(1_767_225_600_000);

/// The short names of a script for what the shards number: `c1`, `o1`, and connections as the script calls them.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) commands: Vec<CommandId>,
    pub(crate) orders: Vec<OrderId>,
    pub(crate) conns: BTreeMap<String, (ConnId, ServerId)>,
}

impl Names {
    pub(crate) fn command(&self, id: CommandId) -> String {
        match self.commands.iter().rposition(|known| *known == id) {
            Some(at) => format!("c{}", at + 1),
            None => id.to_string(),
        }
    }

    fn seq(&self, seq: Seq) -> String {
        match self.commands.iter().rposition(|known| known.seq == seq) {
            Some(at) => format!("c{}", at + 1),
            None => format!("seq {}", seq.0),
        }
    }

    fn order(&self, id: OrderId) -> String {
        match self.orders.iter().rposition(|known| *known == id) {
            Some(at) => format!("o{}", at + 1),
            None => id.to_string(),
        }
    }

    fn conn(&self, conn: ConnId) -> String {
        let named = self.conns.iter().find(|(_, (known, _))| *known == conn);
        named.map_or_else(|| format!("connection {}", conn.0), |(name, _)| name.clone())
    }

    /// Gives names to what an order made.
    fn learn(&mut self, order: OrderId, commands: &[CommandId]) {
        if !self.orders.contains(&order) {
            self.orders.push(order);
        }
        for id in commands {
            if !self.commands.contains(id) {
                self.commands.push(*id);
            }
        }
    }
}

/// A point in time as a span since the start.
pub(crate) fn time(at: UnixMs) -> String {
    if at < START {
        return format!("{} ms", at.0);
    }
    let mut rest = at.0 - START.0;
    let mut text = String::new();
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= length {
            write!(text, "{}{unit}", rest / length).expect("a string takes everything");
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Delivered => "delivered",
        Status::AwaitingPlayer => "awaiting_player",
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::InDoubt => "in_doubt",
        Status::Cancelled => "cancelled",
        Status::Expired => "expired",
    }
}

fn note(note: Note) -> &'static str {
    match note {
        Note::None => "",
        Note::RetryScheduled => " (retry scheduled)",
        Note::RetriesExhausted => " (retries exhausted)",
        Note::Unanswered => " (unanswered)",
        Note::ConnectionLost => " (connection lost)",
        Note::AckDeadline => " (ack deadline)",
        Note::PlayerAbsent => " (player absent)",
        Note::PlayerJoined => " (player joined)",
        Note::Operator => " (operator)",
        Note::ServerRemoved => " (server removed)",
        Note::Rerun => " (rerun)",
        Note::StillHeld => " (still held)",
        Note::LateResult => " (late result)",
        Note::BrokerRestarted => " (broker restarted)",
        Note::PluginInDoubt => " (plugin in doubt)",
    }
}

fn player(player: &Player) -> String {
    match player.uuid {
        Some(uuid) => format!("{}/{uuid}", player.name),
        None => player.name.to_string(),
    }
}

fn delivery(names: &Names, delivery: &Delivery) -> String {
    let mut text = format!("deliver {} {:?}", names.seq(delivery.seq), delivery.text);
    if delivery.attempt != 1 {
        write!(text, " attempt {}", delivery.attempt).expect("a string takes everything");
    }
    if let Some(wanted) = &delivery.player {
        write!(text, " for {}", player(wanted)).expect("a string takes everything");
    }
    text.push_str(if delivery.require_online { " online" } else { "" });
    text.push_str(if delivery.on_doubt == OnDoubt::Rerun { " rerun" } else { "" });
    text
}

fn refusal(refusal: Refusal) -> String {
    match refusal {
        Refusal::KeyConflict => "refused: the key was used with another body".to_owned(),
        Refusal::QueueFull(server) => format!("refused: the queue of {server} is full"),
        Refusal::Overloaded => "refused: overloaded".to_owned(),
        Refusal::UnknownCommand => "refused: unknown command".to_owned(),
        Refusal::WrongStatus(now) => format!("refused: it is {}", status(now)),
        Refusal::UnknownServer(server) => format!("refused: unknown server {server}"),
    }
}

/// One command: its state, then its history.
pub(crate) fn command(names: &Names, row: &CommandRow) -> Vec<String> {
    let mut first = format!(
        "{} {} {:?} attempt {}",
        names.command(row.id),
        status(row.status),
        row.text.as_deref().unwrap_or_default(),
        row.attempt
    );
    let mut add = |text: String| first.push_str(&text);
    if row.retries > 0 {
        add(format!(" retries {}", row.retries));
    }
    if row.unanswered > 0 {
        add(format!(" unanswered {}", row.unanswered));
    }
    if let Some(at) = row.next_at {
        add(format!(" next {}", time(at)));
    }
    if let Some(error) = &row.error {
        add(format!(" error {error:?}"));
    }
    if let Some(output) = &row.output {
        add(format!(" output {output:?}"));
    }
    let mut lines = vec![first];
    for entry in &row.history {
        let error = entry.error.as_ref().map_or(String::new(), |error| format!(" {error:?}"));
        let attempt = if entry.attempt == 1 { String::new() } else { format!(" attempt {}", entry.attempt) };
        lines.push(format!(
            "| {} {}{attempt}{}{error}",
            time(entry.at),
            status(entry.status),
            note(entry.note)
        ));
    }
    lines
}

pub(crate) fn server(state: &ServerState) -> String {
    let mut text = if state.online { "online" } else { "offline" }.to_owned();
    let all = [
        Status::Pending,
        Status::Delivered,
        Status::AwaitingPlayer,
        Status::Completed,
        Status::Failed,
        Status::InDoubt,
        Status::Cancelled,
        Status::Expired,
    ];
    for (what, count) in all.into_iter().zip(state.counts) {
        if count > 0 {
            write!(text, " {} {count}", status(what)).expect("a string takes everything");
        }
    }
    if let Some(players) = state.players {
        write!(text, " players {players}").expect("a string takes everything");
    }
    text
}

fn order(names: &Names, row: &OrderRow) -> String {
    let commands: Vec<String> = row.commands.iter().map(|id| names.command(*id)).collect();
    let reference =
        row.reference.as_ref().map_or(String::new(), |reference| format!(" reference {reference:?}"));
    let ordered = if row.ordered { " ordered" } else { "" };
    format!(
        "{}{ordered}{reference} accepted {}: {}",
        names.order(row.id),
        time(row.accepted_at),
        commands.join(" ")
    )
}

fn plugin(names: &Names, message: &PluginOut) -> Vec<String> {
    match message {
        PluginOut::Welcome { forget, .. } if forget.is_empty() => vec!["welcome".to_owned()],
        PluginOut::Welcome { forget, .. } => {
            let forget: Vec<String> = forget.iter().map(|seq| names.seq(*seq)).collect();
            vec![format!("welcome, forget {}", forget.join(" "))]
        }
        PluginOut::Deliver(deliveries) => deliveries.iter().map(|one| delivery(names, one)).collect(),
        PluginOut::Confirm { batch } => vec![format!("confirm {batch}")],
        PluginOut::Close(CloseReason::Replaced) => vec!["close: replaced".to_owned()],
        PluginOut::Close(CloseReason::TokenRevoked) => vec!["close: token revoked".to_owned()],
        PluginOut::Close(CloseReason::ServerRemoved) => vec!["close: server removed".to_owned()],
    }
}

fn revisions(names: &Names, commands: &[(CommandId, u32)]) -> String {
    commands.iter().map(|(id, rev)| format!(" {}@{rev}", names.command(*id))).collect()
}

pub(crate) fn reply(names: &mut Names, reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Published { order, replayed, commands } => {
            names.learn(*order, commands);
            let commands: Vec<String> = commands.iter().map(|id| names.command(*id)).collect();
            let again = if *replayed { " again" } else { "" };
            vec![format!("published{again} {}: {}", names.order(*order), commands.join(" "))]
        }
        Reply::PublishedAtRest { order } => vec![format!("published again {}, at rest", names.order(*order))],
        Reply::Refused(why) => vec![refusal(*why)],
        Reply::Polled { commands, next_check_seconds } => {
            let mut lines: Vec<String> = commands.iter().map(|one| delivery(names, one)).collect();
            lines.push(format!("poll again in {next_check_seconds} s"));
            lines
        }
        Reply::Accepted { accepted } => vec![format!("accepted {accepted}")],
        Reply::Released { released } => vec![format!("released {released}")],
        Reply::Command(row) => command(names, row).into_iter().take(1).collect(),
        Reply::Order(row) => vec![order(names, row)],
        Reply::Commands(rows) => {
            rows.iter().flat_map(|row| command(names, row).into_iter().take(1)).collect()
        }
        Reply::Servers(states) => states.iter().map(server).collect(),
        Reply::Collected(found) => vec![format!("collected{}", revisions(names, found))],
        Reply::Resent { commands } => vec![format!("resent{}", revisions(names, commands))],
        Reply::NotHere => vec!["not in memory".to_owned()],
    }
}

fn event(names: &Names, event: &Event) -> String {
    match &event.what {
        EventKind::Online => format!("event {} online", event.server),
        EventKind::Offline => format!("event {} offline", event.server),
        EventKind::Command { seq, order, status: entered, attempt, note: why, error } => {
            let error = error.as_ref().map_or(String::new(), |error| format!(" {error:?}"));
            let attempt = if *attempt == 1 { String::new() } else { format!(" attempt {attempt}") };
            let (seq, order) = (names.seq(*seq), names.order(*order));
            format!("event {seq} of {order} {}{attempt}{}{error}", status(*entered), note(*why))
        }
    }
}

/// One output as lines; none for an event that the script did not ask for.
pub(crate) fn output(names: &mut Names, what: &Output, events: bool) -> Vec<String> {
    match what {
        Output::Plugin { conn, message } => {
            let name = names.conn(*conn);
            plugin(names, message).into_iter().map(|line| format!("{name}: {line}")).collect()
        }
        Output::Reply { reply: answer, .. } => {
            reply(names, answer).into_iter().map(|line| format!("-> {line}")).collect()
        }
        Output::Event(what) if events => vec![event(names, what)],
        Output::Event(_) => Vec::new(),
        Output::Forward { .. } | Output::ReadTexts { .. } => unreachable!("the world carries these"),
    }
}
