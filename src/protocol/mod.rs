//! The bytes of protocol.md: frames in, frames out. Pure: no socket, no clock, no logging.
//!
//! [`Request`] goes to the broker, [`Response`] comes from it; both borrow from the bytes that they were decoded
//! from, or from the values that are about to be sent. Decoding allocates nothing, panics on nothing, and leaves
//! every number, list and text within its range; only what is inside a publish is left to [`check`], so that a bad
//! order is refused and the connection stays.
//!
//! ```
//! use bytes::BytesMut;
//! use fluxrelay::limits::FRAME_BYTES_MAX;
//! use fluxrelay::protocol::{Outcome, Request, ResultRef, encode_results};
//!
//! let ran = ResultRef { id: 640, attempt: 1, outcome: Outcome::Completed, error: None, output: None };
//! let mut buf = BytesMut::new();
//! encode_results(&mut buf, 1, [ran]).unwrap();
//! for frame in Request::decode_all(&buf, FRAME_BYTES_MAX) {
//!     let Request::Results { results, .. } = frame.unwrap() else { panic!() };
//!     assert_eq!(results.iter().next(), Some(ran));
//! }
//! ```

pub mod check;
mod codec;
mod error;
mod event;
mod fields;
mod frame;
mod hello;
mod json;
mod list;
mod publish;
mod request;
mod response;

pub use error::{Code, EncodeError, Flaw, ProtocolError, Retry};
pub use event::{CommandEvent, EventRef, What};
pub use fields::{Credential, EventPlace, Outcome, PlayerRef, PlayersKind, Status, TicketRef};
pub use frame::{Frames, HEADER_BYTES, SKIPPABLE_FROM, frame_bytes};
pub use hello::{HelloHead, PluginHello, PublisherHello};
pub use list::{Item, List, ListIter};
pub use publish::{OrderHead, Publish, PublishCommand, encode_publish};
pub use request::{Request, ResultRef, encode_results};
pub use response::{
    CommandRef, DeliveryRef, PluginWelcome, PublisherWelcome, Response, encode_deliver, encode_published,
};

/// The protocol version of this build; the only one so far.
pub const VERSION: u16 = 1;
/// The capabilities of this build, as bits; none so far.
pub const CAPABILITIES: u32 = 0;
/// The WebSocket subprotocol and QUIC ALPN.
pub const SUBPROTOCOL: &str = "fluxrelay.v1";
/// Where plugins connect.
pub const PLUGIN_PATH: &str = "/v1/plugin/ws";
/// Where publishers connect.
pub const PUBLISHER_PATH: &str = "/v1/publisher/ws";
