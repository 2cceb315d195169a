//! The real binary in a folder of its own, everything that it ever said, and requests by hand.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, mpsc};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) use crate::patience::{SOON, eventually, soon};

/// Failed logins are the attack of few tests; in the others they are not to be what is answered.
pub(crate) const ANY_LOGINS: [&str; 4] =
    ["--failed-logins-per-second", "1000000", "--failed-logins-burst", "1000000"];

/// The binary without anything of this machine's settings.
pub(crate) fn fluxrelay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fluxrelay"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FLUXRELAY_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A running broker.
pub(crate) struct Relay {
    process: Child,
    pub(crate) address: SocketAddr,
    /// Where it listens for QUIC.
    pub(crate) quic: Option<SocketAddr>,
    pub(crate) admin: String,
    /// Everything on standard error, of all starts.
    log: Arc<Mutex<String>>,
    flags: Vec<String>,
    folder: TempDir,
}

/// A registered server.
pub(crate) struct Server {
    /// As REST writes it.
    pub(crate) id: String,
    pub(crate) token: String,
}

/// An answer of HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn of(bytes: &[u8]) -> Option<Answer> {
        let whole = String::from_utf8_lossy(bytes);
        let (head, text) = whole.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, head: head.to_ascii_lowercase(), text: text.to_owned() })
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        assert_eq!((self.status, body["code"].as_str()), (status, Some(code)), "{}{}", self.head, self.text);
    }
}

impl Relay {
    pub(crate) fn start(flags: &[&str]) -> Relay {
        let folder = tempfile::tempdir().unwrap();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let log = Arc::default();
        let (process, said) = spawn(&folder, &flags, &log);
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut relay =
            Relay { process, address: here, quic: None, admin: String::new(), log, flags, folder };
        relay.listens(&said);
        relay
    }

    fn listens(&mut self, said: &mpsc::Receiver<String>) {
        loop {
            let line =
                said.recv_timeout(SOON).unwrap_or_else(|_| panic!("it does not start: {}", self.log()));
            if let Some((_, key)) = line.split_once("admin.key): ") {
                self.admin = key.to_owned();
            }
            match line.strip_prefix("listening on ").and_then(|url| url.split_once("://")) {
                Some(("quic", address)) => self.quic = Some(address.parse().unwrap()),
                Some((_, address)) => self.address = address.parse().unwrap(),
                None if line.starts_with("dashboard: ") => return,
                None => {}
            }
        }
    }

    /// `kill -9`, and another start on the same data.
    pub(crate) fn kill_and_restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let (process, said) = spawn(&self.folder, &self.flags, &self.log);
        self.process = process;
        self.listens(&said);
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.process.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(0), "{}", self.log());
    }

    /// Everything that it ever wrote to its log.
    pub(crate) fn log(&self) -> String {
        self.log.lock().clone()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("fluxrelay-data")
    }

    /// The most bytes of memory that were resident at any time.
    pub(crate) fn memory_peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// A subcommand with the admin key.
    pub(crate) fn command(&self, words: &[&str]) -> Output {
        let url = format!("http://{}", self.address);
        let command = |command: &mut Command| command.args(words).env("FLUXRELAY_URL", &url).output();
        command(fluxrelay().current_dir(self.folder.path())).unwrap()
    }

    /// Sends bytes as they are and gives the answer, or `None` when the connection is closed without one.
    pub(crate) async fn bytes(&self, request: &[u8]) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // Whoever is refused unread may be reset behind the answer.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = soon("the answer", stream.read_to_end(&mut answer)).await;
        Answer::of(&answer)
    }

    /// A request with these lines in its head and this body.
    pub(crate) async fn http(&self, method: &str, path: &str, lines: &[String], body: &str) -> Answer {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for line in lines {
            request.push_str(&format!("{line}\r\n"));
        }
        if !body.is_empty() {
            request
                .push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        request.push_str(&format!("\r\n{body}"));
        self.bytes(request.as_bytes()).await.unwrap_or_else(|| panic!("{method} {path}: no answer"))
    }

    /// A call with a credential.
    pub(crate) async fn call(&self, key: &str, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.http(method, path, &[format!("Authorization: Bearer {key}")], &body).await
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> Answer {
        self.call(key, "GET", path, &Value::Null).await
    }

    pub(crate) async fn post(&self, key: &str, path: &str, body: Value) -> Answer {
        self.call(key, "POST", path, &body).await
    }

    /// Registers a server of the default store.
    pub(crate) async fn server(&self, name: &str) -> Server {
        let made = self.post(&self.admin, "/v1/servers", json!({"name": name})).await.expect(201);
        Server { id: text(&made["id"]), token: text(&made["token"]) }
    }

    /// Publishes one command: its id.
    pub(crate) async fn publish(&self, server: &Server, command: &str) -> String {
        let order = json!({"commands": [{"server": server.id, "command": command}]});
        let accepted = self.post(&self.admin, "/v1/orders", order).await.expect(201);
        text(&accepted["commands"][0]["id"])
    }

    /// A command as the admin sees it.
    pub(crate) async fn command_view(&self, id: &str) -> Value {
        self.get(&self.admin, &format!("/v1/commands/{id}")).await.expect(200)
    }

    /// The value of a counter or gauge, labels included in its name.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.http("GET", "/metrics", &[], "").await.text;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Fails unless it is well: no panic, and somebody else is served.
    pub(crate) async fn is_well(&self) {
        self.http("GET", "/healthz", &[], "").await.expect(200);
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &TempDir, flags: &Vec<String>, log: &Arc<Mutex<String>>) -> (Child, mpsc::Receiver<String>) {
    let mut process = fluxrelay()
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "fluxrelay-data"])
        .args(flags)
        .env("RUST_LOG", "trace")
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stderr, log) = (process.stderr.take().unwrap(), Arc::clone(log));
    std::thread::spawn(move || {
        let mut bytes = [0; 64 * 1024];
        while let Ok(count @ 1..) = stderr.read(&mut bytes) {
            log.lock().push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
    let (say, said) = mpsc::channel();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(say.send(line))));
    (process, said)
}

/// A text field.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}

/// The number at the end of an id: what frames carry of a command's or server's.
pub(crate) fn number(id: &str) -> u64 {
    id.rsplit('_').next().unwrap().parse().unwrap()
}
