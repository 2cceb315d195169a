//! A small generator of numbers that look random and repeat for a seed, or that are read from given bytes. Must never be
//! used for a secret.

use std::collections::VecDeque;

/// Where the numbers come from.
#[derive(Debug, Clone)]
enum Source {
    /// SplitMix64 (Steele, Lea, Flood 2014).
    Seed(u64),
    /// As few bytes for a choice as it needs, so that a changed byte changes one choice.
    Bytes(VecDeque<u8>),
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Random(Source);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Source::Seed(seed))
    }

    /// Choices out of bytes; once they are spent, the last choice of all is made again and again.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Random {
        Random(Source::Bytes(bytes.iter().copied().collect()))
    }

    /// There is no byte left. Never true of a seed.
    pub(crate) fn is_spent(&self) -> bool {
        matches!(&self.0, Source::Bytes(bytes) if bytes.is_empty())
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        match &mut self.0 {
            Source::Seed(state) => {
                *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                z ^ (z >> 31)
            }
            Source::Bytes(bytes) => read(bytes, 8).unwrap_or(u64::MAX),
        }
    }

    /// 0 to `end` - 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        match &mut self.0 {
            Source::Seed(_) => self.next() % end,
            Source::Bytes(bytes) => {
                let needed = (u64::BITS - (end - 1).leading_zeros()).div_ceil(8);
                read(bytes, needed.max(1)).map_or(end - 1, |number| number % end)
            }
        }
    }

    /// True `part` times out of `whole`.
    pub(crate) fn chance(&mut self, part: u64, whole: u64) -> bool {
        self.below(whole) < part
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len() as u64) as usize) }
    }
}

/// A number of so many bytes, or of as many as there are; `None` when there are none.
fn read(bytes: &mut VecDeque<u8>, count: u32) -> Option<u64> {
    let count = bytes.len().min(count as usize);
    let read = bytes.drain(..count);
    (count > 0).then(|| read.fold(0, |number, byte| number << 8 | u64::from(byte)))
}
