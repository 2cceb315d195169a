//! NATS JetStream: one stream as a work queue, in files; for each server a durable consumer that the broker pushes to, with
//! an acknowledgement for each message.

mod consumer;
mod wire;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use fluxrelay::cli::CliError;
use fluxrelay::load::{Publisher, Refused, Runner, System, Usage};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::child::{Folder, Peer, Program};
use crate::pipe::{self, Pipe, Replies};
use consumer::Consumer;
use wire::{Heard, publish, subscribe};

/// Consumers that are made in one write.
const CONSUMERS_AT_ONCE: usize = 100;
/// Messages that a consumer may have and not acknowledge.
const UNACKNOWLEDGED_MAX: u32 = 1000;
/// How long NATS may take to answer whether it serves.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// A NATS with its stream.
pub(crate) struct Nats {
    peer: Peer<NatsServer>,
    servers: usize,
    /// Each publisher has an inbox of its own.
    inboxes: AtomicU32,
}

impl Nats {
    /// Starts one from this file, with its stream, and a consumer for each of so many servers.
    pub(crate) async fn start(file: &Path, data_in: Option<&Path>, servers: u32) -> Result<Nats, CliError> {
        let file = NatsServer(file.to_owned());
        let peer = tokio::task::block_in_place(|| Peer::start(Folder::new(data_in)?, file))?;
        let nats = Nats { peer, servers: servers as usize, inboxes: AtomicU32::new(0) };
        let publisher = nats.publisher().await?;
        let stream = json!({"name": "commands", "subjects": ["c.*"], "retention": "workqueue", "storage": "file",
                            "num_replicas": 1, "max_consumers": -1, "max_msgs": -1, "max_bytes": -1});
        publisher.call("$JS.API.STREAM.CREATE.commands", &[stream.to_string()], |_| String::new()).await?;
        let configs: Vec<String> = (0..servers).map(consumer_config).collect();
        for (chunk, configs) in configs.chunks(CONSUMERS_AT_ONCE).enumerate() {
            let name = |place| format!(".s{}", chunk * CONSUMERS_AT_ONCE + place);
            publisher.call("$JS.API.CONSUMER.DURABLE.CREATE.commands", configs, name).await?;
        }
        Ok(nats)
    }

    async fn publisher(&self) -> Result<NatsPublisher, CliError> {
        let inbox = format!("_INBOX.{}", self.inboxes.fetch_add(1, Ordering::Relaxed));
        let pipe = Pipe::new(pipe::connect(self.peer.port()).await?, Answers);
        // The ping's answer is the first reply.
        let greeting = pipe.ask(1, |out| {
            out.extend_from_slice(wire::CONNECT);
            subscribe(out, &inbox);
        });
        greeting
            .answered()
            .await
            .map_err(|refused| CliError::local("cannot log in to nats", refused.reason))?;
        Ok(NatsPublisher { pipe, inbox: inbox.into() })
    }
}

fn consumer_config(server: u32) -> String {
    json!({"stream_name": "commands", "config": {
        "durable_name": format!("s{server}"), "deliver_subject": format!("d.{server}"),
        "filter_subject": format!("c.{server}"), "ack_policy": "explicit", "deliver_policy": "all",
        "max_ack_pending": UNACKNOWLEDGED_MAX,
    }})
    .to_string()
}

/// How NATS is started.
struct NatsServer(PathBuf);

impl Program for NatsServer {
    const NAME: &str = "nats";

    fn command(&self, data: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"]);
        command.arg(data);
        command
    }

    /// Its streams are there when JetStream answers about them.
    fn is_ready(&self, port: u16) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut socket = TcpStream::connect(("127.0.0.1", port))?;
            socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            let mut out = BytesMut::from(wire::CONNECT);
            subscribe(&mut out, "_INBOX.ready");
            publish(&mut out, "$JS.API.INFO", "_INBOX.ready", b"");
            socket.write_all(&out)?;
            let mut lines = BufReader::new(socket).lines();
            Ok(lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("MSG")))
        };
        ask().unwrap_or(false)
    }
}

impl System for Nats {
    type Publisher = NatsPublisher;
    /// Its tasks end when it is dropped, and their connections with them.
    type Consumers = (watch::Sender<bool>, JoinSet<()>);
    type Error = CliError;

    fn servers(&self) -> usize {
        self.servers
    }

    async fn publishers(&self, connections: u32, _in_flight: u32) -> Result<Vec<NatsPublisher>, CliError> {
        let mut publishers = Vec::new();
        for _ in 0..connections {
            publishers.push(self.publisher().await?);
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
            let consumer = Consumer { socket, subject: format!("d.{server}"), runner: runner() };
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

/// Answers of JetStream: all that matters is whether they are errors.
struct Answers;

impl Replies for Answers {
    fn next(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Result<(), String>>, String> {
        while let Some((heard, length)) = wire::read(input)? {
            let answer = match heard {
                Heard::Message { payload, .. } if payload.contains("\"error\"") => {
                    Some(Err(payload.to_owned()))
                }
                Heard::Message { .. } | Heard::Pong => Some(Ok(())),
                Heard::Ping => {
                    out.extend_from_slice(wire::PONG);
                    None
                }
                Heard::Aside => None,
                Heard::Error(reason) => return Err(reason.to_owned()),
            };
            let _ = input.split_to(length);
            if answer.is_some() {
                return Ok(answer);
            }
        }
        Ok(None)
    }
}

/// A connection that publishes, pipelined; JetStream answers in order.
#[derive(Clone)]
pub(crate) struct NatsPublisher {
    pipe: Pipe,
    inbox: Arc<str>,
}

impl NatsPublisher {
    /// Calls JetStream's interface, once for each body, with an ending of the subject for each.
    async fn call(
        &self,
        subject: &str,
        bodies: &[String],
        ending: impl Fn(usize) -> String,
    ) -> Result<(), CliError> {
        let calls = |out: &mut BytesMut| {
            for (place, body) in bodies.iter().enumerate() {
                publish(out, &format!("{subject}{}", ending(place)), &self.inbox, body.as_bytes());
            }
        };
        let called = self.pipe.ask(bodies.len(), calls).answered().await;
        called.map_err(|refused| CliError::unexpected(format!("{subject} failed: {}", refused.reason)))
    }
}

impl Publisher for NatsPublisher {
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
                publish(out, &format!("c.{server}"), &self.inbox, text.as_bytes());
            }
        });
        asked.answered().await
    }
}
