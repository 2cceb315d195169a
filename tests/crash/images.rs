//! Many images of one recorded run, by seed: the power goes at any operation, often again during the recovery, and what is
//! found is compared with what had been acknowledged. Must never compare with anything but the models.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::disk::{DATABASES, Disk, Image, JOURNAL, Left, Playback, REGISTRY, Random, Tape};
use crate::registry::{Registered, RegistryRun};
use crate::workload::{Model, Run};
use crate::{COMMITS, made};

/// Seeds that share a recorded run.
const PER_RUN: u64 = 250;
/// Recoveries of one image that are cut short, at most.
const CRASHES_MORE: u64 = 3;
/// Failures that are shown.
const SHOWN: usize = 5;
/// Images between two that go into the digest.
const DIGEST_EVERY: u64 = 16;

/// What was tried.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    images: u64,
    runs: u64,
    operations: u64,
    left: Left,
    second: u64,
    more: u64,
    digest: u64,
    pub(crate) failures: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { images, runs, operations, left, second, more, digest, failures } = self;
        writeln!(f, "crash images: {images} of {runs} runs with {operations} operations")?;
        let Left { kept, dropped, torn } = left;
        writeln!(f, "  un-synced sectors: {kept} kept, {dropped} dropped; {torn} in torn writes")?;
        writeln!(f, "  second crash during recovery: {second}, further ones: {more}")?;
        write!(f, "  failures: {}; digest {digest:016x}", failures.len())?;
        failures.iter().take(SHOWN).try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}

/// A run, and what it was told.
pub(crate) struct Recorded {
    pub(crate) tape: Tape,
    boot: u32,
    slots: Vec<usize>,
    states: Vec<Model>,
    acknowledged: Vec<usize>,
    may_be_gone: u64,
    registered: Vec<Registered>,
    registry_acknowledged: Vec<usize>,
}

/// What an image turned out to hold.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    boot: u32,
    model: Model,
    registered: Registered,
}

/// A run on this disk, which holds what a first start leaves.
pub(crate) fn record(seed: u64, disk: &Disk) -> Recorded {
    let mut random = Random::new(seed ^ 0x5eed);
    let mut registry = RegistryRun::open(disk).expect("a sound disk");
    let mut run = Run::open(disk).expect("a sound disk");
    let mut beside = |random: &mut Random| registry.commit(disk, random);
    run.work(disk, &mut random, COMMITS, &mut beside).expect("a sound disk");
    let tape = disk.tape();
    disk.kill();
    Recorded {
        tape,
        boot: run.boot,
        slots: std::mem::take(&mut run.slots),
        states: std::mem::take(&mut run.states),
        acknowledged: std::mem::take(&mut run.acknowledged),
        may_be_gone: run.may_be_gone,
        registered: std::mem::take(&mut registry.states),
        registry_acknowledged: std::mem::take(&mut registry.acknowledged),
    }
}

/// Makes and checks the images of these seeds.
pub(crate) fn try_all(seeds: Range<u64>) -> Tally {
    let mut tally = Tally::default();
    let mut first = seeds.start;
    while first < seeds.end {
        let run = first / PER_RUN;
        let end = seeds.end.min((run + 1) * PER_RUN);
        try_run(run, first..end, &mut tally);
        first = end;
    }
    tally
}

fn try_run(run: u64, seeds: Range<u64>, tally: &mut Tally) {
    let recorded = record(run, &Disk::with(made()));
    let operations = recorded.tape.operations();
    tally.runs += 1;
    tally.operations += operations as u64;
    let start = |seed| {
        let mut random = Random::new(seed);
        (random.below(operations + 1), seed, random)
    };
    let mut images: Vec<(usize, u64, Random)> = seeds.map(start).collect();
    images.sort_by_key(|(n, seed, _)| (*n, *seed));
    let mut playback = recorded.tape.start();
    for (n, seed, mut random) in images {
        tally.images += 1;
        let what = format!("seed {seed} (run {run}), crash around {n} of {operations}");
        let result = catch_unwind(AssertUnwindSafe(|| {
            try_image(&recorded, &mut playback, n, &mut random, tally);
        }));
        if let Err(panic) = result {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            tally.failures.push(format!("{what}: {}", text.unwrap_or_default()));
        }
    }
}

fn try_image<'t>(
    recorded: &'t Recorded,
    playback: &mut Playback<'t>,
    n: usize,
    random: &mut Random,
    tally: &mut Tally,
) {
    // Before the first slot everything comes in its order: the opening.
    let place = recorded.slots.partition_point(|slot| *slot <= n);
    let (from, to) = match (place.checked_sub(1), recorded.slots.get(place)) {
        (None, _) => (n, n),
        (Some(before), to) => (recorded.slots[before], to.copied().unwrap_or(recorded.tape.operations())),
    };
    playback.advance(from);
    let cuts: [usize; DATABASES] = std::array::from_fn(|_| from + random.below(to - from + 1));
    let (image, left) = playback.clone().crash(cuts, random);
    tally.add(&image, left);
    let (found, mut tape) = recover(&image);
    // A run that was cut short while it opened its files has told nobody its number.
    let told = if place == 0 { recorded.boot - 1 } else { recorded.boot };
    assert!(found.boot > told, "run {} after run {told}", found.boot);
    recorded.expect(&found, cuts);
    for crash in 0..CRASHES_MORE {
        if random.below(3) > 0 {
            return;
        }
        *(if crash == 0 { &mut tally.second } else { &mut tally.more }) += 1;
        let n = random.below(tape.operations() + 1);
        let (image, left) = tape.start().crash([n; DATABASES], random);
        tally.add(&image, left);
        let (again, next) = recover(&image);
        // Somebody may have been told what the first recovery found.
        assert!(
            again.model.is(&found.model, 0) && again.registered == found.registered,
            "found otherwise after {crash} more"
        );
        assert!(again.boot >= found.boot, "run {} after run {}", again.boot, found.boot);
        tape = next;
    }
}

impl Recorded {
    /// What was found is what was acknowledged when each file was cut, or one change more.
    pub(crate) fn expect(&self, found: &Found, cuts: [usize; DATABASES]) {
        expect("commits", cuts[JOURNAL], &self.acknowledged, &self.states, |state| {
            state.is(&found.model, self.may_be_gone)
        });
        let what = "changes of the registry";
        expect(what, cuts[REGISTRY], &self.registry_acknowledged, &self.registered, |state| {
            *state == found.registered
        });
    }
}

/// What was acknowledged by `cut` is there, and at most the change that was under way then.
fn expect<T>(what: &str, cut: usize, acknowledged: &[usize], states: &[T], is: impl Fn(&T) -> bool) {
    let done = acknowledged.partition_point(|at| *at <= cut);
    let allowed = &states[done..states.len().min(done + 2)];
    if !allowed.iter().any(&is) {
        let found = states.iter().position(is);
        panic!("not what {done} {what} or one more amount to, but what {found:?} do");
    }
}

/// The real recovery of all files, and what it did to them.
pub(crate) fn recover(image: &Image) -> (Found, Tape) {
    let disk = Disk::with(image.clone());
    let mut run = Run::open(&disk).unwrap_or_else(|error| panic!("{error}"));
    let mut registry = RegistryRun::open(&disk).unwrap_or_else(|error| panic!("{error}"));
    let tape = disk.tape();
    disk.kill();
    let (model, registered) = (run.states.pop(), registry.states.pop());
    let there = "the state found at the start";
    (Found { boot: run.boot, model: model.expect(there), registered: registered.expect(there) }, tape)
}

impl Tally {
    fn add(&mut self, image: &Image, left: Left) {
        self.left.kept += left.kept;
        self.left.dropped += left.dropped;
        self.left.torn += left.torn;
        if self.images.is_multiple_of(DIGEST_EVERY) {
            let digest = image.iter().fold(0u64, |all, file| all.rotate_left(7) ^ file.digest());
            self.digest = self.digest.rotate_left(9) ^ digest;
        }
    }
}
