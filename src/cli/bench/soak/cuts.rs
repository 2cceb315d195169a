//! Connections that are cut: some plugins reach the broker through a door of the bench's own, which slams now and then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::cli::exit::CliError;
use crate::load::spread;

/// When it is tried again to accept a connection, after that has failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// A door to an address.
pub(super) struct Door {
    address: SocketAddr,
    open: Arc<Mutex<Vec<AbortHandle>>>,
    cut: AtomicU64,
    _accepting: JoinSet<()>,
}

impl Door {
    /// Opens one, on a port of this machine's choice.
    pub(super) async fn open(to: SocketAddr) -> Result<Door, CliError> {
        let failed = |error| CliError::local("cannot listen on a port of this machine", error);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let open = Arc::new(Mutex::new(Vec::new()));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, to, Arc::clone(&open)));
        Ok(Door { address, open, cut: AtomicU64::new(0), _accepting: accepting })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts one of its connections.
    pub(super) fn slam(&self) {
        let mut open = self.open.lock();
        open.retain(|connection| !connection.is_finished());
        if open.is_empty() {
            return;
        }
        let cut = self.cut.fetch_add(1, Ordering::Relaxed);
        let place = spread(cut, open.len());
        open.swap_remove(place).abort();
    }

    /// How many it has cut.
    pub(super) fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, open: Arc<Mutex<Vec<AbortHandle>>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else {
                    // Too many files are open, for a moment.
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                };
                let handle = connections.spawn(pass(near, to));
                open.lock().push(handle);
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Passes everything on in both directions until one end closes. What is on its way when this is aborted is lost.
async fn pass(mut near: TcpStream, to: SocketAddr) {
    if let Ok(mut far) = TcpStream::connect(to).await {
        let _ = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
        let _ = copy_bidirectional(&mut near, &mut far).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_passes_passes_until_it_is_cut() {
        let behind = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let door = Door::open(behind.local_addr().expect("an address")).await.expect("a door");
        door.slam();
        assert_eq!(door.cut(), 0, "there was nothing to cut");
        let mut near = TcpStream::connect(door.address()).await.expect("the door is open");
        near.write_all(b"hi").await.expect("open");
        let (mut far, _) = behind.accept().await.expect("a connection");
        let mut heard = [0; 2];
        far.read_exact(&mut heard).await.expect("two bytes");
        assert_eq!(&heard, b"hi");
        door.slam();
        assert_eq!(door.cut(), 1);
        assert!(matches!(far.read(&mut heard).await, Ok(0) | Err(_)));
        assert!(matches!(near.read(&mut heard).await, Ok(0) | Err(_)));
    }
}
