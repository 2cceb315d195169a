//! The engine against a naive queue: random publishers, plugins, operators, disks and crashes; after each step the two must
//! agree on what goes out, to whom, in which order, and on the state of every command.
//!
//! Each seed is a story of its own; a failure names it. `FLUXRELAY_MODEL_SEEDS=10000` runs more of them,
//! `FLUXRELAY_MODEL_SEED=17` runs that one alone and prints its steps.

#[allow(dead_code, reason = "each test uses a part of it")]
mod support;

#[path = "model/check.rs"]
mod check;
#[path = "../fuzz/check_session.rs"]
mod check_session;
#[path = "../fuzz/corpus.rs"]
mod corpus;
#[path = "model/driver.rs"]
mod driver;
#[path = "model/inputs.rs"]
mod inputs;
#[path = "model/naive.rs"]
mod naive;
#[path = "model/outcomes.rs"]
mod outcomes;

use std::panic::{AssertUnwindSafe, catch_unwind};

use driver::Driver;
use support::random::Random;

const SEEDS: u64 = 60;
const STEPS: usize = 250;
/// Steps shown of a story that failed.
const SHOWN: usize = 40;

fn story(seed: u64) {
    let mut driver = Driver::new(Random::new(seed));
    let ended = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            driver.step();
        }
        driver.bring_to_an_end();
    }));
    if ended.is_err() {
        let from = driver.trace.len().saturating_sub(SHOWN);
        panic!("FLUXRELAY_MODEL_SEED={seed} failed; its last steps:\n{}", driver.trace[from..].join("\n"));
    }
}

#[test]
fn the_engine_agrees_with_a_naive_queue() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("FLUXRELAY_MODEL_SEED") {
        return story(seed);
    }
    for seed in 1..=number("FLUXRELAY_MODEL_SEEDS").unwrap_or(SEEDS) {
        story(seed);
    }
}

#[test]
fn the_engine_agrees_with_it_in_the_stories_that_the_fuzzer_found() {
    corpus::replay("session", check_session::check_session);
}
