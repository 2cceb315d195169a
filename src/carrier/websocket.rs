//! WebSocket messages to batches of frames and back: small buffers while idle, one write for all that waits.
//!
//! Reading, control frames and the closing handshake are tungstenite's. What we send is appended to one buffer
//! and written from there, so that a connection keeps little more than its read buffer once everything is read and written.

use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, error::ProtocolError};

use super::ahead::Ahead;
use super::masks::{self, MASK_BYTES};
use super::wire::{Fault, Step, Wire};
use crate::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_LOGIN};
use crate::tls::Readable;

/// Bytes of pongs and close replies that may wait before reading stops.
const REPLIES_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a header, at most.
const HEADER_BYTES_MAX: usize = 10 + MASK_BYTES;
/// Capacity that the output buffer may keep while it is empty.
const OUT_BYTES_KEPT: usize = 512;

/// One end of a WebSocket connection.
pub(crate) struct WebSocket<S> {
    stream: S,
    /// What was read of it and the context has not taken.
    ahead: Ahead,
    context: WebSocketContext,
    /// A client's messages are.
    masks: bool,
    out: Vec<u8>,
    written: usize,
    progress: u64,
    replies: usize,
    /// The last read found nothing: neither in the stream nor, whole, in what was read of it.
    drained: bool,
}

impl<S: AsyncRead + AsyncWrite + Readable + Unpin + Send> WebSocket<S> {
    /// The server's end after its handshake; `part` was read behind the request. `read_buffer` bytes are held from
    /// the start, also while it is idle; one system call reads as many, or [more](super::ahead).
    pub(crate) fn server(stream: S, part: Bytes, read_buffer: usize) -> WebSocket<S> {
        WebSocket::new(stream, part, read_buffer, Role::Server, FRAME_BYTES_MAX_BEFORE_LOGIN)
    }

    /// The client's end after its handshake; `part` was read behind the answer.
    pub(crate) fn client(stream: S, part: Bytes, read_buffer: usize) -> WebSocket<S> {
        WebSocket::new(stream, part, read_buffer, Role::Client, FRAME_BYTES_MAX)
    }

    fn new(stream: S, part: Bytes, read_buffer: usize, role: Role, message_max: usize) -> WebSocket<S> {
        let config = WebSocketConfig::default()
            .read_buffer_size(read_buffer)
            .write_buffer_size(1024)
            .max_write_buffer_size(8 * 1024)
            .max_message_size(Some(message_max))
            .max_frame_size(Some(message_max));
        // A copy of just its length: it may lie in a far larger buffer, which must not be kept as ours.
        let context = WebSocketContext::from_partially_read(part.to_vec(), role, Some(config));
        let masks = matches!(role, Role::Client);
        let (ahead, out) = Default::default();
        WebSocket { stream, ahead, context, masks, out, written: 0, progress: 0, replies: 0, drained: false }
    }

    /// The byte stream below, for who moves it between two steps.
    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    fn poll_step(&mut self, read: bool, cx: &mut Context<'_>) -> Poll<Result<Step, Fault>> {
        let had_output = !self.out.is_empty();
        let mut blocked = self.poll_write_out(cx)?.is_pending();
        if had_output && !blocked {
            return Poll::Ready(Ok(Step::Written));
        }
        if read && self.replies < REPLIES_BYTES_MAX {
            let step = self.poll_read_message(cx);
            // Reading may have queued a pong or the answer to a close.
            if !blocked {
                blocked = self.poll_write_out(cx)?.is_pending();
            }
            if step.is_ready() {
                return step;
            }
        }
        debug_assert!(blocked || self.out.is_empty());
        Poll::Pending
    }

    fn poll_read_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, Fault>> {
        // A read in vain would write zeros over all of a buffer that nobody needs just now.
        if self.drained && self.stream.poll_readable(cx).is_pending() {
            return Poll::Pending;
        }
        let before = self.out.len();
        let mut io = Io { stream: &mut self.stream, ahead: &mut self.ahead, out: &mut self.out, cx };
        let result = self.context.read(&mut io);
        self.replies += self.out.len() - before;
        self.drained = matches!(&result, Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock);
        Poll::Ready(match result {
            Ok(Message::Binary(frames)) => Ok(Step::Frames(frames)),
            Ok(Message::Text(_)) => Err(Fault::Text),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {
                Ok(Step::Heard)
            }
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => Ok(Step::Closed),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Ok(Step::Closed),
            Err(_) if self.drained => return Poll::Pending,
            Err(Error::Io(error)) => Err(lost(&error)),
            Err(Error::Capacity(_)) => Err(Fault::TooLong(self.frame_bytes_max())),
            Err(error) => Err(Fault::Malformed(error.to_string())),
        })
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while self.written < self.out.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..]))
                .map_err(|error| lost(&error))?;
            if count == 0 {
                return Poll::Ready(Err(lost(&ErrorKind::WriteZero.into())));
            }
            self.written += count;
            self.progress += 1;
        }
        // TLS may still hold what it took, and forgets to send it.
        ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(|error| lost(&error))?;
        self.progress += u64::from(self.written > 0);
        self.written = 0;
        self.replies = 0;
        self.out.clear();
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Readable + Unpin + Send> Wire for WebSocket<S> {
    async fn step(&mut self, read: bool) -> Result<Step, Fault> {
        poll_fn(|cx| self.poll_step(read, cx)).await
    }

    fn queue(&mut self, frames: &[u8]) {
        let mask = self.masks.then(masks::draw);
        let header = FrameHeader {
            is_final: true,
            opcode: OpCode::Data(Data::Binary),
            mask,
            ..FrameHeader::default()
        };
        self.out.reserve(frames.len() + HEADER_BYTES_MAX);
        header.format(frames.len() as u64, &mut self.out).expect("a Vec takes every write");
        let payload = self.out.len();
        self.out.extend_from_slice(frames);
        if let Some(mask) = mask {
            masks::apply(mask, &mut self.out[payload..]);
        }
    }

    async fn write(&mut self) -> Result<bool, Fault> {
        poll_fn(|cx| {
            Poll::Ready(match self.poll_write_out(cx) {
                Poll::Ready(written) => written.map(|()| true),
                Poll::Pending => Ok(false),
            })
        })
        .await
    }

    fn unwritten(&self) -> usize {
        // Bytes that the stream took and has not sent keep `out` from being empty.
        if self.out.is_empty() { 0 } else { (self.out.len() - self.written).max(1) }
    }

    fn progress(&self) -> u64 {
        self.progress
    }

    fn frame_bytes_max(&self) -> usize {
        self.context.get_config().max_message_size.unwrap_or(FRAME_BYTES_MAX)
    }

    fn on_login(&mut self) {
        self.context.set_config(|config| {
            config.max_message_size = Some(FRAME_BYTES_MAX);
            config.max_frame_size = Some(FRAME_BYTES_MAX);
        });
    }

    async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        let written = poll_fn(|cx| {
            if self.context.can_write() {
                let mut io = Io { stream: &mut self.stream, ahead: &mut self.ahead, out: &mut self.out, cx };
                let _ = self.context.close(&mut io, Some(frame.clone()));
            }
            self.poll_write_out(cx)
        });
        if written.await.is_err() || self.stream.shutdown().await.is_err() {
            return;
        }
        // Unread bytes would turn our close into a reset, and the peer might never see the error that we sent.
        let mut discarded = [0; 512];
        while matches!(self.stream.read(&mut discarded).await, Ok(1..)) {}
    }
}

fn lost(error: &io::Error) -> Fault {
    tracing::debug!(%error, "socket failed");
    Fault::Lost
}

/// What tungstenite reads from and writes to: the stream, and our buffer.
struct Io<'a, 'c, S> {
    stream: &'a mut S,
    ahead: &'a mut Ahead,
    out: &'a mut Vec<u8>,
    cx: &'a mut Context<'c>,
}

impl<S: AsyncRead + Unpin> Read for Io<'_, '_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match self.ahead.poll_read(self.stream, self.cx, &mut buffer) {
            Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S> Write for Io<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::ahead::tests::Pieces;
    use super::*;

    /// Takes every byte and sends none before it is flushed, as TLS does over a full socket.
    #[derive(Default)]
    struct Hoarder {
        held: Vec<u8>,
        sent: Vec<u8>,
        is_full: bool,
    }

    impl Readable for Hoarder {
        fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    impl AsyncRead for Hoarder {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Hoarder {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.held.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.is_full {
                return Poll::Pending;
            }
            let held = std::mem::take(&mut self.held);
            self.sent.extend(held);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }

    impl Readable for Pieces {
        fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<()> {
            if self.pieces.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        }
    }

    impl AsyncWrite for Pieces {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn nothing_is_read_in_vain_twice_and_nothing_is_left_unread() {
        let frames = |wire: &mut WebSocket<Pieces>| match wire.step(true).now_or_never() {
            Some(Ok(Step::Frames(frames))) => Some(frames),
            Some(other) => panic!("{other:?}"),
            None => None,
        };
        let mut wire = WebSocket::client(Pieces::default(), Bytes::new(), 1024);
        assert!((0..3).all(|_| frames(&mut wire).is_none()));
        assert_eq!(wire.stream.reads, 1);
        // Two messages and a half: the second is read although the stream has nothing more.
        wire.stream.pieces = vec![b"\x82\x02ab\x82\x02cd\x82\x02e".to_vec()];
        assert_eq!((frames(&mut wire).unwrap(), frames(&mut wire).unwrap()), ("ab".into(), "cd".into()));
        assert_eq!(wire.stream.reads, 2);
        assert!((0..3).all(|_| frames(&mut wire).is_none()));
        assert_eq!(wire.stream.reads, 3);
        wire.stream.pieces = vec![b"f".to_vec()];
        assert_eq!(frames(&mut wire).unwrap(), "ef");
        assert_eq!(wire.stream.reads, 4);
    }

    #[test]
    fn a_ping_is_answered_although_nothing_more_comes() {
        let mut wire = WebSocket::client(Pieces::default(), Bytes::new(), 1024);
        assert!(wire.step(true).now_or_never().is_none());
        wire.stream.pieces = vec![b"\x89\x01x".to_vec()];
        assert!(matches!(wire.step(true).now_or_never(), Some(Ok(Step::Heard))));
        let written = wire.progress();
        assert!(wire.step(true).now_or_never().is_none());
        assert!(wire.progress() > written && wire.unwritten() == 0);
    }

    #[test]
    fn what_the_stream_took_is_written_only_once_it_is_flushed() {
        let stream = Hoarder { is_full: true, ..Hoarder::default() };
        let mut wire = WebSocket::server(stream, Bytes::new(), 1024);
        wire.queue(b"frame");
        assert!(wire.step(true).now_or_never().is_none(), "nothing was sent");
        assert!(wire.write().now_or_never().is_some_and(|written| !written.unwrap()));
        assert!(wire.unwritten() > 0 && wire.stream.sent.is_empty());
        let taken = wire.progress();
        assert!(wire.step(true).now_or_never().is_none() && wire.progress() == taken, "nothing was taken");
        // As many bytes wait as before, and yet the peer took some.
        wire.stream.is_full = false;
        assert!(matches!(wire.step(true).now_or_never(), Some(Ok(Step::Written))));
        wire.stream.is_full = true;
        wire.queue(b"frame");
        assert!(wire.step(true).now_or_never().is_none() && wire.unwritten() == 1);
        assert!(wire.progress() > taken);
        wire.queue(b"more");
        wire.stream.is_full = false;
        assert!(matches!(wire.step(true).now_or_never(), Some(Ok(Step::Written))));
        assert_eq!(
            (wire.unwritten(), wire.stream.sent.as_slice()),
            (0, &b"\x82\x05frame\x82\x05frame\x82\x04more"[..])
        );
    }
}
