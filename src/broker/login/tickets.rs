//! Resume tickets: giving them out, opening them, and making new keys once a day.
//!
//! What must stay true: a ticket is sealed only with a key that is in its file already, so that it outlives a kill.
//! Whether a claim still holds, that is whether its generation is the server's present one, is the registry's business.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::broker::registry::Clock;
use crate::credentials::{DataKey, KeysFound, TICKET_KEYS_FILE, Ticket, TicketClaim, TicketKeys};
use crate::ids::ServerId;
use crate::storage::mirror::Mirror;
use crate::time::{Millis, UnixMs};

/// How long after a rotation began, or failed, the next is tried.
const ROTATION_PAUSE: Millis = Millis::seconds(60);

/// See the module.
pub(in crate::broker) struct Tickets {
    shared: Arc<Shared>,
    /// The latest rotation, to be waited for at the end.
    rotation: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    path: PathBuf,
    mirror: Option<Mirror>,
    keys: ArcSwap<TicketKeys>,
    clock: Clock,
    /// How long a ticket lasts; zero = none is given or taken.
    lifetime: Millis,
    /// No rotation begins before.
    no_rotation_before: AtomicU64,
}

impl Tickets {
    /// Reads the keys of a data directory; makes new ones where there are none or they are of no use. A file that cannot
    /// be written is warned of: tickets then last as long as the process.
    pub(in crate::broker) fn open(
        dir: &Path,
        data_key: &DataKey,
        lifetime: Millis,
        clock: Clock,
        mirror: Option<Mirror>,
    ) -> Tickets {
        let path = dir.join(TICKET_KEYS_FILE);
        let now = clock();
        let (keys, found) = TicketKeys::open(&path, data_key, now);
        match found {
            KeysFound::Kept => {}
            KeysFound::Missing => tracing::info!(file = %path.display(), "made new keys for resume tickets"),
            KeysFound::Damaged => tracing::warn!(
                file = %path.display(),
                "the keys of resume tickets are damaged: made new ones; plugins log in with their tokens once"
            ),
        }
        let shared = Shared {
            path,
            mirror,
            keys: ArcSwap::from_pointee(keys),
            clock,
            lifetime,
            no_rotation_before: AtomicU64::new(0),
        };
        if found != KeysFound::Kept {
            shared.write(&shared.keys.load());
        } else if shared.keys.load().is_due(now) {
            shared.rotate(now);
        }
        Tickets { shared: Arc::new(shared), rotation: Mutex::new(None) }
    }

    /// A ticket for a server at this generation, and when it is half over.
    pub(in crate::broker) fn give(&self, server: ServerId, generation: u32) -> Option<(Ticket, UnixMs)> {
        let shared = &self.shared;
        if shared.lifetime == Millis(0) {
            return None;
        }
        let now = (shared.clock)();
        let keys = shared.keys.load();
        if keys.is_due(now) && shared.may_rotate(now) {
            self.rotate_beside(now);
        }
        let claim = TicketClaim { server, generation, expires_at: now + shared.lifetime };
        Some((keys.seal(claim), now + Millis(shared.lifetime.0 / 2)))
    }

    /// What a presented ticket says, if it is one of ours and has not expired.
    pub(in crate::broker) fn open_ticket(&self, presented: &[u8]) -> Option<TicketClaim> {
        let shared = &self.shared;
        let claim = shared.keys.load().open_ticket(presented, (shared.clock)());
        claim.filter(|_| shared.lifetime > Millis(0))
    }

    /// Rotates on a thread of its own: whoever logs in does not wait for a disk. Until it is done, tickets are sealed with
    /// the key from before, which stays alive for another day.
    fn rotate_beside(&self, now: UnixMs) {
        let mut rotation = self.rotation.lock();
        // One that hangs in its disk goes on alone: two would not agree on what is in the file.
        if rotation.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let builder = thread::Builder::new().name("ticket-keys".into());
        match builder.spawn(move || shared.rotate(now)) {
            Ok(thread) => *rotation = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "no thread to make new keys for resume tickets: trying later")
            }
        }
    }
}

impl Drop for Tickets {
    fn drop(&mut self) {
        if let Some(thread) = self.rotation.lock().take() {
            // It only fails when it panicked, which was reported there.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// True for one of all who ask at a time.
    fn may_rotate(&self, now: UnixMs) -> bool {
        let not_before = self.no_rotation_before.load(Ordering::Relaxed);
        let next = (now + ROTATION_PAUSE).0;
        let claim = || {
            self.no_rotation_before.compare_exchange(not_before, next, Ordering::Relaxed, Ordering::Relaxed)
        };
        now.0 >= not_before && claim().is_ok()
    }

    fn rotate(&self, now: UnixMs) {
        let keys = self.keys.load().rotated(now);
        if self.write(&keys) {
            self.keys.store(Arc::new(keys));
            tracing::info!("made a new key for resume tickets");
        }
    }

    fn write(&self, keys: &TicketKeys) -> bool {
        let written = keys.write(&self.path);
        if let (Ok(()), Some(mirror)) = (&written, &self.mirror) {
            mirror.copy_small(TICKET_KEYS_FILE);
        }
        if let Err(error) = &written {
            let file = self.path.display();
            tracing::warn!(%file, %error, "the keys of resume tickets cannot be written: make room or mend the disk");
        }
        written.is_ok()
    }
}

#[cfg(test)]
#[path = "tickets_tests.rs"]
mod tests;
