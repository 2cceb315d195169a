//! A broker in this process with its REST router on top, called without a socket; every answer is held against the
//! OpenAPI document that it serves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request};
use fluxrelay::broker::{self, QuotaSettings, Running, Settings};
use fluxrelay::credentials::HashCost;
use fluxrelay::engine;
use fluxrelay::http::{HttpState, router};
use fluxrelay::time::Millis;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tower::ServiceExt;

use crate::document;

/// How long a test waits for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where every call comes from.
pub(crate) const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 50514);

/// A running broker and its router.
pub(crate) struct Relay {
    router: Router,
    running: Option<Running>,
    dir: TempDir,
    admin_key: String,
    /// What it says of itself, once somebody asked.
    pub(crate) document: OnceCell<Value>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Answer {
    /// The body, if the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// Checks a refusal and gives its body.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.body["status"], status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        self.body
    }
}

/// Retries come within milliseconds, so that a test can see the last of them.
fn settings(dir: &TempDir) -> Settings {
    Settings {
        shards: 2,
        engine: engine::Settings {
            retry_delays: vec![Millis(20), Millis(40), Millis(80)],
            ..engine::Settings::default()
        },
        checkpoint_every: Millis(50),
        hash_cost: HashCost::TINY,
        ..Settings::new(dir.path().to_owned())
    }
}

impl Relay {
    /// A new broker on a new data directory.
    pub(crate) fn start() -> Relay {
        Relay::start_with(QuotaSettings::default())
    }

    /// As [`Relay::start`], with these quotas.
    pub(crate) fn start_with(quotas: QuotaSettings) -> Relay {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let settings = Settings { quotas, ..settings(&dir) };
        let running = broker::start(settings).expect("the broker starts");
        let admin_key = running.first_start().admin_key.as_ref().expect("it is the first start");
        let admin_key = admin_key.reveal().to_owned();
        Relay::compose(dir, running, admin_key)
    }

    fn compose(dir: TempDir, running: Running, admin_key: String) -> Relay {
        let router = router(HttpState::new(running.handle().clone()));
        Relay { router, running: Some(running), dir, admin_key, document: OnceCell::new() }
    }

    /// Stops the broker and starts another one on the same data directory.
    pub(crate) async fn restart(self) -> Relay {
        self.restart_with(|_| ()).await
    }

    /// As [`Relay::restart`], with changed settings.
    pub(crate) async fn restart_with(mut self, change: impl FnOnce(&mut Settings)) -> Relay {
        let running = self.running.take().expect("it runs until here");
        running.stop().await.expect("it stops cleanly");
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a temporary directory"));
        let admin_key = std::mem::take(&mut self.admin_key);
        drop(self);
        let mut settings = settings(&dir);
        change(&mut settings);
        let running = broker::start(settings).expect("the broker starts again");
        Relay::compose(dir, running, admin_key)
    }

    /// Every byte of the files in the data directory that are databases.
    pub(crate) fn databases(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.dir.path()).expect("the data directory");
        let paths = files.map(|file| file.expect("an entry").path());
        let databases = paths.filter(|path| path.extension().is_some_and(|kind| kind == "redb"));
        databases.flat_map(|path| std::fs::read(path).expect("a file")).collect()
    }

    /// Begins to stop: nothing is accepted any more.
    pub(crate) fn go_away(&self) {
        self.running.as_ref().expect("it runs").go_away(Millis(0));
    }

    /// Who calls with the admin key.
    pub(crate) fn admin(&self) -> Caller<'_> {
        self.with(&self.admin_key)
    }

    /// Who calls with this key or token.
    pub(crate) fn with(&self, credential: &str) -> Caller<'_> {
        Caller { relay: self, credential: Some(credential.to_owned()) }
    }

    /// Who calls without any.
    pub(crate) fn stranger(&self) -> Caller<'_> {
        Caller { relay: self, credential: None }
    }

    /// Sends a request as it is and gives the answer with its body unread.
    pub(crate) async fn open(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.expect("the router does not fail")
    }

    /// Registers a server of the default store: its id and token.
    pub(crate) async fn server(&self, name: &str) -> (String, String) {
        let made = self.admin().post("/v1/servers", json!({"name": name})).await.expect(201);
        (text(&made["id"]), text(&made["token"]))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let stopping = async { running.stop().await.expect("it stops cleanly") };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(stopping));
        }
    }
}

/// A credential, or none, and whom it is shown to.
pub(crate) struct Caller<'r> {
    relay: &'r Relay,
    credential: Option<String>,
}

impl Caller<'_> {
    /// The credential.
    pub(crate) fn key(&self) -> String {
        self.credential.clone().expect("a credential")
    }

    /// A request with the credential.
    pub(crate) fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        let request = Request::builder().method(method).uri(path).extension(ConnectInfo(ADDRESS));
        match &self.credential {
            Some(credential) => request.header("Authorization", format!("Bearer {credential}")),
            None => request,
        }
    }

    /// Sends a request, reads the answer, and holds it against the document.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.relay.open(request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.into_body().collect().await.expect("the body is whole").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("answers are text");
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        document::check(self.relay, &method, &path, status, &body).await;
        Answer { status, headers, text, body }
    }

    async fn json(&self, method: Method, path: &str, body: Value) -> Answer {
        let request = self.request(method, path).header("Content-Type", "application/json");
        self.send(request.body(Body::from(body.to_string())).expect("a request")).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).body(Body::empty()).expect("a request")).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path).body(Body::empty()).expect("a request")).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.json(Method::POST, path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.json(Method::PATCH, path, body).await
    }

    /// Publishes with an idempotency key.
    pub(crate) async fn publish(&self, key: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, "/v1/orders");
        let request = request.header("Content-Type", "application/json").header("Idempotency-Key", key);
        self.send(request.body(Body::from(body.to_string())).expect("a request")).await
    }

    /// Polls as a plugin until this many commands have come, and gives them.
    pub(crate) async fn poll(&self, count: usize) -> Vec<Value> {
        let mut commands = Vec::new();
        let all = async {
            while commands.len() < count {
                let polled = self.get("/v1/plugin/commands").await.expect(200);
                commands.extend(polled["commands"].as_array().expect("a list").clone());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("the commands come");
        assert_eq!(commands.len(), count, "{commands:?}");
        commands
    }

    /// Reports one result as a plugin: how many were accepted.
    pub(crate) async fn report(&self, result: Value) -> Value {
        self.post("/v1/plugin/results", json!({"results": [result]})).await.expect(200)["accepted"].clone()
    }

    /// Looks at a command until it has this status.
    pub(crate) async fn see(&self, id: &str, status: &str) -> Value {
        let seen = async {
            loop {
                let command = self.get(&format!("/v1/commands/{id}")).await.expect(200);
                if command["status"] == status {
                    return command;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let late = |_| panic!("{id} never became {status}");
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(late)
    }
}

/// A text field.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}

/// The statuses of a history, in order.
pub(crate) fn statuses(command: &Value) -> Vec<String> {
    command["history"].as_array().expect("a history").iter().map(|entry| text(&entry["status"])).collect()
}
