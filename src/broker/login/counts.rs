//! What is counted about logins.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        /// What was counted about logins since start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct LoginCounts {
            $($(#[doc = $doc])+ pub $name: u64,)+
            /// Logins that wait for a hash now.
            pub waiting: u64,
        }

        /// The counters behind [`LoginCounts`].
        #[derive(Debug, Default)]
        pub(in crate::broker) struct LoginCounters {
            $(pub(in crate::broker) $name: Counter,)+
        }

        impl LoginCounters {
            /// A copy of all, with nobody waiting.
            pub(super) fn counts(&self) -> LoginCounts {
                LoginCounts { $($name: self.$name.0.load(Ordering::Relaxed),)+ waiting: 0 }
            }
        }
    };
}

counts! {
    /// Plugins let in by a resume ticket.
    by_ticket;
    /// Logins and calls let in by a token or key.
    by_token;
    /// Tickets refused, whatever became of the login.
    tickets_refused;
    /// Password hashes computed for logins.
    hashed;
    /// Logins decided from memory.
    recalled;
    /// Logins refused for their form or tag, without a hash.
    forged;
    /// Logins refused after a hash, or because one before had refused the same.
    wrong;
    /// Logins sent away because too many waited, or because there was no time left for a hash.
    busy;
    /// Failed logins whose network had failed too often before.
    limited;
}

/// A number that rises.
#[derive(Debug, Default)]
pub(in crate::broker) struct Counter(AtomicU64);

impl Counter {
    pub(in crate::broker) fn rise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
