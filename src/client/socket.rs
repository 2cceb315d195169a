//! A client's connection: dialling, whole messages of frames out and in. Knows no frame.

use bytes::Bytes;
use hyper::Uri;
use hyper::header::HeaderValue;

use super::dial::Address;
use super::error::{ClientError, OptionsError};
use super::upgrade::{UpgradeError, UpgradeRequest, upgrade};
use crate::carrier::{Fault, Step, WebSocket, Wire};
use crate::tls::{ClientTls, Stream};

/// Bytes that one system call reads.
const READ_BYTES: usize = 4 * 1024;
/// The close code of an orderly end: RFC 6455, section 7.4.1.
const CLOSE_NORMAL: u16 = 1000;

/// Where a client connects to, checked.
#[derive(Clone)]
pub(super) struct Target {
    address: Address,
    request: UpgradeRequest,
}

impl Target {
    /// `path` is used when the URL has none.
    pub(super) fn new(
        url: &str,
        path: &str,
        credential: &str,
        tls: Option<&ClientTls>,
    ) -> Result<Target, OptionsError> {
        let bad = |reason| OptionsError::Url { url: url.to_owned(), reason };
        let uri: Uri = url.parse().map_err(|_| bad("it is not a URL"))?;
        let address = Address::new(url, &uri, tls)?;
        let path = match uri.path() {
            "" | "/" => path,
            given => given,
        };
        let mut bearer =
            HeaderValue::try_from(format!("Bearer {credential}")).map_err(|_| OptionsError::Token)?;
        bearer.set_sensitive(true);
        let host = HeaderValue::try_from(address.text()).map_err(|_| bad("its host cannot be used"))?;
        Ok(Target { address, request: UpgradeRequest { path: path.to_owned(), host, bearer } })
    }
}

/// Why a connection could not be made, or ended.
#[derive(Debug)]
pub(super) enum SocketError {
    /// May pass by itself; the words are for a log.
    Lost(String),
    /// Will not pass by itself.
    Foreign(ClientError),
}

impl From<Fault> for SocketError {
    fn from(fault: Fault) -> SocketError {
        SocketError::Lost(match fault {
            Fault::TooLong(max) => format!("the broker sent a message of more than {max} bytes"),
            Fault::Text => "the broker sent text".into(),
            Fault::Malformed(detail) => detail,
            Fault::Lost => "the connection was lost".into(),
        })
    }
}

/// What happened on a socket.
#[derive(Debug)]
pub(super) enum Arrived {
    /// One message of frames.
    Frames(Bytes),
    /// A sign of life without frames.
    Heard,
    /// Everything that was queued is written.
    Written,
}

/// An open socket.
pub(super) struct Socket {
    wire: WebSocket<Stream>,
}

impl Socket {
    /// Connects; callers bound it by a timeout.
    pub(super) async fn dial(target: &Target) -> Result<Socket, SocketError> {
        let address = target.address.text();
        let stream = target.address.dial().await?;
        match upgrade(stream, target.request.clone()).await {
            Ok((stream, part)) => Ok(Socket { wire: WebSocket::client(stream, part, READ_BYTES) }),
            Err(UpgradeError::Answered(status)) if status.is_client_error() => {
                let words = format!("{address} answered {status} to the upgrade: is it a fluxrelay broker?");
                Err(SocketError::Foreign(ClientError::Foreign(words)))
            }
            Err(UpgradeError::Answered(status)) => {
                Err(SocketError::Lost(format!("{address} answered {status} to the upgrade")))
            }
            Err(UpgradeError::Lost(reason)) => Err(SocketError::Lost(reason)),
        }
    }

    /// Queues one message of whole frames.
    pub(super) fn queue(&mut self, frames: &[u8]) {
        self.wire.queue(frames);
    }

    /// True while queued bytes wait to be written.
    pub(super) fn is_writing(&self) -> bool {
        self.wire.unwritten() > 0
    }

    /// Writes what the socket takes at once.
    pub(super) async fn write(&mut self) -> Result<(), SocketError> {
        Ok(self.wire.write().await.map(drop)?)
    }

    /// Waits for the next thing to happen. Cancel-safe.
    pub(super) async fn step(&mut self) -> Result<Arrived, SocketError> {
        match self.wire.step(true).await? {
            Step::Frames(frames) => Ok(Arrived::Frames(frames)),
            Step::Heard => Ok(Arrived::Heard),
            Step::Written => Ok(Arrived::Written),
            Step::Closed => Err(SocketError::Lost("the broker closed the connection".into())),
        }
    }

    /// Closes in order; callers bound it by a timeout.
    pub(super) async fn close(self) {
        self.wire.close(CLOSE_NORMAL, "").await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let target = |url: &str| Target::new(url, "/v1/plugin/ws", "srv_1.secret", None);
        for (url, address, path) in [
            ("ws://127.0.0.1:7440", "127.0.0.1:7440", "/v1/plugin/ws"),
            ("http://relay.example/", "relay.example:80", "/v1/plugin/ws"),
            ("ws://[::1]:7440/behind/a/proxy", "[::1]:7440", "/behind/a/proxy"),
        ] {
            let target = target(url).unwrap();
            assert_eq!((target.address.text(), target.request.path.as_str()), (address, path));
        }
        for (url, reason) in [
            ("127.0.0.1:7440", "begin with"),
            ("ftp://x", "begin with"),
            ("/v1", "begin with"),
            ("", "not a URL"),
        ] {
            let error = target(url).err().unwrap().to_string();
            assert!(error.contains(reason), "{url:?}: {error}");
        }
        assert!(Target::new("ws://x", "/", "line\nbreak", None).is_err());
    }
}
