//! That something waits to be looked at: said by many, heard by one. No lock.

use crate::sync::atomic::{AtomicBool, Ordering};

/// Whether it has been said since the last look.
#[derive(Debug, Default)]
pub(super) struct Announced(AtomicBool);

impl Announced {
    /// After something was added. True = nobody else has said so: wake whoever looks.
    pub(super) fn announce(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Before a look. It finds what was announced until now, and whatever comes later is announced anew.
    ///
    /// This reads, and does not only write: a look behind a mere write could miss what was added by somebody who saw
    /// the mark from before it, and so woke nobody.
    pub(super) fn begin_look(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}

#[cfg(all(test, fluxrelay_loom))]
mod interleavings {
    use std::sync::Arc;

    use loom::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn what_is_announced_is_seen_or_wakes() {
        loom::model(|| {
            let announced = Arc::new(Announced::default());
            assert!(announced.announce(), "and the look that follows is below");
            let adders = [1, 2].map(|_| {
                let (announced, added) = (Arc::clone(&announced), Arc::new(AtomicU32::new(0)));
                let there = Arc::clone(&added);
                let adder = loom::thread::spawn(move || {
                    there.store(1, Ordering::Relaxed);
                    announced.announce()
                });
                (adder, added)
            });
            announced.begin_look();
            let seen = [0, 1].map(|at: usize| adders[at].1.load(Ordering::Relaxed) == 1);
            let woke = adders.map(|(adder, _)| adder.join().unwrap());
            assert!(woke.contains(&true) || seen == [true, true], "one is there, and nobody looks again");
        });
    }
}
