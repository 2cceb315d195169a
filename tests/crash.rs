//! The disk loses power at any operation, or fails at any: what was acknowledged is found again, nothing else is
//! found half. All three files are on this disk: journal, store at rest, registry with the audit trail.
//!
//! `FLUXRELAY_IMAGES` sets how many crash images are tried (5,000), `FLUXRELAY_IMAGES_FIRST` the first seed (0); a seed
//! gives the same image each time. A million, in pieces:
//!
//! ```text
//! for first in $(seq 0 100000 900000); do
//!     FLUXRELAY_IMAGES=100000 FLUXRELAY_IMAGES_FIRST=$first cargo test --release --test crash image -- --nocapture
//! done
//! ```
//!
//! Not on this disk: files that are made whole beside their place, synced and renamed (`secret.key`, `admin.key`,
//! `tickets.key`, new databases, backups), and the `clean` mark, which no image has, so that each recovery is that of an
//! unclean end.

#[path = "../fuzz/check_recovery.rs"]
mod check_recovery;
#[path = "../fuzz/corpus.rs"]
mod corpus;
#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/images.rs"]
mod images;
#[path = "crash/mirrored.rs"]
mod mirrored;
#[path = "crash/registry.rs"]
mod registry;
#[path = "crash/upgrade.rs"]
mod upgrade;
#[path = "crash/workload.rs"]
mod workload;

use disk::{Disk, Image, Random};
use registry::RegistryRun;
use workload::{Model, Run};

const COMMITS: usize = 40;
/// Images for each continued run, and for each failure of the disk: those cost a whole run.
const IMAGES_PER_RUN: u64 = 20;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn settings() -> (u64, u64) {
    (setting("FLUXRELAY_IMAGES", 5_000), setting("FLUXRELAY_IMAGES_FIRST", 0))
}

/// What a first start leaves: files are made under another name, so no crash is seen before this.
fn made() -> Image {
    let disk = Disk::default();
    drop((Run::open(&disk).expect("a sound disk"), RegistryRun::open(&disk).expect("a sound disk")));
    disk.crash(disk.operations(), &mut Random::new(0))
}

/// Opens an image and compares with the states that may be found in it; returns the one that was.
fn check(image: Image, run: &Run, acknowledged: usize, what: &str) -> Model {
    check_states(image, &run.states, run.may_be_gone, acknowledged, what)
}

fn check_states(image: Image, states: &[Model], may_be_gone: u64, acknowledged: usize, what: &str) -> Model {
    let run = Run::open(&Disk::with(image)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = run.state().clone();
    // The commit under way may be there whole, or not at all.
    let allowed = &states[acknowledged..states.len().min(acknowledged + 2)];
    assert!(
        allowed.iter().any(|state| state.is(&found, may_be_gone)),
        "{what}: not the state after {acknowledged} commits or one more, but {:?}",
        states.iter().position(|state| state.is(&found, may_be_gone))
    );
    found
}

#[test]
fn no_image_loses_what_was_acknowledged_or_holds_what_was_not_asked() {
    let (images, first) = settings();
    let tally = images::try_all(first..first + images);
    println!("{tally}");
    assert!(tally.failures.is_empty(), "{tally}");
}

#[test]
fn any_mix_of_two_sides_is_what_was_acknowledged() {
    let (images, first) = settings();
    let images = images.div_ceil(IMAGES_PER_RUN);
    let tried = mirrored::try_all(first..first + images);
    println!("{tried}");
    assert!(tried.failures.is_empty(), "{tried}");
}

#[test]
fn the_same_seed_gives_the_same_image() {
    let twice = [0, 1].map(|_| images::try_all(120..140).to_string());
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn a_recovered_directory_goes_on_and_survives_the_next_crash() {
    let (images, seed) = settings();
    for round in 0..images / IMAGES_PER_RUN / 10 {
        let mut random = Random::new(seed.wrapping_mul(1000) + round);
        let mut image = made();
        let mut state = Model::default();
        for crash in 0..4 {
            let disk = Disk::with(image);
            let mut run = Run::open(&disk).unwrap();
            assert_eq!(*run.state(), state, "seed {seed}, round {round}, before crash {crash}");
            run.work(&disk, &mut random, 15, &mut |_| Ok(())).unwrap();
            let n = random.below(disk.operations() + 1);
            let done = run.acknowledged.partition_point(|at| *at <= n);
            image = disk.crash(n, &mut random);
            disk.kill();
            let what = format!("seed {seed}, round {round}, crash {crash} at {n}");
            state = check(image.clone(), &run, done, &what);
        }
    }
}

#[test]
fn a_disk_that_fails_at_any_operation_is_reported_and_loses_nothing() {
    let (images, seed) = settings();
    let failures = images.div_ceil(IMAGES_PER_RUN);
    let whole = Disk::with(made());
    let mut run = Run::open(&whole).unwrap();
    run.work(&whole, &mut Random::new(seed), COMMITS, &mut |_| Ok(())).unwrap();
    let operations = whole.operations();
    for image in 0..failures {
        let n = (image as usize * operations) / failures as usize;
        let mut random = Random::new(seed);
        let disk = Disk::failing(made(), n);
        let what = format!("seed {seed}, failure at {n} of {operations}");
        let (states, may_be_gone, done) = match Run::open(&disk) {
            Ok(mut run) => {
                let error = run.work(&disk, &mut random, COMMITS, &mut |_| Ok(()));
                assert_eq!(error.is_err(), disk.failed(), "{what}: an error is reported, and only then");
                let again = run.work(&disk, &mut random, 1, &mut |_| Ok(()));
                assert_eq!(again.is_err(), disk.failed(), "{what}: it stays reported");
                (run.states.clone(), run.may_be_gone, run.acknowledged.len())
            }
            Err(_) => (vec![Model::default()], 0, 0),
        };
        let left = disk.crash(disk.operations(), &mut random);
        // What was tried again after the failure was refused, so only the first try may be found.
        check_states(left, &states[..states.len().min(done + 2)], may_be_gone, done, &what);
    }
}

#[test]
fn a_store_of_an_earlier_format_survives_a_loss_of_power_while_its_rows_are_moved() {
    // Format 1 has the same store, beside a journal that is made anew under another name.
    let tried = upgrade::try_all("format-2", 4);
    println!("images of a store whose rows were being moved: {tried}");
    assert!(tried > 100, "{tried}");
}

#[test]
fn what_the_fuzzer_damaged_is_noticed() {
    corpus::replay("recovery", check_recovery::check_recovery);
}
