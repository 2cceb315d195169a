//! The stored form of a secret: argon2id over its random part.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq;

use super::random::{RandomPart, random_bytes};

/// What one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory in KiB, 8 to `MEMORY_KIB_MAX`.
    pub memory_kib: u32,
    /// Passes over it, 1 to `PASSES_MAX`.
    pub passes: u32,
}

impl HashCost {
    /// The contract: 19 MiB, 2 passes, 1 lane; 15 to 17 ms of one core.
    pub const STANDARD: HashCost = HashCost { memory_kib: 19 * 1024, passes: 2 };
    /// Next to nothing, for tests and benches that register many servers.
    pub const TINY: HashCost = HashCost { memory_kib: 8, passes: 1 };

    /// The highest memory that a stored record may ask for, in KiB: a damaged one must not exhaust the machine.
    pub const MEMORY_KIB_MAX: u32 = 64 * 1024;
    /// The most passes that a stored record may ask for.
    pub const PASSES_MAX: u32 = 16;

    /// Whether both numbers are within their ranges.
    pub fn is_valid(self) -> bool {
        (8..=Self::MEMORY_KIB_MAX).contains(&self.memory_kib) && (1..=Self::PASSES_MAX).contains(&self.passes)
    }
}

/// A stored hash with all that is needed to check a secret against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretHash {
    /// What it cost.
    pub cost: HashCost,
    /// Random, one per secret.
    pub salt: [u8; 16],
    /// The argon2id output.
    pub output: [u8; 32],
}

impl SecretHash {
    /// A hash that no secret has, to spend the same time on a subject that does not exist.
    pub fn dummy(cost: HashCost) -> SecretHash {
        SecretHash { cost, salt: random_bytes(), output: random_bytes() }
    }
}

/// Computes hashes, with memory of its own that is used again: one per thread.
#[derive(Default)]
pub struct Hasher {
    memory: Vec<Block>,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").field("blocks", &self.memory.len()).finish()
    }
}

impl Hasher {
    /// The hash to store for a new secret.
    pub fn make(&mut self, random: &RandomPart, cost: HashCost) -> SecretHash {
        let salt = random_bytes();
        SecretHash { cost, salt, output: self.compute(random, cost, &salt) }
    }

    /// Whether the secret is the one that was hashed.
    pub fn is_right(&mut self, random: &RandomPart, hash: &SecretHash) -> bool {
        self.compute(random, hash.cost, &hash.salt).ct_eq(&hash.output).into()
    }

    fn compute(&mut self, random: &RandomPart, cost: HashCost, salt: &[u8; 16]) -> [u8; 32] {
        let params = Params::new(cost.memory_kib, cost.passes, 1, Some(32))
            .expect("costs are checked when they are set or read from disk");
        let blocks = params.block_count();
        if self.memory.len() < blocks {
            self.memory.resize(blocks, Block::new());
        }
        let mut output = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(&random.0, salt, &mut output, &mut self.memory[..blocks])
            .expect("lengths are fixed and the memory is large enough");
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hashed_secret_is_right() {
        let mut hasher = Hasher::default();
        let random = RandomPart::generate();
        let hash = hasher.make(&random, HashCost::TINY);
        assert!(hasher.is_right(&random, &hash));
        assert!(!hasher.is_right(&RandomPart::generate(), &hash));
        assert!(!hasher.is_right(&random, &SecretHash::dummy(HashCost::TINY)));
        assert_ne!(hasher.make(&random, HashCost::TINY).output, hash.output, "each has its own salt");
    }

    #[test]
    fn used_memory_changes_nothing() {
        let random = RandomPart::generate();
        let larger = HashCost { memory_kib: 64, passes: 2 };
        let hash = Hasher::default().make(&random, larger);
        let mut used = Hasher::default();
        used.make(&RandomPart::generate(), HashCost { memory_kib: 256, passes: 1 });
        assert!(used.is_right(&random, &hash));
    }
}
