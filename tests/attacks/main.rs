//! What attackers do to the real binary, each attack with the answer that it must get. The list with the names of the
//! tests is in docs/security.md.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod bodies;
mod logins;
mod names;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/pki.rs"]
mod pki;
mod poison;
#[cfg(feature = "quic")]
mod quic;
#[path = "../end_to_end/raw.rs"]
#[expect(dead_code, reason = "it is shared with the other tests of connections")]
mod raw;
mod relay;
mod results;
mod secrets;
mod sockets;
mod tenants;
mod websocket;
