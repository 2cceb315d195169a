//! Redis streams: one stream and one consumer group for each server; a command is an entry until it is acknowledged, and
//! then trimmed away with others.

mod consumer;
mod resp;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fluxrelay::cli::CliError;
use fluxrelay::load::{Publisher, Refused, Runner, System, Usage};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::child::{Folder, Peer, Program};
use crate::pipe::{self, Pipe, Replies};
use consumer::Consumer;
use resp::{Value, command};

/// Groups that are made in one write.
const GROUPS_AT_ONCE: usize = 1000;
/// Connections that are no consumers'.
const CONNECTIONS_BESIDE: u32 = 256;
/// How long Redis may take to answer whether it serves.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A Redis with its streams.
pub(crate) struct Redis {
    peer: Peer<RedisServer>,
    /// The streams' names.
    keys: Arc<[String]>,
}

impl Redis {
    /// Starts one from this file, with so many streams, each with its group.
    pub(crate) async fn start(file: &Path, data_in: Option<&Path>, servers: u32) -> Result<Redis, CliError> {
        let program = RedisServer { file: file.to_owned(), connections: servers + CONNECTIONS_BESIDE };
        let peer = tokio::task::block_in_place(|| Peer::start(Folder::new(data_in)?, program))?;
        let keys: Arc<[String]> = (0..servers).map(|server| format!("s:{server}")).collect();
        let pipe = Pipe::new(pipe::connect(peer.port()).await?, Answers);
        for some in keys.chunks(GROUPS_AT_ONCE) {
            let make = |out: &mut BytesMut| {
                for key in some {
                    command(out, &[b"XGROUP", b"CREATE", key.as_bytes(), b"g", b"0", b"MKSTREAM"]);
                }
            };
            let made = pipe.ask(some.len(), make).answered().await;
            made.map_err(|refused| CliError::unexpected(format!("no group was made: {}", refused.reason)))?;
        }
        Ok(Redis { peer, keys })
    }
}

/// How Redis is started.
struct RedisServer {
    file: PathBuf,
    connections: u32,
}

impl Program for RedisServer {
    const NAME: &str = "redis";

    fn command(&self, data: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.file);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(data);
        // Every answer waits for the sync of what it answers; the log is rewritten in the background, as it comes.
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        command.args(["--maxclients", &self.connections.to_string()]);
        command
    }

    /// It listens while it still reads its log, and says so.
    fn is_ready(&self, port: u16) -> bool {
        let ping = || -> std::io::Result<String> {
            let mut socket = TcpStream::connect(("127.0.0.1", port))?;
            socket.set_read_timeout(Some(PING_TIMEOUT))?;
            socket.write_all(b"PING\r\n")?;
            let mut line = String::new();
            BufReader::new(socket).read_line(&mut line)?;
            Ok(line)
        };
        ping().is_ok_and(|line| line.starts_with("+PONG"))
    }
}

impl System for Redis {
    type Publisher = RedisPublisher;
    /// Its tasks end when it is dropped, and their connections with them.
    type Consumers = (watch::Sender<bool>, JoinSet<()>);
    type Error = CliError;

    fn servers(&self) -> usize {
        self.keys.len()
    }

    async fn publishers(&self, connections: u32, _in_flight: u32) -> Result<Vec<RedisPublisher>, CliError> {
        let mut publishers = Vec::new();
        for _ in 0..connections {
            let pipe = Pipe::new(pipe::connect(self.peer.port()).await?, Answers);
            publishers.push(RedisPublisher { pipe, keys: Arc::clone(&self.keys) });
        }
        Ok(publishers)
    }

    async fn consumers<R: Runner>(
        &self,
        quiet: bool,
        mut runner: impl FnMut() -> R,
    ) -> Result<Self::Consumers, CliError> {
        let (go, going) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for server in 0..self.keys.len() {
            let socket = pipe::connect(self.peer.port()).await?;
            let consumer = Consumer::new(socket, self.keys[server].clone(), runner());
            tasks.spawn(consumer.run(going.clone(), quiet));
        }
        Ok((go, tasks))
    }

    fn go(&self, (go, _): &Self::Consumers) -> Result<(), CliError> {
        go.send_replace(true);
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

/// Answers to XADD and XGROUP: all that matters is whether they are errors.
struct Answers;

impl Replies for Answers {
    fn next(
        &mut self,
        input: &mut BytesMut,
        _out: &mut BytesMut,
    ) -> Result<Option<Result<(), String>>, String> {
        let Some((value, length)) = resp::read(input)? else { return Ok(None) };
        let answer = match value {
            Value::Error(text) => Err(text.to_owned()),
            _ => Ok(()),
        };
        let _ = input.split_to(length);
        Ok(Some(answer))
    }
}

/// A connection that publishes, pipelined.
#[derive(Clone)]
pub(crate) struct RedisPublisher {
    pipe: Pipe,
    keys: Arc<[String]>,
}

impl Publisher for RedisPublisher {
    type Order = Vec<(usize, String)>;

    fn order(&self, _key: Option<String>, commands: impl Iterator<Item = (usize, String)>) -> Self::Order {
        commands.collect()
    }

    fn aim(&self, order: &mut Self::Order, server: usize) {
        order[0].0 = server;
    }

    async fn publish(&self, order: &Self::Order) -> Result<(), Refused> {
        let asked = self.pipe.ask(order.len(), |out| {
            for (server, text) in order {
                command(out, &[b"XADD", self.keys[*server].as_bytes(), b"*", b"c", text.as_bytes()]);
            }
        });
        asked.answered().await
    }
}
