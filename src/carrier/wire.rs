//! What a connection needs of its carrier: batches of frames in and out. Knows no frame.

use std::future::Future;

use bytes::Bytes;

/// What happened on the carrier.
#[derive(Debug)]
pub(crate) enum Step {
    /// One or more whole frames came in.
    Frames(Bytes),
    /// A sign of life without frames.
    Heard,
    /// Everything that was queued is written.
    Written,
    /// The peer closed, orderly or not.
    Closed,
}

/// Why a carrier cannot go on.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A message is over its limit of so many bytes.
    TooLong(usize),
    /// A text message; frames are binary.
    Text,
    /// The peer breaks the carrier's own protocol.
    Malformed(String),
    /// The socket failed.
    Lost,
}

/// A carrier of frames in both directions.
pub(crate) trait Wire: Send {
    /// Waits for the next thing to happen; reads only if `read`. Cancel-safe. However much there is to read, it takes part
    /// in the runtime's budget, so that other tasks have their turn.
    fn step(&mut self, read: bool) -> impl Future<Output = Result<Step, Fault>> + Send;

    /// Queues whole frames, to be sent as one message.
    fn queue(&mut self, frames: &[u8]);

    /// Writes what the socket takes at once; true = everything is written. Never waits: [`Wire::step`] goes on.
    fn write(&mut self) -> impl Future<Output = Result<bool, Fault>> + Send;

    /// Bytes queued and not yet taken by the peer's side.
    fn unwritten(&self) -> usize;

    /// A number that rises whenever the peer's side takes some of them.
    fn progress(&self) -> u64;

    /// Bytes of a frame that the peer may send now.
    fn frame_bytes_max(&self) -> usize;

    /// The peer is known, or has shown a credential with the right tag: the limits of frames after login apply.
    fn on_login(&mut self);

    /// Sends what is queued and a close, then waits for the peer to take it. Callers bound it by a timeout.
    fn close(self, code: u16, reason: &str) -> impl Future<Output = ()> + Send;
}
