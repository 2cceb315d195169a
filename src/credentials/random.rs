//! Unbiased random characters from the system's generator.

use zeroize::Zeroize;

/// The characters of secrets and tags, in the order of their digit values.
pub(super) const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random characters in a secret: 142 bits.
pub(super) const RANDOM_CHARS: usize = 24;

/// Bytes below this map to characters evenly; the rest are drawn again.
const EVEN_BELOW: u8 = (256 / ALPHABET.len() * ALPHABET.len()) as u8;

/// The random part of a secret, from which the stored hash is made. Overwritten when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct RandomPart(pub(super) [u8; RANDOM_CHARS]);

impl RandomPart {
    /// A new one from the system's generator.
    pub fn generate() -> RandomPart {
        let mut part = [0; RANDOM_CHARS];
        let mut filled = 0;
        while filled < part.len() {
            let mut bytes: [u8; 2 * RANDOM_CHARS] = random_bytes();
            for byte in bytes.iter().filter(|byte| **byte < EVEN_BELOW).take(part.len() - filled) {
                part[filled] = ALPHABET[usize::from(*byte) % ALPHABET.len()];
                filled += 1;
            }
            bytes.zeroize();
        }
        RandomPart(part)
    }
}

impl Drop for RandomPart {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for RandomPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RandomPart(...)")
    }
}

/// Bytes from the system's generator. Without it no credential can be made, so there is nothing to fall back to.
pub(super) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_even() {
        let mut counts = [0u32; 256];
        for _ in 0..5_000 {
            for byte in RandomPart::generate().0 {
                counts[usize::from(byte)] += 1;
            }
        }
        // 120,000 draws: 1,935 expected each, standard deviation 44. Taking bytes modulo 62 would give the first
        // eight characters 2,344.
        for character in ALPHABET {
            let count = counts[usize::from(*character)];
            assert!((1_650..2_200).contains(&count), "{} came {count} times", *character as char);
        }
        assert_eq!(ALPHABET.iter().map(|c| counts[usize::from(*c)]).sum::<u32>(), 120_000);
    }
}
