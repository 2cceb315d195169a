//! beanstalkd: one tube for each server; a job is reserved, run and deleted, and the next is reserved in the same write.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::BytesMut;
use fluxrelay::cli::CliError;
use fluxrelay::load::{Publisher, Refused, Runner, System, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::child::{Folder, Peer, Program};
use crate::pipe::{self, Pipe, Replies};

/// Seconds that a job may be reserved before it is given to somebody else.
const RUN_SECONDS: u32 = 120;
/// Bytes that a consumer reads at once: a job or two.
const READ_BYTES: usize = 8 * 1024;
/// How long it may take to answer whether it serves.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A beanstalkd; its tubes come into being as they are used.
pub(crate) struct Beanstalkd {
    peer: Peer<Server>,
    servers: usize,
}

impl Beanstalkd {
    /// Starts one from this file.
    pub(crate) fn start(file: &Path, data_in: Option<&Path>, servers: u32) -> Result<Beanstalkd, CliError> {
        let file = Server(file.to_owned());
        let peer = tokio::task::block_in_place(|| Peer::start(Folder::new(data_in)?, file))?;
        Ok(Beanstalkd { peer, servers: servers as usize })
    }
}

/// How it is started.
struct Server(PathBuf);

impl Program for Server {
    const NAME: &str = "beanstalkd";

    fn command(&self, data: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-f0", "-b"]).arg(data);
        command
    }

    fn is_ready(&self, port: u16) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut socket = BlockingStream::connect(("127.0.0.1", port))?;
            socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            socket.write_all(b"list-tube-used\r\n")?;
            let mut line = String::new();
            BufReader::new(socket).read_line(&mut line)?;
            Ok(line)
        };
        ask().is_ok_and(|line| line.starts_with("USING"))
    }
}

impl System for Beanstalkd {
    type Publisher = TubePublisher;
    /// Its tasks end when it is dropped, and their connections with them.
    type Consumers = (watch::Sender<bool>, JoinSet<()>);
    type Error = CliError;

    fn servers(&self) -> usize {
        self.servers
    }

    async fn publishers(&self, connections: u32, _in_flight: u32) -> Result<Vec<TubePublisher>, CliError> {
        let mut publishers = Vec::new();
        for _ in 0..connections {
            publishers.push(TubePublisher(Pipe::new(pipe::connect(self.peer.port()).await?, Answers)));
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
        for server in 0..self.servers {
            let socket = pipe::connect(self.peer.port()).await?;
            tasks.spawn(consuming(socket, server, runner(), going.clone(), quiet));
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

/// Answers to `use` and `put`: lines.
struct Answers;

impl Replies for Answers {
    fn next(
        &mut self,
        input: &mut BytesMut,
        _out: &mut BytesMut,
    ) -> Result<Option<Result<(), String>>, String> {
        let Some(line) = take_line(input) else { return Ok(None) };
        let is_good = line.starts_with("INSERTED") || line.starts_with("USING");
        Ok(Some(if is_good { Ok(()) } else { Err(line) }))
    }
}

/// A connection that publishes, pipelined.
#[derive(Clone)]
pub(crate) struct TubePublisher(Pipe);

impl Publisher for TubePublisher {
    type Order = Vec<(usize, String)>;

    fn order(&self, _key: Option<String>, commands: impl Iterator<Item = (usize, String)>) -> Self::Order {
        commands.collect()
    }

    fn aim(&self, order: &mut Self::Order, server: usize) {
        order[0].0 = server;
    }

    async fn publish(&self, order: &Self::Order) -> Result<(), Refused> {
        let asked = self.0.ask(2 * order.len(), |out| {
            for (server, text) in order {
                let job = format!("use s.{server}\r\nput 0 0 {RUN_SECONDS} {}\r\n{text}\r\n", text.len());
                out.extend_from_slice(job.as_bytes());
            }
        });
        asked.answered().await
    }
}

/// The consumer of one tube, from when it may until it is dropped. Says why it ended, unless it is to be quiet.
async fn consuming<R: Runner>(
    socket: TcpStream,
    server: usize,
    runner: R,
    mut going: watch::Receiver<bool>,
    quiet: bool,
) {
    if going.wait_for(|going| *going).await.is_ok() {
        let mut consumer = Consumer { socket, runner, input: BytesMut::new() };
        let Err(reason) = consumer.consume(server).await;
        if !quiet {
            anstream::eprintln!("the consumer of tube s.{server} ended: {reason}");
        }
    }
}

struct Consumer<R> {
    socket: TcpStream,
    runner: R,
    input: BytesMut,
}

impl<R: Runner> Consumer<R> {
    async fn consume(&mut self, server: usize) -> Result<std::convert::Infallible, String> {
        self.write(format!("watch s.{server}\r\nignore default\r\nreserve\r\n")).await?;
        self.expect("WATCHING").await?;
        self.expect("WATCHING").await?;
        loop {
            let reserved = self.expect("RESERVED").await?;
            let [id, length] = reserved[..] else { return Err("a job without a length".into()) };
            let whole = length as usize + 2;
            while self.input.len() < whole {
                self.read().await?;
            }
            let job = self.input.split_to(whole);
            let text = std::str::from_utf8(&job[..length as usize]).map_err(|error| error.to_string())?;
            self.runner.run(std::iter::once(text));
            self.write(format!("delete {id}\r\nreserve\r\n")).await?;
            self.expect("DELETED").await?;
            self.runner.confirmed(1);
        }
    }

    /// The numbers of a line that begins with this word.
    async fn expect(&mut self, word: &str) -> Result<Vec<u64>, String> {
        loop {
            if let Some(line) = take_line(&mut self.input) {
                let rest = line.strip_prefix(word).ok_or_else(|| format!("not {word} but {line}"))?;
                return Ok(rest.split_whitespace().filter_map(|number| number.parse().ok()).collect());
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), String> {
        self.input.reserve(READ_BYTES);
        match self.socket.read_buf(&mut self.input).await {
            Ok(0) => Err("beanstalkd closed the connection".into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn write(&mut self, text: String) -> Result<(), String> {
        self.socket.write_all(text.as_bytes()).await.map_err(|error| error.to_string())
    }
}

/// A line without its end; `None` = it is not whole yet.
fn take_line(input: &mut BytesMut) -> Option<String> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    let line = input.split_to(end + 1);
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_lines() {
        let (mut input, mut out) =
            (BytesMut::from(&b"USING s.1\r\nINSERTED 5\r\nDRAINING\r\nINS"[..]), BytesMut::new());
        let mut next = || Answers.next(&mut input, &mut out);
        assert_eq!(next(), Ok(Some(Ok(()))));
        assert_eq!(next(), Ok(Some(Ok(()))));
        assert_eq!(next(), Ok(Some(Err("DRAINING".into()))));
        assert_eq!(next(), Ok(None));
    }
}
