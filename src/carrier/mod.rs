//! Carriers: batches of whole frames over a WebSocket or a QUIC stream, the same code at both ends. It stands on `tls` alone;
//! broker connections and the client library share it. It knows no frame, no peer and no credential.

mod ahead;
mod masks;
#[cfg(feature = "quic")]
mod quic;
mod websocket;
mod wire;

#[cfg(feature = "quic")]
pub(crate) use quic::{Framing, Quic, transport_config};
pub(crate) use websocket::WebSocket;
pub(crate) use wire::{Fault, Step, Wire};
