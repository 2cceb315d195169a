//! Any story of publishers, plugins, operators, disks and crashes, told to the engine and to the naive queue of
//! `tests/model`: whatever the bytes choose, the two agree after every step, and in the end every command has ended.
//!
//! The bytes are the choices that `tests/model.rs` draws at random, so an input is a whole sequence of sensible and of
//! wrong inputs to several shards; a byte more or less changes one step of it.

use crate::driver::Driver;
use crate::support::random::Random;

/// Steps of one story: what follows is not looked at.
const STEPS_MAX: usize = 400;
/// Steps shown of a story that failed.
const SHOWN: usize = 40;

/// Shows how a story came to its bad end.
struct Told<'d>(&'d mut Driver);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.0.trace.len().saturating_sub(SHOWN);
            eprintln!("the last steps:\n{}", self.0.trace[from..].join("\n"));
        }
    }
}

/// Panics if the engine and the naive queue differ in the story that `data` chooses.
pub(crate) fn check_session(data: &[u8]) {
    let mut driver = Driver::new(Random::from_bytes(data));
    let told = Told(&mut driver);
    for _ in 0..STEPS_MAX {
        if told.0.random.is_spent() {
            break;
        }
        told.0.step();
    }
    told.0.bring_to_an_end();
}
