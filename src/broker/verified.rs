//! Which credentials were checked lately, and how it went, so that a poll does not cost a password hash each time.
//!
//! An entry holds for one generation of its subject: a new token makes the old entry worthless at once, without
//! looking for it. Only keyed digests are kept, never a credential.

use std::collections::HashMap;
use std::mem;

use parking_lot::Mutex;

use crate::credentials::TokenDigest;
use crate::limits::CREDENTIALS_REMEMBERED_MAX;

/// Parts with a lock of their own. A power of two.
const PARTS: usize = 64;
/// Entries of one half of a part.
const HALF_MAX: usize = CREDENTIALS_REMEMBERED_MAX / PARTS / 2;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    generation: u32,
    right: bool,
}

/// The newer half takes entries; when it is full it becomes the older one and the older one is forgotten. What is
/// used moves to the newer half, so what is forgotten was not used for at least `HALF_MAX` other credentials.
#[derive(Debug, Default)]
struct Part {
    newer: HashMap<TokenDigest, Verdict>,
    older: HashMap<TokenDigest, Verdict>,
}

/// The bounded memory of checks.
#[derive(Debug)]
pub(super) struct Verified {
    parts: Box<[Mutex<Part>]>,
}

impl Default for Verified {
    fn default() -> Verified {
        Verified { parts: (0..PARTS).map(|_| Mutex::default()).collect() }
    }
}

impl Verified {
    /// Whether this credential is the right one of this generation; `None` = not known, it has to be hashed.
    pub(super) fn recall(&self, digest: TokenDigest, generation: u32) -> Option<bool> {
        let mut part = self.part(digest).lock();
        let verdict = match part.newer.get(&digest) {
            Some(verdict) => *verdict,
            None => {
                let verdict = part.older.remove(&digest)?;
                part.insert(digest, verdict);
                verdict
            }
        };
        (verdict.generation == generation).then_some(verdict.right)
    }

    /// Remembers how a check went.
    pub(super) fn remember(&self, digest: TokenDigest, generation: u32, right: bool) {
        let mut part = self.part(digest).lock();
        part.insert(digest, Verdict { generation, right });
    }

    fn part(&self, digest: TokenDigest) -> &Mutex<Part> {
        &self.parts[digest.bits() as usize % PARTS]
    }
}

impl Part {
    fn insert(&mut self, digest: TokenDigest, verdict: Verdict) {
        if self.newer.len() >= HALF_MAX {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(digest, verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{DataKey, RandomPart, Sealer, Subject};

    fn digests(count: usize) -> Vec<TokenDigest> {
        let sealer = Sealer::new(&DataKey::generate());
        let digest = |_| {
            let token = sealer.seal(Subject::Admin, &RandomPart::generate());
            sealer.open(token.reveal()).unwrap().digest
        };
        (0..count).map(digest).collect()
    }

    #[test]
    fn holds_for_one_generation() {
        let verified = Verified::default();
        let digest = digests(1)[0];
        assert_eq!(verified.recall(digest, 1), None);
        verified.remember(digest, 1, true);
        assert_eq!(verified.recall(digest, 1), Some(true));
        assert_eq!(verified.recall(digest, 2), None);
        verified.remember(digest, 2, false);
        assert_eq!(verified.recall(digest, 2), Some(false));
    }

    #[test]
    fn stays_bounded_and_keeps_what_is_used() {
        let verified = Verified::default();
        let digests = digests(CREDENTIALS_REMEMBERED_MAX + CREDENTIALS_REMEMBERED_MAX / 2);
        let used = digests[0];
        for digest in &digests {
            verified.remember(*digest, 1, true);
            assert_eq!(verified.recall(used, 1), Some(true));
        }
        let held = |part: &Mutex<Part>| {
            let part = part.lock();
            part.newer.len() + part.older.len()
        };
        let kept: usize = verified.parts.iter().map(held).sum();
        assert!(kept <= CREDENTIALS_REMEMBERED_MAX, "{kept}");
    }
}
