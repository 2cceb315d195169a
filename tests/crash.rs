//! The disk loses power at any operation, or fails at any: what was acknowledged is found again, nothing else is
//! found half. `CRASH_IMAGES` sets how many crashes are tried, `CRASH_SEED` where they start.

#[path = "../fuzz/check_recovery.rs"]
mod check_recovery;
#[path = "../fuzz/corpus.rs"]
mod corpus;
#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/workload.rs"]
mod workload;

use disk::{Disk, Image, Random};
use workload::{Model, Run};

const COMMITS: usize = 40;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// What a first start leaves: files are made under another name, so no crash is seen before this.
fn made() -> Image {
    let disk = Disk::default();
    drop(Run::open(&disk).expect("a sound disk"));
    disk.crash(disk.operations(), &mut Random::new(0))
}

/// Opens an image and compares with the states that may be found in it; returns the one that was.
fn check(image: Image, states: &[Model], acknowledged: usize, what: &str) -> Model {
    let run = Run::open(&Disk::with(image)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = run.state().clone();
    // The commit under way may be there whole, or not at all.
    let allowed = &states[acknowledged..states.len().min(acknowledged + 2)];
    assert!(
        allowed.contains(&found),
        "{what}: not the state after {acknowledged} commits or one more, but {:?}",
        states.iter().position(|state| *state == found)
    );
    found
}

/// Opens an image on a disk that loses power again during the opening, then checks what that left.
fn check_twice(image: Image, states: &[Model], acknowledged: usize, random: &mut Random, what: &str) {
    let disk = Disk::with(image);
    let run = Run::open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let operations = disk.operations();
    std::mem::forget(run);
    let n = random.below(operations + 1);
    let what = format!("{what}, then at {n} of {operations} of the recovery");
    check(disk.crash(n, random), states, acknowledged, &what);
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_any_operation() {
    let (images, seed) = (setting("CRASH_IMAGES", 300), setting("CRASH_SEED", 1));
    let mut random = Random::new(seed);
    let disk = Disk::with(made());
    let mut run = Run::open(&disk).unwrap();
    run.work(&disk, &mut random, COMMITS).unwrap();
    let (states, acknowledged) = (run.states.clone(), run.acknowledged.clone());
    let operations = disk.operations();
    std::mem::forget(run);
    assert!(states.last().unwrap().completed.values().sum::<u64>() > 50, "the workload does something");

    for image in 0..images {
        let n = (image as usize * operations / images as usize + random.below(7)).min(operations);
        let done = acknowledged.partition_point(|at| *at <= n);
        let what = format!("seed {seed}, image {image}, crash at {n} of {operations}, {done} acknowledged");
        let left = disk.crash(n, &mut random);
        if image % 4 == 0 {
            check_twice(left, &states, done, &mut random, &what);
        } else {
            check(left, &states, done, &what);
        }
    }
}

#[test]
fn a_recovered_directory_goes_on_and_survives_the_next_crash() {
    let seed = setting("CRASH_SEED", 1);
    for round in 0..setting("CRASH_IMAGES", 300) / 30 {
        let mut random = Random::new(seed.wrapping_mul(1000) + round);
        let mut image = made();
        let mut state = Model::default();
        for crash in 0..4 {
            let disk = Disk::with(image);
            let mut run = Run::open(&disk).unwrap();
            assert_eq!(*run.state(), state, "seed {seed}, round {round}, before crash {crash}");
            run.work(&disk, &mut random, 15).unwrap();
            let n = random.below(disk.operations() + 1);
            let done = run.acknowledged.partition_point(|at| *at <= n);
            image = disk.crash(n, &mut random);
            let what = format!("seed {seed}, round {round}, crash {crash} at {n}");
            state = check(image.clone(), &run.states, done, &what);
            std::mem::forget(run);
        }
    }
}

#[test]
fn a_disk_that_fails_at_any_operation_is_reported_and_loses_nothing() {
    let (images, seed) = (setting("CRASH_IMAGES", 300), setting("CRASH_SEED", 1));
    let whole = Disk::with(made());
    Run::open(&whole).unwrap().work(&whole, &mut Random::new(seed), COMMITS).unwrap();
    let operations = whole.operations();
    for image in 0..images {
        let n = (image as usize * operations) / images as usize;
        let mut random = Random::new(seed);
        let disk = Disk::failing(made(), n);
        let what = format!("seed {seed}, failure at {n} of {operations}");
        let (states, done) = match Run::open(&disk) {
            Ok(mut run) => {
                let error = run.work(&disk, &mut random, COMMITS);
                assert_eq!(error.is_err(), disk.failed(), "{what}: an error is reported, and only then");
                let again = run.work(&disk, &mut random, 1);
                assert_eq!(again.is_err(), disk.failed(), "{what}: it stays reported");
                (run.states.clone(), run.acknowledged.len())
            }
            Err(_) => (vec![Model::default()], 0),
        };
        let left = disk.crash(disk.operations(), &mut random);
        // What was tried again after the failure was refused, so only the first try may be found.
        check(left, &states[..states.len().min(done + 2)], done, &what);
    }
}

#[test]
fn what_the_fuzzer_damaged_is_noticed() {
    corpus::replay("recovery", check_recovery::check_recovery);
}
