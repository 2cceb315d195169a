//! A whole broker in the test's process, real sockets on loopback: what plugins and publishers live through, and what they
//! do to us.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod doors;
mod hostile;
mod ledger;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/pki.rs"]
mod pki;
mod played;
#[cfg(feature = "quic")]
mod quic;
mod quotas;
mod raw;
mod relay;
mod scripted;
mod sessions;
mod story;
mod tickets;
mod tls;
