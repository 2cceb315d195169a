//! Holds everything that was promised against everything that is seen. Must never learn anything but what left the broker,
//! what plugins really ran, and what operators asked for.

use std::collections::BTreeMap;

use fluxrelay::broker::Published;
use fluxrelay::engine::{
    CommandResult, CommandRow, Delivery, Event, EventKind, NewCommand, Note, OnDoubt, Operation, Outcome,
    Status,
};
use fluxrelay::ids::{CommandId, Seq, ServerId};

use crate::calls::is_forged;
use crate::publisher::Plan;

/// One execution.
#[derive(Debug)]
pub(crate) struct Run {
    attempt: u16,
    ok: bool,
    /// The plugin has lost what came of it.
    doubted: bool,
    /// How often somebody had asked for it again by then.
    resends: u32,
}

/// What is known of one command.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) planned: NewCommand,
    /// The one before it on its server, of an ordered order: its place in the plan.
    after: Option<usize>,
    pub(crate) id: Option<CommandId>,
    pub(crate) runs: Vec<Run>,
    /// It left the broker in a delivery.
    sent: bool,
    /// A plugin has said that it completed, and was told that this is durable.
    completed: bool,
    /// Failures that were confirmed: later deliveries have a higher attempt.
    failed_attempt: u16,
    cancelled: bool,
    cancel_asked: bool,
    /// Texts that it may have, the last one that is durable first.
    texts: Vec<String>,
    resends: u32,
    /// An event has said so, or a row that somebody was shown.
    ended: Option<Status>,
    /// An event has said so: they come later than a row of the same turn.
    said_ended: Option<Status>,
    rev: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) plans: Vec<Plan>,
    /// By plan and place.
    pub(crate) commands: BTreeMap<(usize, usize), Known>,
    pub(crate) by_id: BTreeMap<CommandId, (usize, usize)>,
    epochs: BTreeMap<ServerId, u64>,
    /// For the first time, in this turn.
    just_sent: Vec<(usize, usize)>,
}

/// The plan and place that a command's text names.
fn place(text: &str) -> (usize, usize) {
    let own = text.rsplit(':').next().unwrap_or_default();
    let (plan, nth) = own.strip_prefix('p').and_then(|own| own.split_once('.')).expect("a text of ours");
    (plan.parse().expect("a number"), nth.parse().expect("a number"))
}

impl Checker {
    pub(crate) fn on_plan(&mut self, plan: Plan) {
        let number = self.plans.len();
        for (nth, planned) in plan.order.commands.iter().enumerate() {
            let same = |before: &usize| plan.order.commands[*before].server == planned.server;
            let after = if plan.order.ordered { (0..nth).rev().find(same) } else { None };
            let known = Known {
                planned: planned.clone(),
                after,
                id: None,
                runs: Vec::new(),
                sent: false,
                completed: false,
                failed_attempt: 0,
                cancelled: false,
                cancel_asked: false,
                texts: vec![planned.text.to_string()],
                resends: 0,
                ended: None,
                said_ended: None,
                rev: 0,
            };
            self.commands.insert((number, nth), known);
        }
        self.plans.push(plan);
    }

    fn known(&mut self, at: (usize, usize)) -> &mut Known {
        self.commands.get_mut(&at).unwrap_or_else(|| panic!("{at:?} was never published"))
    }

    /// A command is met under an id: always the same one, and of nobody else.
    fn meet(&mut self, at: (usize, usize), id: CommandId) -> &mut Known {
        let before = self.by_id.insert(id, at);
        assert!(before.is_none_or(|before| before == at), "{id} is p{before:?} and p{at:?}");
        let known = self.known(at);
        assert!(known.id.is_none_or(|before| before == id), "p{at:?} is {:?} and {id}", known.id);
        assert_eq!(known.planned.server, id.server, "p{at:?} went to another server");
        known.id = Some(id);
        known
    }

    fn find(&mut self, id: CommandId) -> Option<&mut Known> {
        let at = *self.by_id.get(&id)?;
        self.commands.get_mut(&at)
    }

    /// Promises 1 and 2: one order for each key, whole, with the same ids for ever.
    pub(crate) fn on_published(&mut self, now: u64, plan: usize, published: &Published) {
        let order = &self.plans[plan].order;
        assert_eq!(published.commands.len(), order.commands.len(), "p{plan} was not accepted whole");
        let answer = (published.order, published.commands.to_vec());
        if let Some(before) = &self.plans[plan].acked {
            assert_eq!(*before, answer, "p{plan} was answered with another order before");
        }
        // Asked on two connections while a commit is waited for, both are answered after it, one of them as repeated; which
        // connection is the first to be heard is not promised.
        let heard_at_once = self.plans[plan].acked_at == now;
        let is_first = self.plans[plan].acked.replace(answer).is_none();
        assert!(published.replayed || is_first || heard_at_once, "p{plan} was accepted twice");
        if is_first {
            self.plans[plan].acked_at = now;
        }
        for (nth, id) in published.commands.iter().enumerate() {
            self.meet((plan, nth), *id);
        }
    }

    /// A delivery leaves the broker.
    fn on_delivery(&mut self, now: u64, server: ServerId, delivery: &Delivery) {
        let at = place(&delivery.text);
        let id = CommandId { server, seq: delivery.seq };
        let known = self.meet(at, id);
        assert!(!known.completed, "{id} p{at:?} is delivered although its completion was confirmed");
        assert!(!known.cancelled, "{id} p{at:?} is delivered although its cancellation was answered");
        assert!(known.ended.is_none(), "{id} p{at:?} is delivered although it is {:?}", known.ended);
        assert!(
            delivery.attempt > known.failed_attempt,
            "{id} p{at:?}: attempt {} again, whose failure was confirmed",
            delivery.attempt
        );
        assert!(
            known.texts.iter().any(|text| **text == *delivery.text),
            "{id} has another text: {}",
            delivery.text
        );
        let planned = &known.planned;
        assert!(planned.not_before.is_none_or(|at| at.0 <= now), "{id} p{at:?} is delivered before its time");
        assert!(planned.expires_at.is_none_or(|at| at.0 > now), "{id} p{at:?} is delivered after its time");
        if !std::mem::replace(&mut known.sent, true) {
            self.just_sent.push(at);
        }
        self.check_turn(now, at);
    }

    /// Deliveries in one message: those that go out for the first time are in the order of acceptance.
    pub(crate) fn on_deliveries(&mut self, now: u64, server: ServerId, deliveries: &[Delivery]) {
        let begun = self.just_sent.len();
        deliveries.iter().for_each(|delivery| self.on_delivery(now, server, delivery));
        let first: Vec<&Known> = self.just_sent[begun..].iter().map(|at| &self.commands[at]).collect();
        for pair in first.windows(2).filter(|pair| pair.iter().all(|known| known.is_plain())) {
            assert!(pair[0].id < pair[1].id, "{:?} before {:?} in one message", pair[0].id, pair[1].id);
        }
    }

    /// Whoever went out for the first time in this turn overtook nobody.
    pub(crate) fn check_orders(&mut self, now: u64) {
        for at in std::mem::take(&mut self.just_sent) {
            self.check_order(now, at);
        }
    }

    /// A delivery was handed to a connection that was gone.
    pub(crate) fn on_lost_delivery(&mut self, server: ServerId, delivery: &Delivery) {
        self.meet(place(&delivery.text), CommandId { server, seq: delivery.seq }).sent = true;
    }

    /// Commands of one server and player are first delivered in the order of acceptance; so are those without a player.
    fn check_order(&self, now: u64, at: (usize, usize)) {
        let known = &self.commands[&at];
        let id = known.id.expect("it was met");
        if !known.is_plain() {
            return;
        }
        let first = CommandId { server: id.server, seq: Seq(0) };
        for (earlier, place) in self.by_id.range(first..id) {
            let before = &self.commands[place];
            let same = before.planned.player == known.planned.player;
            let ended = before.cancel_asked || before.expired(now);
            assert!(
                !same || !before.is_plain() || before.sent || ended || before.after.is_some(),
                "{id} p{at:?} is delivered before {earlier} p{place:?}"
            );
        }
    }

    /// Ordered orders: the one before has ended.
    fn check_turn(&self, now: u64, at: (usize, usize)) {
        if !self.commands[&at].runs.iter().any(|run| run.ok) {
            let mut behind = self.commands.range((at.0, 0)..=(at.0, usize::MAX));
            let early = behind.find(|(_, known)| known.after == Some(at.1) && !known.runs.is_empty());
            assert!(early.is_none(), "p{at:?} is delivered after {early:?}, which is behind it, has run");
        }
        let Some(after) = self.commands[&at].after else { return };
        let before = &self.commands[&(at.0, after)];
        let ran = before.runs.iter().any(|run| run.ok);
        assert!(
            ran || before.cancel_asked || before.expired(now),
            "p{at:?} is delivered before p({}, {after}) has ended",
            at.0
        );
    }

    /// A plugin has learnt that it does not know what came of a command.
    pub(crate) fn on_doubt(&mut self, server: ServerId, seq: Seq, attempt: u16) {
        let Some(known) = self.find(CommandId { server, seq }) else { return };
        let resends = known.resends;
        for run in known.runs.iter_mut().filter(|run| run.attempt == attempt && !run.doubted) {
            (run.doubted, run.resends) = (true, resends);
        }
    }

    /// A plugin runs a command: promise 4's other half, never twice.
    pub(crate) fn on_run(&mut self, server: ServerId, seq: Seq, attempt: u16, text: &str, ok: bool) {
        let at = place(text);
        let known = self.known(at);
        assert_eq!(known.id, Some(CommandId { server, seq }));
        let rerun = known.planned.on_doubt == OnDoubt::Rerun;
        for run in &known.runs {
            assert!(!run.ok || run.doubted, "p{at:?} runs twice: {:?}, now attempt {attempt}", known.runs);
            assert!(run.attempt != attempt || run.doubted, "p{at:?} runs attempt {attempt} twice");
            assert!(
                run.attempt != attempt || rerun || known.resends > run.resends,
                "p{at:?} was in doubt, is to be held, and runs again although nobody asked"
            );
        }
        let resends = known.resends;
        known.runs.push(Run { attempt, ok, doubted: false, resends });
    }

    /// A result was confirmed: it is durable, and the plugin forgets the command.
    pub(crate) fn on_confirmed(&mut self, server: ServerId, result: &CommandResult) {
        let Some(known) = self.find(CommandId { server, seq: result.seq }) else { return };
        let attempt = result.attempt.unwrap_or(0);
        let true_run = known
            .runs
            .iter()
            .any(|run| run.attempt == attempt && run.ok == (result.outcome == Outcome::Completed));
        match result.outcome {
            Outcome::Completed if true_run => known.completed = true,
            Outcome::Failed if true_run && known.ended.is_none() => {
                known.failed_attempt = known.failed_attempt.max(attempt);
            }
            _ => {}
        }
    }

    // ------------------------------------------------------------ operators

    pub(crate) fn on_operate(&mut self, id: CommandId, operation: &Operation) {
        let Some(known) = self.find(id) else { return };
        match operation {
            Operation::Cancel => known.cancel_asked = true,
            Operation::Resend => known.resends += 1,
            Operation::Edit { text } => known.texts.push(text.to_string()),
        }
    }

    pub(crate) fn on_resend_many(&mut self, commands: &[(CommandId, u32)]) {
        for (id, _) in commands {
            if let Some(known) = self.find(*id) {
                known.resends += 1;
            }
        }
    }

    pub(crate) fn on_operated(&mut self, id: CommandId, operation: &Operation, row: &CommandRow) {
        let Some(known) = self.find(id) else { return };
        match operation {
            Operation::Cancel => {
                assert_eq!(row.status, Status::Cancelled, "{id}");
                known.cancelled = true;
            }
            Operation::Resend => {
                assert!(matches!(row.status, Status::Pending | Status::Expired), "{id}: {:?}", row.status);
            }
            Operation::Edit { text } => {
                assert_eq!(row.text.as_ref(), Some(text), "{id}");
                let at = known.texts.iter().position(|known| **known == **text).expect("it was asked for");
                known.texts.drain(..at);
            }
        }
        self.on_row(row);
    }

    // ------------------------------------------------------------ rows and events

    /// An event left the broker: it tells of something durable.
    pub(crate) fn on_event(&mut self, event: &Event) {
        let EventKind::Command { seq, status, .. } = &event.what else { return };
        let id = CommandId { server: event.server, seq: *seq };
        let Some(known) = self.find(id) else { return };
        let ended = known.said_ended;
        assert!(ended.is_none_or(|ended| ended == *status), "{id} was {ended:?} and is {status:?}");
        if status.is_terminal() {
            known.said_ended = Some(*status);
            known.ended = known.said_ended;
        }
    }

    /// A command as somebody is shown it: promise 3, and all that was promised of it.
    pub(crate) fn on_row(&mut self, row: &CommandRow) {
        let id = row.id;
        let text = row.text.as_deref().expect("whoever shows a row completes it");
        let at = place(text);
        assert!(!is_forged(row), "{id} p{at:?} took something from who may not: {row:?}");
        check_history(row);
        let known = self.meet(at, id);
        assert!(row.rev >= known.rev, "{id} p{at:?} goes back from revision {} to {}", known.rev, row.rev);
        known.rev = row.rev;
        assert!(known.texts.iter().any(|known| **known == *text), "{id} p{at:?} lost an edit: {text}");
        if let Some(ended) = known.ended {
            assert_eq!(row.status, ended, "{id} p{at:?} had ended");
        }
        if known.cancelled {
            assert_eq!(row.status, Status::Cancelled, "{id} p{at:?}");
        }
        if known.completed {
            assert!(row.status.is_terminal(), "{id} p{at:?} was confirmed and is {:?}", row.status);
        }
        if row.status == Status::Completed {
            assert!(known.runs.iter().any(|run| run.ok), "{id} p{at:?} is completed and never ran");
        }
        if row.status.is_terminal() {
            known.ended = Some(row.status);
        }
    }

    /// Promised commands that are not known to have ended.
    pub(crate) fn open(&self) -> impl Iterator<Item = CommandId> + '_ {
        self.by_id.iter().filter(|(_, at)| self.commands[*at].ended.is_none()).map(|(id, _)| *id)
    }

    /// What came of all of them, for the figures.
    pub(crate) fn tally(&self) -> Vec<(&'static str, u64)> {
        let count =
            |is: &dyn Fn(&Known) -> bool| self.commands.values().filter(|known| is(known)).count() as u64;
        vec![
            ("ended: completed", count(&|known| known.ended == Some(Status::Completed))),
            ("ended: cancelled", count(&|known| known.ended == Some(Status::Cancelled))),
            ("ended: expired", count(&|known| known.ended == Some(Status::Expired))),
            (
                "in doubt, then run again",
                count(&|known| known.runs.iter().any(|run| run.doubted) && known.runs.len() > 1),
            ),
        ]
    }

    /// Later sessions have higher numbers, also over restarts.
    pub(crate) fn on_welcome(&mut self, server: ServerId, epoch: u64) {
        let before = self.epochs.insert(server, epoch);
        assert!(before.is_none_or(|before| before < epoch), "{server}: epoch {epoch} after {before:?}");
    }

    /// The end: what ran for certain is told so.
    pub(crate) fn on_last_row(&mut self, row: &CommandRow) {
        self.on_row(row);
        let known = self.find(row.id).expect("just met");
        let ran = known.runs.iter().any(|run| run.ok && !run.doubted);
        assert!(row.status.is_terminal(), "{} is {:?} at the end", row.id, row.status);
        let withdrawn = matches!(row.status, Status::Cancelled | Status::Expired);
        assert!(
            !ran || row.status == Status::Completed || withdrawn,
            "{} ran and is {:?}",
            row.id,
            row.status
        );
    }
}

impl Known {
    /// Nothing but its place in the queue keeps it.
    fn is_plain(&self) -> bool {
        let planned = &self.planned;
        planned.not_before.is_none() && !planned.require_online && self.after.is_none()
    }

    fn expired(&self, now: u64) -> bool {
        self.planned.expires_at.is_some_and(|at| at.0 <= now)
    }
}

/// Every step of a history is one of the drawing in `command.rs`.
fn check_history(row: &CommandRow) {
    use Status::{AwaitingPlayer, Cancelled, Completed, Delivered, Expired, Failed, InDoubt, Pending};
    for pair in row.history.windows(2) {
        let (from, to) = (pair[0].status, pair[1].status);
        let legal = match from {
            Pending => true,
            Delivered => to != Expired,
            AwaitingPlayer => to != Delivered || pair[1].note == Note::StillHeld,
            Failed => matches!(to, Pending | Cancelled | Completed | InDoubt | Failed),
            InDoubt => matches!(to, Pending | Cancelled | Completed | Failed | AwaitingPlayer),
            Completed | Cancelled | Expired => to == from,
        };
        assert!(legal, "{}: from {from:?} to {to:?}: {row:?}", row.id);
    }
    let last = row.history.last().expect("a history has a beginning");
    assert_eq!(last.status, row.status, "{}: its history ends with another status", row.id);
}
