//! Damage at every page of every file of a data directory, one at a time: a flipped bit, a page of zeros, the file cut
//! there. The real start-up and everything that can be read or delivered afterwards either say what is damaged, or give
//! exactly what was stored; `store check` agrees.
//!
//! An ordinary run takes a sample of `FLUXRELAY_DAMAGES` (400) by `FLUXRELAY_DAMAGES_FIRST` (0). All of them:
//!
//! ```text
//! FLUXRELAY_DAMAGES=all cargo test --release --test corruption -- --nocapture
//! ```
//!
//! Two directories are damaged: one that was closed in order (everything at rest, with the `clean` mark) and one as a kill
//! leaves it (the journal holds what no checkpoint has). With a mirror, each damage to either side, and each file that is
//! gone, has to lose nothing at all.

mod damage;
mod mirrored;
mod outcome;
mod reader;
mod workload;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use damage::{Damage, damages};
use outcome::{Outcome, watch_panics};
use workload::Made;

/// Of an ordinary run.
const SAMPLE: u64 = 400;
/// Failures that are shown.
const SHOWN: usize = 12;

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// SplitMix64: the same seed gives the same damages.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The seed of the flipped bits and of the sample.
fn first() -> u64 {
    setting("FLUXRELAY_DAMAGES_FIRST").map_or(0, |text| text.parse().expect("a number"))
}

/// All damages of all directories, or a sample.
fn chosen(made: &[Made]) -> Vec<(&Made, Damage)> {
    let all = made
        .iter()
        .flat_map(|made| damages(&made.files, first()).into_iter().map(move |damage| (made, damage)))
        .collect();
    sample(all)
}

/// All of them, or as many as an ordinary run takes.
fn sample<T>(mut all: Vec<T>) -> Vec<T> {
    let first = first();
    let sample = match setting("FLUXRELAY_DAMAGES").as_deref() {
        Some("all") => return all,
        Some(count) => count.parse().expect("a number, or all"),
        None => SAMPLE,
    };
    for place in 0..all.len().min(sample as usize) {
        let other = place + (mixed(first.wrapping_add(place as u64)) % (all.len() - place) as u64) as usize;
        all.swap(place, other);
    }
    all.truncate(sample as usize);
    all
}

/// What became of the damages of one kind of one file.
type Tally = BTreeMap<(&'static str, String, &'static str), BTreeMap<&'static str, u64>>;

fn show(tally: &Tally) {
    for ((directory, file, kind), outcomes) in tally {
        let counts: Vec<String> = outcomes.iter().map(|(what, count)| format!("{count} {what}")).collect();
        println!("{directory:<6} {file:<14} {kind:<8} {}", counts.join(", "));
    }
    let all = tally.values().flat_map(|outcomes| outcomes.values()).sum::<u64>();
    println!("{all} damages");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_or_changes_nothing() {
    let made = workload::make(false).await;
    let panics = watch_panics();
    let mut expected = BTreeMap::new();
    for made in &made {
        let dir = copy(&made.files);
        let read = reader::read(dir.path(), &made.known).await.expect("a sound directory is read");
        assert!(read.len() > 60, "the workload does something: {}", read.len());
        expected.insert(made.name, read);
    }
    let (mut tally, mut failures) = (Tally::new(), Vec::new());
    for (made, damage) in chosen(&made) {
        let outcome = try_one(made, &damage, &expected[made.name], &panics).await;
        let key = (made.name, damage.file.clone(), damage.kind.name());
        *tally.entry(key).or_default().entry(outcome.name()).or_default() += 1;
        if let Some(why) = outcome.failure() {
            failures.push(format!("{}: {damage}: {why}", made.name));
        }
    }
    show(&tally);
    let shown = failures.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n  ");
    assert!(failures.is_empty(), "{} failures:\n  {shown}", failures.len());
}

/// Damages a copy, starts and reads it; checks another copy.
async fn try_one(made: &Made, damage: &Damage, expected: &[String], panics: &outcome::Panics) -> Outcome {
    let mut files = made.files.clone();
    damage.apply(&mut files);
    let (dir, checked) = (copy(&files), copy(&files));
    panics.take();
    let read = reader::read(dir.path(), &made.known).await;
    let panicked = panics.take();
    let report = outcome::check(checked.path());
    assert!(unchanged(checked.path(), &files), "{damage}: a check changed the directory");
    let check_panicked = panics.take();
    outcome::judge(damage, read, expected, panicked, report, check_panicked)
}

/// The files in a directory of their own.
fn copy(files: &BTreeMap<String, Vec<u8>>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, bytes) in files {
        workload::write_private(&dir.path().join(name), bytes);
    }
    dir
}

fn unchanged(dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> bool {
    files.iter().all(|(name, bytes)| fs::read(dir.join(name)).is_ok_and(|found| found == *bytes))
}
