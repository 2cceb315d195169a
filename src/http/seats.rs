//! Bounds on what one store or server may have open at once, so that none can crowd out the others. No lock.

use std::sync::Arc;

use crate::sync::atomic::{AtomicU32, Ordering};

/// Owners with a count of their own; beyond that many, owners share.
const SLOTS: usize = if cfg!(fluxrelay_loom) { 2 } else { 4096 };

/// A number of seats in all, and for each owner.
#[derive(Debug)]
pub(super) struct Seats {
    taken_by: Box<[AtomicU32]>,
    taken: AtomicU32,
    each_max: u32,
    all_max: u32,
}

/// A seat that is taken, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    slot: usize,
}

impl Seats {
    /// `each_max` for one owner, `all_max` in all.
    pub(super) fn new(each_max: u32, all_max: u32) -> Arc<Seats> {
        let taken_by = (0..SLOTS).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Seats { taken_by, taken: AtomicU32::new(0), each_max, all_max })
    }

    /// How many are taken now.
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// A seat for this owner, if it may have one more.
    pub(super) fn take(self: &Arc<Seats>, owner: u32) -> Option<Seat> {
        let slot = owner as usize % SLOTS;
        if !rise(&self.taken_by[slot], self.each_max) {
            return None;
        }
        if !rise(&self.taken, self.all_max) {
            self.taken_by[slot].fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Seat { seats: Arc::clone(self), slot })
    }
}

/// Adds one unless that would pass `max`.
fn rise(count: &AtomicU32, max: u32) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < max).then_some(now + 1)).is_ok()
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken_by[self.slot].fetch_sub(1, Ordering::Relaxed);
        self.seats.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_has_its_own_and_gives_them_back() {
        let seats = Seats::new(2, 100);
        let mut first: Vec<Seat> = (0..2).map(|_| seats.take(1).unwrap()).collect();
        assert!(seats.take(1).is_none());
        let _other = seats.take(2).unwrap();
        first.pop();
        first.push(seats.take(1).unwrap());
        assert!(seats.take(1).is_none());
    }

    #[test]
    fn all_together_are_bounded_and_a_refusal_takes_nothing() {
        let seats = Seats::new(2, 3);
        let taken: Vec<Seat> = [1, 1, 2].into_iter().map(|owner| seats.take(owner).unwrap()).collect();
        for _ in 0..5 {
            assert!(seats.take(3).is_none());
        }
        drop(taken);
        let again: Vec<Seat> = [3, 3, 1].into_iter().map(|owner| seats.take(owner).unwrap()).collect();
        assert_eq!(again.len(), 3);
    }
}

#[cfg(all(test, fluxrelay_loom))]
mod interleavings {
    use super::*;

    /// One has a seat, and two more take one at the same time and give it back.
    fn all_at_once(owners: [u32; 2], each_max: u32, all_max: u32) {
        loom::model(move || {
            let seats = Seats::new(each_max, all_max);
            let _held = seats.take(owners[0]).unwrap();
            let others = owners.map(|owner| {
                let seats = Arc::clone(&seats);
                loom::thread::spawn(move || {
                    let seat = seats.take(owner);
                    assert!(seats.taken() <= seats.all_max);
                    assert!(
                        seats.taken_by.iter().all(|taken| taken.load(Ordering::Relaxed) <= seats.each_max)
                    );
                    drop(seat);
                })
            });
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(seats.taken(), 1, "what was refused took nothing, what was taken is back");
            assert!(seats.take(owners[1]).is_some() || each_max == 1 || all_max == 1);
        });
    }

    #[test]
    fn no_owner_has_more_than_its_own() {
        all_at_once([1, 1], 2, 10);
        all_at_once([1, 1], 1, 10);
    }

    #[test]
    fn all_have_no_more_than_there_are() {
        all_at_once([1, 2], 2, 2);
        all_at_once([1, 2], 2, 1);
    }
}
