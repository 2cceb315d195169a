//! The console program: its life, its standard input as a queue of lines, its output passed on and read.
//!
//! Two writers share its standard input, so only one task writes, line by line.

use std::ffi::OsStr;
use std::io::{self, BufRead};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::console::{Lines, Notice, Patterns};

/// Lines that wait for the program to read them.
const LINES_MAX: usize = 64;
/// Notices that wait for the plugin; output is not read further while it is full.
const NOTICES_MAX: usize = 1024;
/// Bytes read from an output at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// One line for the program, and who wants to know that it was written.
struct LineOut {
    line: String,
    written: Option<oneshot::Sender<io::Result<()>>>,
}

/// The writing end of the program's standard input.
#[derive(Clone)]
pub(super) struct Console {
    lines: mpsc::Sender<LineOut>,
}

impl Console {
    /// Writes one line; returns once the operating system has it. The error says that the program does not read.
    pub(super) async fn write(&self, line: String) -> io::Result<()> {
        let closed = || io::Error::new(io::ErrorKind::BrokenPipe, "the program has closed its input");
        let (written, answer) = oneshot::channel();
        self.lines.send(LineOut { line, written: Some(written) }).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Passes on what is typed here, on a thread of its own: a blocked read must not hold up the end of the process.
    pub(super) fn pass_on_stdin(&self) -> io::Result<()> {
        let lines = self.lines.clone();
        let read = move || {
            for line in io::stdin().lock().lines() {
                let Ok(line) = line else { return };
                if lines.blocking_send(LineOut { line, written: None }).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("stdin".into()).spawn(read).map(drop)
    }
}

/// A running program.
pub(super) struct Child {
    process: tokio::process::Child,
    outputs: [JoinHandle<()>; 2],
}

/// Starts a program: the child, its input, and what its output says.
pub(super) fn start(
    program: &[impl AsRef<OsStr>],
    patterns: Patterns,
) -> io::Result<(Child, Console, mpsc::Receiver<Notice>)> {
    let (name, arguments) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut process = Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let taken = "a pipe that was asked for is there";
    let stdin = process.stdin.take().expect(taken);
    let stdout = process.stdout.take().expect(taken);
    let stderr = process.stderr.take().expect(taken);
    let patterns = Arc::new(patterns);
    let (notices, noticed) = mpsc::channel(NOTICES_MAX);
    let outputs = [
        tokio::spawn(pass_on(stdout, tokio::io::stdout(), patterns.clone(), notices.clone())),
        tokio::spawn(pass_on(stderr, tokio::io::stderr(), patterns, notices)),
    ];
    let (lines, to_write) = mpsc::channel(LINES_MAX);
    tokio::spawn(write_lines(stdin, to_write));
    Ok((Child { process, outputs }, Console { lines }, noticed))
}

impl Child {
    /// Waits for the program's end and for the rest of its output. Cancel-safe.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.process.wait().await?;
        // A grandchild may hold the pipes open for ever, so the rest of the output gets a moment, not a promise.
        let rest = async {
            for output in &mut self.outputs {
                if !output.is_finished() {
                    let _ = output.await;
                }
            }
        };
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), rest).await;
        Ok(status)
    }

    /// Asks it to end (SIGTERM).
    pub(super) fn terminate(&self) {
        let pid = self.process.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // The only failure is that it has ended already, which is what is wanted.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Ends it (SIGKILL).
    pub(super) async fn kill(&mut self) {
        let _ = self.process.kill().await;
    }
}

async fn write_lines(mut stdin: ChildStdin, mut lines: mpsc::Receiver<LineOut>) {
    while let Some(LineOut { mut line, written }) = lines.recv().await {
        line.push('\n');
        let result = stdin.write_all(line.as_bytes()).await;
        let closed = result.is_err();
        if let Some(written) = written {
            let _ = written.send(result);
        }
        if closed {
            return;
        }
    }
}

/// Copies an output to ours, byte for byte, and reports what its lines say.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    patterns: Arc<Patterns>,
    notices: mpsc::Sender<Notice>,
) {
    let mut lines = Lines::default();
    let mut chunk = [0; CHUNK_BYTES];
    let mut said = Vec::new();
    loop {
        let count = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        let bytes = &chunk[..count];
        // Nobody may be reading our output any more; the program must go on all the same.
        let _ = to.write_all(bytes).await;
        let _ = to.flush().await;
        lines.feed(bytes, |line| said.extend(patterns.read(line)));
        for notice in said.drain(..) {
            let _ = notices.send(notice).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns() -> Patterns {
        Patterns::new(&["^(\\S+) joined".into()], &[], None).expect("good patterns")
    }

    #[tokio::test]
    async fn a_program_gets_lines_and_its_output_is_read() {
        let script = ["sh", "-c", "read name; echo \"$name joined\"; exit 7"];
        let (mut child, console, mut notices) = start(&script, patterns()).expect("starts");
        console.write("Steve".into()).await.expect("is written");
        assert_eq!(notices.recv().await, Some(Notice::Joined("Steve".into())));
        assert_eq!(child.ended().await.expect("ends").code(), Some(7));
    }

    #[tokio::test]
    async fn a_program_that_has_closed_its_input_is_an_error() {
        let script = ["sh", "-c", "exec <&-; echo Steve joined; exec sleep 60"];
        let (mut child, console, mut notices) = start(&script, patterns()).expect("starts");
        notices.recv().await.expect("says that its input is closed");
        assert!(console.write("say hi".into()).await.is_err());
        assert!(console.write("say hi".into()).await.is_err());
        child.terminate();
        child.ended().await.expect("ends");
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_does_not_start() {
        assert!(start(&["/no/such/program"], patterns()).is_err());
    }
}
