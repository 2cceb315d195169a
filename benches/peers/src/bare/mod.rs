//! What a broker of this shape cannot be faster than on this machine: a process that hands each command from the publisher's
//! socket to its server's, and does nothing else. No disk, no answer from the consumer, no server that may be offline.

mod relay;

use std::net::TcpStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use fluxrelay::cli::CliError;
use fluxrelay::load::{Publisher, Refused, Runner, System, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use self::relay::{CONSUMER, PUBLISHER, TAKEN, put_published, take_delivered};
use crate::child::{Folder, Peer, Program};
use crate::pipe::{self, Pipe, Replies};

/// The word of this program's own command line that makes it the relay.
pub(crate) const COMMAND: &str = "relay";
/// Bytes that a consumer reads at once.
const READ_BYTES: usize = 8 * 1024;

/// The relay.
pub(crate) struct Bare {
    peer: Peer<Relay>,
    servers: usize,
}

impl Bare {
    /// Starts one from this file.
    pub(crate) fn start(file: &Path, data_in: Option<&Path>, servers: u32) -> Result<Bare, CliError> {
        let file = Relay(file.to_owned());
        let peer = tokio::task::block_in_place(|| Peer::start(Folder::new(data_in)?, file))?;
        Ok(Bare { peer, servers: servers as usize })
    }
}

/// Is the relay at this port until it is killed.
pub(crate) async fn relay(port: u16) -> Result<(), CliError> {
    let Err(error) = relay::serve(port).await;
    Err(CliError::local(format_args!("cannot relay at port {port}"), error))
}

/// How it is started.
struct Relay(PathBuf);

impl Program for Relay {
    const NAME: &str = "the bare relay";

    fn command(&self, _data: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.0);
        command.args([COMMAND, "--port", &port.to_string()]);
        command
    }

    fn is_ready(&self, port: u16) -> bool {
        BlockingStream::connect(("127.0.0.1", port)).is_ok()
    }
}

impl System for Bare {
    type Publisher = BarePublisher;
    /// Its tasks end when it is dropped, and their connections with them.
    type Consumers = JoinSet<()>;
    type Error = CliError;

    fn servers(&self) -> usize {
        self.servers
    }

    async fn publishers(&self, connections: u32, _in_flight: u32) -> Result<Vec<BarePublisher>, CliError> {
        let mut publishers = Vec::new();
        for _ in 0..connections {
            publishers.push(BarePublisher(Pipe::new(self.connect(&[PUBLISHER]).await?, Taken)));
        }
        Ok(publishers)
    }

    async fn consumers<R: Runner>(
        &self,
        quiet: bool,
        mut runner: impl FnMut() -> R,
    ) -> Result<Self::Consumers, CliError> {
        let mut tasks = JoinSet::new();
        for server in 0..self.servers {
            let mut hello = BytesMut::new();
            hello.put_u8(CONSUMER);
            hello.put_u32_le(server as u32);
            let (socket, mut runner) = (self.connect(&hello).await?, runner());
            tasks.spawn(async move {
                if let Err(error) = consume(socket, &mut runner).await
                    && !quiet
                {
                    anstream::eprintln!("the consumer of server {server} ended: {error}");
                }
            });
        }
        Ok(tasks)
    }

    fn go(&self, _consumers: &Self::Consumers) -> Result<(), CliError> {
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        self.peer.usage()
    }

    fn disk_bytes(&self) -> Option<u64> {
        Some(self.peer.disk_bytes())
    }

    fn kill(&mut self) -> Result<(), CliError> {
        self.peer.kill()
    }

    fn restart(&mut self) -> Result<Duration, CliError> {
        self.peer.restart()
    }
}

impl Bare {
    async fn connect(&self, hello: &[u8]) -> Result<TcpStream, CliError> {
        let mut socket = pipe::connect(self.peer.port()).await?;
        let said = socket.write_all(hello).await;
        said.map_err(|error| CliError::local("cannot write to the bare relay", error))?;
        Ok(socket)
    }
}

/// A byte for each record.
struct Taken;

impl Replies for Taken {
    fn next(
        &mut self,
        input: &mut BytesMut,
        _out: &mut BytesMut,
    ) -> Result<Option<Result<(), String>>, String> {
        if input.is_empty() {
            return Ok(None);
        }
        let reply = input.split_to(1);
        if reply[0] == TAKEN { Ok(Some(Ok(()))) } else { Err(format!("the relay answered {}", reply[0])) }
    }
}

/// A connection that publishes, pipelined.
#[derive(Clone)]
pub(crate) struct BarePublisher(Pipe);

impl Publisher for BarePublisher {
    type Order = Vec<(usize, String)>;

    fn order(&self, _key: Option<String>, commands: impl Iterator<Item = (usize, String)>) -> Self::Order {
        commands.collect()
    }

    fn aim(&self, order: &mut Self::Order, server: usize) {
        order[0].0 = server;
    }

    async fn publish(&self, order: &Self::Order) -> Result<(), Refused> {
        let asked = self.0.ask(order.len(), |out| {
            order.iter().for_each(|(server, text)| put_published(*server as u32, text, out));
        });
        asked.answered().await
    }
}

/// Runs what comes, until the connection ends. Nothing is acknowledged, so everything counts as confirmed once it ran.
async fn consume(mut socket: TcpStream, runner: &mut impl Runner) -> std::io::Result<()> {
    let mut input = BytesMut::new();
    let mut texts: Vec<Bytes> = Vec::new();
    loop {
        input.reserve(READ_BYTES);
        if socket.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        while let Some(text) = take_delivered(&mut input) {
            texts.push(text);
        }
        runner.run(texts.iter().filter_map(|text| std::str::from_utf8(text).ok()));
        runner.confirmed(texts.len() as u64);
        texts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_taken_once_it_is_whole() {
        let mut published = BytesMut::new();
        put_published(7, "say hi", &mut published);
        // What a consumer receives is what a publisher sent, without the server.
        let record = published.split_off(4);
        for length in 0..record.len() {
            assert_eq!(take_delivered(&mut record[..length].into()), None, "{length} bytes");
        }
        let mut input: BytesMut = [&record[..], b"\x01"].concat().as_slice().into();
        assert_eq!(take_delivered(&mut input).as_deref(), Some(&b"say hi"[..]));
        assert_eq!(&input[..], b"\x01");
    }

    #[test]
    fn only_what_the_relay_says_is_an_answer() {
        let (mut input, mut out) = (BytesMut::from(&b"++x"[..]), BytesMut::new());
        let mut next = || Taken.next(&mut input, &mut out);
        assert_eq!((next(), next()), (Ok(Some(Ok(()))), Ok(Some(Ok(())))));
        assert!(next().is_err());
        assert_eq!(next(), Ok(None));
    }
}
