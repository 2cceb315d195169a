//! A connection on which requests are pipelined: what is asked for while the task is busy goes out with its next write, and
//! replies come back in order.
//!
//! Written by hand, as is what the systems say on it: the generator shares its cores with what it measures, so a client
//! that does more than is needed here would be charged to the system.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use fluxrelay::cli::CliError;
use fluxrelay::load::Refused;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// What a system answers on such a connection.
pub(crate) trait Replies: Send + 'static {
    /// Takes the next reply from the input; `None` = it is not whole yet. `Ok(Err(_))` is a refusal in words. What the
    /// system wants to hear back at once goes to `out`.
    ///
    /// # Errors
    /// Bytes that no reply begins with: the connection is of no use any more.
    fn next(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Result<(), String>>, String>;
}

type Waiting = oneshot::Sender<Result<(), String>>;

#[derive(Default)]
struct Queue {
    out: BytesMut,
    /// One for each reply that is to come.
    waiting: VecDeque<Waiting>,
    /// Why the connection ended.
    ended: Option<String>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
}

/// The handle of a connection; a clone is the same one. It closes with its last clone.
#[derive(Clone)]
pub(crate) struct Pipe {
    shared: Arc<Shared>,
    _alive: Arc<Alive>,
}

struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.queue.lock().ended = Some("it was closed".into());
        self.0.wake.notify_one();
    }
}

impl Pipe {
    /// Puts a task of the current runtime in charge of a connection.
    pub(crate) fn new(socket: TcpStream, replies: impl Replies) -> Pipe {
        let shared = Arc::new(Shared::default());
        let task = Task { socket, replies, shared: Arc::clone(&shared) };
        tokio::spawn(task.run());
        Pipe { _alive: Arc::new(Alive(Arc::clone(&shared))), shared }
    }

    /// Sends requests that get `replies` replies, of which [`Asked::answered`] tells.
    pub(crate) fn ask(&self, replies: usize, encode: impl FnOnce(&mut BytesMut)) -> Asked {
        let mut answers = Vec::with_capacity(replies);
        {
            let mut queue = self.shared.queue.lock();
            if queue.ended.is_none() {
                encode(&mut queue.out);
                for _ in 0..replies {
                    let (sender, receiver) = oneshot::channel();
                    queue.waiting.push_back(sender);
                    answers.push(receiver);
                }
            }
        }
        self.shared.wake.notify_one();
        Asked { answers, shared: Arc::clone(&self.shared) }
    }
}

/// Requests that were sent.
pub(crate) struct Asked {
    /// None: the connection had ended before.
    answers: Vec<oneshot::Receiver<Result<(), String>>>,
    shared: Arc<Shared>,
}

impl Asked {
    /// Waits for all replies.
    ///
    /// # Errors
    /// One was a refusal, or the connection ended.
    pub(crate) async fn answered(self) -> Result<(), Refused> {
        if self.answers.is_empty() {
            return Err(self.shared.refused());
        }
        for answer in self.answers {
            let answer = answer.await.map_err(|_| self.shared.refused())?;
            answer.map_err(|reason| Refused { retry_after: None, reason })?;
        }
        Ok(())
    }
}

impl Shared {
    fn refused(&self) -> Refused {
        let reason = self.queue.lock().ended.clone();
        Refused { retry_after: None, reason: reason.unwrap_or_else(|| "the connection ended".into()) }
    }
}

struct Task<R> {
    socket: TcpStream,
    replies: R,
    shared: Arc<Shared>,
}

impl<R: Replies> Task<R> {
    async fn run(mut self) {
        let Err(reason) = self.serve().await;
        let mut queue = self.shared.queue.lock();
        queue.ended.get_or_insert(reason);
        // Whoever waits is told by that.
        queue.waiting.clear();
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, String> {
        let words = |error: std::io::Error| error.to_string();
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        let (mut reader, mut writer) = self.socket.split();
        loop {
            input.reserve(READ_BYTES);
            tokio::select! {
                biased;
                read = reader.read_buf(&mut input) => {
                    if read.map_err(words)? == 0 {
                        return Err("the other side closed the connection".into());
                    }
                    while let Some(reply) = self.replies.next(&mut input, &mut out)? {
                        let waiting = self.shared.queue.lock().waiting.pop_front();
                        // Who does not wait any more is not told.
                        let _ = waiting.ok_or("a reply that nobody asked for")?.send(reply);
                    }
                }
                () = self.shared.wake.notified() => {
                    // Whoever else is about to ask goes first: what is asked together travels together.
                    tokio::task::yield_now().await;
                    let mut queue = self.shared.queue.lock();
                    if queue.ended.is_some() {
                        return Err("it was closed".into());
                    }
                    out.unsplit(queue.out.split());
                }
            }
            if !out.is_empty() {
                writer.write_all_buf(&mut out).await.map_err(words)?;
            }
        }
    }
}

/// Connects to a port of this machine.
pub(crate) async fn connect(port: u16) -> Result<TcpStream, CliError> {
    let failed = |error| CliError::local(format_args!("cannot connect to port {port}"), error);
    let socket = TcpStream::connect(("127.0.0.1", port)).await.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A line is a reply; `-` begins a refusal.
    struct Lines;

    impl Replies for Lines {
        fn next(
            &mut self,
            input: &mut BytesMut,
            _out: &mut BytesMut,
        ) -> Result<Option<Result<(), String>>, String> {
            let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
            let line = input.split_to(end + 1);
            Ok(Some(if line.starts_with(b"-") { Err("no".into()) } else { Ok(()) }))
        }
    }

    #[tokio::test]
    async fn replies_find_those_who_asked() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let pipe = Pipe::new(connect(port).await.expect("a connection"), Lines);
        let (mut server, _) = listener.accept().await.expect("a connection");
        let ask = |replies, text: &'static [u8]| pipe.ask(replies, |out| out.extend_from_slice(text));
        let (first, second) = (ask(1, b"a\n"), ask(2, b"b\nc\n"));
        let mut heard = [0; 6];
        server.read_exact(&mut heard).await.expect("requests");
        assert_eq!(&heard, b"a\nb\nc\n");
        server.write_all(b"+\n+\n-\n").await.expect("replies");
        assert!(first.answered().await.is_ok());
        assert!(second.answered().await.is_err_and(|refused| refused.reason == "no"));
        let unanswered = ask(1, b"d\n");
        drop(server);
        assert!(unanswered.answered().await.is_err());
        assert!(ask(1, b"e\n").answered().await.is_err());
    }
}
