//! TLS under the REST client: a connector for ureq that trusts whom [`ClientTls`] trusts.

use std::fmt;
use std::io::{Read, Write};

use rustls::{ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};

use crate::tls::{ClientTls, server_name};

/// Opens sockets, and speaks TLS on those for https.
pub(super) fn connector(tls: Option<ClientTls>) -> impl Connector {
    TcpConnector::default().chain(TlsConnector(tls))
}

#[derive(Debug)]
struct TlsConnector(Option<ClientTls>);

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Box<dyn Transport>>, Error> {
        let Some(socket) = chained else { return Ok(None) };
        let tls = match &self.0 {
            Some(tls) if details.needs_tls() => tls,
            _ => return Ok(Some(Box::new(socket))),
        };
        let name = details.uri.host().and_then(server_name).ok_or(Error::HostNotFound)?;
        let mut connection = ClientConnection::new(tls.config(), name).map_err(std::io::Error::other)?;
        let mut socket =
            TransportAdapter::new(Box::new(socket) as Box<dyn Transport>, details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let stream = StreamOwned::new(connection, socket);
        Ok(Some(Box::new(TlsTransport { buffers, stream })))
    }
}

struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
