//! Which of several threads does what all of them have brought: the first that finds nobody at it. Never two, and nothing
//! that was brought stays undone while none is.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Counts what was brought and is not done. Whoever raises it from nothing holds the baton, until it is nothing again or
/// the baton was handed on.
#[derive(Debug)]
pub(super) struct Baton {
    undone: AtomicUsize,
}

impl Baton {
    /// Nothing is undone.
    pub(super) fn new() -> Baton {
        Baton { undone: AtomicUsize::new(0) }
    }

    /// One thing more is where whoever holds the baton finds it. True = the caller holds the baton now.
    #[must_use]
    pub(super) fn bring(&self) -> bool {
        self.undone.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// So much is to be found by now, or was found before it was counted; for whoever holds the baton.
    pub(super) fn brought(&self) -> usize {
        self.undone.load(Ordering::Acquire)
    }

    /// So much is done. False = there is more, and the caller holds the baton still.
    #[must_use]
    pub(super) fn done(&self, count: usize) -> bool {
        self.undone.fetch_sub(count, Ordering::AcqRel) == count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_brings_the_first_holds_it_until_all_is_done() {
        let baton = Baton::new();
        assert!(baton.bring());
        assert!(!baton.bring(), "somebody is at it");
        assert_eq!(baton.brought(), 2);
        assert!(!baton.bring(), "after the look");
        assert!(!baton.done(2), "one is left");
        assert!(baton.done(1));
        assert!(baton.bring(), "nobody is at it");
    }
}

#[cfg(all(test, fluxrelay_loom))]
mod interleavings {
    use std::sync::Arc;

    use super::*;
    use crate::sync::Mutex;

    /// What threads bring, and how many are at it.
    struct Shared {
        baton: Baton,
        things: Mutex<Vec<u32>>,
        done: Mutex<Vec<u32>>,
        at_it: AtomicUsize,
    }

    /// As a shard's thread and the journal: brings one thing, and does all that is there if it has to.
    fn bring_and_do(shared: &Shared, thing: u32) {
        shared.things.lock().push(thing);
        if !shared.baton.bring() {
            return;
        }
        loop {
            let brought = shared.baton.brought();
            assert_eq!(shared.at_it.fetch_add(1, Ordering::Relaxed), 0, "two at once");
            let mut things = std::mem::take(&mut *shared.things.lock());
            shared.done.lock().append(&mut things);
            shared.at_it.fetch_sub(1, Ordering::Relaxed);
            if shared.baton.done(brought) {
                return;
            }
        }
    }

    #[test]
    fn nothing_that_was_brought_stays_undone() {
        loom::model(|| {
            let shared = Arc::new(Shared {
                baton: Baton::new(),
                things: Mutex::default(),
                done: Mutex::default(),
                at_it: AtomicUsize::new(0),
            });
            let threads = [1, 2].map(|thing| {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || bring_and_do(&shared, thing))
            });
            bring_and_do(&shared, 3);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let mut done = std::mem::take(&mut *shared.done.lock());
            done.sort_unstable();
            assert_eq!(done, [1, 2, 3]);
        });
    }
}
