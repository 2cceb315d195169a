//! Opening a byte stream to the broker: TCP, and TLS on it when the URL asks for it. Knows no WebSocket.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Uri;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::error::{ClientError, OptionsError};
use super::socket::SocketError;
use crate::tls::{CertificateProblem, ClientTls, ReturningTls, Stream, Trust, server_name};

/// Where the broker is, and whom to trust there.
#[derive(Clone)]
pub(super) struct Address {
    text: String,
    secure: Option<Secure>,
}

#[derive(Clone)]
struct Secure {
    tls: Arc<ReturningTls>,
    name: ServerName<'static>,
    /// A certificate of this broker was accepted before.
    accepted: Arc<AtomicBool>,
}

impl Address {
    /// The address in a URL. `tls` says whom to trust; without it, the system's authorities are read if they are needed.
    pub(super) fn new(url: &str, uri: &Uri, tls: Option<&ClientTls>) -> Result<Address, OptionsError> {
        let bad = |reason| OptionsError::Url { url: url.to_owned(), reason };
        let secure = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => {
                return Err(bad("it must begin with wss://, https://, ws://, http:// or, for QUIC, quic://"));
            }
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("it has no host"))?;
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let text = format!("{host}:{port}");
        if !secure {
            return Ok(Address { text, secure: None });
        }
        let name = server_name(host).ok_or_else(|| bad("no certificate can be for its host"))?;
        let tls = match tls {
            Some(tls) => ReturningTls::new(tls),
            None => ReturningTls::new(&ClientTls::new(&Trust::System)?),
        };
        let tls = Arc::new(tls);
        Ok(Address { text, secure: Some(Secure { tls, name, accepted: Arc::default() }) })
    }

    /// `host:port`.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Connects and says the first bytes, which may be secret: through TLS only once the broker has proved who it is. Callers
    /// bound it by a timeout, and dial one connection at a time.
    pub(super) async fn dial(&self, first: &[u8]) -> Result<Stream, SocketError> {
        let Some(secure) = &self.secure else {
            let mut socket = self.connect().await?;
            socket.write_all(first).await.map_err(|error| self.lost(&error))?;
            return Ok(socket.into());
        };
        if let Some(config) = secure.tls.quick() {
            let opened = Stream::connect(self.connect().await?, config, secure.name.clone(), first).await;
            if !secure.tls.was_not_resumed() {
                opened.iter().for_each(|_| secure.tls.on_resumed());
                return opened.map_err(|error| self.no_tls(secure, &error));
            }
        }
        let (socket, config) = (self.connect().await?, secure.tls.full());
        let opened = Stream::connect(socket, config, secure.name.clone(), first).await;
        let stream = opened.map_err(|error| self.no_tls(secure, &error))?;
        secure.accepted.store(true, Ordering::Relaxed);
        Ok(stream)
    }

    async fn connect(&self) -> Result<TcpStream, SocketError> {
        let socket = TcpStream::connect(&self.text).await.map_err(|error| self.lost(&error))?;
        socket.set_nodelay(true).map_err(|error| self.lost(&error))?;
        Ok(socket)
    }

    fn lost(&self, error: &io::Error) -> SocketError {
        SocketError::Lost(format!("cannot connect to {}: {error}", self.text))
    }

    fn no_tls(&self, secure: &Secure, error: &io::Error) -> SocketError {
        match CertificateProblem::of(error) {
            Some(problem) if problem.passes() || secure.accepted.load(Ordering::Relaxed) => {
                SocketError::Lost(format!("{}: {problem}: {}", self.text, problem.advice()))
            }
            Some(problem) => SocketError::Foreign(ClientError::Certificate(problem)),
            None => SocketError::Lost(format!("no TLS with {}: {error}; does it speak TLS?", self.text)),
        }
    }
}
