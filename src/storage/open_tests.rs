//! Opening a directory: made privately, marked when closed in order, refused while in use.

use std::os::unix::fs::PermissionsExt;

use redb::ReadableDatabase;

use super::*;
use crate::storage::tables::format_of;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_directory_is_private_and_a_clean_end_is_remembered_once() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    let (rest, recovery) = open(&dir, OpenOptions::default()).unwrap();
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join(JOURNAL_FILE)), 0o600);
    let (journal, report) = recovery.replay(&rest, &mut |_| {}).unwrap();
    assert_eq!((report.boot, report.clean), (1, false));
    drop((journal, rest));
    assert!(dir.join("clean").exists());

    let (rest, recovery) = open(&dir, OpenOptions::default()).unwrap();
    assert!(!dir.join("clean").exists(), "taken off as long as it is open");
    let (journal, report) = recovery.replay(&rest, &mut |_| {}).unwrap();
    assert_eq!((report.boot, report.clean), (2, true));
    std::mem::forget((journal, rest));
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _held = open(dir.path(), OpenOptions::default()).unwrap();
    let error = open(dir.path(), OpenOptions::default()).unwrap_err();
    assert!(matches!(error, StorageError::InUse { .. }), "{error}");
    assert!(!dir.path().join("clean").exists());
}

#[test]
fn a_file_of_another_kind_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(STORE_FILE), vec![b'x'; 8192]).unwrap();
    let error = open(dir.path(), OpenOptions::default()).unwrap_err();
    assert!(matches!(&error, StorageError::Damaged { file, .. } if file.ends_with(STORE_FILE)), "{error}");
}

/// A directory that was closed in order.
fn closed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (rest, recovery) = open(dir.path(), OpenOptions::default()).unwrap();
    let journal = recovery.replay(&rest, &mut |_| {}).unwrap();
    drop((journal, rest));
    assert!(dir.path().join("clean").exists());
    dir
}

#[test]
fn a_flipped_bit_is_noticed_however_the_last_process_ended() {
    for clean in [true, false] {
        let dir = closed();
        if !clean {
            fs::remove_file(dir.path().join("clean")).unwrap();
        }
        let path = dir.path().join(STORE_FILE);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(5).rposition(|window| window == b"store").unwrap();
        bytes[at + 9] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let error = open(dir.path(), OpenOptions::default()).unwrap_err();
        let pages = |record: &str| record == "redb pages";
        assert!(matches!(&error, StorageError::Damaged { record, .. } if pages(record)), "{clean}: {error}");
    }
}

#[test]
fn a_file_that_was_cut_is_named_also_when_nothing_is_left_of_it() {
    for name in [JOURNAL_FILE, STORE_FILE] {
        let whole = fs::read(closed().path().join(name)).unwrap().len() as u64;
        for (length, clean) in
            [(0, true), (0, false), (4096, false), (whole - 4096, true), (whole - 4096, false)]
        {
            let dir = closed();
            if !clean {
                fs::remove_file(dir.path().join("clean")).unwrap();
            }
            let path = dir.path().join(name);
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
            let error = open(dir.path(), OpenOptions::default()).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, StorageError::Damaged { .. }), "{name} of {length} bytes: {text}");
            assert!(text.contains(name) && text.contains("restore it from a backup"), "{text}");
            assert_eq!(fs::metadata(&path).unwrap().len(), length, "nothing was made of it");
        }
    }
}

#[test]
fn a_path_that_cannot_be_a_directory_is_an_error() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("file");
    fs::write(&path, b"").unwrap();
    let error = open(&path, OpenOptions::default()).unwrap_err();
    assert!(matches!(error, StorageError::Io { operation: "make", .. }), "{error}");
}

#[test]
fn what_a_crash_left_of_making_a_file_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let half = dir.path().join("store.new");
    fs::write(&half, b"half").unwrap();
    let (_rest, recovery) = open(dir.path(), OpenOptions::default()).unwrap();
    assert_eq!(recovery.boot(), 1);
    assert!(!half.exists());
}

#[test]
fn a_store_is_not_raised_beside_a_journal_that_is_damaged() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-2");
    let dir = tempfile::tempdir().unwrap();
    for name in [JOURNAL_FILE, STORE_FILE] {
        fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    let path = dir.path().join(JOURNAL_FILE);
    let mut log = fs::read(&path).unwrap();
    // The body of the first commit that is not forgotten; later ones say that it was durable.
    let is = |sector: &[u8]| sector[8..11] == [b'f', b'j', 1] && sector[16..24] == 5u64.to_le_bytes();
    let at = log.chunks(512).position(|sector| sector.len() == 512 && is(sector));
    log[at.expect("it is there") * 512 + 100] ^= 1;
    fs::write(&path, log).unwrap();
    let error = open(dir.path(), OpenOptions::default()).unwrap_err();
    assert!(error.to_string().contains("damaged at commits"), "{error}");
    let db = Builder::new().open(dir.path().join(STORE_FILE)).unwrap();
    let version = format_of(&db.begin_read().unwrap(), &DbFile::new(Path::new(STORE_FILE))).unwrap();
    assert_eq!(version, Some(2), "an earlier program still reads it");
}
