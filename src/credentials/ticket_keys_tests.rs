//! Tests of ticket keys: what a ticket is bound to, rotation, the file and its damages.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::super::TICKET_BYTES;
use super::super::key_ring::FILE_BYTES_MAX;
use super::*;
use crate::ids::ServerId;

const NOW: UnixMs = UnixMs(1_700_000_000_000);
const DAY: Millis = Millis(TICKET_KEY_ROTATION_MS);

fn claim() -> TicketClaim {
    TicketClaim { server: ServerId(7), generation: 3, expires_at: NOW + DAY }
}

struct Place {
    dir: tempfile::TempDir,
    data_key: DataKey,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap(), data_key: DataKey::generate() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("tickets.key")
    }

    fn open(&self, now: UnixMs) -> (TicketKeys, KeysFound) {
        TicketKeys::open(&self.path(), &self.data_key, now)
    }

    fn new_keys(&self) -> TicketKeys {
        let (keys, found) = self.open(NOW);
        assert_eq!(found, KeysFound::Missing);
        keys.write(&self.path()).unwrap();
        keys
    }
}

#[test]
fn a_ticket_is_good_until_it_expires() {
    let keys = Place::new().new_keys();
    let ticket = keys.seal(claim());
    assert_eq!(ticket.reveal().len(), TICKET_BYTES);
    assert_eq!(keys.open_ticket(ticket.reveal(), NOW), Some(claim()));
    assert_eq!(keys.open_ticket(ticket.reveal(), UnixMs(claim().expires_at.0 - 1)), Some(claim()));
    assert_eq!(keys.open_ticket(ticket.reveal(), claim().expires_at), None);
}

#[test]
fn a_ticket_with_any_changed_bit_is_refused() {
    let keys = Place::new().new_keys();
    let ticket = keys.seal(claim());
    for at in 0..TICKET_BYTES {
        for bit in 0..8 {
            let mut changed = ticket.reveal().to_vec();
            changed[at] ^= 1 << bit;
            assert_eq!(keys.open_ticket(&changed, NOW), None, "byte {at}, bit {bit}");
        }
    }
    for presented in [&[][..], &[1], &ticket.reveal()[1..], &[1; 1000]] {
        assert_eq!(keys.open_ticket(presented, NOW), None);
    }
}

#[test]
fn a_ticket_outlives_one_rotation_and_not_two() {
    let keys = Place::new().new_keys();
    let ticket = keys.seal(TicketClaim { expires_at: UnixMs(u64::MAX), ..claim() });
    let once = keys.rotated(NOW + DAY);
    assert!(once.open_ticket(ticket.reveal(), NOW).is_some());
    assert_ne!(once.seal(claim()), keys.seal(claim()), "new ones are sealed with the new key");
    let twice = once.rotated(NOW + DAY + DAY);
    assert_eq!(twice.open_ticket(ticket.reveal(), NOW), None);
    assert!(twice.open_ticket(once.seal(claim()).reveal(), NOW).is_some());
}

#[test]
fn keys_are_due_after_a_day_or_when_they_come_from_far_ahead() {
    let keys = Place::new().new_keys();
    assert!(!keys.is_due(NOW) && !keys.is_due(UnixMs(NOW.0 + DAY.0 - 1)));
    assert!(keys.is_due(NOW + DAY));
    assert!(!keys.is_due(UnixMs(NOW.0 - DAY.0)), "a clock that was set back a little");
    assert!(keys.is_due(UnixMs(NOW.0 - DAY.0 - 1)));
}

#[test]
fn the_file_keeps_both_keys_and_is_private() {
    let place = Place::new();
    let first = place.new_keys();
    let second = first.rotated(NOW + DAY);
    second.write(&place.path()).unwrap();
    let (kept, found) = place.open(NOW + DAY);
    assert_eq!(found, KeysFound::Kept);
    for keys in [&first, &second] {
        assert_eq!(kept.open_ticket(keys.seal(claim()).reveal(), NOW), Some(claim()));
    }
    assert!(!kept.is_due(NOW + DAY) && kept.is_due(NOW + DAY + DAY));
    let mode = std::fs::metadata(place.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(place.dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_damaged_file_is_noticed_whatever_is_damaged() {
    let place = Place::new();
    let keys = place.new_keys();
    keys.rotated(NOW).write(&place.path()).unwrap();
    let good = std::fs::read(place.path()).unwrap();
    assert_eq!(good.len(), FILE_BYTES_MAX);
    let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].to_vec()).collect();
    damaged.push([&good[..], &[0]].concat());
    damaged.extend((0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    }));
    for bytes in damaged {
        std::fs::write(place.path(), &bytes).unwrap();
        let (new, found) = place.open(NOW);
        assert_eq!(found, KeysFound::Damaged);
        assert_eq!(new.open_ticket(keys.seal(claim()).reveal(), NOW), None);
        assert!(!new.is_due(NOW));
    }
}

#[test]
fn the_file_of_another_data_directory_is_of_no_use() {
    let place = Place::new();
    let keys = place.new_keys();
    let other = DataKey::generate();
    let (new, found) = TicketKeys::open(&place.path(), &other, NOW);
    assert_eq!(found, KeysFound::Damaged);
    assert_eq!(new.open_ticket(keys.seal(claim()).reveal(), NOW), None);
    // Nor are the same random bytes under another data key.
    let stolen = TicketKeys::new(binding(&other), keys.ring.clone());
    assert_eq!(stolen.open_ticket(keys.seal(claim()).reveal(), NOW), None);
}

#[test]
fn nothing_of_the_keys_is_printed() {
    let keys = Place::new().new_keys();
    let shown = format!("{keys:?}");
    assert_eq!(shown, format!("TicketKeys {{ current: {}, .. }}", keys.ring.current().number()));
}
