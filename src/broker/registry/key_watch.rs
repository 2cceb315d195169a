//! Notices that a key was removed, so that what was opened with it ends at once.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;

use super::directory::Directory;
use crate::ids::KeyId;

/// Watches one key.
#[derive(Debug)]
pub struct KeyWatch {
    directory: Arc<Directory>,
    key: Option<KeyId>,
    removals: watch::Receiver<u64>,
}

impl KeyWatch {
    pub(super) fn new(directory: Arc<Directory>, key: Option<KeyId>) -> KeyWatch {
        let mut removals = directory.key_removals();
        // It may have been removed before this watch began: the first look is at once.
        removals.mark_changed();
        KeyWatch { directory, key, removals }
    }

    /// Whether the key is removed by now. Takes no lock while no key is removed.
    pub fn is_removed(&mut self) -> bool {
        let Some(key) = self.key else { return false };
        // Marked as seen before the look: a removal that comes in between is seen the next time.
        if !self.removals.has_changed().unwrap_or(false) {
            return false;
        }
        self.removals.mark_unchanged();
        let gone = self.directory.key(key).is_none();
        if gone {
            self.removals.mark_changed();
        }
        gone
    }

    /// Returns once the key is removed. Cancel-safe.
    pub async fn removed(&mut self) {
        let Some(key) = self.key else { return pending().await };
        while self.removals.changed().await.is_ok() {
            if self.directory.key(key).is_none() {
                return;
            }
        }
        // The registry is closed: nothing is removed any more.
        pending().await
    }
}
