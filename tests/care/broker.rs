//! The real binary as these tests use it: a broker in a folder, REST as its admin and as a plugin, files as bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use parking_lot::Mutex;
use serde_json::{Value, json};

pub(crate) fn fluxrelay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fluxrelay"));
    for name in ["FLUXRELAY_URL", "FLUXRELAY_KEY", "FLUXRELAY_CONFIG", "FLUXRELAY_DATA_DIR", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

pub(crate) fn run(command: &mut Command) -> Output {
    command.output().expect("the binary starts")
}

/// Everything that a command printed.
pub(crate) fn said(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    parts.concat()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The files of a directory, which has no other.
pub(crate) fn bytes(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).expect("a file")))
        .collect()
}

/// Copies the files of a directory, mode 0600.
pub(crate) fn copy(from: &Path, to: &Path) {
    for (path, bytes) in bytes(from) {
        let target = to.join(path.file_name().expect("a name"));
        fs::write(&target, bytes).expect("it is written");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("it is ours");
    }
}

/// A running broker.
pub(crate) struct Broker {
    process: Child,
    url: String,
    key: String,
    agent: ureq::Agent,
    tokens: Mutex<BTreeMap<String, String>>,
    folder: Option<tempfile::TempDir>,
}

impl Broker {
    pub(crate) fn start(folder: tempfile::TempDir, more: &[&str]) -> Broker {
        let mut process = fluxrelay()
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "fluxrelay-data"])
            .args(more)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let url = lines.by_ref().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
        thread::spawn(move || lines.for_each(drop));
        let key = fs::read_to_string(folder.path().join("fluxrelay-data/admin.key")).expect("the admin key");
        let agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().new_agent();
        Broker {
            process,
            url: url.expect("it listens"),
            key: key.trim().to_owned(),
            agent,
            tokens: Mutex::default(),
            folder: Some(folder),
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.as_ref().expect("until it has ended").path().join("fluxrelay-data")
    }

    fn call(&self, bearer: &str, method: &str, path: &str, body: Option<Value>, key: Option<&str>) -> Value {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("Authorization", format!("Bearer {bearer}"));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let sent = match body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json").body(body.to_string());
                self.agent.run(request.expect("a request"))
            }
            None => self.agent.run(request.body(()).expect("a request")),
        };
        let mut answer = sent.unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = answer.body_mut().read_to_string().expect("a body");
        assert!(answer.status().is_success(), "{path}: {} {text}", answer.status());
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub(crate) fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.call(&self.key, method, path, body, None)
    }

    pub(crate) fn plugin(&self, server: &str, method: &str, path: &str, body: Option<Value>) -> Value {
        let token = self.tokens.lock()[server].clone();
        self.call(&token, method, path, body, None)
    }

    /// The id of a new server.
    pub(crate) fn add_server(&self, name: &str) -> String {
        let made = self.admin("POST", "/v1/servers", Some(json!({"name": name})));
        let id = text(&made["id"]).to_owned();
        self.tokens.lock().insert(id.clone(), text(&made["token"]).to_owned());
        id
    }

    /// The server's plugin has this token from now on.
    pub(crate) fn keep_token(&self, server: &str, token: &str) {
        self.tokens.lock().insert(server.to_owned(), token.to_owned());
    }

    pub(crate) fn publish(&self, server: &str, key: &str) -> Value {
        let body = json!({"commands": [{"server": server, "command": format!("say {key}")}]});
        self.call(&self.key, "POST", "/v1/orders", Some(body), Some(&key.replace(' ', "-")))
    }

    /// Polls as the server's plugin, and completes what is due.
    pub(crate) fn complete_due(&self, server: &str) {
        let due = self.plugin(server, "GET", "/v1/plugin/commands", None);
        let done: Vec<Value> = due["commands"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|command| json!({"id": command["id"], "status": "completed"}))
            .collect();
        if !done.is_empty() {
            self.plugin(server, "POST", "/v1/plugin/results", Some(json!({"results": done})));
        }
    }

    /// A subcommand in the broker's folder.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = fluxrelay();
        let folder = self.folder.as_ref().expect("until it has ended").path();
        command.args(words).env("FLUXRELAY_URL", &self.url).current_dir(folder);
        command
    }

    pub(crate) fn cli(&self, words: &[&str]) -> Value {
        let output = run(self.command(words).arg("--json"));
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// SIGTERM, and its folder.
    pub(crate) fn stop(mut self) -> tempfile::TempDir {
        let pid = rustix::process::Pid::from_raw(self.process.id().cast_signed()).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let status = self.process.wait().expect("a child can be waited for");
        assert_eq!(status.code(), Some(0));
        self.folder.take().expect("until it has ended")
    }

    /// SIGKILL, and its folder.
    pub(crate) fn kill(mut self) -> tempfile::TempDir {
        self.process.kill().expect("it runs");
        self.process.wait().expect("a child can be waited for");
        self.folder.take().expect("until it has ended")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
