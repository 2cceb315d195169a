//! How rows at rest are written: they are most of what lies on disk, so numbers take the bytes that they need and no more.
//!
//! A *number* is LEB128: seven bits in each byte, the lowest first, the highest bit set in all but the last; as short as it
//! can be. A *difference* of two numbers of 64 bits is a number too: 0, -1, 1, -2, 2, ... are 0, 1, 2, 3, 4, ... A *text* is the
//! number of its bytes, and they.

use std::sync::Arc;

use super::Flaw;

/// Bytes of the longest number.
const NUMBER_BYTES_MAX: usize = 10;

/// Appends a number.
pub(super) fn number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Bytes of a number.
pub(super) fn number_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends the difference of a number to one that is known.
pub(super) fn difference(bytes: &mut Vec<u8>, value: u64, known: u64) {
    let difference = value.wrapping_sub(known) as i64;
    number(bytes, ((difference << 1) ^ (difference >> 63)) as u64);
}

/// Appends a text.
pub(super) fn text(bytes: &mut Vec<u8>, text: &str) {
    number(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

/// Bits of what is there, the first one lowest.
pub(super) fn flags<const N: usize>(flags: [bool; N]) -> u64 {
    flags.into_iter().rev().fold(0, |bits, flag| bits << 1 | u64::from(flag))
}

/// What is left to be read.
#[derive(Debug, Clone)]
pub(super) struct Unpack<'a>(pub(super) &'a [u8]);

impl<'a> Unpack<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// There must be nothing left.
    pub(super) fn end(self) -> Result<(), Flaw> {
        match self.0.len() {
            0 => Ok(()),
            over => Err(Flaw::new(format!("{over} bytes too many"))),
        }
    }

    pub(super) fn bytes(&mut self, count: u64) -> Result<&'a [u8], Flaw> {
        let ends = || Flaw::new(format!("{count} bytes where {} are left", self.0.len()));
        let count = usize::try_from(count).map_err(|_| ends())?;
        let (bytes, left) = self.0.split_at_checked(count).ok_or_else(ends)?;
        self.0 = left;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        Ok(self.bytes(N as u64)?.try_into().expect("as many as were asked for"))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Flaw> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn number(&mut self) -> Result<u64, Flaw> {
        let mut value = 0;
        for place in 0..NUMBER_BYTES_MAX {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth has room for one bit.
            if place == NUMBER_BYTES_MAX - 1 && bits > 1 {
                break;
            }
            value |= bits << (7 * place);
            match byte {
                0 if place > 0 => return Err(Flaw::new("a number is longer than it need be")),
                0..0x80 => return Ok(value),
                _ => {}
            }
        }
        Err(Flaw::new("a number is above 64 bits"))
    }

    /// A number that has to fit.
    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Flaw> {
        let value = self.number()?;
        T::try_from(value).map_err(|_| Flaw::new(format!("{value} is too large")))
    }

    pub(super) fn difference(&mut self, known: u64) -> Result<u64, Flaw> {
        let value = self.number()?;
        Ok(known.wrapping_add((value >> 1) ^ (value & 1).wrapping_neg()))
    }

    pub(super) fn str(&mut self) -> Result<&'a str, Flaw> {
        let length = self.number()?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Flaw::new("a text is not UTF-8"))
    }

    pub(super) fn text(&mut self) -> Result<Arc<str>, Flaw> {
        self.str().map(Arc::from)
    }

    /// Bits of what is there, none of which may be unknown.
    pub(super) fn flags<const N: usize>(&mut self) -> Result<[bool; N], Flaw> {
        let bits = self.number()?;
        match bits >> N {
            0 => Ok(std::array::from_fn(|place| bits >> place & 1 == 1)),
            _ => Err(Flaw::new(format!("unknown flags: {bits:#b}"))),
        }
    }
}

/// Reads what is there only if its flag is set.
pub(super) fn if_set<T>(flag: bool, read: impl FnOnce() -> Result<T, Flaw>) -> Result<Option<T>, Flaw> {
    flag.then(read).transpose()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers of every length.
    fn any_number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64u32).prop_map(|(value, shift)| value >> shift)
    }

    proptest! {
        #[test]
        fn everything_reads_back(value in any_number(), known in any_number(), words in ".{0,20}", set in any::<[bool; 9]>()) {
            let mut bytes = Vec::new();
            number(&mut bytes, value);
            prop_assert_eq!(bytes.len(), number_bytes(value));
            difference(&mut bytes, value, known);
            text(&mut bytes, &words);
            number(&mut bytes, flags(set));
            let mut unpack = Unpack(&bytes);
            prop_assert_eq!(unpack.number(), Ok(value));
            prop_assert_eq!(unpack.difference(known), Ok(value));
            prop_assert_eq!(unpack.str(), Ok(&*words));
            prop_assert_eq!(unpack.flags(), Ok(set));
            prop_assert_eq!(unpack.end(), Ok(()));
            for length in 0..bytes.len() {
                let mut cut = Unpack(&bytes[..length]);
                let read = cut.number().and_then(|_| cut.difference(0)).and_then(|_| cut.text());
                prop_assert!(read.and_then(|_| cut.flags::<9>()).is_err(), "cut to {}", length);
            }
        }
    }

    #[test]
    fn small_differences_take_a_byte() {
        for (value, known) in [(5, 5), (4, 5), (63 + 5, 5), (u64::MAX, 0), (0, u64::MAX)] {
            let mut bytes = Vec::new();
            difference(&mut bytes, value, known);
            assert_eq!(bytes.len(), 1, "{value} after {known}");
        }
    }

    #[test]
    fn what_was_not_written_so_is_refused_in_words() {
        let number = |bytes: &[u8]| Unpack(bytes).number().map_err(|flaw| flaw.0);
        assert_eq!(number(&[0x80, 0]), Err("a number is longer than it need be".into()));
        assert_eq!(number(&[0xff; 9]), Err("1 bytes where 0 are left".into()));
        assert_eq!(number(&[0xff; 10]), Err("a number is above 64 bits".into()));
        assert_eq!(number(&[&[0xff; 9][..], &[2]].concat()), Err("a number is above 64 bits".into()));
        assert_eq!(number(&[&[0xff; 9][..], &[1]].concat()), Ok(u64::MAX));
        assert_eq!(Unpack(&[2, 0xc3, 0x28]).text(), Err(Flaw::new("a text is not UTF-8")));
        assert_eq!(Unpack(&[4]).flags::<2>(), Err(Flaw::new("unknown flags: 0b100")));
        assert_eq!(Unpack(&[0x80, 0x80, 4]).small::<u16>(), Err(Flaw::new("65536 is too large")));
        assert_eq!(Unpack(&[0; 3]).end(), Err(Flaw::new("3 bytes too many")));
    }
}
