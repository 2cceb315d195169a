//! A plugin that lies: about another server's commands, about its own that it never had, twice, and after its end.

use fluxrelay::client::{Code, Outcome};
use fluxrelay::protocol::{Credential, PLUGIN_PATH, PluginHello, Request, Response, ResultRef};
use serde_json::{Value, json};

use crate::raw::{Raw, plugin_hello};
use crate::relay::{Relay, Server, number, soon};

fn result(id: u64, attempt: u16, outcome: Outcome) -> ResultRef<'static> {
    ResultRef { id, attempt, outcome, error: None, output: None }
}

/// Sends results in batches and waits until each is confirmed; what is delivered meanwhile is an error.
async fn report(raw: &mut Raw, batch: u64, results: &[ResultRef<'_>]) {
    raw.send(Request::Results { batch, results: results.into() }).await;
    let confirmed = async {
        loop {
            match raw.next().await.get() {
                Response::Confirm { batch: confirmed } if confirmed == batch => return,
                Response::Confirm { .. } => {}
                Response::Ping { nonce } => raw.send(Request::Pong { nonce }).await,
                other => panic!("{other:?}"),
            }
        }
    };
    soon("a confirmation", confirmed).await;
}

async fn status(relay: &Relay, id: &str) -> (String, u64) {
    let command = relay.command_view(id).await;
    (command["status"].as_str().unwrap().to_owned(), command["attempts"].as_u64().unwrap())
}

const EVERY_OUTCOME: [Outcome; 4] =
    [Outcome::Completed, Outcome::Failed, Outcome::AwaitingPlayer, Outcome::InDoubt];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_neither_sees_nor_answers_nor_guesses_anothers_commands_over_frames() {
    let relay = Relay::start(&[]);
    let (thief, victim) = (relay.server("thief").await, relay.server("victim").await);
    let id = relay.publish(&victim, "give Steve diamond 64").await;
    let seq = number(&id);
    // A hello that claims to hold, to have started and to have finished it, and everything near it.
    let guesses: Vec<u64> = (seq.saturating_sub(500)..seq + 500).collect();
    for place in 0..4 {
        let mut hello = plugin_hello(&thief.token);
        let ids = (&guesses).into();
        *[&mut hello.held, &mut hello.started, &mut hello.finished, &mut hello.in_doubt][place] = ids;
        // A header with its token lets so long a hello through.
        hello.credential = Credential::None;
        let mut raw = Raw::dial(&relay, PLUGIN_PATH, Some(&thief.token)).await;
        raw.send(Request::PluginHello(hello)).await;
        let welcome = raw.next().await;
        assert!(matches!(welcome.get(), Response::PluginWelcome(_)), "{:?}", welcome.get());
        raw.send(Request::Ping { nonce: 1 }).await;
        assert_eq!(raw.next().await.get(), Response::Pong { nonce: 1 }, "nothing is delivered");
    }
    let mut raw = Raw::plugin(&relay, &thief.token).await;
    raw.send(Request::Started { ids: (&guesses).into() }).await;
    let mut batch = 0;
    for outcome in EVERY_OUTCOME {
        let forged: Vec<ResultRef<'_>> = guesses.iter().map(|id| result(*id, 1, outcome)).collect();
        batch += 1;
        report(&mut raw, batch, &forged).await;
    }
    assert!(relay.metric("fluxrelay_stale_results_total").await >= 4000);
    let untouched = relay.command_view(&id).await;
    assert_eq!((&untouched["status"], &untouched["attempts"]), (&json!("pending"), &json!(1)), "{untouched}");
    assert_eq!(untouched["history"].as_array().unwrap().len(), 1, "{untouched}");
    // Its own server gets it, and answers it, while the other still talks.
    let mut owner = Raw::plugin(&relay, &victim.token).await;
    assert_eq!(owner.delivered().await, [(seq, 1, "give Steve diamond 64".to_owned())]);
    report(&mut raw, batch + 1, &[result(seq, 1, Outcome::Completed)]).await;
    assert_eq!(status(&relay, &id).await.0, "delivered");
    report(&mut owner, 1, &[result(seq, 1, Outcome::Completed)]).await;
    assert_eq!(status(&relay, &id).await.0, "completed");
    relay.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_neither_sees_nor_answers_nor_guesses_anothers_commands_over_polls() {
    let relay = Relay::start(&["--server-calls-per-second", "0"]);
    let (thief, victim) = (relay.server("thief").await, relay.server("victim").await);
    let id = relay.publish(&victim, "give Steve diamond 64").await;
    let seq = number(&id);
    let polled = relay.get(&thief.token, "/v1/plugin/commands").await.expect(200);
    assert_eq!(polled["commands"], json!([]));
    let as_own = format!("cmd_{}_{seq}", number(&thief.id));
    for status in ["completed", "failed", "awaiting_player", "in_doubt"] {
        let near = (seq.saturating_sub(200)..seq + 200).map(|seq| format!("cmd_{}_{seq}", number(&thief.id)));
        let results: Vec<Value> =
            near.chain([id.clone(), as_own.clone()]).map(|id| json!({"id": id, "status": status})).collect();
        let answer = relay.post(&thief.token, "/v1/plugin/results", json!({"results": results})).await;
        assert_eq!(answer.expect(200), json!({"accepted": 0}));
    }
    // A token is no key: nothing else is open to it.
    for (method, path) in [
        ("GET", format!("/v1/commands/{id}")),
        ("POST", format!("/v1/commands/{id}/cancel")),
        ("GET", format!("/v1/servers/{}", victim.id)),
        ("GET", format!("/v1/servers/{}/commands", thief.id)),
        ("GET", "/v1/events".to_owned()),
    ] {
        relay.call(&thief.token, method, &path, &Value::Null).await.refused(401, "invalid_credentials");
    }
    let untouched = relay.command_view(&id).await;
    assert_eq!(
        (&untouched["status"], untouched["history"].as_array().unwrap().len()),
        (&json!("pending"), 1)
    );
    let polled = relay.get(&victim.token, "/v1/plugin/commands").await.expect(200);
    assert_eq!(polled["commands"][0]["id"], id.as_str());
    relay.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doubled_unknown_and_out_of_turn_results_change_nothing() {
    let relay = Relay::start(&["--server-calls-per-second", "0"]);
    let server = relay.server("lobby").await;
    let id = relay.publish(&server, "say once").await;
    let seq = number(&id);
    let mut raw = Raw::plugin(&relay, &server.token).await;
    assert_eq!(raw.delivered().await.len(), 1);
    // Of another attempt than the one that is out.
    report(&mut raw, 1, &[result(seq, 9, Outcome::Failed), result(seq, 9, Outcome::InDoubt)]).await;
    assert_eq!(status(&relay, &id).await.0, "delivered");
    // Doubled, in one batch, in two, and over REST; and then its opposite.
    report(&mut raw, 2, &[result(seq, 1, Outcome::Completed), result(seq, 1, Outcome::Completed)]).await;
    report(&mut raw, 3, &[result(seq, 1, Outcome::Completed), result(seq, 1, Outcome::Failed)]).await;
    for status in ["completed", "failed", "awaiting_player", "in_doubt"] {
        let again =
            json!({"results": [{"id": id, "status": status}, {"id": id, "status": status, "attempt": 1}]});
        let accepted = relay.post(&server.token, "/v1/plugin/results", again).await.expect(200);
        assert_eq!(accepted, json!({"accepted": 0}), "{status}");
    }
    let command = relay.command_view(&id).await;
    let history: Vec<&Value> =
        command["history"].as_array().unwrap().iter().map(|entry| &entry["status"]).collect();
    assert_eq!(history, ["pending", "delivered", "completed"], "it ended once");
    // Ids that never were, up to the last one.
    let unknown = [0, 1, seq + 64, u64::MAX, u64::MAX - 63].map(|id| result(id, 1, Outcome::Completed));
    report(&mut raw, 4, &unknown).await;
    let unknown = json!({"results": [{"id": format!("cmd_{}_18446744073709551615", number(&server.id)), "status": "failed"}]});
    let accepted = relay.post(&server.token, "/v1/plugin/results", unknown).await.expect(200);
    assert_eq!(accepted, json!({"accepted": 0}));
    // A batch that is not after the one before it.
    raw.send(Request::Results { batch: 4, results: (&[result(seq, 1, Outcome::Completed)]).into() }).await;
    assert_eq!(raw.ended().await.0, Code::ProtocolViolation);
    relay.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_connection_can_say_and_hear_nothing_more() {
    let relay = Relay::start(&[]);
    let server = relay.server("lobby").await;
    let id = relay.publish(&server, "say hi").await;
    let seq = number(&id);
    let mut stale = Raw::plugin(&relay, &server.token).await;
    assert_eq!(stale.delivered().await.len(), 1);
    // The newer one says that the command is held, so that it stays delivered.
    let mut newer = Raw::dial(&relay, PLUGIN_PATH, None).await;
    let held = [seq];
    let hello = PluginHello { held: (&held).into(), ..plugin_hello(&server.token) };
    newer.send(Request::PluginHello(hello)).await;
    assert!(matches!(newer.next().await.get(), Response::PluginWelcome(_)));
    // It speaks on as if it had not heard of it.
    for batch in 1..=50 {
        stale.send(Request::Results { batch, results: (&[result(seq, 1, Outcome::Failed)]).into() }).await;
        stale.send(Request::Credit { window: 4096 }).await;
    }
    let second = relay.publish(&server, "say again").await;
    assert_eq!(stale.ended().await.0, Code::Replaced);
    assert_eq!(newer.delivered().await, [(number(&second), 1, "say again".to_owned())]);
    assert_eq!(status(&relay, &id).await, ("delivered".to_owned(), 1), "{}", relay.command_view(&id).await);
    report(&mut newer, 1, &[result(seq, 1, Outcome::Completed)]).await;
    assert_eq!(status(&relay, &id).await.0, "completed");
    // With the token regenerated not even a fresh connection can.
    let path = format!("/v1/servers/{}/token", server.id);
    relay.call(&relay.admin, "POST", &path, &Value::Null).await.expect(200);
    assert_eq!(newer.ended().await.0, Code::TokenRevoked);
    assert!(refused(&relay, &server).await);
    relay.is_well().await;
}

async fn refused(relay: &Relay, server: &Server) -> bool {
    let mut raw = Raw::dial(relay, PLUGIN_PATH, None).await;
    raw.send(Request::PluginHello(plugin_hello(&server.token))).await;
    raw.ended().await.0 == Code::InvalidCredentials
}
