//! The whole core of the broker in one thread, with virtual time, a disk that breaks, networks that break, plugins that
//! crash, and a checker that knows everything that was promised. Each seed is a story of its own, and always the same one.
//!
//! `FLUXRELAY_SIM_SEED=17` runs that one alone and prints it. `FLUXRELAY_SIM_SEEDS=100000` runs as many, from
//! `FLUXRELAY_SIM_FIRST` on.

mod calls;
mod chance;
mod checker;
mod disk;
mod end;
mod network;
mod paper;
mod plugin;
mod polls;
mod publisher;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "../support/random.rs"]
mod random;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use trace::Counts;
use world::World;

const SEEDS: u64 = 500;
/// Seeds between two lines that say how far it is.
const PROGRESS_EVERY: u64 = 1_000;

/// What has to happen in any few hundred stories: a simulation that never sees a fault proves nothing about it.
const MUST_HAPPEN: [&str; 52] = [
    "accepted",
    "answer lost",
    "broker ends",
    "broker failed",
    "broker stops in order",
    "cancelled",
    "closed by broker",
    "confirmed",
    "crash at a sync",
    "crash at a write",
    "delivered",
    "disk error, lasting",
    "disk error, once",
    "disk full",
    "edited",
    "ended: cancelled",
    "ended: completed",
    "ended: expired",
    "foreign result",
    "frames replayed",
    "in doubt",
    "in doubt, then run again",
    "joins",
    "leaves",
    "link closed",
    "link dead",
    "link half-open at broker",
    "link half-open at client",
    "link reset",
    "look-up failed",
    "new token",
    "plugin crash while running",
    "plugin killed",
    "plugin loses power",
    "plugin starts",
    "polled",
    "power loss",
    "publish",
    "publish, other body",
    "published",
    "published again",
    "read error",
    "refused",
    "request lost",
    "resent",
    "resent in bulk",
    "run",
    "server added",
    "server removed",
    "slow disk",
    "start failed",
    "sync error",
];

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

/// One story; its hash and what happened in it.
fn story(seed: u64, loud: bool) -> (u64, Counts) {
    let mut world = World::new(seed, loud);
    let span = 30_000 + world.random.below(120_000);
    world.run_until(world.now + span);
    world.heal();
    (world.trace.hash(), world.trace.counts)
}

fn run_seeds(first: u64, seeds: u64) -> Counts {
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let all = Mutex::new(Counts::new());
    let failures = Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let Ok((_, counts)) = catch_unwind(AssertUnwindSafe(|| story(seed, false))) else {
                        eprintln!("seed {seed} failed");
                        failures.lock().push(seed);
                        failed.store(setting("FLUXRELAY_SIM_ALL").is_none(), Ordering::Relaxed);
                        continue;
                    };
                    let mut all = all.lock();
                    counts.into_iter().for_each(|(kind, count)| *all.entry(kind).or_default() += count);
                    let done = seed + 1 - first;
                    if done.is_multiple_of(PROGRESS_EVERY) {
                        eprintln!("{done} of {seeds} seeds, {} commands", all["commands"]);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner();
    failures.sort_unstable();
    assert!(
        failures.is_empty(),
        "seeds that failed: {failures:?}; replay one by\n  FLUXRELAY_SIM_SEED={} cargo test --test simulation nothing_that -- --nocapture",
        failures[0]
    );
    all.into_inner()
}

#[test]
fn nothing_that_was_promised_is_ever_lost() {
    if let Some(seed) = setting("FLUXRELAY_SIM_SEED") {
        let (hash, _) = story(seed, true);
        eprintln!("seed {seed}: {hash:016x}");
        return;
    }
    let (first, seeds) =
        (setting("FLUXRELAY_SIM_FIRST").unwrap_or(0), setting("FLUXRELAY_SIM_SEEDS").unwrap_or(SEEDS));
    let counts = run_seeds(first, seeds);
    println!("{seeds} seeds from {first}:");
    for (kind, count) in &counts {
        println!("{count:>12}  {kind}");
    }
    if seeds >= SEEDS {
        let never: Vec<&str> = MUST_HAPPEN.into_iter().filter(|kind| !counts.contains_key(kind)).collect();
        assert!(never.is_empty(), "these never happened: {never:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in 1_000_000..1_000_006 {
        assert_eq!(story(seed, false), story(seed, false), "seed {seed}");
    }
}
