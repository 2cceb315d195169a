//! Resume tickets across kill -9, with the real binary: who was connected comes back without a password hash.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use fluxrelay::client::{BackoffOptions, ClientState, DeliveredCommand, PluginClient, PluginOptions, Report};
use serde_json::{Value, json};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);
const PLUGINS: usize = 20;

struct Broker {
    process: Child,
    url: String,
}

impl Broker {
    fn start(data: &Path, listen: &str) -> Broker {
        let mut process = Command::new(env!("CARGO_BIN_EXE_fluxrelay"))
            .args(["serve", "--listen", listen, "--data-dir"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let listening = lines.find(|line| line.contains("listening on ")).expect("it listens");
        let url =
            listening.split_whitespace().find(|word| word.starts_with("http")).expect("a URL").to_owned();
        thread::spawn(move || lines.for_each(drop));
        Broker { process, url }
    }

    fn post(&self, key: &str, path: &str, body: Value) -> Value {
        let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
        let call = agent.post(format!("{}{path}", self.url)).header("Authorization", format!("Bearer {key}"));
        call.send_json(body).expect("an answer").body_mut().read_json().expect("JSON")
    }

    /// The value of a counter in the metrics.
    fn metric(&self, name: &str) -> u64 {
        let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
        let mut answer = agent.get(format!("{}/metrics", self.url)).call().expect("an answer");
        let text = answer.body_mut().read_to_string().expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().expect("a number")
    }

    fn kill(&mut self) {
        self.process.kill().expect("it was running");
        self.process.wait().expect("a child can be waited for");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn until(client: &PluginClient, what: &str, is_so: impl Fn(&ClientState) -> bool) {
    let mut state = client.state();
    let reached = timeout(PATIENCE, state.wait_for(|state| is_so(state))).await;
    assert!(matches!(reached, Ok(Ok(_))), "{what}: {:?}", client.state().borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_everybody_is_back_without_a_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut broker = Broker::start(&data, "127.0.0.1:0");
    let key = std::fs::read_to_string(data.join("admin.key")).expect("the admin key");
    let mut clients = Vec::new();
    for number in 0..PLUGINS {
        let made = broker.post(key.trim(), "/v1/servers", json!({"name": format!("server-{number}")}));
        let mut options = PluginOptions::new(&*broker.url, made["token"].as_str().expect("a token"));
        options.backoff =
            BackoffOptions { first: Duration::from_millis(20), longest: Duration::from_millis(200) };
        let idle = |_: Vec<DeliveredCommand>, _: &mut Vec<Report>| {};
        let client = PluginClient::start(options, idle).await.expect("it starts");
        timeout(PATIENCE, client.connected()).await.expect("in time").expect("it logs in");
        clients.push(client);
    }
    assert_eq!(broker.metric("fluxrelay_logins_by_ticket_total"), 0);
    let listen = broker.url.strip_prefix("http://").expect("it is http").trim_end_matches('/').to_owned();
    broker.kill();
    for client in &clients {
        until(client, "to be cut off", |state| !matches!(state, ClientState::Connected(_))).await;
    }
    let broker = Broker::start(&data, &listen);
    for client in &clients {
        until(client, "to be back", |state| matches!(state, ClientState::Connected(_))).await;
    }
    assert_eq!(broker.metric("fluxrelay_logins_by_ticket_total"), PLUGINS as u64);
    assert_eq!(broker.metric("fluxrelay_logins_hashed_total"), 0);
    assert_eq!(broker.metric("fluxrelay_tickets_refused_total"), 0);
}
