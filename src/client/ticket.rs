//! The latest resume ticket of a plugin: opaque, in memory alone, never printed.

use std::fmt;

use zeroize::Zeroizing;

use crate::limits::TICKET_BYTES_MAX;
use crate::protocol::{Credential, TicketRef};

/// A ticket from the broker. `Debug` shows nothing of it; it is overwritten when dropped.
pub(super) struct Ticket(Zeroizing<Box<[u8]>>);

impl Ticket {
    /// Takes what the broker gave; `None` when it gave none, or one that no hello should carry.
    pub(super) fn from_broker(TicketRef(bytes): TicketRef<'_>) -> Option<Ticket> {
        (1..=TICKET_BYTES_MAX).contains(&bytes.len()).then(|| Ticket(Zeroizing::new(bytes.into())))
    }

    /// As a hello carries it.
    pub(super) fn credential(&self) -> Credential<'_> {
        Credential::Ticket(&self.0)
    }

    /// As a hello carries it where there is no other place for the token.
    pub(super) fn with_token<'a>(&'a self, token: &'a str) -> Credential<'a> {
        Credential::TicketAndToken { ticket: &self.0, token }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept_as_it_is_and_not_shown() {
        let ticket = Ticket::from_broker(TicketRef(&[1, 2, 3])).unwrap();
        assert_eq!(ticket.credential(), Credential::Ticket(&[1, 2, 3]));
        assert_eq!(format!("{ticket:?}"), "Ticket(...)");
        assert!(Ticket::from_broker(TicketRef(&[])).is_none());
        assert!(Ticket::from_broker(TicketRef(&[1; TICKET_BYTES_MAX])).is_some());
        assert!(Ticket::from_broker(TicketRef(&[1; TICKET_BYTES_MAX + 1])).is_none());
    }
}
