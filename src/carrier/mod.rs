//! Carriers: whole messages of frames over a byte stream, the same code at both ends. A leaf that broker connections and
//! the client library share; it knows no frame, no peer and no credential.

mod masks;
mod websocket;
mod wire;

pub(crate) use websocket::WebSocket;
pub(crate) use wire::{Fault, Step, Wire};
