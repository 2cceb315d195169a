//! A connection of the gateway: one statement at a time.

use bytes::BytesMut;
use fluxrelay::cli::CliError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::wire::{self, Heard};
use crate::pipe;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

pub(super) struct Client {
    socket: TcpStream,
    input: BytesMut,
    out: BytesMut,
}

impl Client {
    /// Logs in.
    pub(super) async fn connect(port: u16) -> Result<Client, CliError> {
        let socket = pipe::connect(port).await?;
        let mut client = Client { socket, input: BytesMut::new(), out: BytesMut::new() };
        wire::start_up(&mut client.out);
        client
            .finish(|_, _| ())
            .await
            .map_err(|error| CliError::local("cannot log in to postgres", error))?;
        Ok(client)
    }

    /// Runs statements without parameters.
    ///
    /// # Errors
    /// What the server says of the first that failed, or that the connection ended.
    pub(super) async fn query(&mut self, statements: &str) -> Result<(), String> {
        wire::query(&mut self.out, statements);
        self.finish(|_, _| ()).await
    }

    /// Prepares the statement that [`Client::run`] runs.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub(super) async fn prepare(&mut self, statement: &str) -> Result<(), String> {
        wire::prepare(&mut self.out, statement);
        self.finish(|_, _| ()).await
    }

    /// Runs the prepared statement with so many parameters, and hands over the rows that it gives.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub(super) async fn run(
        &mut self,
        count: i16,
        parameters: impl FnOnce(&mut BytesMut),
        row: impl FnMut(i32, String),
    ) -> Result<(), String> {
        wire::run(&mut self.out, count, parameters);
        self.finish(row).await
    }

    /// Sends what was appended and reads until all of it is done.
    async fn finish(&mut self, mut row: impl FnMut(i32, String)) -> Result<(), String> {
        let words = |error: std::io::Error| error.to_string();
        self.socket.write_all_buf(&mut self.out).await.map_err(words)?;
        let mut failed = None;
        loop {
            match wire::read(&mut self.input)? {
                Some(Heard::Row(number, text)) => row(number, text),
                Some(Heard::Ready) => return failed.map_or(Ok(()), Err),
                Some(Heard::Error(reason)) => drop(failed.get_or_insert(reason)),
                Some(Heard::Aside) => {}
                None => {
                    self.input.reserve(READ_BYTES);
                    if self.socket.read_buf(&mut self.input).await.map_err(words)? == 0 {
                        return Err(failed.unwrap_or_else(|| "PostgreSQL closed the connection".into()));
                    }
                }
            }
        }
    }
}
