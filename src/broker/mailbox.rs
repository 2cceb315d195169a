//! What waits to be written to one connection: filled by the engine's side, drained by the connection's task.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::request::{BrokerError, Published};
use crate::engine::PluginOut;

/// One message for a peer.
#[derive(Debug)]
pub enum ToPeer {
    /// To a plugin.
    Plugin(PluginOut),
    /// To a publisher: the answer to its request.
    Published {
        /// The publisher's number.
        request: u64,
        /// The answer.
        result: Result<Published, BrokerError>,
    },
    /// The broker stops: say go-away with this delay, then close.
    GoAway {
        /// When to reconnect, in milliseconds; spread over connections.
        delay_ms: u32,
    },
}

/// The mailbox of one connection. Never held locked while anything else happens.
#[derive(Debug, Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Mail {
    queue: VecDeque<ToPeer>,
    /// Somebody has promised to call [`Mailbox::nudge`].
    nudge_comes: bool,
}

impl Mailbox {
    /// Adds a message and wakes the connection.
    pub fn push(&self, message: ToPeer) {
        self.mail.lock().queue.push_back(message);
        self.wake.notify_one();
    }

    /// Adds a message that may wait for company. True = the caller has to call [`Mailbox::nudge`] some time later.
    #[must_use]
    pub fn push_quietly(&self, message: ToPeer) -> bool {
        let mut mail = self.mail.lock();
        mail.queue.push_back(message);
        !std::mem::replace(&mut mail.nudge_comes, true)
    }

    /// Wakes the connection if something is still waiting.
    pub fn nudge(&self) {
        let mut mail = self.mail.lock();
        mail.nudge_comes = false;
        if !mail.queue.is_empty() {
            self.wake.notify_one();
        }
    }

    /// Moves everything that waits to the end of `into`; false when there was nothing.
    pub fn drain(&self, into: &mut VecDeque<ToPeer>) -> bool {
        let mut mail = self.mail.lock();
        let any = !mail.queue.is_empty();
        into.append(&mut mail.queue);
        any
    }

    /// Returns once there may be something to drain. Cancel-safe.
    pub async fn ready(&self) {
        self.wake.notified().await;
    }
}
