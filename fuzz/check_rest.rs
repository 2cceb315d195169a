//! Any body, query and credential on any call of REST, to a running broker: every answer is one that its OpenAPI document
//! allows, refusals are short and coded, and none repeats a secret. The plugin's calls are a target of their own.
//!
//! The router is called as the sockets call it, so nothing inside had to be opened for this. An input is readable: which
//! call, who calls, a line (query, end of the path, idempotency key or credential), and the body.

use std::fmt::Write;

use axum::body::Body;
use axum::http::{Method, Uri};
use fluxrelay::broker::QuotaSettings;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::relay::{Answer, Relay, text};

/// Calls after which a new broker is started, so that what they leave behind stays bounded.
const CALLS_MAX: u32 = 2_000;
/// Commands that wait, to be named by `#0` to `#9`.
const COMMANDS: usize = 10;
/// Bytes of a refusal at most.
const REFUSAL_BYTES_MAX: usize = 4096;

/// What the line means.
#[derive(Clone, Copy, PartialEq)]
enum Line {
    Query,
    /// Stands for `~` in the path.
    Path,
    Key,
}

type Call = (Method, &'static str, Line);

/// What a store's backend and an operator call.
const STORE: [Call; 18] = [
    (Method::POST, "/v1/orders", Line::Key),
    (Method::POST, "/v1/servers", Line::Query),
    (Method::PATCH, "/v1/servers/srv_2", Line::Query),
    (Method::POST, "/v1/commands/resend", Line::Query),
    (Method::PATCH, "/v1/commands/#0", Line::Query),
    (Method::POST, "/v1/stores", Line::Query),
    (Method::POST, "/v1/stores/sto_1/keys", Line::Query),
    (Method::GET, "/v1/servers/srv_1/commands", Line::Query),
    (Method::GET, "/v1/audit", Line::Query),
    (Method::GET, "/v1/servers", Line::Query),
    (Method::GET, "/v1/commands/~", Line::Path),
    (Method::GET, "/v1/orders/~", Line::Path),
    (Method::POST, "/v1/commands/~/cancel", Line::Path),
    (Method::POST, "/v1/commands/~/resend", Line::Path),
    (Method::PATCH, "/v1/commands/~", Line::Path),
    (Method::DELETE, "/v1/keys/~", Line::Path),
    (Method::POST, "/v1/servers/~/token", Line::Path),
    (Method::PUT, "/v1/~", Line::Path),
];

/// What a plugin calls that polls.
const PLUGIN: [Call; 3] = [
    (Method::GET, "/v1/plugin/commands", Line::Query),
    (Method::POST, "/v1/plugin/results", Line::Query),
    (Method::POST, "/v1/plugin/players", Line::Query),
];

/// A broker with two servers, keys and commands.
struct House {
    relay: Relay,
    runtime: Runtime,
    /// By the letter that chooses them.
    credentials: Vec<(u8, String)>,
    commands: Vec<String>,
    calls: u32,
}

static HOUSE: Mutex<Option<House>> = Mutex::new(None);

impl House {
    fn build() -> House {
        let runtime = Runtime::new().expect("threads");
        let guard = runtime.enter();
        let no_limit =
            QuotaSettings { key_requests: 0, server_calls: 0, store_commands: 0, store_live_max: 0 };
        let relay = Relay::start_with(no_limit);
        drop(guard);
        let (credentials, commands) = runtime.block_on(async {
            let admin = relay.admin();
            let (server, token) = relay.server("survival").await;
            relay.server("creative").await;
            let mut credentials = vec![(b'a', admin.key()), (b't', token)];
            for (letter, scope) in [(b'p', "publish"), (b'r', "read")] {
                let made = admin.post("/v1/stores/sto_1/keys", json!({"name": scope, "scope": scope})).await;
                credentials.push((letter, text(&made.expect(201)["key"])));
            }
            let command = json!({"server": server, "command": "say hello", "player": {"name": "Steve"}});
            let order = json!({"commands": vec![command; COMMANDS]});
            let made = admin.post("/v1/orders", order).await.expect(201);
            let ids = made["commands"].as_array().expect("a list").iter().map(|each| text(&each["id"]));
            (credentials, ids.collect())
        });
        House { relay, runtime, credentials, commands, calls: 0 }
    }

    fn end(self) {
        // It stops on the runtime that it runs on.
        let House { relay, runtime, .. } = self;
        runtime.block_on(async move { drop(relay) });
    }

    /// The bytes with the ids of commands in place of `#0` to `#9`.
    fn with_ids(&self, bytes: &[u8]) -> Vec<u8> {
        let mut whole = Vec::with_capacity(bytes.len());
        let mut bytes = bytes.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            match bytes.next_if(|next| byte == b'#' && next.is_ascii_digit()) {
                Some(digit) => whole.extend(self.commands[usize::from(digit - b'0')].bytes()),
                None => whole.push(byte),
            }
        }
        whole
    }
}

/// Stops the broker.
pub(crate) fn end() {
    if let Some(house) = HOUSE.lock().take() {
        house.end();
    }
}

/// Panics if a call of a store is answered as it must not be.
pub(crate) fn check_rest(data: &[u8]) {
    call(&STORE, data);
}

/// Panics if a call of a plugin is answered as it must not be.
pub(crate) fn check_poll(data: &[u8]) {
    call(&PLUGIN, data);
}

fn call(calls: &[Call], data: &[u8]) {
    let [choice, who, rest @ ..] = data else { return };
    let mut place = HOUSE.lock();
    if place.as_ref().is_some_and(|house| house.calls >= CALLS_MAX) {
        place.take().expect("just seen").end();
    }
    let house = place.get_or_insert_with(House::build);
    house.calls += 1;
    let (line, body) = rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
    let (line, body) = (house.with_ids(line), house.with_ids(body.get(1..).unwrap_or_default()));
    let (method, path, meaning) = &calls[usize::from(choice.wrapping_sub(b'0')) % calls.len()];
    let Some(uri) = uri(house, path, *meaning, &line) else { return };
    let mut request = axum::http::Request::builder().method(method).uri(uri);
    request = request.header("Content-Type", "application/json");
    let known = house.credentials.iter().find(|(letter, _)| letter == who);
    match known {
        Some((_, credential)) => request = request.header("Authorization", format!("Bearer {credential}")),
        None if *meaning != Line::Path => request = request.header("Authorization", &line[..]),
        None => {}
    }
    if *meaning == Line::Key && known.is_some() && !line.is_empty() {
        request = request.header("Idempotency-Key", &line[..]);
    }
    // What is no header never gets as far as the router.
    let Ok(request) = request.body(Body::from(body)) else { return };
    let answer = house.runtime.block_on(house.relay.stranger().send(request));
    judge(house, known.is_some(), &answer);
}

/// Where a call goes; `None` when the line cannot stand in a URL.
fn uri(house: &House, path: &str, meaning: Line, line: &[u8]) -> Option<Uri> {
    let mut path = String::from_utf8(house.with_ids(path.as_bytes())).expect("paths are ASCII");
    let line = std::str::from_utf8(line).ok()?;
    match meaning {
        Line::Path => path = path.replace('~', line),
        Line::Query if !line.is_empty() => write!(path, "?{line}").expect("a string takes all"),
        Line::Query | Line::Key => {}
    }
    path.parse().ok()
}

fn judge(house: &House, is_known: bool, answer: &Answer) {
    let Answer { status, text, body, .. } = answer;
    assert!(*status < 500 || *status == 503, "{status}: {text}");
    assert!(is_known || *status >= 400, "let in without a credential: {status} {text}");
    if *status >= 400 {
        assert!(text.len() <= REFUSAL_BYTES_MAX, "a long refusal: {text}");
        assert!(body["code"].is_string() && body["status"] == *status, "{text}");
    } else {
        assert!(*status == 204 || *body != Value::Null, "{status}: {text}");
    }
    for (_, credential) in &house.credentials {
        let secret = credential.split_once('.').expect("a subject and a secret").1;
        assert!(!text.contains(secret), "a secret is repeated");
    }
}
