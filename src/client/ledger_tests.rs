//! Tests of the ledger: crashes at every byte, damage at every byte, a failing disk.

use super::*;

const SERVER: ServerId = ServerId(7);

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    (folder, path)
}

fn report(seq: u64, outcome: Outcome) -> Report {
    Report { output: Some("Gave 64 diamonds".into()), ..Report::new(Seq(seq), 1, outcome) }
}

fn finish(ledger: &mut Ledger, reports: Vec<Report>) -> Vec<u64> {
    let mut taken = Vec::new();
    ledger.finish(reports, &mut taken).unwrap();
    taken.into_iter().map(|seq| seq.0).collect()
}

/// What the next process finds, as text.
fn reopened(path: &Path) -> String {
    shown(&Ledger::open(path, SERVER).unwrap())
}

fn shown(ledger: &Ledger) -> String {
    let line = |(seq, entry): (Seq, &Entry)| match entry {
        Entry::Started(attempt) => format!("{} started {attempt}", seq.0),
        Entry::InDoubt(attempt) => format!("{} in doubt {attempt}", seq.0),
        Entry::Finished(report) => format!("{} {:?} {}", seq.0, report.outcome, report.attempt),
    };
    ledger.entries().map(line).collect::<Vec<_>>().join(", ")
}

#[test]
fn what_a_crash_leaves() {
    let (_folder, path) = folder();
    let mut ledger = Ledger::open(&path, SERVER).unwrap();
    ledger.begin(&[(Seq(1), 1), (Seq(2), 1), (Seq(3), 4)]).unwrap();
    assert_eq!(finish(&mut ledger, vec![report(2, Outcome::Failed), report(1, Outcome::Completed)]), [2, 1]);
    ledger.forget(&[Seq(1), Seq(99)]).unwrap();
    assert_eq!(shown(&ledger), "2 Failed 1, 3 started 4");
    drop(ledger);
    assert_eq!(reopened(&path), "2 Failed 1, 3 in doubt 4");
    // Opening rewrites the file; nothing is lost by that.
    assert_eq!(reopened(&path), "2 Failed 1, 3 in doubt 4");
}

#[test]
fn an_attempt_that_awaits_its_player_has_not_run() {
    let mut ledger = Ledger::in_memory();
    ledger.begin(&[(Seq(5), 2)]).unwrap();
    finish(&mut ledger, vec![Report::new(Seq(5), 2, Outcome::AwaitingPlayer)]);
    assert!(ledger.is_new(Seq(5), 2) && !ledger.is_new(Seq(5), 1));
    ledger.begin(&[(Seq(5), 2)]).unwrap();
    assert!(!ledger.is_new(Seq(5), 2));
}

#[test]
fn an_attempt_is_new_once() {
    let mut ledger = Ledger::in_memory();
    assert!(ledger.is_new(Seq(5), 1));
    ledger.begin(&[(Seq(5), 1)]).unwrap();
    assert!(!ledger.is_new(Seq(5), 1));
    finish(&mut ledger, vec![report(5, Outcome::Failed)]);
    assert!(!ledger.is_new(Seq(5), 1));
    assert!(ledger.is_new(Seq(5), 2));
    ledger.begin(&[(Seq(5), 2)]).unwrap();
    assert!(!ledger.is_new(Seq(5), 1));
}

#[test]
fn a_report_of_what_does_not_run_is_dropped() {
    let mut ledger = Ledger::in_memory();
    ledger.begin(&[(Seq(5), 2)]).unwrap();
    assert!(
        finish(&mut ledger, vec![report(5, Outcome::Completed), report(6, Outcome::Completed)]).is_empty()
    );
    assert_eq!(shown(&ledger), "5 started 2");
}

#[test]
fn every_truncation_is_a_shorter_past() {
    let (_folder, path) = folder();
    let mut ledger = Ledger::open(&path, SERVER).unwrap();
    let mut pasts = vec![(ledger.disk.as_ref().unwrap().length, shown(&ledger))];
    for seq in 1..=4 {
        ledger.begin(&[(Seq(seq), 1)]).unwrap();
        pasts.push((ledger.disk.as_ref().unwrap().length, shown(&ledger)));
        finish(&mut ledger, vec![report(seq, Outcome::Completed)]);
        pasts.push((ledger.disk.as_ref().unwrap().length, shown(&ledger)));
    }
    ledger.forget(&[Seq(1), Seq(3)]).unwrap();
    pasts.push((ledger.disk.as_ref().unwrap().length, shown(&ledger)));
    drop(ledger);
    let whole = std::fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        if (1..HEADER_BYTES).contains(&length) {
            Ledger::open(&path, SERVER).unwrap();
            continue;
        }
        let (_, past) = pasts.iter().rev().find(|(end, _)| *end <= length as u64).unwrap_or(&pasts[0]);
        assert_eq!(reopened(&path), past.replace("started", "in doubt"), "{length} bytes");
    }
}

#[test]
fn a_flipped_bit_is_damage_or_a_torn_tail_and_never_another_past() {
    let (_folder, path) = folder();
    let mut ledger = Ledger::open(&path, SERVER).unwrap();
    for seq in 1..=4 {
        ledger.begin(&[(Seq(seq), 1)]).unwrap();
        finish(&mut ledger, vec![report(seq, Outcome::Completed)]);
    }
    // All that lies below `synced` of the last record was durable.
    let synced = ledger.disk.as_ref().unwrap().synced;
    let past = shown(&ledger);
    drop(ledger);
    let whole = std::fs::read(&path).unwrap();
    let last = whole.len() - 67;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        let opened = Ledger::open(&path, SERVER);
        match opened {
            Err(
                LedgerError::Foreign { .. } | LedgerError::TooNew { .. } | LedgerError::OtherServer { .. },
            ) => {
                assert!(at < HEADER_BYTES, "byte {at}")
            }
            Err(LedgerError::Damaged { offset, .. }) => {
                assert!((offset as usize) <= at && (at as u64) < synced, "byte {at}, offset {offset}")
            }
            Err(other) => panic!("byte {at}: {other}"),
            Ok(ledger) => {
                assert!(at >= last, "byte {at} of {} passed for torn", whole.len());
                assert_eq!(shown(&ledger), past.replace("4 Completed 1", "4 in doubt 1"), "byte {at}");
            }
        }
    }
}

#[test]
fn a_torn_middle_that_was_never_synced_is_no_damage() {
    let (_folder, path) = folder();
    let mut ledger = Ledger::open(&path, SERVER).unwrap();
    ledger.begin(&[(Seq(1), 1), (Seq(2), 1)]).unwrap();
    let synced = ledger.disk.as_ref().unwrap().synced as usize;
    finish(&mut ledger, vec![report(1, Outcome::Completed)]);
    finish(&mut ledger, vec![report(2, Outcome::Completed)]);
    drop(ledger);
    // The disk kept the second outcome's page and lost the first's.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[synced..synced + 20].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(reopened(&path), "1 in doubt 1, 2 in doubt 1");
}

#[test]
fn one_process_one_server_one_format() {
    let (_folder, path) = folder();
    let ledger = Ledger::open(&path, SERVER).unwrap();
    assert!(matches!(Ledger::open(&path, SERVER), Err(LedgerError::InUse { .. })));
    drop(ledger);
    let other = Ledger::open(&path, ServerId(8)).unwrap_err();
    assert!(other.to_string().contains("belongs to srv_7, not to srv_8"), "{other}");
    std::fs::write(&path, "token = srv_1.abc, a config file and no ledger").unwrap();
    assert!(matches!(Ledger::open(&path, SERVER), Err(LedgerError::Foreign { .. })));
}

#[test]
fn the_file_stays_small() {
    let (_folder, path) = folder();
    let mut ledger = Ledger::open(&path, SERVER).unwrap();
    let output = "x".repeat(crate::limits::OUTPUT_BYTES_MAX + 10);
    for seq in 1..=300 {
        ledger.begin(&[(Seq(seq), 1)]).unwrap();
        let long = Report { output: Some(output.clone()), ..report(seq, Outcome::Completed) };
        finish(&mut ledger, vec![long]);
        ledger.forget(&[Seq(seq)]).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < REWRITE_BYTES_MIN + 16 * 1024);
    }
    assert!(
        matches!(Ledger::open(&path, SERVER), Err(LedgerError::InUse { .. })),
        "the lock moves with the name"
    );
    drop(ledger);
    assert_eq!(reopened(&path), "");
}

/// A disk without room.
#[derive(Debug)]
struct Full;

impl LedgerFile for Full {
    fn append(&mut self, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn replace(&mut self, _: &[u8]) -> Result<(), LedgerError> {
        unreachable!("a small ledger is not rewritten")
    }
}

#[test]
fn after_a_failed_write_nothing_begins() {
    let (_folder, path) = folder();
    let mut ledger = Ledger::open(&path, SERVER).unwrap();
    ledger.begin(&[(Seq(1), 1)]).unwrap();
    ledger.disk.as_mut().unwrap().file = Box::new(Full);
    let mut taken = Vec::new();
    assert!(ledger.finish(vec![report(1, Outcome::Completed)], &mut taken).is_err());
    assert_eq!(taken, [Seq(1)], "it ran, so it can be reported");
    let refused = ledger.begin(&[(Seq(2), 1)]).unwrap_err();
    assert!(refused.to_string().contains("restart"), "{refused}");
    assert!(ledger.is_new(Seq(2), 1));
}
