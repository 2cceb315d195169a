//! The first bytes of a socket: TLS, if it is on, and the one answer to whoever speaks plain HTTP to a TLS port.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::tls::{ServerTls, Stream};

/// The first byte of every TLS connection: the record type of a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What plain HTTP to a TLS port is told.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 52\r\n\
    Connection: close\r\n\r\nThis port speaks TLS: use https:// or wss:// here.\r\n";

/// Makes the socket a stream of plain bytes, by a TLS handshake if there is a certificate. Callers bound it by a timeout.
pub(super) async fn greet(mut socket: TcpStream, tls: Option<&ServerTls>) -> io::Result<Stream> {
    let Some(tls) = tls else { return Ok(Stream::Plain(socket)) };
    let mut first = [0];
    if socket.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
        refuse_plain(&mut socket).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "plain text on a TLS port"));
    }
    Stream::accept(socket, tls).await
}

/// Tells a client of plain HTTP what to do instead.
async fn refuse_plain(socket: &mut TcpStream) -> io::Result<()> {
    socket.write_all(SPEAK_TLS).await?;
    socket.shutdown().await?;
    // Unread bytes would turn our close into a reset, and the client might never see the answer.
    let mut discarded = [0; 512];
    while socket.read(&mut discarded).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_length_that_it_says() {
        let text = std::str::from_utf8(SPEAK_TLS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
