//! Secrets used rightly and sent to every wrong place; then the whole of what the broker ever said and stored is searched
//! for them.

use std::path::Path;

use bytes::BytesMut;
use fluxrelay::protocol::{
    Credential, PLUGIN_PATH, PUBLISHER_PATH, PluginHello, PublisherHello, Request, Response, VERSION,
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::raw::{Raw, plugin_hello};
use crate::relay::{ANY_LOGINS, Relay, Server, text};

/// Secrets, and everything that was said.
#[derive(Default)]
struct Search {
    secrets: Vec<(String, Vec<u8>)>,
    said: Vec<(String, Vec<u8>)>,
}

impl Search {
    /// The part of a credential behind the dot: the rest is an id.
    fn hide(&mut self, what: &str, credential: &str) {
        let secret = credential.split_once('.').map_or(credential, |(_, secret)| secret);
        self.hide_bytes(what, secret.as_bytes());
    }

    fn hide_bytes(&mut self, what: &str, secret: &[u8]) {
        assert!(secret.len() >= 16, "{what} is too short to be searched for");
        self.secrets.push((what.to_owned(), secret.to_vec()));
    }

    fn say(&mut self, what: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.said.push((what.into(), text.into()));
    }

    /// Fails if a secret was said, in any of the forms in which bytes are printed.
    fn find_nothing(&self) {
        let mut hits = Vec::new();
        for (secret, bytes) in &self.secrets {
            for (form, needle) in forms(bytes) {
                let finder = |hay: &[u8]| hay.windows(needle.len()).any(|window| window == needle);
                for (what, said) in &self.said {
                    if finder(said) {
                        hits.push(format!("{secret} ({form}) in {what}"));
                    }
                }
            }
        }
        assert!(hits.is_empty(), "{hits:#?}");
    }
}

/// How bytes look when somebody prints them.
fn forms(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    let escaped = format!("{:?}", bytes::Bytes::copy_from_slice(bytes));
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, bytes);
    let url = base64.replace('+', "-").replace('/', "_");
    let mut reversed = bytes.to_vec();
    reversed.reverse();
    let percent: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    vec![
        ("as it is", bytes.to_vec()),
        ("its beginning", bytes[..bytes.len() * 3 / 4].to_vec()),
        ("its end", bytes[bytes.len() / 4..].to_vec()),
        ("hexadecimal", hex.clone().into()),
        ("hexadecimal, upper case", hex.to_uppercase().into()),
        ("numbers", list.trim_matches(['[', ']']).into()),
        ("escaped", escaped[2..escaped.len() - 1].into()),
        ("base64", base64.into()),
        ("base64 for URLs", url.into()),
        ("percent", percent.into()),
        ("backwards", reversed),
    ]
}

/// Every file in the data directory, but for those that are the places of secrets.
fn files(folder: &Path, search: &mut Search) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, search);
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        match name.as_str() {
            "admin.key" => {}
            "secret.key" => search.hide_bytes("the key of tags", &bytes),
            // Behind its head: two keys and their dates.
            "tickets.key" => {
                search.hide_bytes("the key of tickets", &bytes[bytes.len() - 64..bytes.len() - 32])
            }
            // Behind its head: one key and its date.
            "tls-sessions.key" => {
                search.hide_bytes("the key of TLS sessions", &bytes[bytes.len() - 48..bytes.len() - 16])
            }
            "tls-self-signed.key" => search.hide_bytes("the key of the certificate", &bytes),
            _ => search.say(format!("the file {name}"), bytes),
        }
    }
}

/// A login that is in order, and its ticket.
async fn welcomed(relay: &Relay, credential: Credential<'_>, bearer: Option<&str>) -> Vec<u8> {
    let mut raw = Raw::dial(relay, PLUGIN_PATH, bearer).await;
    raw.send(Request::PluginHello(PluginHello { credential, ..plugin_hello("") })).await;
    raw.welcomed().await
}

/// Everything in its right place.
async fn use_rightly(relay: &Relay, server: &Server, publish: &str, search: &mut Search) {
    let ticket = welcomed(relay, Credential::Token(&server.token), None).await;
    search.hide_bytes("a ticket", &ticket);
    for (credential, bearer) in [
        (Credential::None, Some(server.token.as_str())),
        (Credential::Ticket(&ticket), None),
        (Credential::TicketAndToken { ticket: &ticket, token: &server.token }, None),
    ] {
        let fresh = welcomed(relay, credential, bearer).await;
        search.hide_bytes("a later ticket", &fresh);
    }
    Raw::publisher(relay, publish).await.vanish();
    let order = json!({"commands": [{"server": server.id, "command": "say hi"}]});
    let answer = relay.post(publish, "/v1/orders", order).await;
    search.say("an order's answer", answer.text);
    let answer = relay.get(&server.token, "/v1/plugin/commands").await;
    search.say("a poll's answer", answer.text);
}

/// One secret in every place of HTTP where none belongs.
async fn misplace_over_http(relay: &Relay, secret: &str, search: &mut Search) {
    let admin = [format!("Authorization: Bearer {}", relay.admin)];
    let stranger: [String; 0] = [];
    for (lines, who) in [(&admin[..], "admin"), (&stranger[..], "stranger")] {
        for path in [
            "/v1/servers",
            "/v1/plugin/commands",
            "/v1/events",
            "/healthz",
            "/metrics",
            "/nothing",
            PLUGIN_PATH,
        ] {
            for parameter in ["access_token", "token", "key", "api_key", "Secret", "%74oken"] {
                let answer = relay.http("GET", &format!("{path}?{parameter}={secret}"), lines, "").await;
                answer.refused(422, "invalid_field");
                assert!(answer.text.contains("Authorization: Bearer"), "{}", answer.text);
                search.say(format!("{who}: {path}?{parameter}"), answer.head + &answer.text);
            }
        }
        for path in [
            format!("/{secret}"),
            format!("/v1/servers/{secret}"),
            format!("/v1/commands/{secret}/cancel"),
            format!("/v1/servers?cursor={secret}"),
            format!("/v1/servers?limit={secret}"),
            format!("/v1/servers?store={secret}"),
            format!("/v1/servers?{secret}=1"),
            format!("/v1/orders/x?{secret}"),
            format!("/v1/servers/srv_1/commands?status={secret}"),
            format!("/v1/audit?action={secret}&from={secret}"),
            format!("/v1/audit?from={secret}"),
            format!("/v1/events?last_event_id={secret}"),
        ] {
            for method in ["GET", "POST", "DELETE", "BREW"] {
                let answer = relay.http(method, &path, lines, "").await;
                assert!(answer.status >= 400, "{method} {path}: {answer:?}");
                search.say(
                    format!("{who}: {method} {path}").replace(secret, "(secret)"),
                    answer.head + &answer.text,
                );
            }
        }
        for line in [
            format!("Authorization: Basic {secret}"),
            format!("Authorization: {secret}"),
            format!("Authorization: Bearer {secret}x"),
            format!("Cookie: token={secret}"),
            format!("X-Api-Key: {secret}"),
            format!("Last-Event-ID: {secret}"),
            format!("Content-Type: {secret}"),
            format!("Expect: {secret}"),
            format!("Referer: http://x/?token={secret}"),
            format!("User-Agent: {secret}"),
        ] {
            let lines = [lines, std::slice::from_ref(&line)].concat();
            let answer = relay.http("GET", "/v1/events?store=sto_9", &lines, "").await;
            search.say(format!("{who}: {}", line.replace(secret, "(secret)")), answer.head + &answer.text);
        }
    }
    misplace_in_bodies(relay, secret, search).await;
}

async fn misplace_in_bodies(relay: &Relay, secret: &str, search: &mut Search) {
    let command = |field: &str| {
        let mut command = json!({"server": "srv_1", "command": "say hi"});
        command[field] = json!(secret);
        json!({"commands": [command]}).to_string()
    };
    for (path, body) in [
        ("/v1/orders", command("server")),
        ("/v1/orders", command("not_before")),
        ("/v1/orders", command("delay_seconds")),
        ("/v1/orders", command("on_doubt")),
        ("/v1/orders", command("metadata")),
        ("/v1/orders", command("player")),
        ("/v1/orders", command("token")),
        ("/v1/orders", command(secret)),
        ("/v1/orders", json!({"store": secret, "commands": []}).to_string()),
        ("/v1/orders", format!("{{\"commands\": {secret}")),
        ("/v1/orders", format!("\"{secret}\"")),
        ("/v1/orders", format!("{}{secret}", " ".repeat(1000))),
        ("/v1/servers", json!({"name": "x".repeat(90) + secret}).to_string()),
        ("/v1/servers", json!({"name": format!("{secret}\n")}).to_string()),
        ("/v1/servers", json!({"name": "x", "store": secret}).to_string()),
        ("/v1/stores/sto_1/keys", json!({"name": "x", "scope": secret}).to_string()),
        ("/v1/commands/resend", json!({"from": secret, "to": secret}).to_string()),
    ] {
        let lines = [format!("Authorization: Bearer {}", relay.admin)];
        let answer = relay.http("POST", path, &lines, &body).await;
        assert!(answer.status >= 400, "{path} {body}: {answer:?}");
        search.say(format!("{path} {body}").replace(secret, "(secret)"), answer.head + &answer.text);
    }
    // What is kept of an idempotency key is a digest.
    let order = json!({"commands": [{"server": "srv_1", "command": "say hi"}]}).to_string();
    let lines = [format!("Authorization: Bearer {}", relay.admin), format!("Idempotency-Key: {secret}")];
    let answer = relay.http("POST", "/v1/orders", &lines, &order).await;
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    search.say("an order with an idempotency key", answer.head + &answer.text);
}

/// One secret in every place of frames where it does not belong.
async fn misplace_in_frames(relay: &Relay, secret: &str, server: &Server, search: &mut Search) {
    let hello = |credential| Request::PluginHello(PluginHello { credential, ..plugin_hello("") });
    let publisher = |credential| {
        let hello =
            PublisherHello { version_min: VERSION, version_max: VERSION, credential, ..Default::default() };
        Request::PublisherHello(hello)
    };
    let long = format!("{secret}{}", "x".repeat(3000));
    for (path, request) in [
        (PLUGIN_PATH, hello(Credential::Ticket(secret.as_bytes()))),
        (PLUGIN_PATH, hello(Credential::TicketAndToken { ticket: secret.as_bytes(), token: &long })),
        (PUBLISHER_PATH, hello(Credential::Token(secret))),
        (PUBLISHER_PATH, publisher(Credential::Ticket(secret.as_bytes()))),
        (PUBLISHER_PATH, publisher(Credential::Token(&long))),
        (PLUGIN_PATH, publisher(Credential::Token(secret))),
    ] {
        let mut frame = BytesMut::new();
        request.encode(&mut frame).unwrap();
        let mut cut = frame.clone();
        cut.truncate(frame.len() - 3);
        for message in
            [Message::Binary(frame.freeze()), Message::Binary(cut.freeze()), Message::Text(secret.into())]
        {
            let mut raw = Raw::dial(relay, path, Some(secret).filter(|_| message.is_text())).await;
            raw.send_message(message).await;
            while let Some(frame) = raw.try_next().await {
                search.say(format!("a frame on {path}"), frame.bytes());
                assert!(!matches!(frame.get(), Response::PublisherWelcome(_)));
            }
        }
    }
    let mut raw = Raw::plugin(relay, &server.token).await;
    let reason = CloseFrame { code: 4000.into(), reason: secret.into() };
    raw.send_message(Message::Close(Some(reason))).await;
    while raw.try_next().await.is_some() {}
    for line in [
        format!("Sec-WebSocket-Protocol: {secret}"),
        format!("Sec-WebSocket-Key: {secret}"),
        format!("Origin: {secret}"),
    ] {
        let lines =
            ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"].map(str::to_owned);
        let answer = relay.http("GET", PLUGIN_PATH, &[&lines[..], &[line]].concat(), "").await;
        search.say("a handshake", answer.head + &answer.text);
    }
    // Not HTTP at all, with a secret in it.
    for bytes in [format!("{secret}\r\n\r\n"), format!("GET {secret} HTTP/1.1\r\n{secret}\r\n\r\n")] {
        if let Some(answer) = relay.bytes(bytes.as_bytes()).await {
            search.say("no HTTP", answer.head + &answer.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_log_error_metric_or_file() {
    let flags = ["--log", "trace,tungstenite=trace,hyper=trace", "--key-requests-per-second", "0"];
    let flags = [&flags[..], &ANY_LOGINS, &["--server-calls-per-second", "0"]].concat();
    let mut relay = Relay::start(&flags);
    let mut search = Search::default();
    search.hide("the admin key", &relay.admin);
    let mut server = relay.server("lobby").await;
    search.hide("the first token", &server.token);
    let token = format!("/v1/servers/{}/token", server.id);
    server.token = text(&relay.call(&relay.admin, "POST", &token, &Value::Null).await.expect(200)["token"]);
    search.hide("the token", &server.token);
    let mut keys = Vec::new();
    for scope in ["publish", "read"] {
        let made = json!({"scope": scope, "name": scope});
        let made = relay.post(&relay.admin, "/v1/stores/sto_1/keys", made).await.expect(201);
        keys.push(text(&made["key"]));
        search.hide(scope, &keys[keys.len() - 1]);
    }
    use_rightly(&relay, &server, &keys[0], &mut search).await;
    // The real ones, and one that was never ours.
    let canary = "srv_1.CanaryBird0123456789abcdefGHIJKL".to_owned();
    search.hide("the canary", &canary);
    for secret in [&server.token, &keys[0], &relay.admin.clone(), &canary] {
        misplace_over_http(&relay, secret, &mut search).await;
        misplace_in_frames(&relay, secret, &server, &mut search).await;
    }
    for path in ["/metrics", "/openapi.json", "/", "/readyz"] {
        search.say(path, relay.http("GET", path, &[], "").await.text);
    }
    for path in [
        "/v1/audit?limit=1000",
        "/v1/servers",
        "/v1/stores",
        "/v1/stores/sto_1/keys",
        "/v1/servers/srv_1/commands",
    ] {
        search.say(path, relay.get(&relay.admin, path).await.text);
    }
    relay.is_well().await;
    // What a crash leaves behind, and what an end in order does.
    relay.kill_and_restart();
    use_rightly(&relay, &server, &keys[0], &mut search).await;
    files(&relay.data_dir(), &mut search);
    relay.stop();
    files(&relay.data_dir(), &mut search);
    let log = relay.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is at its most talkative");
    assert!(!log.contains("panicked"), "{log}");
    search.say("the log", log);
    search.find_nothing();
}

#[cfg(feature = "quic")]
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log_of_tls_and_quic() {
    use fluxrelay::client::{
        ClientTls, DeliveredCommand, Order, PluginClient, PluginOptions, PublisherClient, PublisherOptions,
        Report, Servers, Trust,
    };
    fn idle(_: Vec<DeliveredCommand>, _: &mut Vec<Report>) {}

    let flags = [
        "--log",
        "trace,rustls=trace,quinn=trace,quinn_proto=trace",
        "--tls-self-signed",
        "--quic-listen",
        "127.0.0.1:0",
    ];
    let mut relay = Relay::start(&flags);
    let mut search = Search::default();
    search.hide("the admin key", &relay.admin);
    let trust = Trust::CaFile(relay.data_dir().join("tls-self-signed.crt"));
    let tls = ClientTls::new(&trust).unwrap();
    let local = relay.data_dir().join("admin.key");
    let words =
        ["server", "add", "lobby", "--json", "--tls-ca", "fluxrelay-data/tls-self-signed.crt", "--url"];
    let url = format!("https://{}", relay.address);
    let made = relay.command(&[&words[..], &[&url]].concat());
    assert!(made.status.success() && local.exists(), "{made:?}");
    let token = text(&serde_json::from_slice::<Value>(&made.stdout).unwrap()["token"]);
    search.hide("the token", &token);
    let quic = format!("quic://{}", relay.quic.unwrap());
    for url in [&url, &quic] {
        let plugin = PluginOptions { tls: Some(tls.clone()), ..PluginOptions::new(url, &token) };
        let plugin = PluginClient::start(plugin, idle).await.unwrap();
        crate::relay::soon("a session", plugin.connected()).await.unwrap();
        plugin.stop().await;
        // A publisher that shows a token, and a plugin that shows a key.
        for wrong in [&token, &relay.admin] {
            let options = PublisherOptions { tls: Some(tls.clone()), ..PublisherOptions::new(url, wrong) };
            let publisher = PublisherClient::start(options).unwrap();
            let order = Order::one(Servers::All, "say hi");
            let answer = crate::relay::soon("an answer", publisher.publish(order)).await;
            assert_eq!(answer.is_err(), wrong == &token, "{answer:?}");
        }
    }
    relay.stop();
    files(&relay.data_dir(), &mut search);
    assert!(!relay.log().contains("panicked"), "{}", relay.log());
    search.say("the log", relay.log());
    search.find_nothing();
}
