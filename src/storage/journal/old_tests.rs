//! A directory of format 1 becomes one of today, whatever moment of that a crash leaves; no earlier program takes it back.

use std::path::Path;

use redb::Builder;

use super::*;
use crate::storage::contract::{Journal, Recovered};
use crate::storage::open::{OpenOptions, open};
use crate::storage::registry::{REGISTRY_FILE, RegistryDb};
use crate::storage::tables::FORMAT_VERSION;

fn fixture() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1");
    for name in [OLD_JOURNAL_FILE, STORE_FILE, REGISTRY_FILE] {
        fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    dir
}

/// Frames that a start replays, with their commits; it dies without an orderly end.
fn frames(dir: &Path) -> Vec<(u64, u16, u64)> {
    let (rest, recovery) = open(dir, OpenOptions::default()).unwrap();
    let mut found = Vec::new();
    let replayed = recovery.replay(&rest, &mut |piece| {
        if let Recovered::Frame { frame, .. } = piece {
            found.push((frame.commit.0, frame.shard.0, frame.no.0));
        }
    });
    drop((replayed.unwrap(), rest));
    found
}

fn version(dir: &Path, name: &str) -> Option<u32> {
    let db = Builder::new().open(dir.join(name)).unwrap();
    format_of(&db.begin_read().unwrap(), &DbFile::new(Path::new(name))).unwrap()
}

#[test]
fn a_directory_of_format_1_is_upgraded_once() {
    let dir = fixture();
    let found = frames(dir.path());
    assert!(found.len() > 3, "the fixture has commits in its journal");
    assert!(!dir.path().join(OLD_JOURNAL_FILE).exists());
    assert_eq!(version(dir.path(), STORE_FILE), Some(FORMAT_VERSION), "an earlier program refuses it");
    drop(RegistryDb::open(dir.path()).unwrap());
    assert_eq!(version(dir.path(), REGISTRY_FILE), Some(FORMAT_VERSION));
    assert_eq!(frames(dir.path()), found, "the second start finds the same");
}

#[test]
fn an_upgrade_that_was_cut_short_is_made_again_until_the_store_says_that_it_counts() {
    let expected = frames(fixture().path());
    // A log of another directory, without a commit: whoever took it would find nothing.
    let other = tempfile::tempdir().unwrap();
    drop(open(other.path(), OpenOptions::default()).unwrap());
    let empty = other.path().join(JOURNAL_FILE);

    let half = fixture();
    fs::write(half.path().join("journal.new"), b"half").unwrap();
    assert_eq!(frames(half.path()), expected);
    assert!(!half.path().join("journal.new").exists());

    let not_yet = fixture();
    fs::copy(&empty, not_yet.path().join(JOURNAL_FILE)).unwrap();
    assert_eq!(frames(not_yet.path()), expected, "the old journal counts: the store is of format 1");

    let counts = fixture();
    let old = fs::read(counts.path().join(OLD_JOURNAL_FILE)).unwrap();
    frames(counts.path());
    let (rest, recovery) = open(counts.path(), OpenOptions::default()).unwrap();
    let (mut journal, _) = recovery.replay(&rest, &mut |_| {}).unwrap();
    let last = journal.append(&[]).unwrap();
    journal.trim(last).unwrap();
    drop((journal, rest));
    fs::write(counts.path().join(OLD_JOURNAL_FILE), old).unwrap();
    assert_eq!(frames(counts.path()), [], "the log counts: all of it was forgotten since");
    assert!(!counts.path().join(OLD_JOURNAL_FILE).exists());
}

#[test]
fn a_damaged_old_journal_is_named_and_left() {
    let dir = fixture();
    let path = dir.path().join(OLD_JOURNAL_FILE);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).rposition(|found| found == [b'f', b'r', 1, 1]).unwrap();
    bytes[at + 30] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = open(dir.path(), OpenOptions::default()).unwrap_err();
    assert!(error.to_string().contains("journal.redb is damaged"), "{error}");
    assert!(path.exists() && !dir.path().join(JOURNAL_FILE).exists());
}
