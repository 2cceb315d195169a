//! Sockets: the listener, the WebSocket handshake, and connections of plugins and publishers. Knows no REST route and no
//! queue: requests go to the router it is given, frames to the broker's handle.

mod connection;
mod ending;
mod greeting;
mod listener;
mod login;
mod plugin;
mod publisher;
mod settings;
mod upgrade;

pub use listener::serve;
pub use settings::TransportSettings;
