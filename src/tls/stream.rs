//! A byte stream that is plain or goes through TLS; the same at both ends.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::ServerTls;
use crate::limits::TLS_UNSENT_BYTES_MAX;

/// One socket's bytes. Through TLS, what was written may wait in it until it is flushed.
pub(crate) enum Stream {
    /// As they are.
    Plain(Socket),
    /// Encrypted. Boxed: it is many times the size of the other.
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// The server's handshake. Callers bound it by a timeout.
    pub(crate) async fn accept(socket: TcpStream, tls: &ServerTls) -> io::Result<Stream> {
        let acceptor = TlsAcceptor::from(tls.http());
        let limited = |session: &mut rustls::ServerConnection| {
            session.set_buffer_limit(Some(TLS_UNSENT_BYTES_MAX));
        };
        Ok(Stream::Tls(Box::new(acceptor.accept_with(Socket::from(socket), limited).await?.into())))
    }

    /// The client's handshake, and its first bytes: they go out with its last message, so that the server has both at once, and
    /// not before the server's certificate is accepted. Callers bound it by a timeout.
    pub(crate) async fn connect(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        first: &[u8],
    ) -> io::Result<Stream> {
        let connector = TlsConnector::from(config);
        let mut taken = Ok(0);
        let limited = |session: &mut rustls::ClientConnection| {
            session.set_buffer_limit(Some(TLS_UNSENT_BYTES_MAX));
            taken = session.writer().write(first);
        };
        let mut stream = connector.connect_with(name, Socket::from(socket), limited).await?;
        let rest = &first[taken?..];
        if !rest.is_empty() {
            stream.write_all(rest).await?;
            stream.flush().await?;
        }
        Ok(Stream::Tls(Box::new(stream.into())))
    }

    /// Whether TLS resumed an earlier session; `None` without TLS.
    pub(crate) fn is_resumed(&self) -> Option<bool> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => Some(stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)),
        }
    }

    /// From now on the current runtime watches the socket, and no longer the one that did. To be called between two
    /// reads, before anything waits for the socket here.
    ///
    /// # Errors
    /// The socket cannot be watched; it is closed then.
    pub(crate) fn move_here(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.move_here(),
            Stream::Tls(stream) => stream.get_mut().0.move_here(),
        }
    }
}

/// A byte stream that knows whether there may be something to read.
pub(crate) trait Readable {
    /// Ready when a read may find something, an end or an error; asked only after one that found nothing.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Readable for Stream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A read that found nothing has left nothing decrypted behind either.
        let socket = match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_mut().0,
        };
        match socket.tcp() {
            Ok(tcp) => tcp.poll_read_ready(cx).map(drop),
            Err(_) => Poll::Ready(()),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Stream {
        Stream::Plain(socket.into())
    }
}

/// A socket that can be moved from runtime to runtime while TLS holds it; none after a move that failed.
pub(crate) struct Socket(Option<TcpStream>);

impl From<TcpStream> for Socket {
    fn from(socket: TcpStream) -> Socket {
        Socket(Some(socket))
    }
}

impl Socket {
    fn move_here(&mut self) -> io::Result<()> {
        let socket = self.0.take().ok_or(io::ErrorKind::NotConnected)?;
        self.0 = Some(TcpStream::from_std(socket.into_std()?)?);
        Ok(())
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.0.as_mut().map(Pin::new).ok_or(io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().tcp()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().tcp()?.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().tcp()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().tcp()?.poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
