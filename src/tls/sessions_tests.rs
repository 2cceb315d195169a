//! Tests of session keys: what a ticket is bound to, rotation, the file.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const NOW: u64 = 1_700_000_000_000;
const DAY: u64 = TLS_SESSION_KEY_ROTATION_MS;
const SESSION: &[u8] = b"a session's secret";

struct Place {
    dir: tempfile::TempDir,
    now: Arc<AtomicU64>,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap(), now: Arc::new(AtomicU64::new(NOW)) }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("data/sessions.key")
    }

    /// Of the certificate with this number.
    fn open(&self, certificate: u8) -> KeptSessions {
        let now = self.now.clone();
        let clock = Arc::new(move || UnixMs(now.load(Ordering::Relaxed)));
        let certificate = Fingerprint::of(&vec![certificate].into());
        KeptSessions::open(self.file(), certificate, clock)
    }

    fn at(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }
}

#[test]
fn a_ticket_is_taken_after_a_restart_and_shows_nothing() {
    let place = Place::new();
    let ticket = place.open(1).encrypt(SESSION).unwrap();
    assert_eq!(place.open(1).decrypt(&ticket).as_deref(), Some(SESSION));
    assert!(!ticket.windows(4).any(|bytes| SESSION.windows(4).any(|other| other == bytes)));
    assert_ne!(place.open(1).encrypt(SESSION).unwrap(), ticket, "a nonce of its own");
    let mode = std::fs::metadata(place.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(place.file().parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_ticket_that_is_altered_or_none_of_ours_is_refused() {
    let place = Place::new();
    let sessions = place.open(1);
    let ticket = sessions.encrypt(SESSION).unwrap();
    for at in 0..ticket.len() {
        for bit in 0..8 {
            let mut altered = ticket.clone();
            altered[at] ^= 1 << bit;
            assert_eq!(sessions.decrypt(&altered), None, "byte {at}, bit {bit}");
        }
    }
    for length in 0..ticket.len() {
        assert_eq!(sessions.decrypt(&ticket[..length]), None);
    }
    assert_eq!(sessions.decrypt(&[&ticket[..], &[0; TLS_TICKET_BYTES_MAX]].concat()), None);
    assert_eq!(sessions.encrypt(&[0; TLS_TICKET_BYTES_MAX]), None, "what would not be taken is not given");
    let other = Place::new().open(1);
    assert_eq!(other.decrypt(&ticket), None);
    // Not even under the same number.
    let number = other.keys.load().alive[0].number.to_le_bytes();
    assert_eq!(other.decrypt(&[&number[..], &ticket[NUMBER_BYTES..]].concat()), None);
}

#[test]
fn another_certificate_ends_all_sessions_and_coming_back_to_the_old_one_too() {
    let place = Place::new();
    let ticket = place.open(1).encrypt(SESSION).unwrap();
    assert_eq!(place.open(2).decrypt(&ticket), None);
    assert_eq!(place.open(1).decrypt(&ticket), None);
    // Without its keys' file too.
    let sessions = place.open(1);
    let ticket = sessions.encrypt(SESSION).unwrap();
    assert!(sessions.decrypt(&ticket).is_some());
    std::fs::remove_file(place.file()).unwrap();
    assert_eq!(place.open(1).decrypt(&ticket), None);
}

#[test]
fn the_same_random_keys_are_worth_nothing_under_another_certificate() {
    let place = Place::new();
    let sessions = place.open(1);
    let ticket = sessions.encrypt(SESSION).unwrap();
    let ring = sessions.keys.load().ring.clone();
    let other = place.open(2);
    other.keys.store(Arc::new(Keys::new(ring, other.certificate)));
    assert_eq!(other.decrypt(&ticket), None);
}

#[test]
fn a_ticket_outlives_one_rotation_and_not_two() {
    let place = Place::new();
    let sessions = place.open(1);
    let first = sessions.encrypt(SESSION).unwrap();
    place.at(NOW + DAY - 1);
    sessions.renew_if_due();
    assert_eq!(sessions.encrypt(SESSION).unwrap()[..NUMBER_BYTES], first[..NUMBER_BYTES]);
    place.at(NOW + DAY);
    sessions.renew_if_due();
    let second = sessions.encrypt(SESSION).unwrap();
    assert_ne!(second[..NUMBER_BYTES], first[..NUMBER_BYTES]);
    for sessions in [&sessions, &place.open(1)] {
        assert!(sessions.decrypt(&first).is_some() && sessions.decrypt(&second).is_some());
    }
    place.at(NOW + 2 * DAY - 1);
    assert!(sessions.decrypt(&first).is_some());
    place.at(NOW + 2 * DAY);
    assert!(sessions.decrypt(&first).is_none(), "whether or not there was a rotation");
    sessions.renew_if_due();
    assert!(sessions.decrypt(&first).is_none() && sessions.decrypt(&second).is_some());
}

#[test]
fn a_broker_that_was_stopped_for_days_takes_no_old_tickets() {
    let place = Place::new();
    let ticket = place.open(1).encrypt(SESSION).unwrap();
    place.at(NOW + 2 * DAY);
    let sessions = place.open(1);
    assert_eq!(sessions.decrypt(&ticket), None);
    let ticket = sessions.encrypt(SESSION).unwrap();
    assert!(place.open(1).decrypt(&ticket).is_some(), "the new key is in the file");
}

#[test]
fn a_key_that_cannot_be_written_is_not_used() {
    let place = Place::new();
    let sessions = place.open(1);
    let before = sessions.encrypt(SESSION).unwrap();
    // A folder where the new file would be written.
    let beside = place.file().with_extension("key.new");
    std::fs::create_dir(&beside).unwrap();
    place.at(NOW + DAY);
    sessions.renew_if_due();
    assert_eq!(sessions.encrypt(SESSION).unwrap()[..NUMBER_BYTES], before[..NUMBER_BYTES]);
    std::fs::remove_dir(&beside).unwrap();
    sessions.renew_if_due();
    assert_eq!(
        sessions.encrypt(SESSION).unwrap()[..NUMBER_BYTES],
        before[..NUMBER_BYTES],
        "not at once again"
    );
    place.at(NOW + DAY + ROTATION_PAUSE.0);
    sessions.renew_if_due();
    assert_ne!(sessions.encrypt(SESSION).unwrap()[..NUMBER_BYTES], before[..NUMBER_BYTES]);
}

#[test]
fn nothing_of_the_keys_is_printed() {
    let place = Place::new();
    let sessions = place.open(1);
    let shown = format!("{sessions:?}");
    assert_eq!(shown, format!("KeptSessions {{ file: {:?}, .. }}", place.file()));
}
