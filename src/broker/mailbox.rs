//! What waits to be written to one connection: filled by the engine's side, drained by the connection's task.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use super::request::{BrokerError, Published};
use crate::engine::PluginOut;
use crate::sync::Mutex;

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

/// Bytes of a delivery's frame beside the text, and of any other message's frame: most have no more.
const DELIVERY_BYTES: usize = 32;
const ANSWER_BYTES: usize = 48;

impl ToPeer {
    /// Bytes that its frame takes as a rule.
    pub fn usual_frame_bytes(&self) -> usize {
        match self {
            ToPeer::Plugin(PluginOut::Deliver(deliveries)) => {
                deliveries.iter().map(|delivery| DELIVERY_BYTES + delivery.text.len()).sum()
            }
            _ => ANSWER_BYTES,
        }
    }
}

/// The mailbox of one connection. Never held locked while anything else happens.
///
/// Mail and the bell are apart: who adds several messages, or to several mailboxes, rings once when all are in, so
/// that they travel together and wake the connection once.
#[derive(Debug, Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
}

#[derive(Debug, Default)]
struct Mail {
    queue: VecDeque<ToPeer>,
    /// It rang, and the connection has not looked since.
    rung: bool,
    /// Somebody has promised to ring at once.
    ring_comes: bool,
    /// Somebody has promised to call [`Mailbox::nudge`].
    nudge_comes: bool,
    /// The connection, while it waits.
    waiting: Option<Waker>,
}

impl Mailbox {
    /// A look at its memory, for [`touch`](crate::prefetch::touch).
    pub(super) fn look(&self) -> u64 {
        u64::from(self.mail.is_locked())
    }

    /// Adds a message and rings.
    pub fn push(&self, message: ToPeer) {
        self.mail.lock().queue.push_back(message);
        self.ring();
    }

    /// Adds a message. True = the caller has to call [`Mailbox::ring`] before it turns to anything else.
    #[must_use]
    pub fn put(&self, message: ToPeer) -> bool {
        let mut mail = self.mail.lock();
        mail.queue.push_back(message);
        !std::mem::replace(&mut mail.ring_comes, true)
    }

    /// Adds a message that may wait for company. True = the caller has to call [`Mailbox::nudge`] some time later.
    #[must_use]
    pub fn put_quietly(&self, message: ToPeer) -> bool {
        let mut mail = self.mail.lock();
        mail.queue.push_back(message);
        !std::mem::replace(&mut mail.nudge_comes, true)
    }

    /// Wakes the connection.
    pub fn ring(&self) {
        let mut mail = self.mail.lock();
        mail.ring_comes = false;
        mail.rung = true;
        let waiting = mail.waiting.take();
        drop(mail);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// Wakes the connection if something is still waiting.
    pub fn nudge(&self) {
        let mut mail = self.mail.lock();
        mail.nudge_comes = false;
        let any = !mail.queue.is_empty();
        drop(mail);
        if any {
            self.ring();
        }
    }

    /// Moves everything that waits to the end of `into`; false when there was nothing.
    pub fn drain(&self, into: &mut VecDeque<ToPeer>) -> bool {
        let mut mail = self.mail.lock();
        mail.rung = false;
        let any = !mail.queue.is_empty();
        if into.is_empty() {
            std::mem::swap(into, &mut mail.queue);
        } else {
            into.append(&mut mail.queue);
        }
        any
    }

    /// Ready once it rang and nothing was drained since. For one task at a time: the last one that asked is woken.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut mail = self.mail.lock();
        if std::mem::take(&mut mail.rung) {
            return Poll::Ready(());
        }
        if !mail.waiting.as_ref().is_some_and(|waiting| waiting.will_wake(cx.waker())) {
            mail.waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// See [`Mailbox::poll_ready`]. Cancel-safe.
    pub async fn ready(&self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn mail(number: u64) -> ToPeer {
        ToPeer::Plugin(PluginOut::Confirm { batch: number })
    }

    fn is_ready(mailbox: &Mailbox) -> bool {
        mailbox.ready().now_or_never().is_some()
    }

    #[test]
    fn one_ring_for_several_messages() {
        let mailbox = Mailbox::default();
        assert!(mailbox.put(mail(1)), "the first one's sender rings");
        assert!(!mailbox.put(mail(2)), "the others rely on it");
        assert!(!is_ready(&mailbox));
        mailbox.ring();
        assert!(is_ready(&mailbox));
        assert!(!is_ready(&mailbox), "once");
        let mut taken = VecDeque::new();
        assert!(mailbox.drain(&mut taken));
        assert_eq!(taken.len(), 2);
        assert!(mailbox.put(mail(3)), "the next one rings again");
    }

    #[test]
    fn quiet_mail_waits_for_a_nudge_and_goes_with_any_other() {
        let mailbox = Mailbox::default();
        assert!(mailbox.put_quietly(mail(1)));
        assert!(!mailbox.put_quietly(mail(2)));
        assert!(!is_ready(&mailbox));
        assert!(mailbox.put(mail(3)), "a nudge that comes later is no ring");
        mailbox.ring();
        let mut taken = VecDeque::new();
        assert!(is_ready(&mailbox) && mailbox.drain(&mut taken));
        mailbox.nudge();
        assert!(!is_ready(&mailbox), "nothing is left to be nudged for");
        assert!(mailbox.put_quietly(mail(4)));
        mailbox.nudge();
        assert!(is_ready(&mailbox));
    }

    #[test]
    fn mail_that_was_drained_needs_no_ring() {
        let mailbox = Mailbox::default();
        mailbox.push(mail(1));
        let mut taken = VecDeque::from([mail(0)]);
        assert!(mailbox.drain(&mut taken));
        assert_eq!(taken.len(), 2);
        assert!(!is_ready(&mailbox));
    }

    #[tokio::test]
    async fn a_waiting_connection_wakes() {
        let mailbox = std::sync::Arc::new(Mailbox::default());
        let waiting = tokio::spawn({
            let mailbox = std::sync::Arc::clone(&mailbox);
            async move { mailbox.ready().await }
        });
        tokio::task::yield_now().await;
        mailbox.push(mail(1));
        waiting.await.unwrap();
    }
}

#[cfg(all(test, fluxrelay_loom))]
mod interleavings {
    use std::sync::Arc;

    use super::*;

    fn mail(number: u64) -> ToPeer {
        ToPeer::Plugin(PluginOut::Confirm { batch: number })
    }

    /// A connection that reads `count` messages; a model in which it sleeps on one never ends, which loom reports.
    fn read(mailbox: &Mailbox, count: usize) {
        let mut all = VecDeque::new();
        loom::future::block_on(async {
            while all.len() < count {
                mailbox.ready().await;
                mailbox.drain(&mut all);
            }
        });
    }

    #[test]
    fn no_mail_is_slept_through() {
        loom::model(|| {
            let mailbox = Arc::new(Mailbox::default());
            let senders = [1, 2].map(|number| {
                let mailbox = Arc::clone(&mailbox);
                loom::thread::spawn(move || {
                    if mailbox.put(mail(number)) {
                        mailbox.ring();
                    }
                })
            });
            read(&mailbox, 2);
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        });
    }

    #[test]
    fn no_quiet_mail_is_slept_through() {
        // With all switches of threads it takes minutes.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let mailbox = Arc::new(Mailbox::default());
            // For this one it wakes, and takes others with it.
            mailbox.push(mail(0));
            let senders = [1, 2].map(|number| {
                let mailbox = Arc::clone(&mailbox);
                loom::thread::spawn(move || {
                    if mailbox.put_quietly(mail(number)) {
                        mailbox.nudge();
                    }
                })
            });
            read(&mailbox, 3);
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        });
    }
}
