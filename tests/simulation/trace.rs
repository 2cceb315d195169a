//! What happened in one story: a hash of every line, how often each kind came, and the lines themselves when somebody
//! wants to read them. Must never hold anything that differs between two runs of a seed.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::world::START;

/// How often each kind of line came.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: Fnv,
    loud: bool,
    pub(crate) counts: Counts,
}

/// FNV-1a over text that is never put together.
#[derive(Debug)]
struct Fnv(u64);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.as_bytes() {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    pub(crate) fn new(loud: bool) -> Trace {
        Trace { hash: Fnv(0xcbf2_9ce4_8422_2325), loud, counts: Counts::new() }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }

    /// One line; the time is shown from the beginning of the story.
    pub(crate) fn note(&mut self, now: u64, kind: &'static str, what: fmt::Arguments<'_>) {
        self.count(kind, 1);
        let _ = writeln!(self.hash, "{now} {kind} {what}");
        let now = now - START;
        if self.loud {
            eprintln!("{:>9}.{:03} {kind:<22} {what}", now / 1000, now % 1000);
        }
    }

    /// A line for readers alone.
    pub(crate) fn whisper(&self, now: u64, what: fmt::Arguments<'_>) {
        if self.loud {
            let now = now - START;
            eprintln!("{:>9}.{:03}     {what}", now / 1000, now % 1000);
        }
    }

    /// Counts without a line.
    pub(crate) fn count(&mut self, kind: &'static str, by: u64) {
        *self.counts.entry(kind).or_default() += by;
    }
}
