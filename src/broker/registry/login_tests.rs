//! Tests of logins at the registry: tickets and generations, what is durable when, failed logins of one network.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::task::Poll;

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::registry_tests::{HERE, new, open, options};
use super::*;
use crate::broker::login::{Network, Origin};
use crate::limits::{LOGINS_WAITING_PER_SUBJECT_MAX, WRONG_CREDENTIALS_PER_SUBJECT_MAX};

/// Another network than `HERE`.
const ELSEWHERE: Origin =
    Origin { network: Network::of(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))), ..HERE };

fn ticket_of(registry: &Registry, server: &Server) -> Vec<u8> {
    registry.give_ticket(server.id, server.generation).unwrap().0.reveal().to_vec()
}

#[tokio::test]
async fn a_ticket_costs_no_hash_and_may_be_shown_again() {
    let (_dir, registry, _) = new();
    let (server, _) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    let ticket = ticket_of(&registry, &server);
    for _ in 0..1000 {
        assert_eq!(registry.check_ticket(&ticket, None, HERE).await.as_ref(), Ok(&server));
    }
    let counts = registry.login_counts();
    assert_eq!((counts.by_ticket, counts.by_token, counts.hashed, counts.recalled), (1000, 0, 0, 0));
}

/// The hash of the old token is right, but by the time that it is computed the token is none any more.
#[tokio::test]
async fn a_token_that_is_regenerated_while_it_is_checked_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let slow = RegistryOptions { hash_cost: HashCost { memory_kib: 1024, passes: 4 }, ..options() };
    let (registry, _) = Registry::open(dir.path(), slow, |error| panic!("the disk failed: {error}")).unwrap();
    for number in 0.. {
        let by = registry.by(Actor::LOCAL);
        let (server, old) = by.create_server(DEFAULT_STORE, &format!("lobby {number}"), "").await.unwrap();
        let mut check = std::pin::pin!(registry.check_token(old.reveal(), HERE));
        // The hash may have been faster than we are; then the next may be slower.
        if std::future::poll_fn(|cx| Poll::Ready(check.as_mut().poll(cx).is_pending())).await {
            by.regenerate_token(server.id).await.unwrap();
            return assert_eq!(check.await, Err(AuthError::Invalid));
        }
    }
}

#[tokio::test]
async fn a_ticket_dies_with_its_generation_and_its_server() {
    let (dir, registry, _) = new();
    let (server, old) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    let (other, _) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "arena", "").await.unwrap();
    let (ticket, others) = (ticket_of(&registry, &server), ticket_of(&registry, &other));
    registry.check_ticket(&ticket, None, HERE).await.unwrap();
    registry.by(Actor::LOCAL).update_server(server.id, Some("hub"), None).await.unwrap();
    assert_eq!(
        &*registry.check_ticket(&ticket, None, HERE).await.unwrap().name,
        "hub",
        "a name is no generation"
    );

    let new = registry.by(Actor::LOCAL).regenerate_token(server.id).await.unwrap();
    let refused = registry.check_ticket(&ticket, None, HERE).await;
    assert_eq!(refused, Err(AuthError::Invalid));
    assert_eq!(registry.check_ticket(&ticket, Some(old.reveal()), HERE).await, refused);
    let let_in = registry.check_ticket(&ticket, Some(new.reveal()), HERE).await.unwrap();
    assert_eq!(let_in.generation, 2);
    assert_eq!(registry.check_ticket(&others, None, HERE).await.unwrap().id, other.id);

    registry.by(Actor::LOCAL).remove_server(other.id).await.unwrap();
    assert_eq!(registry.check_ticket(&others, None, HERE).await, Err(AuthError::Invalid));
    let next = ticket_of(&registry, &let_in);
    drop(registry);
    let (registry, _) = open(dir.path()).unwrap();
    assert_eq!(registry.check_ticket(&next, None, HERE).await.unwrap(), let_in, "a restart keeps it");
    assert_eq!(registry.check_ticket(&ticket, None, HERE).await, Err(AuthError::Invalid));
}

#[tokio::test]
async fn a_ticket_goes_first_and_at_most_one_hash_is_spent() {
    let (_dir, registry, _) = new();
    let (server, token) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    let (_, others) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "arena", "").await.unwrap();
    let ticket = ticket_of(&registry, &server);
    // The credential beside a good ticket is not looked at.
    for beside in [token.reveal(), others.reveal(), "nonsense"] {
        assert_eq!(registry.check_ticket(&ticket, Some(beside), HERE).await.unwrap(), server);
    }
    assert_eq!(registry.login_counts().hashed, 0);
    let mut altered = ticket.clone();
    altered[6] ^= 1;
    for bad in [&altered[..], &[], &[1, 2, 3]] {
        assert_eq!(registry.check_ticket(bad, Some(token.reveal()), HERE).await.unwrap(), server);
    }
    let counts = registry.login_counts();
    assert_eq!((counts.hashed, counts.recalled, counts.by_token, counts.tickets_refused), (1, 2, 3, 3));
}

#[tokio::test]
async fn what_is_plausible_has_the_right_tag_and_the_right_kind() {
    let (_dir, registry, admin) = new();
    let (server, token) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    let (_, key) = registry.by(Actor::LOCAL).create_key(DEFAULT_STORE, Scope::Read, "shop").await.unwrap();
    registry.by(Actor::LOCAL).regenerate_token(server.id).await.unwrap();
    assert!(registry.is_plausible_token(token.reveal()), "an old one still has the right tag");
    assert!(registry.is_plausible_key(key.reveal()) && registry.is_plausible_key(admin.reveal()));
    for text in [key.reveal(), admin.reveal(), "", "srv_1.x", &token.reveal()[1..]] {
        assert!(!registry.is_plausible_token(text));
    }
    assert!(!registry.is_plausible_key(token.reveal()));
    let counts = registry.login_counts();
    assert_eq!((counts.forged, counts.hashed), (0, 0));
}

#[tokio::test]
async fn old_tokens_by_the_thousand_keep_nobody_out() {
    let (_dir, registry, _) = new();
    let (server, first) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    let mut old = vec![first];
    for _ in 1..WRONG_CREDENTIALS_PER_SUBJECT_MAX {
        old.push(registry.by(Actor::LOCAL).regenerate_token(server.id).await.unwrap());
    }
    let right = registry.by(Actor::LOCAL).regenerate_token(server.id).await.unwrap();
    for round in 0..1000 {
        let refused = registry.check_token(old[round % old.len()].reveal(), HERE).await;
        assert!(!matches!(refused, Ok(_) | Err(AuthError::Busy { .. })), "{refused:?}");
    }
    let LoginCounts { hashed, limited, .. } = registry.login_counts();
    assert_eq!(hashed, old.len() as u64, "each of them cost one hash");
    assert_eq!(limited, 1000 - u64::from(FailedLoginLimit::default().burst), "they are charged");
    // From the same network, and from another.
    for origin in [HERE, ELSEWHERE] {
        assert!(registry.check_token(right.reveal(), origin).await.is_ok());
    }
    assert_eq!(registry.login_counts().hashed, hashed + 1);
}

#[tokio::test]
async fn a_network_that_fails_too_often_gets_half_of_the_places() {
    let dir = tempfile::tempdir().unwrap();
    // Slow enough that all of them wait at the same time.
    let hash_cost = HashCost { memory_kib: 19 * 1024, passes: 8 };
    let options = RegistryOptions { login_threads: 1, hash_cost, ..options() };
    let (registry, _) = Registry::open(dir.path(), options, |error| panic!("{error}")).unwrap();
    for (server, origin, all_fit) in [("lobby", ELSEWHERE, true), ("arena", HERE, false)] {
        let (server, first) =
            registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, server, "").await.unwrap();
        let mut old = vec![first];
        for _ in 1..LOGINS_WAITING_PER_SUBJECT_MAX {
            old.push(registry.by(Actor::LOCAL).regenerate_token(server.id).await.unwrap());
        }
        for _ in 0..FailedLoginLimit::default().burst {
            registry.check_token("forged", HERE).await.unwrap_err();
        }
        let checks = old.iter().map(|token| registry.check_token(token.reveal(), origin));
        let checked = futures_util::future::join_all(checks).await;
        let busy = checked.iter().any(|result| matches!(result, Err(AuthError::Busy { .. })));
        assert_eq!(busy, !all_fit, "{checked:?}");
    }
}

#[tokio::test]
async fn a_network_that_fails_too_often_is_told_to_come_back_and_right_ones_pass() {
    let (_dir, registry, _) = new();
    let (server, token) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    let ticket = ticket_of(&registry, &server);
    for _ in 0..10_000 {
        registry.check_token(token.reveal(), HERE).await.unwrap();
    }
    let wrong = "srv_1.00000000000000000000000000000000";
    let mut answers = Vec::new();
    for round in 0..300 {
        // All kinds of failures are charged alike.
        answers.push(match round % 3 {
            0 => registry.check_token(wrong, HERE).await.unwrap_err(),
            1 => registry.check_key("nonsense", HERE).await.unwrap_err(),
            _ => registry.check_ticket(&[1], None, HERE).await.unwrap_err(),
        });
    }
    let burst = FailedLoginLimit::default().burst as usize;
    assert!(answers[..burst].iter().all(|answer| *answer == AuthError::Invalid), "successes are not charged");
    let limited = AuthError::Limited { retry_after_ms: 100 };
    assert!(answers[burst..].iter().all(|answer| *answer == limited), "{:?}", answers[burst]);
    assert_eq!(registry.login_counts().limited, 300 - burst as u64);
    registry.check_token(token.reveal(), HERE).await.unwrap();
    registry.check_ticket(&ticket, None, HERE).await.unwrap();
    assert_eq!(registry.check_token(wrong, ELSEWHERE).await, Err(AuthError::Invalid));
    // A refused ticket with a right token beside it is no failure.
    registry.check_ticket(&[1], Some(token.reveal()), HERE).await.unwrap();
}

/// Says that a sync has begun, and waits until the other end of the second is dropped.
type Gate = (mpsc::Sender<()>, mpsc::Receiver<()>);

/// Memory in which a sync waits for a sign, once it is told to.
#[derive(Debug)]
struct GatedDisk {
    memory: InMemoryBackend,
    gate: Arc<Mutex<Option<Gate>>>,
}

impl StorageBackend for GatedDisk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        if let Some((reached, proceed)) = self.gate.lock().take() {
            reached.send(()).unwrap();
            let _ = proceed.recv();
        }
        self.memory.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(offset, data)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_is_durable_before_it_counts_and_counts_before_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Mutex::new(None));
    let disk = GatedDisk { memory: InMemoryBackend::new(), gate: Arc::clone(&gate) };
    let db = RegistryDb::open_with_backend(disk).unwrap();
    let (registry, _) = Registry::open_on(db, dir.path(), options(), |error| panic!("{error}")).unwrap();
    let registry = Arc::new(registry);
    let (server, token) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    let ticket = ticket_of(&registry, &server);

    let (reached, at_the_disk) = mpsc::channel();
    let (proceed, proceeds) = mpsc::channel::<()>();
    *gate.lock() = Some((reached, proceeds));
    let regenerating = {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move { registry.by(Actor::LOCAL).regenerate_token(server.id).await })
    };
    at_the_disk.recv().unwrap();
    // Not synced: a crash now would bring the old generation back, so nothing may have been said of the new one.
    assert!(!regenerating.is_finished());
    assert!(registry.check_ticket(&ticket, None, HERE).await.is_ok());
    assert!(registry.check_token(token.reveal(), HERE).await.is_ok());
    drop(proceed);
    let new = regenerating.await.unwrap().unwrap();
    assert_eq!(registry.check_ticket(&ticket, None, HERE).await, Err(AuthError::Invalid));
    assert_eq!(registry.check_token(token.reveal(), HERE).await, Err(AuthError::Invalid));
    assert_eq!(registry.check_token(new.reveal(), HERE).await.unwrap().generation, 2);
}

#[tokio::test]
async fn half_a_day_before_its_end_a_ticket_is_to_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(1_700_000_000_000));
    let clock = Arc::clone(&now);
    let clock: Clock = Arc::new(move || UnixMs(clock.load(Ordering::Relaxed)));
    let (registry, _) =
        Registry::open(dir.path(), RegistryOptions { clock, ..options() }, |error| panic!("{error}"))
            .unwrap();
    let (server, _) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    let (ticket, renew_at) = registry.give_ticket(server.id, server.generation).unwrap();
    now.store(renew_at.0, Ordering::Relaxed);
    assert!(registry.check_ticket(ticket.reveal(), None, HERE).await.is_ok());
    now.store(renew_at.0 + 12 * 3600 * 1000 - 1, Ordering::Relaxed);
    assert!(registry.check_ticket(ticket.reveal(), None, HERE).await.is_ok());
    now.store(renew_at.0 + 12 * 3600 * 1000, Ordering::Relaxed);
    assert!(registry.check_ticket(ticket.reveal(), None, HERE).await.is_err());
}
