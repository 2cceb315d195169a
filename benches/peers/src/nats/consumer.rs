//! The consumer of one server: subscribes to what its durable consumer at the broker pushes, runs it, and acknowledges all
//! that one read has brought in one write.

use bytes::BytesMut;
use fluxrelay::load::Runner;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::wire::{self, Heard, publish, subscribe};

/// Bytes for which there is room when something has come.
const READ_BYTES: usize = 16 * 1024;

pub(super) struct Consumer<R> {
    pub(super) socket: TcpStream,
    /// Where the broker pushes to.
    pub(super) subject: String,
    pub(super) runner: R,
}

impl<R: Runner> Consumer<R> {
    /// Consumes from when it may until it is dropped. What is left when its connection ends shows in the figures; and says so,
    /// unless it is to be quiet.
    pub(super) async fn run(mut self, mut going: watch::Receiver<bool>, quiet: bool) {
        if going.wait_for(|going| *going).await.is_ok() {
            let Err(reason) = self.consume().await;
            if !quiet {
                anstream::eprintln!("the consumer of {} ended: {reason}", self.subject);
            }
        }
    }

    async fn consume(&mut self) -> Result<std::convert::Infallible, String> {
        let (mut input, mut out) = (BytesMut::new(), BytesMut::from(wire::CONNECT));
        subscribe(&mut out, &self.subject);
        let mut acknowledged = 0;
        loop {
            if !out.is_empty() {
                self.socket.write_all_buf(&mut out).await.map_err(|error| error.to_string())?;
                // The broker confirms no acknowledgement of this kind: it is worth what it is worth.
                self.runner.confirmed(std::mem::take(&mut acknowledged));
            }
            if input.is_empty() {
                // Thousands of them wait most of the time.
                input = BytesMut::new();
            }
            self.socket.readable().await.map_err(|error| error.to_string())?;
            input.reserve(READ_BYTES);
            match self.socket.try_read_buf(&mut input) {
                Ok(0) => return Err("NATS closed the connection".into()),
                Ok(_) => acknowledged = self.take(&mut input, &mut out)?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Runs all whole messages and appends their acknowledgements; gives their number.
    fn take(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<u64, String> {
        let mut messages = 0;
        while let Some((heard, length)) = wire::read(input)? {
            match heard {
                Heard::Message { reply, payload } => {
                    self.runner.run(std::iter::once(payload));
                    publish(out, reply, "", b"+ACK");
                    messages += 1;
                }
                Heard::Ping => out.extend_from_slice(wire::PONG),
                Heard::Pong | Heard::Aside => {}
                Heard::Error(reason) => return Err(reason.to_owned()),
            }
            let _ = input.split_to(length);
        }
        Ok(messages)
    }
}
