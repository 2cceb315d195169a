//! Any damage to the two files of a data directory: it is noticed and named by file, or it was of no consequence. What is
//! found is then the state after some whole number of commits, never one that there was not.

use std::sync::LazyLock;

use crate::disk::{Disk, Image, Random};
use crate::workload::{Model, Run};

/// The last checkpoint lies before the last commits, so that both files hold something of their own.
const COMMITS: usize = 40;
const SEED: u64 = 1;
/// Damages to one directory at most.
const EDITS_MAX: usize = 16;
const SECTOR: usize = 512;
const PAGE: usize = 4096;

struct Made {
    image: Image,
    states: Vec<Model>,
    may_be_gone: u64,
}

/// A directory as a kill leaves it, and all states that it went through.
static MADE: LazyLock<Made> = LazyLock::new(|| {
    let disk = Disk::default();
    let mut run = Run::open(&disk).expect("a sound disk");
    run.work(&disk, &mut Random::new(SEED), COMMITS, &mut |_| Ok(())).expect("a sound disk");
    let (states, may_be_gone) = (run.states.clone(), run.may_be_gone);
    std::mem::forget(run);
    Made { image: disk.crash(disk.operations(), &mut Random::new(SEED)), states, may_be_gone }
});

/// One damage of eight bytes: what, to which file, where, with what.
fn damage(image: &mut Image, edit: &[u8; 8]) {
    image[usize::from(edit[1] % 2)].edit(|file| {
        if !file.is_empty() {
            damage_file(file, edit);
        }
    });
}

fn damage_file(file: &mut Vec<u8>, edit: &[u8; 8]) {
    let [what, _, a, b, c, d, with, more] = *edit;
    let at = u32::from_le_bytes([a, b, c, d]) as usize % file.len();
    let whole = |unit: usize| at / unit * unit..file.len().min(at / unit * unit + unit);
    match what % 6 {
        0 => file[at] ^= with,
        1 => {
            let sector = whole(SECTOR);
            file[sector].fill(with);
        }
        2 => {
            let page = whole(PAGE);
            file[page].fill(with);
        }
        // A file of no bytes is refused by its name, before anything is opened: as a backend it is a new one.
        3 => file.truncate(at.max(1)),
        4 => {
            let page = whole(PAGE);
            let from = usize::from(u16::from_le_bytes([with, more])) * PAGE % file.len();
            let length = page.len().min(file.len() - from);
            file.copy_within(from..from + length, page.start);
        }
        // The first page says where everything is.
        _ => file[at % SECTOR] = with,
    }
}

/// Panics if a directory with the damages that `data` names is taken for a whole one.
pub(crate) fn check_recovery(data: &[u8]) {
    let Made { image: made, states, may_be_gone } = &*MADE;
    let mut image = made.clone();
    for edit in data.as_chunks().0.iter().take(EDITS_MAX) {
        damage(&mut image, edit);
    }
    let sound = image == *made;
    match Run::open_damaged(&Disk::with(image)) {
        Err(error) => {
            let error = error.to_string();
            assert!(!sound && (error.contains("journal.log") || error.contains("store.redb")), "{error}");
        }
        // Said by name in the report: `fluxrelay` warns of it and goes on.
        Ok(run) if !run.missing.is_empty() => assert!(!sound),
        Ok(run) => {
            let is = |state: &Model| state.is(run.state(), *may_be_gone);
            assert!(states.iter().any(is), "a state that there never was: {:?}", run.state());
            assert!(!sound || states.last().is_some_and(is));
        }
    }
}
