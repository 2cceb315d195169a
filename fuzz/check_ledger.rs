//! Any bytes as a plugin's ledger, and any damage to one that was written: what was durable is there, or the ledger is
//! refused by name. Otherwise a command could run twice.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use fluxrelay::client::{Entry, Ledger, LedgerError, LedgerFile, Outcome, Report};
use fluxrelay::ids::{Seq, ServerId};
use parking_lot::Mutex;

const SERVER: ServerId = ServerId(7);
/// The bytes of the header of `SERVER`'s ledger; `fuzz/check_ledger.rs` writes no other.
const HEADER_BYTES: usize = 24;
/// Things that happen to one ledger at most.
const STEPS_MAX: usize = 64;

#[derive(Debug, Default)]
struct Bytes {
    now: Vec<u8>,
    synced: usize,
}

/// A file in memory.
#[derive(Debug, Clone, Default)]
struct File(Arc<Mutex<Bytes>>);

impl LedgerFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().now.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut bytes = self.0.lock();
        bytes.synced = bytes.now.len();
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        *self.0.lock() = Bytes { now: bytes.to_vec(), synced: bytes.len() };
        Ok(())
    }
}

/// What a ledger knows: the attempts, and whether an outcome stands beside each.
type Known = BTreeMap<Seq, (u16, bool)>;

fn known(ledger: &Ledger) -> Known {
    let of = |entry: &Entry| match entry {
        Entry::Started(attempt) | Entry::InDoubt(attempt) => (*attempt, false),
        Entry::Finished(report) => (report.attempt, true),
    };
    ledger.entries().map(|(seq, entry)| (seq, of(entry))).collect()
}

fn open(bytes: &[u8]) -> Result<(Ledger, File), LedgerError> {
    let file = File::default();
    Ledger::open_on(Box::new(file.clone()), bytes, Path::new("a.ledger"), SERVER).map(|ledger| (ledger, file))
}

/// Panics if a ledger of these bytes, or one that they tell the life of, is not read as it must be.
pub(crate) fn check_ledger(data: &[u8]) {
    let Some((&form, data)) = data.split_first() else { return };
    match form % 3 {
        0 => any_bytes(data),
        1 => {
            let (_, file) = open(&[]).expect("an empty ledger");
            let header = file.0.lock().now[..HEADER_BYTES].to_vec();
            any_bytes(&[&header, data].concat());
        }
        _ => life(data),
    }
}

/// What is opened is written anew: then it reads back as the same.
fn any_bytes(bytes: &[u8]) {
    let (ledger, file) = match open(bytes) {
        Ok(opened) => opened,
        Err(error) => return assert!(error.to_string().contains("a.ledger"), "{error}"),
    };
    let written = file.0.lock().now.clone();
    assert!(written.len() <= 64 + 3 * bytes.len(), "it does not grow by being opened");
    let (again, _) = open(&written).expect("what was just written is whole");
    assert_eq!(known(&again), known(&ledger));
}

/// What was known when the disk was last known to have it.
#[derive(Debug, Clone)]
struct Durable {
    known: Known,
    bytes: usize,
}

/// Commands begin, end and are forgotten; then the power goes off, and the disk may have changed a byte.
fn life(data: &[u8]) {
    let (mut ledger, file) = open(&[]).expect("an empty ledger");
    let (steps, damage) = data.split_at(data.len() / 3 * 3 % (3 * STEPS_MAX));
    let opened = Durable { known: Known::new(), bytes: file.0.lock().synced };
    let (mut before, mut last) = (opened.clone(), opened);
    for step in steps.chunks_exact(3) {
        let (seq, attempt) = (Seq(u64::from(step[1] % 16)), 1 + u16::from(step[2] % 4));
        match step[0] % 3 {
            0 if ledger.is_new(seq, attempt) => {
                ledger.begin(&[(seq, attempt)]).expect("a sound disk");
                before = std::mem::replace(
                    &mut last,
                    Durable { known: known(&ledger), bytes: file.0.lock().synced },
                );
            }
            1 => {
                let output = Some("x".repeat(usize::from(step[2])));
                let report = Report { seq, attempt, outcome: Outcome::Completed, error: None, output };
                ledger.finish([report], &mut Vec::new()).expect("a sound disk");
            }
            2 => {
                ledger.forget(&[seq]).expect("a sound disk");
                // The broker answers for it: it may be there or not.
                before.known.remove(&seq);
                last.known.remove(&seq);
            }
            _ => {}
        }
    }
    let mut bytes = file.0.lock().now.clone();
    let cut = damage.first().map_or(0, |cut| usize::from(*cut));
    bytes.truncate(bytes.len().saturating_sub(cut).max(last.bytes));
    match *damage {
        [_, at, with, ..] if with != 0 => {
            let at = usize::from(at) * bytes.len() / 256;
            bytes[at] ^= with;
            // In what was written last, damage looks like a write that the power loss tore.
            after(&bytes, &before);
        }
        _ => {
            assert!(open(&bytes).is_ok(), "a torn tail is no damage");
            after(&bytes, &last);
        }
    }
}

fn after(bytes: &[u8], durable: &Durable) {
    let Ok((ledger, _)) = open(bytes) else { return };
    let found = known(&ledger);
    for (seq, (attempt, _)) in &durable.known {
        let kept = found.get(seq).is_some_and(|(found, _)| found >= attempt);
        assert!(kept, "{seq:?} was durable, and could run again: {durable:?}");
    }
}
