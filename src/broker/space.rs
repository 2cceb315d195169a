//! Free space under the data directory. Below a reserve publishes are refused, so that what becomes of the commands that
//! were accepted can still be stored. Only looks: never frees, never counts what others use.
//!
//! A disk that gets full all the same fails a write, and that ends the process as any failed write does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Inner;

/// How often it is looked at: what a fast disk takes in meanwhile is a small part of the default reserve.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes that the store at rest may grow by for each byte of the journal that the next checkpoint brings there, where many
/// commands of a server lie together.
const STORE_BYTES_PER_JOURNAL_BYTE: u64 = 2;
/// And for each server of which a command comes there: a page of those that wait, and one of those that have ended.
const STORE_BYTES_PER_SERVER: u64 = 2 * 4096;
/// But not more for each byte of the journal than if each command were the only one of its server: one takes 250 bytes there.
const STORE_BYTES_PER_JOURNAL_BYTE_MAX: u64 = STORE_BYTES_PER_SERVER / 250;
/// Once it was too little, there has to be more than the reserve by this part of it: no back and forth at the edge.
const MARGIN_PART: u64 = 8;
/// When a refused publisher may come again.
pub(super) const RETRY_LOW_MS: u32 = 5_000;

/// What is known since the last look.
#[derive(Debug)]
pub(super) struct Space {
    data_dir: PathBuf,
    /// Bytes; 0 = there is no reserve.
    reserve: u64,
    free: AtomicU64,
    low: AtomicBool,
}

impl Space {
    pub(super) fn new(data_dir: PathBuf, reserve: u64) -> Space {
        Space { data_dir, reserve, free: AtomicU64::new(0), low: AtomicBool::new(false) }
    }

    /// Whether publishes are refused.
    pub(super) fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Bytes that were free at the last look.
    pub(super) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Looks, and logs a change. `unwritten`: bytes of the journal that no checkpoint has brought to the store yet.
    pub(super) fn look(&self, unwritten: u64, servers: u64) {
        match rustix::fs::statvfs(&self.data_dir) {
            Ok(found) => {
                let free = found.f_bavail.saturating_mul(found.f_frsize);
                self.note(free, checkpoint_bytes(unwritten, servers));
            }
            // Nothing is known then; what was known stays.
            Err(error) => tracing::debug!(%error, "cannot look at the free space of the data directory"),
        }
    }

    /// `next`: bytes that the next checkpoint needs.
    fn note(&self, free: u64, next: u64) {
        self.free.store(free, Ordering::Relaxed);
        if self.reserve == 0 {
            return;
        }
        let needed = self.reserve.saturating_add(next);
        let was_low = self.is_low();
        let margin = if was_low { self.reserve / MARGIN_PART } else { 0 };
        let low = free < needed.saturating_add(margin);
        self.low.store(low, Ordering::Relaxed);
        if low && !was_low {
            tracing::warn!(free, needed, "too little disk space: publishes are refused until there is more");
        } else if was_low && !low {
            tracing::info!(free, needed, "enough disk space: publishes are accepted again");
        }
    }
}

/// What the next checkpoint needs, at the most.
fn checkpoint_bytes(unwritten: u64, servers: u64) -> u64 {
    let scattered = servers.saturating_mul(STORE_BYTES_PER_SERVER);
    let most = unwritten.saturating_mul(STORE_BYTES_PER_JOURNAL_BYTE_MAX);
    unwritten.saturating_mul(STORE_BYTES_PER_JOURNAL_BYTE).saturating_add(scattered).min(most)
}

/// Looks until the other end of `stop` is gone.
pub(super) fn run(stop: Receiver<()>, inner: Arc<Inner>) {
    while stop.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        inner.look_at_space();
    }
}

impl Inner {
    pub(super) fn look_at_space(&self) {
        self.space.look(self.journal_stats.unwritten(), self.registry.servers_len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_low_below_the_reserve_and_until_there_is_more_than_that() {
        let space = Space::new(PathBuf::new(), 800);
        let is_low = |free, next| {
            space.note(free, next);
            space.is_low()
        };
        assert!(!is_low(800, 0));
        assert!(is_low(799, 0) && is_low(899, 0) && !is_low(900, 0) && !is_low(800, 0));
        assert!(is_low(999, 200), "the next checkpoint needs 200");
        assert!(is_low(1_099, 200) && !is_low(1_100, 200));
        assert!(is_low(u64::MAX - 1, u64::MAX));
        assert_eq!(space.free(), u64::MAX - 1);
    }

    #[test]
    fn commands_of_many_servers_take_a_page_each() {
        assert_eq!(checkpoint_bytes(0, 1_000_000), 0);
        assert_eq!(checkpoint_bytes(250 * 5_000, 5_000), 5_000 * 8_000, "one for each server");
        assert_eq!(checkpoint_bytes(1 << 30, 1_000), (2 << 30) + 1_000 * 8192);
        assert_eq!(checkpoint_bytes(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn without_a_reserve_it_is_never_low() {
        let space = Space::new(PathBuf::new(), 0);
        space.note(0, 1);
        assert!(!space.is_low());
    }

    #[test]
    fn a_directory_that_is_there_has_space_and_one_that_is_not_changes_nothing() {
        let space = Space::new(std::env::temp_dir(), 1);
        space.look(0, 0);
        assert!(space.free() > 0 && !space.is_low());
        let gone = Space::new(PathBuf::from("/nowhere/at/all"), 1);
        gone.look(0, 0);
        assert!(gone.free() == 0 && !gone.is_low());
    }
}
