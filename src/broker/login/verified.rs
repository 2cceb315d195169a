//! Which credentials were checked lately, and how it went, so that a poll does not cost a password hash each time.
//!
//! An entry holds for one generation of its subject: a new token makes the old entry worthless at once, without
//! looking for it. Only keyed digests are kept, never a credential. A subject has one right credential and a few wrong
//! ones, each kind in a memory of its own: nobody pushes out another's with many of his own.

use std::collections::HashMap;
use std::mem;

use parking_lot::Mutex;

use crate::credentials::{Subject, TokenDigest};
use crate::limits::{
    CREDENTIALS_REMEMBERED_MAX, WRONG_CREDENTIALS_PER_SUBJECT_MAX, WRONG_SUBJECTS_REMEMBERED_MAX,
};

/// Parts with a lock of their own. A power of two.
const PARTS: usize = 64;

/// The right credential of a subject.
#[derive(Debug, Clone, Copy)]
struct Right {
    generation: u32,
    digest: TokenDigest,
}

/// The latest wrong ones.
#[derive(Debug, Clone, Copy)]
struct Wrong {
    generation: u32,
    digests: [Option<TokenDigest>; WRONG_CREDENTIALS_PER_SUBJECT_MAX],
    /// The place that is used next.
    next: usize,
}

/// The newer half takes entries; when it is full it becomes the older one and the older one is forgotten. What is
/// used moves to the newer half, so what is forgotten was not used for at least half as many other subjects.
#[derive(Debug)]
struct Halves<V> {
    newer: HashMap<Subject, V>,
    older: HashMap<Subject, V>,
    half_max: usize,
}

impl<V: Copy> Halves<V> {
    fn new(max: usize) -> Halves<V> {
        Halves { newer: HashMap::new(), older: HashMap::new(), half_max: max / PARTS / 2 }
    }

    fn find(&mut self, subject: Subject) -> Option<V> {
        if let Some(value) = self.newer.get(&subject) {
            return Some(*value);
        }
        let value = self.older.remove(&subject)?;
        self.put(subject, value);
        Some(value)
    }

    fn put(&mut self, subject: Subject, value: V) {
        if self.newer.len() >= self.half_max && !self.newer.contains_key(&subject) {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(subject, value);
    }
}

#[derive(Debug)]
struct Part {
    right: Halves<Right>,
    wrong: Halves<Wrong>,
}

/// The bounded memory of checks.
#[derive(Debug)]
pub(super) struct Verified {
    parts: Box<[Mutex<Part>]>,
}

impl Default for Verified {
    fn default() -> Verified {
        let part = || Part {
            right: Halves::new(CREDENTIALS_REMEMBERED_MAX),
            wrong: Halves::new(WRONG_SUBJECTS_REMEMBERED_MAX),
        };
        Verified { parts: (0..PARTS).map(|_| Mutex::new(part())).collect() }
    }
}

impl Verified {
    /// Whether this credential is the right one of this generation; `None` = not known, it has to be hashed.
    pub(super) fn recall(&self, subject: Subject, digest: TokenDigest, generation: u32) -> Option<bool> {
        let mut part = self.part(subject).lock();
        if part
            .right
            .find(subject)
            .is_some_and(|right| right.generation == generation && right.digest == digest)
        {
            return Some(true);
        }
        let wrong = part.wrong.find(subject).filter(|wrong| wrong.generation == generation)?;
        wrong.digests.contains(&Some(digest)).then_some(false)
    }

    /// Remembers how a check went.
    pub(super) fn remember(&self, subject: Subject, digest: TokenDigest, generation: u32, right: bool) {
        let mut part = self.part(subject).lock();
        if right {
            return part.right.put(subject, Right { generation, digest });
        }
        let none = Wrong { generation, digests: [None; WRONG_CREDENTIALS_PER_SUBJECT_MAX], next: 0 };
        let mut wrong =
            part.wrong.find(subject).filter(|wrong| wrong.generation == generation).unwrap_or(none);
        wrong.digests[wrong.next] = Some(digest);
        wrong.next = (wrong.next + 1) % WRONG_CREDENTIALS_PER_SUBJECT_MAX;
        part.wrong.put(subject, wrong);
    }

    fn part(&self, subject: Subject) -> &Mutex<Part> {
        let number = match subject {
            Subject::Server(id) => id.0,
            Subject::Key(id) => id.0,
            Subject::Admin => 0,
        };
        &self.parts[number as usize % PARTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{DataKey, RandomPart, Sealer};
    use crate::ids::ServerId;

    fn subject(number: usize) -> Subject {
        Subject::Server(ServerId(number as u32))
    }

    fn digests(count: usize) -> Vec<TokenDigest> {
        let sealer = Sealer::new(&DataKey::generate());
        let digest = |_| {
            let token = sealer.seal(Subject::Admin, &RandomPart::generate());
            sealer.open(token.reveal()).unwrap().digest
        };
        (0..count).map(digest).collect()
    }

    #[test]
    fn holds_for_one_generation_and_one_subject() {
        let verified = Verified::default();
        let digest = digests(1)[0];
        let recall = |server, generation| verified.recall(subject(server), digest, generation);
        assert_eq!(recall(1, 1), None);
        verified.remember(subject(1), digest, 1, true);
        assert_eq!((recall(1, 1), recall(1, 2), recall(2, 1)), (Some(true), None, None));
        verified.remember(subject(1), digest, 2, false);
        assert_eq!((recall(1, 2), recall(1, 3)), (Some(false), None));
    }

    #[test]
    fn wrong_ones_push_out_neither_the_right_one_nor_other_subjects() {
        let verified = Verified::default();
        let digests = digests(10_000);
        let (right, stale) = (digests[0], digests[1]);
        verified.remember(subject(1), right, 1, true);
        verified.remember(subject(2), stale, 1, false);
        for wrong in &digests[2..] {
            verified.remember(subject(1), *wrong, 1, false);
            verified.remember(subject(65), *wrong, 1, false);
        }
        assert_eq!(verified.recall(subject(1), right, 1), Some(true));
        assert_eq!(verified.recall(subject(2), stale, 1), Some(false));
        let latest = &digests[digests.len() - WRONG_CREDENTIALS_PER_SUBJECT_MAX..];
        assert!(latest.iter().all(|wrong| verified.recall(subject(1), *wrong, 1) == Some(false)));
        assert_eq!(verified.recall(subject(1), digests[2], 1), None, "they are bounded");
    }

    #[test]
    fn stays_bounded_and_keeps_what_is_used() {
        let verified = Verified::default();
        let digest = digests(1)[0];
        for right in [true, false] {
            for number in 1..CREDENTIALS_REMEMBERED_MAX + CREDENTIALS_REMEMBERED_MAX / 2 {
                verified.remember(subject(number), digest, 1, right);
                // Seldom enough that it has to move on from the older half, often enough that it is used.
                if number % 50 == 0 {
                    assert_eq!(verified.recall(subject(1), digest, 1), Some(true));
                }
            }
        }
        let held = |of: fn(&Part) -> usize| verified.parts.iter().map(|part| of(&part.lock())).sum::<usize>();
        let right = held(|part| part.right.newer.len() + part.right.older.len());
        let wrong = held(|part| part.wrong.newer.len() + part.wrong.older.len());
        assert!(right <= CREDENTIALS_REMEMBERED_MAX && right > CREDENTIALS_REMEMBERED_MAX / 2, "{right}");
        assert!(
            wrong <= WRONG_SUBJECTS_REMEMBERED_MAX && wrong > WRONG_SUBJECTS_REMEMBERED_MAX / 2,
            "{wrong}"
        );
    }
}
