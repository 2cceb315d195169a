//! One bidirectional QUIC stream as batches of whole frames: the same code at both ends. Frames are cut out of the stream by
//! a function that it is given, so it knows no frame itself.
//!
//! What must stay true: nothing is allocated for bytes that a length promises and that have not come, and an idle
//! connection keeps no buffer of ours.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use quinn::{
    Chunk, Connection, ConnectionError, IdleTimeout, ReadError, RecvStream, SendStream, TransportConfig,
    VarInt, WriteError,
};
use tokio::task::coop::poll_proceed;

use super::wire::{Fault, Step, Wire};
use crate::limits::{
    FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_LOGIN, QUIC_IDLE_MS_MAX, QUIC_STREAMS_MAX, QUIC_WINDOW_BYTES,
};

/// Bytes that one step gathers before it hands out what is whole, and lets others run.
const READ_BYTES: usize = 64 * 1024;
/// Capacity that the output buffer may keep while it is empty.
const OUT_BYTES_KEPT: usize = 512;

/// Whether a first frame over the limit before login may come, by its beginning.
pub(crate) type Admits = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// How frames follow one another in the stream.
pub(crate) struct Framing {
    /// Bytes of the first frame, as its header says; `None` while the header is not whole.
    pub(crate) frame_bytes: fn(&[u8]) -> Option<usize>,
    /// A server's, until the login.
    pub(crate) admits: Option<Admits>,
}

/// One end of a QUIC connection. Dropping it closes the connection.
pub(crate) struct Quic {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    framing: Framing,
    /// Bytes of a frame at most.
    max: usize,
    /// Begins with a frame that is not whole.
    part: BytesMut,
    out: Vec<u8>,
    written: usize,
    progress: u64,
    /// What the peer is told of the end.
    end: (u16, String),
}

/// The bounds of a connection, the same at both ends: one stream, no datagrams, small windows, closed after `idle`
/// without a packet.
pub(crate) fn transport_config(idle: Duration) -> TransportConfig {
    let idle_ms = u32::try_from(idle.as_millis()).unwrap_or(u32::MAX).min(QUIC_IDLE_MS_MAX);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(QUIC_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(QUIC_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(QUIC_WINDOW_BYTES))
        .send_window(u64::from(QUIC_WINDOW_BYTES))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))));
    config
}

impl Quic {
    /// The server's end, on the stream that the client opened.
    pub(crate) fn server(
        connection: Connection,
        streams: (SendStream, RecvStream),
        framing: Framing,
    ) -> Quic {
        Quic::new(connection, streams, framing, FRAME_BYTES_MAX_BEFORE_LOGIN)
    }

    /// The client's end, on the stream that it opened.
    pub(crate) fn client(
        connection: Connection,
        streams: (SendStream, RecvStream),
        framing: Framing,
    ) -> Quic {
        Quic::new(connection, streams, framing, FRAME_BYTES_MAX)
    }

    fn new(
        connection: Connection,
        (send, recv): (SendStream, RecvStream),
        framing: Framing,
        max: usize,
    ) -> Quic {
        Quic {
            connection,
            send,
            recv,
            framing,
            max,
            part: BytesMut::new(),
            out: Vec::new(),
            written: 0,
            progress: 0,
            end: (0, String::new()),
        }
    }

    fn poll_step(&mut self, read: bool, cx: &mut Context<'_>) -> Poll<Result<Step, Fault>> {
        let had_output = !self.out.is_empty();
        let wrote = self.poll_write_out(cx);
        if had_output && matches!(wrote, Poll::Ready(Ok(()))) {
            return Poll::Ready(Ok(Step::Written));
        }
        let step = if read { self.poll_read(cx) } else { Poll::Pending };
        match (step, wrote) {
            // What the peer said before it was gone still counts.
            (Poll::Ready(step), _) => Poll::Ready(step),
            (Poll::Pending, Poll::Ready(Err(fault))) => Poll::Ready(Err(fault)),
            (Poll::Pending, _) => Poll::Pending,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, Fault>> {
        let mut budget = READ_BYTES;
        loop {
            let chunk = match self.poll_chunk(budget.min(READ_BYTES), cx) {
                Poll::Pending => return self.poll_whole(),
                Poll::Ready(Ok(Some(chunk))) => chunk,
                Poll::Ready(end) => {
                    // Whole frames first; the next step finds the end again.
                    let last = self.poll_whole();
                    return if last.is_ready() { last } else { Poll::Ready(self.ended(end.err().as_ref())) };
                }
            };
            budget -= chunk.bytes.len();
            self.part.extend_from_slice(&chunk.bytes);
            if budget == 0 {
                // More may be there at once, and this is the only word of it.
                cx.waker().wake_by_ref();
                return self.poll_whole();
            }
        }
    }

    fn poll_chunk(&mut self, max: usize, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, ReadError>> {
        pin!(self.recv.read_chunk(max, true)).poll(cx)
    }

    /// The whole frames that have come.
    fn poll_whole(&mut self) -> Poll<Result<Step, Fault>> {
        let mut whole = 0;
        while let Some(bytes) = (self.framing.frame_bytes)(&self.part[whole..]) {
            let too_long = bytes > self.max;
            // One behind others is looked at once they are taken: they may be a login.
            if (too_long && (whole > 0 || !self.may_come(bytes)?)) || whole + bytes > self.part.len() {
                break;
            }
            whole += bytes;
        }
        if whole == 0 {
            return Poll::Pending;
        }
        let rest = self.part.split_off(whole);
        // A copy, so that a short rest does not keep the whole allocation.
        let rest = if rest.is_empty() { BytesMut::new() } else { BytesMut::from(&rest[..]) };
        Poll::Ready(Ok(Step::Frames(std::mem::replace(&mut self.part, rest).freeze())))
    }

    /// Whether a frame over the limit may come all the same; `false` = not known yet.
    fn may_come(&mut self, bytes: usize) -> Result<bool, Fault> {
        let too_long = Err(Fault::TooLong(self.max));
        let Some(admits) = self.framing.admits.as_ref().filter(|_| bytes <= FRAME_BYTES_MAX) else {
            return too_long;
        };
        if self.part.len() < self.max {
            return Ok(false);
        }
        if !admits(&self.part[..self.max]) {
            return too_long;
        }
        self.on_login();
        Ok(true)
    }

    /// What it means that nothing more comes: the stream was finished, or failed.
    fn ended(&self, error: Option<&ReadError>) -> Result<Step, Fault> {
        match error {
            None if !self.part.is_empty() => Err(Fault::Malformed("the stream ends inside a frame".into())),
            None
            | Some(
                ReadError::Reset(_)
                | ReadError::ConnectionLost(
                    ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed,
                ),
            ) => Ok(Step::Closed),
            Some(error) => {
                tracing::debug!(?error, "stream failed");
                Err(Fault::Lost)
            }
        }
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while self.written < self.out.len() {
            let writing = Pin::new(&mut self.send).poll_write(cx, &self.out[self.written..]);
            self.written += ready!(writing).map_err(|error| unwritable(&error))?;
            self.progress += 1;
        }
        self.written = 0;
        self.out.clear();
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        let (code, reason) = &self.end;
        self.connection.close(VarInt::from_u32(u32::from(*code)), reason.as_bytes());
    }
}

impl Wire for Quic {
    async fn step(&mut self, read: bool) -> Result<Step, Fault> {
        poll_fn(|cx| {
            // A socket of tokio takes part in the runtime's budget by itself.
            let turn = ready!(poll_proceed(cx));
            let step = self.poll_step(read, cx);
            if step.is_ready() {
                turn.made_progress();
            }
            step
        })
        .await
    }

    fn queue(&mut self, frames: &[u8]) {
        self.out.extend_from_slice(frames);
    }

    async fn write(&mut self) -> Result<bool, Fault> {
        poll_fn(|cx| {
            Poll::Ready(match self.poll_write_out(cx) {
                Poll::Ready(Ok(())) => Ok(true),
                // The next step reads what is left before it says that the peer is gone.
                Poll::Ready(Err(_)) | Poll::Pending => Ok(false),
            })
        })
        .await
    }

    fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    fn progress(&self) -> u64 {
        self.progress
    }

    fn frame_bytes_max(&self) -> usize {
        self.max
    }

    fn on_login(&mut self) {
        self.max = FRAME_BYTES_MAX;
        self.framing.admits = None;
    }

    async fn close(mut self, code: u16, reason: &str) {
        self.end = (code, reason.to_owned());
        if poll_fn(|cx| self.poll_write_out(cx)).await.is_err() || self.send.finish().is_err() {
            return;
        }
        // The close overtakes what is still on its way, so first the peer has all of it, then it ends its side too.
        if self.send.stopped().await.is_err() {
            return;
        }
        while matches!(self.recv.read_chunk(READ_BYTES, true).await, Ok(Some(_))) {}
    }
}

fn unwritable(error: &WriteError) -> Fault {
    tracing::debug!(%error, "stream cannot be written");
    Fault::Lost
}
