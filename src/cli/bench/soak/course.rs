//! What is known of every command of a soak: when it was meant to be sent, what it is there for, and what became of it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::client::{
    DeliveredCommand, Order, OrderCommand, Player, PluginHandler, Report as Outcome, Servers,
};
use crate::ids::{Seq, ServerId};
use crate::load::{histogram, note_time, now, number, numbered};

/// Who is needed by the commands that need somebody.
pub(super) const PLAYER: &str = "steve";
/// Numbers of a soak's commands begin here, so that a late one of the closed loop before it is not taken for one of these.
const FIRST: u64 = 1 << 32;
/// Of so many commands one fails at first, and one needs a player.
const MIX: u64 = 64;

/// What a command is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// To arrive: its time is noted.
    Plain,
    /// To fail at its first attempt.
    Fails,
    /// To wait until its player is online.
    NeedsPlayer,
}

fn kind(number: u64) -> Kind {
    match number % MIX {
        21 => Kind::Fails,
        42 => Kind::NeedsPlayer,
        _ => Kind::Plain,
    }
}

/// Facts of a command, as bits.
const REFUSED: u8 = 1;
const FAILED: u8 = 2;
const RAN: u8 = 4;
const CONFIRMED: u8 = 8;

/// See the module.
pub(super) struct Course {
    start: OnceLock<Instant>,
    stopped: AtomicBool,
    interval: Duration,
    bytes: usize,
    fates: Vec<AtomicU8>,
    /// Commands confirmed as durable and delivered again all the same.
    again: AtomicU64,
    /// Deliveries of what had run, whose report was cut off.
    repeated: AtomicU64,
    failed: AtomicU64,
    waited: AtomicU64,
    /// Of plain commands for servers whose connection is not cut, since they were taken last.
    times: Mutex<Histogram<u64>>,
}

/// What happened in a soak, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) ran: u64,
    pub(super) refused: u64,
    pub(super) missing: u64,
    pub(super) again: u64,
    pub(super) repeated: u64,
    pub(super) failed: u64,
    pub(super) waited: u64,
}

impl Course {
    /// So many commands, one each interval from its beginning on.
    pub(super) fn new(commands: u64, interval: Duration, bytes: usize) -> Course {
        Course {
            start: OnceLock::new(),
            stopped: AtomicBool::new(false),
            interval,
            bytes,
            fates: (0..commands).map(|_| AtomicU8::new(0)).collect(),
            again: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            times: Mutex::new(histogram()),
        }
    }

    /// From now on.
    pub(super) fn begin(&self) -> Instant {
        *self.start.get_or_init(now)
    }

    /// No more are sent.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether more are to be sent.
    pub(super) fn goes_on(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }

    /// The number of a text, if it is of this course.
    fn number(&self, text: &str) -> Option<u64> {
        number(text)?.checked_sub(FIRST).filter(|number| *number < self.commands())
    }

    /// How many there are.
    pub(super) fn commands(&self) -> u64 {
        self.fates.len() as u64
    }

    /// When a command is meant to be sent.
    pub(super) fn intended(&self, number: u64) -> Instant {
        let start = *self.start.get().expect("it has begun before anything is sent");
        start + Duration::from_nanos(self.interval.as_nanos() as u64 * number)
    }

    /// The order of a command.
    pub(super) fn order(&self, number: u64, server: ServerId) -> Order {
        let mut command = OrderCommand::new(Servers::One(server), numbered(FIRST + number, self.bytes));
        if kind(number) == Kind::NeedsPlayer {
            command.player = Some(Player::named(PLAYER));
            command.require_online = true;
        }
        Order { commands: vec![command], ..Order::default() }
    }

    /// It was not taken.
    pub(super) fn refused(&self, number: u64) {
        self.add(number, REFUSED);
    }

    /// The times of plain commands since the last call.
    pub(super) fn take_times(&self) -> Histogram<u64> {
        std::mem::replace(&mut self.times.lock(), histogram())
    }

    /// What happened so far.
    pub(super) fn sums(&self) -> Sums {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut sums = Sums {
            again: count(&self.again),
            repeated: count(&self.repeated),
            failed: count(&self.failed),
            waited: count(&self.waited),
            ..Sums::default()
        };
        for fate in &self.fates {
            let fate = fate.load(Ordering::Relaxed);
            sums.ran += u64::from(fate & RAN != 0);
            sums.refused += u64::from(fate & REFUSED != 0);
            sums.missing += u64::from(fate & (RAN | REFUSED) == 0);
        }
        sums
    }

    /// Notes a fact of a command; gives what was known before.
    fn add(&self, number: u64, fact: u8) -> u8 {
        self.fates[number as usize].fetch_or(fact, Ordering::Relaxed)
    }

    /// A delivery, at a time that is worth noting: what the server has to say of it.
    fn run(&self, number: u64, command: &DeliveredCommand, now: Option<Instant>) -> Outcome {
        let before = self.fates[number as usize].load(Ordering::Relaxed);
        if before & CONFIRMED != 0 {
            self.again.fetch_add(1, Ordering::Relaxed);
        } else if before & RAN != 0 {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        } else if kind(number) == Kind::Fails && before & FAILED == 0 {
            self.add(number, FAILED);
            self.failed.fetch_add(1, Ordering::Relaxed);
            return command.failed("the bench wants it to fail once");
        } else {
            self.add(number, RAN);
            match (kind(number), now) {
                (Kind::Plain, Some(now)) => {
                    let waited = now.saturating_duration_since(self.intended(number));
                    note_time(&mut self.times.lock(), waited);
                }
                (Kind::NeedsPlayer, _) => drop(self.waited.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            }
        }
        command.completed(None)
    }
}

/// A game server of the soak: what it ran is noted in the course, and is not run again.
pub(super) struct Member {
    course: Arc<Course>,
    /// Its connection is not cut: when its commands come says something of the broker.
    timed: bool,
    /// Ran, and not confirmed.
    unconfirmed: Vec<(Seq, u64)>,
}

impl Member {
    pub(super) fn new(course: Arc<Course>, timed: bool) -> Member {
        Member { course, timed, unconfirmed: Vec::new() }
    }
}

impl PluginHandler for Member {
    fn run(&mut self, commands: Vec<DeliveredCommand>, reports: &mut Vec<Outcome>) {
        let now = self.timed.then(now);
        for command in &commands {
            let Some(number) = self.course.number(&command.text) else { continue };
            let report = self.course.run(number, command, now);
            if report.error.is_none() {
                self.unconfirmed.push((command.id.seq, number));
            }
            reports.push(report);
        }
    }

    fn confirmed(&mut self, commands: &[Seq]) {
        let course = &self.course;
        self.unconfirmed.retain(|(seq, number)| {
            let confirmed = commands.contains(seq);
            if confirmed {
                course.add(*number, CONFIRMED);
            }
            !confirmed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CommandId;

    fn delivered(course: &Course, number: u64, attempt: u16) -> DeliveredCommand {
        let order = course.order(number, ServerId(1));
        DeliveredCommand {
            id: CommandId { server: ServerId(1), seq: Seq(number + 1) },
            attempt,
            text: order.commands[0].text.clone(),
            player: None,
            require_online: false,
            rerun: false,
        }
    }

    #[test]
    fn each_command_has_one_fate() {
        let course = Arc::new(Course::new(64, Duration::from_millis(1), 32));
        course.begin();
        let mut member = Member::new(Arc::clone(&course), true);
        let mut reports = Vec::new();
        member.run(vec![delivered(&course, 0, 1), delivered(&course, 21, 1)], &mut reports);
        assert!(reports[0].error.is_none() && reports[1].error.is_some());
        member.run(vec![delivered(&course, 21, 2), delivered(&course, 42, 1)], &mut reports);
        member.confirmed(&[Seq(1)]);
        course.refused(1);
        // Both come again: the one whose report was confirmed must not.
        member.run(vec![delivered(&course, 0, 2), delivered(&course, 42, 2)], &mut reports);
        let sums = course.sums();
        assert_eq!((sums.ran, sums.refused, sums.missing), (3, 1, 60));
        assert_eq!((sums.again, sums.repeated, sums.failed, sums.waited), (1, 1, 1, 1));
        assert_eq!(course.take_times().len(), 1);
    }
}
