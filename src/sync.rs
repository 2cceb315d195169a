//! Locks and numbers that threads share where their order matters: those of std and parking_lot, or, for the tests of
//! `tests/interleavings`, those of loom, which tries every order in which threads can go, and every value that a load may give.
//!
//! Only what is small and has such a test takes them from here; loom cannot step the rest.

#[cfg(not(fluxrelay_loom))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(fluxrelay_loom))]
pub(crate) use std::sync::atomic;

#[cfg(fluxrelay_loom)]
pub(crate) use loom::sync::atomic;

/// As parking_lot's: a lock cannot be poisoned.
#[cfg(fluxrelay_loom)]
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(fluxrelay_loom)]
impl<T> Mutex<T> {
    pub(crate) fn is_locked(&self) -> bool {
        self.0.try_lock().is_err()
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().expect("no thread of a model panics and is survived")
    }
}
