//! Terminal escapes, line breaks and turned writing directions in everything that has a name: refused where a name is
//! given, harmless wherever one is shown.

use fluxrelay::client::Code;
use fluxrelay::protocol::{
    OrderHead, PlayerRef, PlayersKind, PluginHello, PublishCommand, Request, Response, encode_publish,
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::raw::{Raw, plugin_hello};
use crate::relay::{Relay, number, text};

/// What drives a terminal, ends a line of a log or a header, or hides.
const NASTY: [&str; 8] = [
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "a\r\nSet-Cookie: admin=1",
    "a\nINFO forged line",
    "a\rb",
    "a\0b",
    "\u{9b}31m",
    "\u{7f}",
    "a\u{85}b",
];
/// It is text, and turns what stands behind it.
const TURNED: &str = "a\u{202e}b\u{2066}c";

/// Fails if a text could do anything but be read; lines may end.
#[track_caller]
fn is_harmless(what: &str, text: &str) {
    let bad = text
        .chars()
        .find(|c| (c.is_control() && !matches!(c, '\n' | '\r')) || matches!(c, '\u{202e}' | '\u{2066}'));
    let line = text.lines().find(|line| bad.is_some_and(|bad| line.contains(bad)));
    assert_eq!(bad, None, "{what}: {line:?}");
    assert!(!text.contains("\nINFO forged") && !text.contains("\nSet-Cookie"), "{what} has a forged line");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_over_rest_hold_no_escapes_and_no_line_breaks() {
    let relay = Relay::start(&["--log", "debug"]);
    let (admin, server) = (&relay.admin, relay.server("lobby").await);
    for nasty in NASTY {
        let order = |field: &str| {
            let mut order = json!({"commands": [{"server": server.id, "command": "say x"}]});
            match field {
                "reference" => order[field] = json!(nasty),
                "player" => order[field] = json!({"name": nasty}),
                "stage" => order["commands"][0][field] = json!(nasty),
                _ => order["commands"][0]["player"] = json!({"name": nasty}),
            }
            order
        };
        for (path, body) in [
            ("/v1/stores", json!({"name": nasty})),
            ("/v1/servers", json!({"name": nasty})),
            ("/v1/servers", json!({"name": "ok", "address": nasty})),
            ("/v1/stores/sto_1/keys", json!({"name": nasty, "scope": "read"})),
            ("/v1/orders", order("reference")),
            ("/v1/orders", order("player")),
            ("/v1/orders", order("stage")),
            ("/v1/orders", order("player of the command")),
        ] {
            let answer = relay.post(admin, path, body).await;
            answer.refused(422, "invalid_field");
            is_harmless(path, &answer.head);
            is_harmless(path, &answer.text);
        }
        let change =
            relay.call(admin, "PATCH", &format!("/v1/servers/{}", server.id), &json!({"name": nasty})).await;
        change.refused(422, "invalid_field");
        for list in ["online", "joined", "left"] {
            let refused = relay.post(&server.token, "/v1/plugin/players", json!({list: [nasty]})).await;
            refused.refused(422, "invalid_field");
        }
    }
    let encoded = relay.http("GET", "/v1/servers/a%0d%0aSet-Cookie:%20x%1b[2J", &[], "").await;
    is_harmless("a path", &(encoded.head + &encoded.text));
    is_harmless("the log", &relay.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_frames_hold_no_escapes_and_no_line_breaks() {
    let relay = Relay::start(&["--log", "trace"]);
    let server = relay.server("lobby").await;
    let made = json!({"name": "shop", "scope": "publish"});
    let key = text(&relay.post(&relay.admin, "/v1/stores/sto_1/keys", made).await.expect(201)["key"]);
    let mut publisher = Raw::publisher(&relay, &key).await;
    let command =
        PublishCommand { server: number(&server.id) as u32, text: "say x", ..PublishCommand::default() };
    for nasty in NASTY {
        let player = Some(PlayerRef { name: nasty, uuid: None });
        for (head, command) in [
            (OrderHead { reference: Some(nasty), ..OrderHead::default() }, command),
            (OrderHead { key: Some(nasty), ..OrderHead::default() }, command),
            (OrderHead::default(), PublishCommand { stage: Some(nasty), ..command }),
            (OrderHead::default(), PublishCommand { player, ..command }),
        ] {
            let mut frame = bytes::BytesMut::new();
            encode_publish(&mut frame, 1, &head, [command].into_iter()).unwrap();
            publisher.send_message(Message::Binary(frame.freeze())).await;
            let refused = publisher.next().await;
            let Response::Refused { code, detail, .. } = refused.get() else { panic!("{:?}", refused.get()) };
            assert_eq!(Code::from_number(code), Some(Code::InvalidField));
            is_harmless("the refusal", detail);
        }
        // Whoever may choose the name of a player must not end the plugin's connection by it: it is compared, and shown nowhere.
        let mut plugin = Raw::plugin(&relay, &server.token).await;
        let players = [PlayerRef { name: nasty, uuid: None }];
        plugin.send(Request::Players { kind: PlayersKind::Joined, players: (&players).into() }).await;
        plugin.send(Request::Ping { nonce: 3 }).await;
        assert_eq!(plugin.next().await.get(), Response::Pong { nonce: 3 });
    }
    // The name of an instance is bytes, and shown nowhere.
    let mut plugin = Raw::dial(&relay, fluxrelay::protocol::PLUGIN_PATH, None).await;
    let instance = *b"\x1b[2J\r\nINFO x\r\n\0\x07";
    plugin.send(Request::PluginHello(PluginHello { instance, ..plugin_hello(&server.token) })).await;
    assert!(matches!(plugin.next().await.get(), Response::PluginWelcome(_)));
    is_harmless("the log", &relay.log());
}

/// What a plugin says of its console, and names that are text, go through to those who read them as text.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_drives_no_terminal() {
    let relay = Relay::start(&["--log", "trace", "--retry-delays-seconds", ""]);
    let admin = &relay.admin;
    let server = json!({"name": TURNED, "address": TURNED});
    let server = relay.post(admin, "/v1/servers", server).await.expect(201);
    relay.post(admin, "/v1/stores", json!({"name": TURNED})).await.expect(201);
    relay.post(admin, "/v1/stores/sto_1/keys", json!({"name": TURNED, "scope": "read"})).await.expect(201);
    let (id, token) = (text(&server["id"]), text(&server["token"]));
    let order = json!({"reference": TURNED, "player": {"name": TURNED},
        "commands": [{"server": id, "command": format!("say \u{1b}[2J{TURNED}"), "stage": TURNED}]});
    let accepted = relay.post(admin, "/v1/orders", order).await.expect(201);
    let command = text(&accepted["commands"][0]["id"]);
    relay.get(&token, "/v1/plugin/commands").await.expect(200);
    let nasty: String = NASTY.concat() + TURNED;
    let result = json!({"results": [{"id": command, "status": "failed", "error": nasty, "output": nasty}]});
    relay.post(&token, "/v1/plugin/results", result).await.expect(200);
    assert_eq!(relay.command_view(&command).await["error"], Value::String(nasty), "kept as it was said");
    let order = text(&accepted["id"]);
    for words in [
        &["server", "list"][..],
        &["store", "list"],
        &["key", "list"],
        &["command", "list", "--server", &id],
        &["command", "show", &command],
        &["audit", "list"],
        &["command", "cancel", &command],
        &["command", "show", &order],
        &["server", "token", "a\u{1b}[2J"],
        &["command", "show", "a\u{1b}[2J\r\nb"],
    ] {
        let output = relay.command(words);
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(!said.is_empty() && !said.contains("Usage:"), "{words:?}: {said}");
        is_harmless(&words.join(" "), &said);
    }
    is_harmless("the log", &relay.log());
    is_harmless("the metrics", &relay.http("GET", "/metrics", &[], "").await.text);
}
