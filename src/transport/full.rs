//! What a socket is told for which there is no place: to come back later, in plain text or through TLS. Costs a bounded
//! number of sockets of its own, each for a moment; when those are taken too, the rest are closed without a word.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::greeting::{Guest, greet};
use super::turns::Turns;
use crate::broker::Network;
use crate::limits::REFUSALS_AT_ONCE_MAX;
use crate::priority::considerate;
use crate::tls::ServerTls;

/// How long a refusal may take, TLS handshake included.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Refuses sockets.
pub(super) struct Full {
    refusals: Arc<Semaphore>,
    tls: Option<ServerTls>,
    /// Where it is done: sockets are watched there.
    doors: Handle,
}

impl Full {
    pub(super) fn new(tls: Option<ServerTls>, doors: Handle) -> Full {
        Full { refusals: Arc::new(Semaphore::new(REFUSALS_AT_ONCE_MAX)), tls, doors }
    }

    /// Tells the socket, if there is room for that, and closes it.
    pub(super) fn refuse(&self, socket: TcpStream, peer: IpAddr) {
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else { return };
        let tls = self.tls.clone();
        self.doors.spawn(considerate(async move {
            let _ = timeout(REFUSAL_TIMEOUT, tell(socket, peer, tls.as_ref())).await;
            drop(permit);
        }));
    }
}

async fn tell(socket: TcpStream, peer: IpAddr, tls: Option<&ServerTls>) -> io::Result<()> {
    let guest =
        Guest { network: Network::of(peer), accepted: Instant::now(), limit: REFUSAL_TIMEOUT, broker: None };
    // A turn of its own: their number is bounded, and no place is worth a wait behind those that have one.
    let (mut stream, _) = greet(socket, tls, &Turns::new(1, 1), guest).await?;
    stream.write_all(FULL).await?;
    stream.flush().await?;
    stream.shutdown().await?;
    // Unread bytes would turn our close into a reset, and the client might never see the answer.
    let mut discarded = [0; 512];
    while stream.read(&mut discarded).await? > 0 {}
    Ok(())
}
