//! Tests of tickets over a real file, with a clock that is set by hand.

use super::*;
use crate::limits::TICKET_KEY_ROTATION_MS;

const START: u64 = 1_700_000_000_000;
const DAY: Millis = Millis(TICKET_KEY_ROTATION_MS);
const HOUR: Millis = Millis::seconds(3600);

struct World {
    dir: tempfile::TempDir,
    data_key: DataKey,
    now: Arc<AtomicU64>,
}

impl World {
    fn new() -> World {
        World {
            dir: tempfile::tempdir().unwrap(),
            data_key: DataKey::generate(),
            now: Arc::new(AtomicU64::new(START)),
        }
    }

    fn open(&self, lifetime: Millis) -> Tickets {
        let now = Arc::clone(&self.now);
        let clock: Clock = Arc::new(move || UnixMs(now.load(Ordering::Relaxed)));
        Tickets::open(self.dir.path(), &self.data_key, lifetime, clock, None)
    }

    fn pass(&self, time: Millis) {
        self.now.fetch_add(time.0, Ordering::Relaxed);
    }
}

fn give(tickets: &Tickets) -> Ticket {
    tickets.give(ServerId(7), 3).unwrap().0
}

/// Waits for the rotation that runs beside.
fn settle(tickets: &Tickets) {
    let rotation = tickets.rotation.lock().take();
    rotation.expect("a rotation was begun").join().unwrap();
}

#[test]
fn a_ticket_outlives_a_restart_and_lasts_its_lifetime() {
    let world = World::new();
    let (ticket, half) = world.open(DAY).give(ServerId(7), 3).unwrap();
    assert_eq!(half, UnixMs(START + DAY.0 / 2));
    let claim = world.open(DAY).open_ticket(ticket.reveal()).unwrap();
    let expires_at = UnixMs(START) + DAY;
    assert_eq!(claim, TicketClaim { server: ServerId(7), generation: 3, expires_at });
    world.pass(Millis(DAY.0 - 1));
    assert!(world.open(HOUR).open_ticket(ticket.reveal()).is_some());
    world.pass(Millis(1));
    assert_eq!(world.open(DAY).open_ticket(ticket.reveal()), None);
}

#[test]
fn keys_rotate_daily_beside_the_logins_and_every_ticket_lasts_its_lifetime() {
    let world = World::new();
    let tickets = world.open(DAY);
    let mut given = Vec::new();
    for hour in 0..24 * 7 {
        let file = std::fs::read(world.dir.path().join(TICKET_KEYS_FILE)).unwrap();
        given.push(give(&tickets));
        if hour > 0 && hour % 24 == 0 {
            settle(&tickets);
            let rotated = std::fs::read(world.dir.path().join(TICKET_KEYS_FILE)).unwrap();
            assert_ne!(file, rotated, "day {}", hour / 24);
        }
        assert!(tickets.rotation.lock().is_none());
        let good = given.iter().filter(|ticket| tickets.open_ticket(ticket.reveal()).is_some()).count();
        assert_eq!(good, given.len().min(24), "those of the last 24 hours, hour {hour}");
        world.pass(HOUR);
    }
}

#[test]
fn two_rotations_kill_a_ticket_even_if_it_lasts_longer() {
    let world = World::new();
    let tickets = world.open(Millis(10 * DAY.0));
    let ticket = give(&tickets);
    for alive in [true, false] {
        world.pass(DAY);
        give(&tickets);
        settle(&tickets);
        assert_eq!(tickets.open_ticket(ticket.reveal()).is_some(), alive);
    }
}

#[test]
fn keys_that_came_of_age_while_nothing_ran_rotate_at_the_start() {
    let world = World::new();
    let ticket = give(&world.open(Millis(10 * DAY.0)));
    world.pass(DAY);
    let tickets = world.open(Millis(10 * DAY.0));
    assert!(tickets.open_ticket(ticket.reveal()).is_some());
    give(&tickets);
    assert!(tickets.rotation.lock().is_none(), "it was done");
}

#[test]
fn a_lost_or_damaged_file_costs_the_tickets_and_nothing_else() {
    let world = World::new();
    let path = world.dir.path().join(TICKET_KEYS_FILE);
    for damage in [None, Some(&b"no keys"[..]), Some(&[0; 200])] {
        let ticket = give(&world.open(DAY));
        match damage {
            None => std::fs::remove_file(&path).unwrap(),
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
        }
        let tickets = world.open(DAY);
        assert_eq!(tickets.open_ticket(ticket.reveal()), None);
        let new = give(&tickets);
        assert!(world.open(DAY).open_ticket(new.reveal()).is_some(), "the new keys are in the file");
    }
}

#[test]
fn a_rotation_that_cannot_be_written_changes_nothing_and_is_tried_again() {
    let world = World::new();
    let tickets = world.open(DAY);
    // A folder in the place of the file that is written first.
    let beside = world.dir.path().join("tickets.key.new");
    std::fs::create_dir(&beside).unwrap();
    world.pass(DAY);
    let ticket = give(&tickets);
    settle(&tickets);
    assert!(world.open(DAY).open_ticket(ticket.reveal()).is_some(), "sealed with a key that is in the file");
    give(&tickets);
    assert!(tickets.rotation.lock().is_none(), "not at every login");
    std::fs::remove_dir(&beside).unwrap();
    world.pass(ROTATION_PAUSE);
    give(&tickets);
    settle(&tickets);
    assert!(!tickets.shared.keys.load().is_due(UnixMs(world.now.load(Ordering::Relaxed))));
}

#[test]
fn without_a_lifetime_there_are_none() {
    let world = World::new();
    let ticket = give(&world.open(DAY));
    let off = world.open(Millis(0));
    assert!(off.give(ServerId(7), 3).is_none());
    assert_eq!(off.open_ticket(ticket.reveal()), None);
}
