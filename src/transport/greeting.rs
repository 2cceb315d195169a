//! The first bytes of a socket: TLS, if it is on, and the one answer to whoever speaks plain HTTP to a TLS port.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::turns::Turns;
use crate::broker::Network;
use crate::limits::TURN_WAIT_LIMITS;
use crate::tls::{ServerTls, Stream};

/// The first byte of every TLS connection: the record type of a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What plain HTTP to a TLS port is told.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 52\r\n\
    Connection: close\r\n\r\nThis port speaks TLS: use https:// or wss:// here.\r\n";

/// Where a peer is, and how long it may take.
#[derive(Clone, Copy)]
pub(super) struct Guest {
    /// Its network, which has its turns.
    pub(super) network: Network,
    /// When its socket was accepted.
    pub(super) accepted: Instant,
    /// From then to the end of its login, without the wait for its turn.
    pub(super) limit: Duration,
}

/// Makes the socket a stream of plain bytes, by a TLS handshake if there is a certificate. Gives when the peer's time
/// is to be counted from: not the wait for its turn, which is our doing.
pub(super) async fn greet(
    mut socket: TcpStream,
    tls: Option<&ServerTls>,
    turns: &Turns,
    guest: Guest,
) -> io::Result<(Stream, Instant)> {
    let Guest { network, accepted, limit } = guest;
    let Some(tls) = tls else { return Ok((socket.into(), accepted)) };
    let late = |what: &'static str| move |_| io::Error::new(io::ErrorKind::TimedOut, what);
    let mut first = [0];
    let peeked = timeout_at(accepted + limit, socket.peek(&mut first)).await;
    if peeked.map_err(late("no byte came in time"))?? == 1 && first[0] != TLS_HANDSHAKE {
        let refusal = timeout_at(accepted + limit, refuse_plain(&mut socket)).await;
        refusal.map_err(late("a client of plain HTTP did not go"))??;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "plain text on a TLS port"));
    }
    let asked = Instant::now();
    let turn = timeout_at(asked + limit * TURN_WAIT_LIMITS, turns.next(network)).await;
    let turn = turn.map_err(late("too many came before it"))?;
    let since = accepted + asked.elapsed();
    let opened = timeout_at(since + limit, turn.take(Stream::accept(socket, tls))).await;
    Ok((opened.map_err(late("the TLS handshake took too long"))??, since))
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
