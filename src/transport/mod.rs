//! Sockets: the listeners, the WebSocket handshake, QUIC, and connections of plugins and publishers. Knows no REST route and no
//! queue: requests go to the router it is given, frames to the broker's handle.

mod connection;
mod doors;
mod ending;
mod full;
mod greeting;
mod head;
mod listener;
mod login;
mod places;
mod plugin;
mod publisher;
#[cfg(feature = "quic")]
mod quic;
mod requests;
mod rounds;
mod settings;
mod turns;
mod upgrade;

pub use listener::{Listeners, serve};
#[cfg(feature = "quic")]
pub use quic::QuicListener;
pub use settings::TransportSettings;
