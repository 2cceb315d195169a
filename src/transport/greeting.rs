//! The first bytes of a socket: TLS, if it is on, and the one answer to whoever speaks plain HTTP to a TLS port.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::turns::{Comer, Turns};
use crate::broker::{Handle, Limit, Network};
use crate::limits::{HELLO_BYTES_SEEN, TURN_WAIT_LIMITS};
use crate::tls::{ServerTls, Stream};

/// The first byte of every TLS connection: the record type of a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What plain HTTP to a TLS port is told.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 52\r\n\
    Connection: close\r\n\r\nThis port speaks TLS: use https:// or wss:// here.\r\n";

/// What a stranger is told that does not get a turn: a fatal alert of TLS (21), version 1.2 as in all records, two bytes, the second
/// of which is `access_denied`.
const ACCESS_DENIED: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

/// Where a peer is, and how long it may take.
pub(super) struct Guest<'a> {
    /// Its network, which has its turns.
    pub(super) network: Network,
    /// When its socket was accepted.
    pub(super) accepted: Instant,
    /// From then to the end of its login, without the wait for its turn.
    pub(super) limit: Duration,
    /// Who knows which networks are suspect; `None` = none is.
    pub(super) broker: Option<&'a Handle>,
}

/// Makes the socket a stream of plain bytes, by a TLS handshake if there is a certificate. Gives when the peer's time
/// is to be counted from: not the wait for its turn, which is our doing.
pub(super) async fn greet(
    mut socket: TcpStream,
    tls: Option<&ServerTls>,
    turns: &Turns,
    guest: Guest<'_>,
) -> io::Result<(Stream, Instant)> {
    let Guest { network, accepted, limit, broker } = guest;
    let Some(tls) = tls else { return Ok((socket.into(), accepted)) };
    let late = |what: &'static str| move |_| io::Error::new(io::ErrorKind::TimedOut, what);
    let first = timeout_at(accepted + limit, look(&socket, tls)).await;
    let first = first.map_err(late("no byte came in time"))??;
    if first == First::Other {
        let refusal = timeout_at(accepted + limit, refuse(&mut socket, SPEAK_TLS)).await;
        refusal.map_err(late("a client of plain HTTP did not go"))??;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "plain text on a TLS port"));
    }
    let asked = Instant::now();
    let comer = if first == First::Session { Comer::Returning } else { Comer::Stranger };
    let turn = timeout_at(asked + limit * TURN_WAIT_LIMITS, turns.next(network, comer)).await;
    let mut turn = turn.map_err(late("too many came before it"))?;
    let since = accepted + asked.elapsed();
    if comer == Comer::Stranger
        && turns.is_crowded()
        && let Some(broker) = broker.filter(|broker| broker.registry().is_suspect(network))
    {
        let Some(own) = turns.suspect(turn) else {
            broker.on_limit(Limit::FailedLogins);
            let refusal = timeout_at(since + limit, refuse(&mut socket, ACCESS_DENIED)).await;
            refusal.map_err(late("a suspect did not go"))??;
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "too many logins of its network failed",
            ));
        };
        turn = own;
    }
    let opened = timeout_at(since + limit, turn.take(Stream::accept(socket, tls))).await;
    Ok((opened.map_err(late("the TLS handshake took too long"))??, since))
}

/// What the first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// Of a handshake that names a session of ours.
    Session,
    /// Of any other handshake; or the end.
    Handshake,
    /// Of something else.
    Other,
}

/// Waits for the first bytes and looks at what has come of them. They stay where they are.
async fn look(socket: &TcpStream, tls: &ServerTls) -> io::Result<First> {
    poll_fn(|cx| {
        let mut bytes = [MaybeUninit::uninit(); HELLO_BYTES_SEEN];
        let mut seen = ReadBuf::uninit(&mut bytes);
        ready!(socket.poll_peek(cx, &mut seen))?;
        Poll::Ready(Ok(match seen.filled() {
            [first, ..] if *first != TLS_HANDSHAKE => First::Other,
            hello if tls.knows(hello) => First::Session,
            _ => First::Handshake,
        }))
    })
    .await
}

/// Tells a client why it is not let in.
async fn refuse(socket: &mut TcpStream, why: &[u8]) -> io::Result<()> {
    socket.write_all(why).await?;
    socket.shutdown().await?;
    // Unread bytes would turn our close into a reset, and the client might never see the answer.
    let mut discarded = [0; 512];
    while socket.read(&mut discarded).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::time::UnixMs;
    use crate::tls::{ClientTls, Trust, server_name};

    const NOON: UnixMs = UnixMs(1_800_000_000_000);

    /// A broker's door, and somebody who knocks at it.
    struct Door {
        listener: TcpListener,
        tls: ServerTls,
        turns: Turns,
    }

    fn here() -> Network {
        Network::of([127, 0, 0, 1].into())
    }

    impl Door {
        async fn open() -> Door {
            let folder = tempfile::tempdir().unwrap();
            let tls = ServerTls::self_signed(folder.path(), NOON).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Door { listener, tls, turns: Turns::new(1, 1) }
        }

        /// The client's end in a task of its own, which ends when the server has said something after the handshake.
        async fn knock(&self, client: &ClientTls) -> TcpStream {
            let socket = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
            let (config, name) = (client.config(), server_name("127.0.0.1").unwrap());
            tokio::spawn(async move {
                let mut stream = Stream::connect(socket, config, name, &[]).await.unwrap();
                stream.read_u8().await
            });
            self.listener.accept().await.unwrap().0
        }

        /// Lets the client in, whose session it then has.
        async fn greet(&self, socket: TcpStream) -> bool {
            let (accepted, limit) = (Instant::now(), Duration::from_secs(60));
            let guest = Guest { network: here(), accepted, limit, broker: None };
            let (mut stream, _) = greet(socket, Some(&self.tls), &self.turns, guest).await.unwrap();
            stream.write_u8(0).await.unwrap();
            stream.flush().await.unwrap();
            // The client is gone: it has read everything, its tickets too.
            assert!(stream.read_u8().await.is_err());
            stream.is_resumed().unwrap()
        }
    }

    #[tokio::test]
    async fn who_shows_a_session_is_let_in_before_strangers_that_came_first() {
        let door = Door::open().await;
        let client = || ClientTls::new(&Trust::Fingerprint(door.tls.fingerprint())).unwrap();
        let returning = client();
        let first = door.knock(&returning).await;
        assert!(!door.greet(first).await);

        let turn = door.turns.next(here(), Comer::Stranger).await;
        let (stranger, again) = (door.knock(&client()).await, door.knock(&returning).await);
        let (mut stranger, mut again) = (pin!(door.greet(stranger)), pin!(door.greet(again)));
        while door.turns.waiting() != [0, 1] {
            assert!(stranger.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        while door.turns.waiting().iter().sum::<usize>() != 2 {
            assert!(again.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        assert_eq!(door.turns.waiting(), [1, 1], "its session is seen");
        drop(turn);
        assert!(stranger.as_mut().now_or_never().is_none(), "it came first, and has no turn yet");
        assert_eq!(door.turns.waiting(), [0, 1]);
        assert!(again.await, "its session was resumed");
        assert!(!stranger.await);
    }

    #[test]
    fn the_answer_has_the_length_that_it_says() {
        let text = std::str::from_utf8(SPEAK_TLS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
